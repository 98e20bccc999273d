"""Convolutions give PyTorch's results and gradients, whichever way these are computed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scnet.model import conv
from scnet.model.conv import Conv2d, with_fast_gradients

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
    gradient = conv._gradient

    def count(which: int, *rest: Any) -> Tensor:
        counted.append(which)
        return gradient(which, *rest)

    monkeypatch.setattr(conv, "has_avx512", lambda: False)
    monkeypatch.setattr(conv, "_gradient", count)
    return counted


def pair(**options: Any) -> tuple[nn.Conv2d, Conv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 12, 3, **options).to(memory_format=torch.channels_last)
    fast = copy.deepcopy(plain)
    with_fast_gradients(fast)
    assert isinstance(fast, Conv2d)
    return plain, fast


def gradients(layer: nn.Conv2d, x: Tensor) -> list[Tensor]:
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
        monkeypatch.setattr(conv, "has_avx512", lambda: True)
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
