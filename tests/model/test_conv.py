"""Convolutions give PyTorch's results and gradients, whichever way these are computed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.model_cases import make_detector
from torch import Tensor, nn

from scnet.model import layers
from scnet.model.layers import Conv2d, FrozenNorm, fold_norm, with_fast_gradients

CASES: dict[str, dict[str, Any]] = {
    "plain": {"padding": 1},
    "strided": {"padding": 1, "stride": 2},
    "no bias": {"padding": 1, "bias": False},
    "dilated": {"padding": 2, "dilation": 2},
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As on a CPU without AVX-512; counts the gradients that are computed in our way."""
    counted: list[int] = []
    gradient = layers._gradient

    def count(which: int, *rest: Any) -> Tensor:
        counted.append(which)
        return gradient(which, *rest)

    monkeypatch.setattr(layers, "has_avx512", lambda: False)
    monkeypatch.setattr(layers, "_gradient", count)
    return counted


def pair(**options: Any) -> tuple[nn.Conv2d, Conv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 12, 3, **options).to(memory_format=torch.channels_last)
    fast = copy.deepcopy(plain)
    with_fast_gradients(fast)
    assert isinstance(fast, Conv2d)
    return plain, fast


def gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = layer(x)
    (out * torch.linspace(-1, 1, out[0].numel()).view_as(out[0])).sum().backward()
    return [out.detach(), x.grad, *(p.grad for p in layer.parameters())]  # type: ignore[list-item]


def large_map() -> Tensor:
    return torch.randn(2, 8, 40, 44).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", CASES)
def test_results_and_gradients_are_those_of_pytorch(case: str, calls: list[int]) -> None:
    plain, fast = pair(**CASES[case])
    x = large_map()
    for ours, theirs in zip(gradients(fast, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert calls == [0, 1]


def test_an_input_that_needs_no_gradient_gets_none(calls: list[int]) -> None:
    _, fast = pair(padding=1)
    fast(large_map()).sum().backward()
    assert calls == [1]


@pytest.mark.parametrize("reason", ["AVX-512", "small", "grouped", "frozen", "layout", "bf16"])
def test_pytorch_does_it_where_copying_would_not_pay(
    reason: str, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fast = pair(padding=1, groups=4 if reason == "grouped" else 1)
    x = large_map().requires_grad_()
    if reason == "AVX-512":
        monkeypatch.setattr(layers, "has_avx512", lambda: True)
    if reason == "small":
        x = x[..., :9]
    if reason == "frozen":
        fast.requires_grad_(False)
    if reason == "layout":
        x = x.contiguous()
    with torch.autocast("cpu", torch.bfloat16, enabled=reason == "bf16"):
        fast(x).sum().backward()
    assert not calls


def test_a_network_keeps_its_weights_and_layers_of_other_kinds() -> None:
    class Own(nn.Conv2d):
        pass

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Own(4, 4, 3), nn.ConvTranspose2d(4, 4, 2))
    before = net.state_dict()
    with_fast_gradients(net)
    assert [type(layer) for layer in net] == [Conv2d, Own, nn.ConvTranspose2d]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def blocks() -> tuple[nn.Sequential, nn.Sequential]:
    """Return a convolution and a frozen norm twice, apart and with the norm folded."""
    torch.manual_seed(0)
    apart = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12))
    norm = apart[1]
    for values, spread in ((norm.weight, 1.0), (norm.bias, 1.0), (norm.running_mean, 1.0)):
        nn.init.normal_(values, std=spread)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    apart.to(memory_format=torch.channels_last)
    folded = copy.deepcopy(apart)
    with_fast_gradients(folded)
    fold_norm(folded[0], folded[1])
    return apart.eval(), folded.eval()


@pytest.mark.parametrize("copying", [False, True])
def test_a_folded_norm_has_the_results_and_gradients_of_one_apart(
    copying: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "has_avx512", lambda: not copying)
    apart, folded = blocks()
    x = large_map()
    with torch.no_grad():
        apart[1].weight[0] = folded[1].weight[0] = 0  # has a gradient all the same
    for ours, theirs in zip(gradients(folded, x), gradients(apart, x), strict=True):
        error = (ours - theirs).norm() / theirs.norm()
        assert error < 1e-5


def test_the_gradient_of_a_folded_norm_is_that_of_differences() -> None:
    _, folded = blocks()
    folded.double()
    x = torch.randn(2, 8, 5, 6, dtype=torch.double, requires_grad=True)
    parameters = dict(folded.named_parameters())

    def run(x: Tensor, *values: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(
            folded, dict(zip(parameters, values, strict=True)), (x,)
        )
        return result

    assert torch.autograd.gradcheck(run, (x, *parameters.values()))


def test_a_folded_norm_keeps_no_map_for_its_gradient() -> None:
    kept: list[tuple[int, ...]] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(tuple(x.shape))
        return x

    apart, folded = blocks()
    for net, maps in ((apart, 2), (folded, 1)):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            net(large_map())
        assert len([shape for shape in kept if shape[-2:] == (40, 44)]) == maps


def test_a_norm_whose_statistics_move_stays_apart() -> None:
    apart, folded = blocks()
    apart.train(), folded.train()
    x = large_map()
    torch.testing.assert_close(folded(x), apart(x))
    torch.testing.assert_close(folded[1].running_mean, apart[1].running_mean)


def test_a_folded_norm_is_that_of_its_own_copy() -> None:
    _, folded = blocks()
    twin = copy.deepcopy(folded)
    with torch.no_grad():
        twin[1].bias += 1
    x = large_map()
    torch.testing.assert_close(twin(x), folded(x) + 1)
    assert twin.state_dict().keys() == blocks()[0].state_dict().keys()


def test_a_folded_norm_computes_in_mixed_precision() -> None:
    _, folded = blocks()
    x = large_map()
    exact = gradients(folded, x)
    folded.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(folded, x)
    assert ours[0].dtype == torch.bfloat16
    for value, wanted in zip(ours, exact, strict=True):
        assert (value - wanted).norm() < 1e-2 * wanted.norm()


def test_a_backbone_folds_every_frozen_norm_of_its_blocks() -> None:
    backbone = make_detector("mask_rcnn").backbone
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(type(m) is not FrozenNorm for m in norms) == 1  # of the stem
