"""The two stacks of 3x3 convolutions that the heads are made of."""

from __future__ import annotations

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two convolutions and a skip; no norm and, unlike ResNet's block, no ReLU after the sum.

    The weights keep PyTorch's default initialisation: the release never initialises these blocks
    itself, and that is how the published models were trained.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "n D h w"]) -> Float[Tensor, "n D h w"]:
        out: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return out


class ConvReLU(nn.Module):
    """A convolution that keeps the size, and ReLU; Kaiming-normal weights."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        kaiming_normal(self.conv)

    def forward(self, x: Float[Tensor, "n D h w"]) -> Float[Tensor, "n D h w"]:
        return F.relu(self.conv(x))


def stack(channels: int, convs: int, residual: bool) -> nn.Sequential:
    """Return `convs` convolutions, plain or with a skip over every two."""
    if residual:
        return nn.Sequential(*(ResidualBlock(channels) for _ in range(convs // 2)))
    return nn.Sequential(*(ConvReLU(channels) for _ in range(convs)))


def init_classifier(layer: nn.Conv2d) -> None:
    """Initialise a last layer as the release does for COCO's classes.

    That is Kaiming-normal by the number of outputs. With one class instead of 80 it would make
    logits nine times as large, and the first steps would only undo that; so fewer classes start
    like 80.
    """
    nn.init.normal_(layer.weight, std=math.sqrt(2 / max(80, layer.out_channels)))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def kaiming_normal(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    """Initialise for a ReLU behind it, by the number of outputs; the bias starts at 0."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
