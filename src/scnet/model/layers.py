"""The two stacks of 3x3 convolutions that the heads are made of, and the norm behind each."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scnet.model.conv import Conv2d, has_avx512

Norm = Literal["none", "group", "sync"]

GROUPS = 32  # of group norm (Wu and He 2018); fewer where they do not divide the channels


class SyncNorm(nn.Module):
    """Batch norm over the maps of all processes; in a single one, plain batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.SyncBatchNorm(channels)

    def forward(self, x: Float[Tensor, "n D h w"]) -> Float[Tensor, "n D h w"]:
        norm = self.norm
        if len(x) or torch.distributed.is_initialized():
            out: Tensor = norm(x)
            return out
        # Without a single RoI a batch has no statistics, and would spoil those that are stored.
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Return the norm behind a convolution; with `none` one that does nothing."""
    if norm == "group":
        return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
    return SyncNorm(channels) if norm == "sync" else nn.Identity()


class ResidualBlock(nn.Module):
    """Two convolutions and a skip; unlike in ResNet's block there is no ReLU after the sum.

    The weights keep PyTorch's default initialisation: the release never initialises these blocks
    itself, and that is how the published models were trained.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        # A norm has a shift of its own.
        bias = norm == "none"
        self.conv1 = Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.norm1 = make_norm(norm, channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.norm2 = make_norm(norm, channels)

    def forward(self, x: Float[Tensor, "n D h w"]) -> Float[Tensor, "n D h w"]:
        hidden = F.relu(self.norm1(self.conv1(x)))
        out: Tensor = x + self.norm2(self.conv2(hidden))
        return out


class ConvReLU(nn.Module):
    """A convolution that keeps the size, and ReLU; Kaiming-normal weights."""

    def __init__(self, channels: int, kernel: int = 3, norm: Norm = "none") -> None:
        super().__init__()
        bias = norm == "none"
        self.conv = Conv2d(channels, channels, kernel, padding=kernel // 2, bias=bias)
        self.norm = make_norm(norm, channels)
        kaiming_normal(self.conv)

    def forward(self, x: Float[Tensor, "n D h w"]) -> Float[Tensor, "n D h w"]:
        return F.relu(self.norm(self.conv(x)))


class RoILinear(nn.Conv2d):
    """A fully connected layer over all cells of a RoI, by the faster of its two forms.

    As the convolution that it is it reads the RoI as it lies in memory, channels last. On CPUs with
    AVX-512 that is twice as fast as a matrix product, forward and backward; on those without it is
    fifteen times as slow, as oneDNN has no good kernel there.
    """

    def __init__(self, channels: int, side: int, hidden: int) -> None:
        super().__init__(channels, hidden, side)

    def forward(self, x: Float[Tensor, "R D s s"]) -> Float[Tensor, "R hidden"]:
        if x.device.type == "cpu" and has_avx512():
            return super().forward(x).flatten(1)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(x.permute(0, 2, 3, 1).flatten(1), weight, self.bias)


def stack(channels: int, convs: int, residual: bool, norm: Norm) -> nn.Sequential:
    """Return `convs` convolutions, plain or with a skip over every two."""
    if residual:
        return nn.Sequential(*(ResidualBlock(channels, norm) for _ in range(convs // 2)))
    return nn.Sequential(*(ConvReLU(channels, norm=norm) for _ in range(convs)))


def init_classifier(layer: nn.Conv2d) -> None:
    """Initialise a last layer as the release does for COCO's classes.

    That is Kaiming-normal by the number of outputs. With one class instead of 80 it would make
    logits nine times as large, and the first steps would only undo that; so fewer classes start
    like 80.
    """
    nn.init.normal_(layer.weight, std=math.sqrt(2 / max(80, layer.out_channels)))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def kaiming_normal(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    """Initialise for a ReLU behind it, by the number of outputs; a bias starts at 0."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
