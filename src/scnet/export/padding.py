"""Convolutions that pad as TensorFlow does, for maps whose sides are multiples of the stride.

TensorFlow's padding depends on the size of the map, which a captured graph would compute for every
layer from the size of the image. Sides of images are multiples of 32, so that it is a constant.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

Part = TypeVar("Part", bound=nn.Module)


class ConstantSame(nn.Conv2d):
    """A `Conv2dSame` whose map has whole steps of its stride."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _h _w"]:
        sides: list[int] = []
        for kernel, stride, dilation in zip(
            self.kernel_size[::-1], self.stride[::-1], self.dilation[::-1], strict=True
        ):
            missing = max(dilation * (kernel - 1) + 1 - stride, 0)
            sides += (missing // 2, missing - missing // 2)
        return F.conv2d(
            F.pad(x, sides), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


def with_constant_padding(network: Part) -> Part:
    """Return a network that shares all weights, and pads by constants."""
    copied = copy.copy(network)
    copied._modules = {
        name: child and with_constant_padding(child) for name, child in network._modules.items()
    }
    if isinstance(copied, Conv2dSame):
        copied.__class__ = ConstantSame  # type: ignore[assignment]
    return copied
