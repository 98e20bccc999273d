"""RoIAlign over a feature pyramid (Mask R-CNN, sec. 3; FPN, sec. 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import roi_align as _torchvision_roi_align

from scnet.ops.boxes import area
from scnet.ops.roi_align import pool
from scnet.types import RoIs

# A RoI of this side in pixels and more leaves P2 for P3, of twice that for P4, and so on.
FINEST_SIDE = 56


def roi_align(
    features: Float[Tensor, "B D h w"], rois: RoIs, side: int, stride: int
) -> Float[Tensor, "R D {side} {side}"]:
    """Pool each RoI to side x side: half-pixel exact, about one sample per cell."""
    return roi_align_mean(features, rois, side, side, stride)


def roi_align_mean(
    features: Float[Tensor, "B D h w"], rois: RoIs, fine: int, side: int, stride: int
) -> Float[Tensor, "R D {side} {side}"]:
    """Pool each RoI to fine x fine, a multiple of side, and average that to side x side."""
    assert fine % side == 0
    exact = _at_least_float32(features)
    if _is_sparse_faster(features):
        return pool([exact], None, rois, (side, fine), [stride]).to(features.dtype)
    indexed = torch.cat([rois.image[:, None].to(exact.dtype), rois.boxes.to(exact.dtype)], 1)
    pooled: Tensor = _torchvision_roi_align(
        exact, indexed, fine, spatial_scale=1 / stride, sampling_ratio=0, aligned=True
    )
    if fine != side:
        pooled = F.avg_pool2d(pooled, fine // side)
    return pooled.to(features.dtype)


def pyramid_level(boxes: Float[Tensor, "R 4"], levels: int) -> Int[Tensor, "R"]:
    """Return the level, 0 the finest, that each box is pooled from."""
    # A box that is not a number has a level too, so that the loss shows it and is what is told.
    side = area(boxes).nan_to_num().clamp(min=0).sqrt()
    return torch.floor(torch.log2(side / FINEST_SIDE + 1e-6)).clamp(0, levels - 1).long()


def pyramid_roi_align(
    pyramid: Sequence[Float[Tensor, "B D _h _w"]], rois: RoIs, side: int, strides: Sequence[int]
) -> Float[Tensor, "R D {side} {side}"]:
    """Pool each RoI from the level of the pyramid that suits its size."""
    level = pyramid_level(rois.boxes, len(pyramid))
    if _is_sparse_faster(pyramid[0]):
        exact = [_at_least_float32(features) for features in pyramid]
        return pool(exact, level, rois, (side, side), strides).to(pyramid[0].dtype)
    pooled = pyramid[0].new_zeros(len(rois.boxes), pyramid[0].shape[1], side, side)
    # Every level is pooled, also for no RoI at all, so that every level always has a gradient.
    for i, (features, stride) in enumerate(zip(pyramid, strides, strict=True)):
        index = (level == i).nonzero().squeeze(1)
        here = RoIs(rois.boxes[index], rois.image[index])
        pooled = pooled.index_put((index,), roi_align(features, here, side, stride))
    return pooled


def _at_least_float32(features: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    # Half precision places a box only to some pixels, so that boxes and weights need float32.
    return features if features.dtype == torch.float64 else features.float()


def _is_sparse_faster(features: Float[Tensor, "*shape"]) -> bool:
    # A graph that is captured needs an operator with shapes that do not depend on the values.
    return features.device.type == "cpu" and not torch.compiler.is_compiling()
