"""RoIAlign over a feature pyramid (Mask R-CNN, sec. 3; FPN, sec. 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import roi_align as _torchvision_roi_align

from scnet.ops.boxes import area
from scnet.ops.roi_align import Levels, pool
from scnet.types import RoIs

# A RoI of this side in pixels and more leaves P2 for P3, of twice that for P4, and so on.
FINEST_SIDE = 56


def laid_out(features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
    """Return features as pooling reads them, lest every call of many make a copy of its own.

    That is float32 at least, as half precision places a box only to some pixels; and the order of
    torchvision's kernel where that runs.
    """
    exact = features if features.dtype == torch.float64 else features.float()
    return exact if _is_sparse_faster(features) else exact.contiguous()


def roi_align_mean(
    features: Float[Tensor, "B D h w"], rois: RoIs, fine: int, side: int, stride: int
) -> Float[Tensor, "R D {side} {side}"]:
    """Pool each RoI to fine x fine, a multiple of side, and average that to side x side.

    Half-pixel exact, about one sample per cell; features as `laid_out` returns them.
    """
    assert fine % side == 0
    if _is_sparse_faster(features):
        return pool([features], None, rois, (side, fine), [stride])
    pooled = _plain(features, _indexed(rois, features), fine, stride)
    return pooled if fine == side else F.avg_pool2d(pooled, fine // side)


def assign_levels(boxes: Float[Tensor, "R 4"], levels: int) -> Levels:
    """Return the level of each box; this waits for the device, once."""
    level = pyramid_level(boxes, levels)
    counts = (level[:, None] == torch.arange(levels, device=level.device)).sum(0)
    return Levels(level, level.argsort(stable=True), tuple(counts.tolist()))


def pyramid_level(boxes: Float[Tensor, "R 4"], levels: int) -> Int[Tensor, "R"]:
    """Return the level, 0 the finest, that each box is pooled from."""
    # A box that is not a number has a level too, so that the loss shows it and is what is told.
    side = area(boxes).nan_to_num().clamp(min=0).sqrt()
    return torch.floor(torch.log2(side / FINEST_SIDE + 1e-6)).clamp(0, levels - 1).long()


def pyramid_roi_align(
    pyramid: Sequence[Float[Tensor, "B D _h _w"]],
    rois: RoIs,
    levels: Levels,
    side: int,
    strides: Sequence[int],
) -> Float[Tensor, "R D {side} {side}"]:
    """Pool each RoI from the level of the pyramid that suits its size, all as `laid_out`."""
    if _is_sparse_faster(pyramid[0]):
        return pool(pyramid, levels, rois, (side, side), strides)
    indexed = torch.split(_indexed(rois, pyramid[0])[levels.order], list(levels.counts))
    # Every level is pooled, also for no RoI at all, so that every level always has a gradient.
    by_level = zip(pyramid, indexed, strides, strict=True)
    pooled = torch.cat(
        [_plain(features, rows, side, stride) for features, rows, stride in by_level]
    )
    return pooled.index_select(0, levels.order.argsort())


def _plain(
    features: Float[Tensor, "B D h w"], indexed: Float[Tensor, "R 5"], side: int, stride: int
) -> Float[Tensor, "R D {side} {side}"]:
    pooled: Tensor = _torchvision_roi_align(
        features, indexed, side, spatial_scale=1 / stride, sampling_ratio=0, aligned=True
    )
    return pooled


def _indexed(rois: RoIs, like: Tensor) -> Float[Tensor, "R 5"]:
    return torch.cat([rois.image[:, None].to(like.dtype), rois.boxes.to(like.dtype)], 1)


def _is_sparse_faster(features: Float[Tensor, "*shape"]) -> bool:
    # A graph that is captured needs an operator with shapes that do not depend on the values.
    return features.device.type == "cpu" and not torch.compiler.is_compiling()
