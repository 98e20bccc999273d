"""The RPN's head on the CPU, with a backward pass that visits the cells that have a gradient.

The loss reads 256 anchors of an image, so of the hundred thousand cells of P2 a few hundred have a
gradient. Autograd would convolve all of them twice more, a seventh of a training step. Here these
cells' surroundings are gathered, and the gradients are products of small matrices. Nothing but
the input is kept for it: the hidden layer of so few cells is computed again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


class Weights(NamedTuple):
    """A 3 x 3 convolution and, after ReLU, two convolutions of one cell side by side."""

    conv: Float[Tensor, "D D 3 3"]
    conv_bias: Float[Tensor, "D"]
    cls: Float[Tensor, "n D 1 1"]
    cls_bias: Float[Tensor, "n"]
    reg: Float[Tensor, "m D 1 1"]
    reg_bias: Float[Tensor, "m"]


class Patches(NamedTuple):
    """The 3 x 3 surroundings of chosen cells."""

    cells: Int[Tensor, "P 9"]  # index, counted through the batch; any where outside the map
    inside: Bool[Tensor, "P 9"]


def head(
    x: Float[Tensor, "B D h w"], weights: Weights
) -> tuple[Float[Tensor, "B n h w"], Float[Tensor, "B m h w"]]:
    """Return both outputs of a head whose gradient will be sparse."""
    out: tuple[Tensor, Tensor] = _Head.apply(x, *weights)
    return out


def pays(x: Float[Tensor, "*shape"]) -> bool:
    """Return whether `head` is faster than autograd, and exact: not on GPUs, where it would wait
    for the number of cells, nor in mixed precision.
    """
    plain = not torch.is_autocast_enabled(x.device.type) and not torch.compiler.is_compiling()
    return x.device.type == "cpu" and plain


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, *weights)
        w = Weights(*weights)
        hidden = F.conv2d(x, w.conv, w.conv_bias, padding=1).relu_()
        return F.conv2d(hidden, w.cls, w.cls_bias), F.conv2d(hidden, w.reg, w.reg_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_cls: Tensor, grad_reg: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        w, (batch, channels, height, width) = Weights(*weights), x.shape
        grad = _rows(torch.cat([grad_cls, grad_reg], 1))
        chosen = grad.any(1).nonzero().squeeze(1)
        grad, patches = grad[chosen], _patches(chosen, (height, width))

        # A column of `kernel` is an output channel, its rows follow the cells of a patch.
        kernel = w.conv.permute(2, 3, 1, 0).reshape(9 * channels, -1)
        around = (_rows(x)[patches.cells] * patches.inside[..., None]).flatten(1)
        hidden = torch.addmm(w.conv_bias, around, kernel).relu_()
        last = torch.cat([w.cls, w.reg]).flatten(1)
        grad_hidden = (grad @ last) * (hidden > 0)

        grad_kernel = (around.T @ grad_hidden).view(3, 3, channels, -1).permute(3, 2, 0, 1)
        grad_last, split = (grad.T @ hidden)[..., None, None], [len(w.cls), len(w.reg)]
        cls, reg = torch.split(grad_last, split)
        cls_bias, reg_bias = torch.split(grad.sum(0), split)
        grad_x = None
        if ctx.needs_input_grad[0]:
            around = (grad_hidden @ kernel.T).view(-1, 9, channels) * patches.inside[..., None]
            grad_x = x.new_zeros(batch * height * width, channels)
            grad_x.index_add_(0, patches.cells.flatten(), around.flatten(0, 1))
            grad_x = grad_x.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return grad_x, grad_kernel, grad_hidden.sum(0), cls, cls_bias, reg, reg_bias


def _patches(cells: Int[Tensor, "P"], size: tuple[int, int]) -> Patches:
    height, width = size
    step = torch.arange(-1, 2)
    dy, dx = step.repeat_interleave(3), step.repeat(3)
    y, x = (cells // width % height)[:, None] + dy, (cells % width)[:, None] + dx
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return Patches((cells[:, None] + dy * width + dx).where(inside, 0), inside)


def _rows(x: Float[Tensor, "B D h w"]) -> Float[Tensor, "cells D"]:
    """Return a row per cell; free if the features are channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
