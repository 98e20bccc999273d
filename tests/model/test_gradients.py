"""The gradient of a whole detector is the same in whichever way its parts are computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model_cases import make_batch, make_detector
from torch import Tensor

from scnet.model import layers


def gradients(monkeypatch: pytest.MonkeyPatch, copying: bool) -> dict[str, Tensor]:
    """Return the gradients of a training step; count how many convolutions copied their maps."""
    monkeypatch.setattr(layers, "has_avx512", lambda: not copying)
    detector = make_detector("scnet").to(memory_format=torch.channels_last).train()
    torch.manual_seed(0)
    torch.stack(list(detector.loss(make_batch((3, 1))).values())).sum().backward()
    return {n: p.grad.clone() for n, p in detector.named_parameters() if p.grad is not None}


def test_weight_gradients_from_copied_maps_are_those_of_autograd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[int] = []
    gradient = layers._gradient

    def count(which: int, *rest: Any) -> Tensor:
        counted.append(which)
        return gradient(which, *rest)

    monkeypatch.setattr(layers, "_gradient", count)
    monkeypatch.setattr(layers, "LARGE", 24)
    expected = gradients(monkeypatch, copying=False)
    assert not counted
    ours = gradients(monkeypatch, copying=True)
    assert counted.count(1) > 10  # of the backbone, the pyramid and the heads
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, expected[name], atol=1e-3, rtol=1e-3, msg=name)
    again = gradients(monkeypatch, copying=True)
    assert all(torch.equal(value, again[name]) for name, value in ours.items())
