"""RoIAlign over a feature pyramid (Mask R-CNN, sec. 3; FPN, sec. 4.2)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import roi_align

from scnet.config import Align
from scnet.ops.roi_align import Levels, pool
from scnet.types import RoIs, Size

# A RoI of this side in pixels and more leaves P2 for P3, of twice that for P4, and so on.
FINEST_SIDE = 56

LEGACY_SAMPLES = 2  # along a side of a bin, where pooling is "legacy"


def make_pooler(
    pyramid: Sequence[Float[Tensor, "B D _h _w"]], strides: Sequence[int], align: Align = "aligned"
) -> SparsePooler | CanvasPooler:
    """Return what pools RoIs of one scene, each from the level that suits its size, the faster way.

    Half-pixel exact with about one sample per cell where aligned. With several levels RoIs are
    boxes inside their image.
    """
    pooler = SparsePooler if _is_sparse_faster(pyramid[0]) else CanvasPooler
    # Half precision places a box only to some pixels, so that boxes and weights need float32.
    exact = [level if level.dtype == torch.float64 else level.float() for level in pyramid]
    return pooler(exact, strides, align)


class SparsePooler:
    """Pools level by level, by the sparse product of `roi_align.py`."""

    def __init__(
        self,
        pyramid: Sequence[Float[Tensor, "B D _h _w"]],
        strides: Sequence[int],
        align: Align = "aligned",
    ) -> None:
        self.pyramid, self.strides = pyramid, strides
        self.samples = None if align == "aligned" else LEGACY_SAMPLES
        self._last: tuple[Tensor, Levels] | None = None

    def pool(
        self, rois: RoIs, side: int, fine: int | None = None
    ) -> Float[Tensor, "R D {side} {side}"]:
        """Pool each RoI to side x side, given `fine` by averaging fine x fine, a multiple."""
        bins, levels = (side, fine or side), self._levels(rois.boxes)
        return pool(self.pyramid, levels, rois, bins, self.strides, self.samples)

    def _levels(self, boxes: Float[Tensor, "R 4"]) -> Levels | None:
        """Return the levels of boxes, which the box and the mask head may both ask for."""
        if len(self.pyramid) == 1:
            return None
        if self._last is None or self._last[0] is not boxes:
            self._last = boxes, sorted_by_level(boxes, len(self.pyramid))
        return self._last[1]


class CanvasPooler:
    """Pools all levels in one call of torchvision's kernel, from one map that holds them all.

    So no RoI is sorted, nothing waits for the device, and the shapes do not depend on the values.
    Around each of several levels its border cells are repeated, which is what RoIAlign sees there
    of a map that ends. torchvision copies maps that lie channels last in every call; here that is
    done once.
    """

    def __init__(
        self,
        pyramid: Sequence[Float[Tensor, "B D _h _w"]],
        strides: Sequence[int],
        align: Align = "aligned",
    ) -> None:
        self.legacy = align == "legacy"
        first, border = pyramid[0], 0
        if len(pyramid) > 1:  # a legacy RoI of one cell may end a cell behind its map
            border = 2 if self.legacy else 1
        sizes = [(x.shape[2] + 2 * border, x.shape[3] + 2 * border) for x in pyramid]
        corners = _corners(sizes)
        self.canvas = first
        if len(pyramid) > 1:
            self.canvas = _packed([F.pad(x, [border] * 4, mode="replicate") for x in pyramid])
        # Of each level; made on the device, as a copy from the host would wait.
        self.x, self.y, self.scale, self.width, self.height = (
            torch.cat([first.new_full((1,), value) for value in values])
            for values in (
                [torch.sym_float(x + border) for _, x in corners],
                [torch.sym_float(y + border) for y, _ in corners],
                [1 / stride for stride in strides],
                [torch.sym_float(x.shape[3]) for x in pyramid],
                [torch.sym_float(x.shape[2]) for x in pyramid],
            )
        )
        self.bordered = border > 0

    def pool(
        self, rois: RoIs, side: int, fine: int | None = None
    ) -> Float[Tensor, "R D {side} {side}"]:
        """Pool each RoI to side x side, given `fine` by averaging fine x fine, a multiple."""
        level = pyramid_level(rois.boxes, self.scale.shape[0])
        corner = torch.stack([self.x[level], self.y[level]], dim=1).repeat(1, 2)
        boxes = rois.boxes * self.scale[level, None] + corner
        indexed = torch.cat([rois.image[:, None].to(boxes), boxes], dim=1).to(self.canvas)
        fine = fine or side
        assert fine % side == 0
        samples = LEGACY_SAMPLES if self.legacy else 0
        pooled: Tensor = roi_align(
            self.canvas, indexed, fine, sampling_ratio=samples, aligned=not self.legacy
        )
        if self.legacy and self.bordered:
            ends = torch.stack([self.width[level], self.height[level]], dim=1)
            share = _share_inside(rois.boxes * self.scale[level, None], ends, fine)
            pooled = pooled * share.to(pooled)
        return pooled if fine == side else F.avg_pool2d(pooled, fine // side)


def _share_inside(
    boxes: Float[Tensor, "R 4"], ends: Float[Tensor, "R 2"], side: int
) -> Float[Tensor, "R 1 {side} {side}"]:
    """Return the share of the samples of each bin that lie on the map; those behind it count 0.

    The canvas repeats the border there. In a bin that has both kinds all samples see its last
    cell, as only RoIs of one cell reach behind the map, so that the share is exact.

    Args:
        boxes: in cells, inside the map.
        ends: width and height of the map.
    """
    low = boxes[:, :2]
    step = (boxes[:, 2:] - low).clamp(min=1) / (side * LEGACY_SAMPLES)
    number = torch.arange(side * LEGACY_SAMPLES, device=boxes.device)
    at = low[..., None] + (number + 0.5) * step[..., None]
    inside = (at <= ends[..., None]).to(boxes.dtype)
    share = inside.view(-1, 2, side, LEGACY_SAMPLES).mean(3)
    return share[:, 1, None, :, None] * share[:, 0, None, None, :]


def _corners(sizes: Sequence[Size]) -> list[tuple[int, int]]:
    """Return y and x of where `_packed` lays maps of such sizes."""
    corners, y, x = [(0, 0)], sizes[0][0], 0
    for height, width in sizes[1:]:
        corners.append((y, x))
        y, x = (y, width) if x == 0 else (y + height, x)
    return corners


def _packed(maps: Sequence[Float[Tensor, "B D _h _w"]]) -> Float[Tensor, "B D _h _w"]:
    """Lay maps beside one another: the second below the first, the others beside the second."""
    first, second, *others = maps
    row = _joined([second, _joined(others, down=True)], down=False) if others else second
    return _joined([first, row], down=True)


def _joined(maps: Sequence[Float[Tensor, "B D _h _w"]], *, down: bool) -> Tensor:
    """Lay maps below or beside one another; behind the smaller ones are zeros."""
    across = 3 if down else 2
    most: int = functools.reduce(torch.sym_max, (x.shape[across] for x in maps))  # type: ignore[arg-type]
    missing = [most - x.shape[across] for x in maps]
    padded = [
        F.pad(x, (0, n) if down else (0, 0, 0, n)) for x, n in zip(maps, missing, strict=True)
    ]
    return torch.cat(padded, dim=2 if down else 3)


def sorted_by_level(boxes: Float[Tensor, "R 4"], levels: int) -> Levels:
    """Return the level of each box, and the boxes sorted by it."""
    level = pyramid_level(boxes, levels)
    counts = level.bincount(minlength=levels).tolist()
    return Levels(level, level.argsort(stable=True), tuple(counts))


def pyramid_level(boxes: Float[Tensor, "R 4"], levels: int) -> Int[Tensor, "R"]:
    """Return the level, 0 the finest, that each box is pooled from."""
    # A box that is not a number has a level too, so that the loss shows it and is what is told.
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    side = area.nan_to_num().clamp(min=0).sqrt()
    return torch.floor(torch.log2(side / FINEST_SIDE + 1e-6)).clamp(0, levels - 1).long()


def _is_sparse_faster(features: Float[Tensor, "*shape"]) -> bool:
    # A graph that is captured needs an operator with shapes that do not depend on the values.
    return features.device.type == "cpu" and not torch.compiler.is_compiling()
