"""Feature pyramid: what turns the maps of a backbone into levels of like width."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scnet.config import ModelConfig, Norm
from scnet.model.layers import Conv2d, make_norm


def make_pyramid(config: ModelConfig, in_channels: Sequence[int]) -> FPN:
    """Return the pyramid that a config names, on maps of so many channels."""
    return FPN(in_channels, config.channels, config.norms.pyramid)


class FPN(nn.Module):
    """Feature pyramid P2..P6 (Lin et al. 2017); P6, half of P5, serves RPN and global context."""

    def __init__(self, in_channels: Sequence[int], channels: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1, bias=bias) for c in in_channels)
        self.output = nn.ModuleList(
            Conv2d(channels, channels, 3, padding=1, bias=bias) for _ in in_channels
        )
        self.lateral_norm, self.output_norm = (
            nn.ModuleList(make_norm(norm, channels) for _ in in_channels) for _ in range(2)
        )
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.xavier_uniform_(conv.weight)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def forward(
        self, maps: Sequence[Float[Tensor, "B _d _h _w"]]
    ) -> list[Float[Tensor, "B D _h _w"]]:
        x = [
            norm(conv(m))
            for conv, norm, m in zip(self.lateral, self.lateral_norm, maps, strict=True)
        ]
        for i in range(len(x) - 2, -1, -1):
            above = F.interpolate(x[i + 1], size=x[i].shape[-2:], mode="nearest")
            x[i] = above.add_(x[i])
        pyramid = [
            norm(conv(m)) for conv, norm, m in zip(self.output, self.output_norm, x, strict=True)
        ]
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)]
