"""The RPN's head has autograd's values and gradients, whatever cells the gradient comes from."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scnet.model import sparse_head
from scnet.model.sparse_head import Weights

BATCH, CHANNELS, HEIGHT, WIDTH = 2, 6, 5, 7


def tensors() -> tuple[Tensor, Weights]:
    """Return random features and weights that want a gradient."""
    random = torch.Generator().manual_seed(0)
    shapes = [(CHANNELS, CHANNELS, 3, 3), (CHANNELS,)]
    shapes += [(3, CHANNELS, 1, 1), (3,), (12, CHANNELS, 1, 1), (12,)]
    x, *weights = (
        torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_()
        for shape in [(BATCH, CHANNELS, HEIGHT, WIDTH), *shapes]
    )
    return x, Weights(*weights)


def plain(x: Tensor, w: Weights) -> tuple[Tensor, Tensor]:
    hidden = F.relu(F.conv2d(x, w.conv, w.conv_bias, padding=1))
    return F.conv2d(hidden, w.cls, w.cls_bias), F.conv2d(hidden, w.reg, w.reg_bias)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_autograd(share: float, layout: torch.memory_format) -> None:
    x, weights = tensors()
    random = torch.Generator().manual_seed(1)
    with_gradient = torch.rand(BATCH, 1, HEIGHT, WIDTH, generator=random) < share
    results = []
    for function in (sparse_head.head, plain):
        out = function(x.contiguous(memory_format=layout), weights)
        upstream = [torch.cos(o.detach() * 9) * with_gradient for o in out]
        results.append((*out, *torch.autograd.grad(out, [x, *weights], upstream)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_each_corner_of_the_map_has_autograds_gradient() -> None:
    x, weights = tensors()
    for y, column in ((0, 0), (0, WIDTH - 1), (HEIGHT - 1, 0), (HEIGHT - 1, WIDTH - 1)):
        ours, theirs = (
            torch.autograd.grad(f(x, weights)[0][1, 2, y, column], x)[0]
            for f in (sparse_head.head, plain)
        )
        torch.testing.assert_close(ours, theirs)


def test_a_frozen_input_leaves_the_weights_their_gradients() -> None:
    x, weights = tensors()
    sparse_head.head(x.detach(), weights)[1].sum().backward()
    assert weights.conv.grad is not None
    assert weights.conv.grad.any()


def test_mixed_precision_is_left_to_autograd() -> None:
    x, _ = tensors()
    assert sparse_head.pays(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not sparse_head.pays(x)
