"""Feature pyramids: what turns the maps of a backbone into levels of like width.

Each gives P2..P6; P6, half of P5, serves RPN and global context.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scnet.config import ModelConfig, Norm, PAFPNConfig
from scnet.model.layers import Conv2d, make_norm


def make_pyramid(config: ModelConfig, in_channels: Sequence[int]) -> FPN:
    """Return the pyramid that a config names, on maps of so many channels."""
    norm = config.norms.pyramid
    if isinstance(config.pyramid, PAFPNConfig):
        return PAFPN(in_channels, config.channels, norm, relu=config.pyramid.relu)
    return FPN(in_channels, config.channels, norm)


class FPN(nn.Module):
    """Feature pyramid network (Lin et al. 2017)."""

    def __init__(self, in_channels: Sequence[int], channels: int, norm: Norm) -> None:
        super().__init__()
        levels, bias = len(in_channels), norm == "none"  # a norm has a shift of its own
        laterals = (nn.Conv2d(c, channels, 1, bias=bias) for c in in_channels)
        self.lateral = nn.ModuleList(laterals)
        self.output = _convs(levels, channels, norm)
        self.lateral_norm, self.output_norm = (_norms(levels, channels, norm) for _ in range(2))
        self.relu = False  # behind each convolution
        _xavier(self)

    def forward(
        self, maps: Sequence[Float[Tensor, "B _d _h _w"]]
    ) -> list[Float[Tensor, "B D _h _w"]]:
        x = self._each(self.lateral, self.lateral_norm, maps)
        for i in range(len(x) - 2, -1, -1):
            above = F.interpolate(x[i + 1], size=x[i].shape[-2:], mode="nearest")
            x[i] = above.add_(x[i])
        pyramid = self._each(self.output, self.output_norm, x)
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)]

    def _each(
        self, convs: Iterable[nn.Module], norms: Iterable[nn.Module], maps: Iterable[Tensor]
    ) -> list[Tensor]:
        """Return each map behind its own convolution."""
        out = [norm(conv(m)) for conv, norm, m in zip(convs, norms, maps, strict=True)]
        return [F.relu(m) for m in out] if self.relu else out


class PAFPN(FPN):
    """FPN and a path from its finest level up again, in MMDetection's form.

    That form differs from PANet's own (Liu et al. 2018): a level goes up as it is before its last
    convolution, not behind it.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, norm: Norm, *, relu: bool
    ) -> None:
        super().__init__(in_channels, channels, norm)
        levels, self.relu = len(in_channels), relu
        self.down = _convs(levels - 1, channels, norm, stride=2)
        self.last = _convs(levels - 1, channels, norm)
        self.down_norm, self.last_norm = (_norms(levels - 1, channels, norm) for _ in range(2))
        _xavier(self)

    def forward(
        self, maps: Sequence[Float[Tensor, "B _d _h _w"]]
    ) -> list[Float[Tensor, "B D _h _w"]]:
        finest, *others = super().forward(maps)[:-1]
        up = [finest]
        for conv, norm, level in zip(self.down, self.down_norm, others, strict=True):
            up.append(level + self._each([conv], [norm], up[-1:])[0])
        pyramid = [finest, *self._each(self.last, self.last_norm, up[1:])]
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)]


def _convs(number: int, channels: int, norm: Norm, stride: int = 1) -> nn.ModuleList:
    bias = norm == "none"
    return nn.ModuleList(
        Conv2d(channels, channels, 3, stride=stride, padding=1, bias=bias) for _ in range(number)
    )


def _norms(number: int, channels: int, norm: Norm) -> nn.ModuleList:
    return nn.ModuleList(make_norm(norm, channels) for _ in range(number))


def _xavier(pyramid: nn.Module) -> None:
    for conv in pyramid.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.xavier_uniform_(conv.weight)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
