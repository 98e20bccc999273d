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
from scnet.types import RoIs, Size

# A RoI of this side in pixels and more leaves P2 for P3, of twice that for P4, and so on.
FINEST_SIDE = 56


def laid_out(features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
    """Return features as pooling reads them, lest every call of many make a copy of its own.

    That is float32 at least, and in the order of torchvision's kernel where that runs.
    """
    exact = _at_least_float32(features)
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
    pooled = _plain(features, rois, fine, stride)
    return pooled if fine == side else F.avg_pool2d(pooled, fine // side)


def make_pooler(
    pyramid: Sequence[Float[Tensor, "B D _h _w"]], strides: Sequence[int]
) -> SparsePooler | CanvasPooler:
    """Return what pools RoIs of one scene, each from the level that suits its size, the faster way.

    RoIs are boxes inside their image.
    """
    pooler = SparsePooler if _is_sparse_faster(pyramid[0]) else CanvasPooler
    return pooler([_at_least_float32(level) for level in pyramid], strides)


class SparsePooler:
    """Pools level by level, by the sparse product of `roi_align.py`."""

    def __init__(
        self, pyramid: Sequence[Float[Tensor, "B D _h _w"]], strides: Sequence[int]
    ) -> None:
        self.pyramid, self.strides = pyramid, strides
        self._last: tuple[Tensor, Levels] | None = None

    def pool(self, rois: RoIs, side: int) -> Float[Tensor, "R D {side} {side}"]:
        """Pool each RoI to side x side."""
        return pool(self.pyramid, self._levels(rois.boxes), rois, (side, side), self.strides)

    def _levels(self, boxes: Float[Tensor, "R 4"]) -> Levels:
        """Return the levels of boxes, which the box and the mask head may both ask for."""
        if self._last is None or self._last[0] is not boxes:
            self._last = boxes, sorted_by_level(boxes, len(self.pyramid))
        return self._last[1]


class CanvasPooler:
    """Pools all levels in one call of torchvision's kernel, from one map that holds them all.

    So no RoI is sorted, nothing waits for the device, and the shapes do not depend on the values.
    Around each level its border cells are repeated, which is what RoIAlign sees there of a map that
    ends. torchvision copies maps that lie channels last in every call; here that is done once.
    """

    def __init__(
        self, pyramid: Sequence[Float[Tensor, "B D _h _w"]], strides: Sequence[int]
    ) -> None:
        corners, (height, width) = _packed([(x.shape[2], x.shape[3]) for x in pyramid])
        first = pyramid[0]
        self.canvas = first.new_zeros(*first.shape[:2], height, width)
        for level, (y, x) in zip(pyramid, corners, strict=True):
            bordered = F.pad(level, (1, 1, 1, 1), mode="replicate")
            rows, columns = slice(y, y + bordered.shape[2]), slice(x, x + bordered.shape[3])
            self.canvas[:, :, rows, columns] = bordered
        # Of each level; made on the device, as a copy from the host would wait.
        self.x, self.y, self.scale = (
            torch.cat([first.new_full((1,), value) for value in values])
            for values in (
                [x + 1.0 for _, x in corners],
                [y + 1.0 for y, _ in corners],
                [1 / stride for stride in strides],
            )
        )

    def pool(self, rois: RoIs, side: int) -> Float[Tensor, "R D {side} {side}"]:
        """Pool each RoI to side x side."""
        level = pyramid_level(rois.boxes, self.scale.shape[0])
        corner = torch.stack([self.x[level], self.y[level]], dim=1).repeat(1, 2)
        boxes = rois.boxes * self.scale[level, None] + corner
        return _plain(self.canvas, RoIs(boxes, rois.image), side, 1)


def _packed(sizes: Sequence[Size]) -> tuple[list[tuple[int, int]], Size]:
    """Return where each level lies, with a border of one cell, and the size of the whole.

    The second lies below the first, the others beside the second.
    """
    bordered = [(height + 2, width + 2) for height, width in sizes]
    corners, bottom = [(0, 0)], bordered[0][0]
    y, x = bottom, 0
    for place, (height, width) in enumerate(bordered[1:]):
        corners.append((y, x))
        y, x = (y, x + width) if place == 0 else (y + height, x)
    ends = [(y + h, x + w) for (y, x), (h, w) in zip(corners, bordered, strict=True)]
    height, width = (max(sides) for sides in zip(*ends, strict=True))
    return corners, (height, width)


def sorted_by_level(boxes: Float[Tensor, "R 4"], levels: int) -> Levels:
    """Return the level of each box, and the boxes sorted by it."""
    level = pyramid_level(boxes, levels)
    counts = level.bincount(minlength=levels).tolist()
    return Levels(level, level.argsort(stable=True), tuple(counts))


def pyramid_level(boxes: Float[Tensor, "R 4"], levels: int) -> Int[Tensor, "R"]:
    """Return the level, 0 the finest, that each box is pooled from."""
    # A box that is not a number has a level too, so that the loss shows it and is what is told.
    side = area(boxes).nan_to_num().clamp(min=0).sqrt()
    return torch.floor(torch.log2(side / FINEST_SIDE + 1e-6)).clamp(0, levels - 1).long()


def _plain(
    features: Float[Tensor, "B D h w"], rois: RoIs, side: int, stride: int
) -> Float[Tensor, "R D {side} {side}"]:
    indexed = torch.cat([rois.image[:, None].to(features), rois.boxes.to(features)], 1)
    pooled: Tensor = _torchvision_roi_align(
        features, indexed, side, spatial_scale=1 / stride, sampling_ratio=0, aligned=True
    )
    return pooled


def _at_least_float32(features: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    # Half precision places a box only to some pixels, so that boxes and weights need float32.
    return features if features.dtype == torch.float64 else features.float()


def _is_sparse_faster(features: Float[Tensor, "*shape"]) -> bool:
    # A graph that is captured needs an operator with shapes that do not depend on the values.
    return features.device.type == "cpu" and not torch.compiler.is_compiling()
