"""Deformable convolution: each of its cells looks where the image tells it to.

Dai et al. 2017; modulated, with a weight for each cell beside its offset, Zhu et al. 2019. Names of
parameters are MMDetection's.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from scnet.config import DeformableConfig


class DeformConv2d(nn.Conv2d):
    """A convolution whose cells move by offsets that another one predicts from the same map.

    It begins with offsets of 0: as the plain convolution, and modulated as half of it.
    """

    def __init__(self, plain: nn.Conv2d, config: DeformableConfig) -> None:
        super().__init__(
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size,  # type: ignore[arg-type]
            plain.stride,  # type: ignore[arg-type]
            plain.padding,  # type: ignore[arg-type]
            plain.dilation,  # type: ignore[arg-type]
            plain.groups,
            bias=plain.bias is not None,
        )
        self.weight, self.bias = plain.weight, plain.bias
        self.modulated = config.modulated
        cells = config.groups * self.kernel_size[0] * self.kernel_size[1]
        self.conv_offset = nn.Conv2d(
            plain.in_channels,
            cells * (3 if config.modulated else 2),
            plain.kernel_size,  # type: ignore[arg-type]
            plain.stride,  # type: ignore[arg-type]
            plain.padding,  # type: ignore[arg-type]
            plain.dilation,  # type: ignore[arg-type]
        )
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _h _w"]:
        found: Tensor = self.conv_offset(x)
        # Its kernels, but for those of a GPU, know no number of 16 bits.
        wide = torch.promote_types(found.dtype, torch.float32)
        offsets, weights = found.to(wide), None  # y, x of each cell in turn
        if self.modulated:
            cells = found.shape[1] // 3
            offsets, weights = offsets[:, : 2 * cells], offsets[:, 2 * cells :].sigmoid()
        out: Tensor = deform_conv2d(
            x.to(wide),
            offsets,
            self.weight.to(wide),
            None if self.bias is None else self.bias.to(wide),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=weights,
        )
        return out.to(found.dtype)
