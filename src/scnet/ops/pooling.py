"""RoIAlign over a feature pyramid (Mask R-CNN, sec. 3; FPN, sec. 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import roi_align as _roi_align

from scnet.ops.boxes import area
from scnet.types import RoIs

# A RoI of this side in pixels and more leaves P2 for P3, of twice that for P4, and so on.
FINEST_SIDE = 56


def roi_align(
    features: Float[Tensor, "B D h w"], rois: RoIs, side: int, stride: int
) -> Float[Tensor, "R D {side} {side}"]:
    """Pool each RoI to side x side: half-pixel exact, with as many samples as the RoI has pixels per bin."""
    indexed = torch.cat([rois.image[:, None].to(features.dtype), rois.boxes.to(features.dtype)], 1)
    return _roi_align(
        features, indexed, side, spatial_scale=1 / stride, sampling_ratio=0, aligned=True
    )


def pyramid_level(boxes: Float[Tensor, "R 4"], levels: int) -> Int[Tensor, "R"]:
    """Return the level, 0 the finest, that each box is pooled from."""
    side = area(boxes).clamp(min=0).sqrt()
    return torch.floor(torch.log2(side / FINEST_SIDE + 1e-6)).clamp(0, levels - 1).long()


def pyramid_roi_align(
    pyramid: Sequence[Float[Tensor, "B D _h _w"]], rois: RoIs, side: int, strides: Sequence[int]
) -> Float[Tensor, "R D {side} {side}"]:
    """Pool each RoI from the level of the pyramid that suits its size."""
    level = pyramid_level(rois.boxes, len(pyramid))
    pooled = pyramid[0].new_zeros(len(rois.boxes), pyramid[0].shape[1], side, side)
    # Every level is pooled, also for no RoI at all, so that every level has a gradient in every step.
    for i, (features, stride) in enumerate(zip(pyramid, strides, strict=True)):
        index = (level == i).nonzero().squeeze(1)
        here = RoIs(rois.boxes[index], rois.image[index])
        pooled = pooled.index_put((index,), roi_align(features, here, side, stride))
    return pooled
