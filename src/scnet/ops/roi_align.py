"""RoIAlign on the CPU as a product with a sparse matrix, several times as fast as torchvision's.

RoIAlign (Mask R-CNN, sec. 3) is linear in the features: a pooled value is a weighted sum of cells.
The weights are those of the bilinear samples, merged where samples share a cell, and separable:
weight along y times weight along x. `embedding_bag` computes such sums on all cores, forward with a
bag per pooled value and backward, on the transposed matrix, with a bag per cell. The matrix is
never stored: it is built for a chunk of RoIs at a time, so memory is bounded for RoIs of any size.

Lists of different length lie behind one another in flat tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from scnet.types import RoIs

# Entries of the sparse matrix that exist at a time, at about 50 bytes each while they are built.
# One chunk is fastest, as its result is the output; more are copied there.
MAX_ENTRIES = 4_000_000


class Levels(NamedTuple):
    """From which level of a pyramid each RoI is pooled, and the RoIs sorted by it."""

    level: Int[Tensor, "R"]  # 0 is the finest
    order: Int[Tensor, "R"]  # the RoIs of the first level first
    counts: tuple[int, ...]  # RoIs of each level


class Maps(NamedTuple):
    """Where the RoIs of a pooling lie; the RoIs are sorted by level."""

    shapes: tuple[torch.Size, ...]  # of each level of the pyramid, (B, D, h, w)
    num_rois: tuple[int, ...]  # RoIs of each level
    order: Int[Tensor, "R"] | None  # place of each RoI in the output; None if already in order
    side: int  # bins along a side of the output


class Axis(NamedTuple):
    """The weights along one axis: each bin is the weighted sum of successive cells."""

    first: Int[Tensor, "bins"]  # index of the first cell
    length: Int[Tensor, "bins"]  # number of cells
    start: Int[Tensor, "bins"]  # where the weights of the bin begin
    weights: Float[Tensor, "n"]  # of each cell of each bin


class Pooling(NamedTuple):
    """All that a pooling is but the features."""

    maps: Maps
    y: Axis  # of R * side bins
    x: Axis  # of R * side bins
    origin: Int[Tensor, "R"]  # cell, counted through the batch, at the top left of the RoI's image
    width: Int[Tensor, "R"]  # cells in a row of the RoI's level


class Entries(NamedTuple):
    """A part of the sparse matrix, row after row."""

    cells: Int[Tensor, "E"]  # column
    weights: Float[Tensor, "E"]
    rows: Int[Tensor, "E"]
    starts: Int[Tensor, "rows+1"]  # where each row begins, and the end of the last one


def pool(
    pyramid: Sequence[Float[Tensor, "B D _h _w"]],
    levels: Levels | None,
    rois: RoIs,
    bins: tuple[int, int],
    strides: Sequence[int],
    samples: int | None = None,
) -> Float[Tensor, "R D {bins[0]} {bins[0]}"]:
    """Pool each RoI from its level, or from the only one; the result is channels-last.

    Args:
        pyramid: float32 or float64.
        levels: from which level each RoI is pooled; None if there is one level.
        rois: boxes in pixels of the image.
        bins: bins along a side of the result, and of the finer grid that they are the mean of.
        strides: pixels per cell of each level.
        samples: along a side of a bin of the finer grid, with RoIs half a cell off and at least one
            cell wide and high (the first RoIAlign); None = aligned, about one for each cell.
    """
    with torch.no_grad():
        pooling = _pooling(pyramid, levels, rois, bins, strides, samples)
    if torch.is_grad_enabled() and any(features.requires_grad for features in pyramid):
        out: Tensor = _Pool.apply(pooling, *pyramid)
        return out
    return _forward(pooling, pyramid)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pooling: Pooling, *pyramid: Tensor) -> Tensor:
        ctx.pooling = pooling
        return _forward(pooling, pyramid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_backward(ctx.pooling, grad)


def _forward(pooling: Pooling, pyramid: Sequence[Tensor]) -> Tensor:
    maps, channels = pooling.maps, pyramid[0].shape[1]
    rows = [_cells(features) for features in pyramid]
    chunks = list(_chunks(pooling))

    def pooled(level: int, begin: int, end: int) -> Tensor:
        entries = _entries(pooling, begin, end)
        return _sums(rows[level], entries.cells, entries.weights, entries.starts)

    if len(chunks) == 1 and maps.order is None:
        out = pooled(*chunks[0])
    else:
        out = pyramid[0].new_empty(sum(maps.num_rois), maps.side**2 * channels)
        for level, begin, end in chunks:
            target = slice(begin, end) if maps.order is None else maps.order[begin:end]
            out[target] = pooled(level, begin, end).view(end - begin, -1)
    return out.view(-1, maps.side, maps.side, channels).permute(0, 3, 1, 2)


def _backward(pooling: Pooling, grad: Tensor) -> list[Tensor]:
    maps = pooling.maps
    rows = grad.permute(0, 2, 3, 1).reshape(-1, grad.shape[1])
    out: list[Tensor | None] = [None] * len(maps.shapes)
    for level, begin, end in _chunks(pooling):
        batch, _, h, w = maps.shapes[level]
        part = _transposed(pooling, begin, end, batch * h * w, rows)
        before = out[level]
        out[level] = part if before is None else before.add_(part)
    return [
        grad.new_zeros(shape) if x is None else _uncells(x, shape)
        for x, shape in zip(out, maps.shapes, strict=True)
    ]


def _transposed(pooling: Pooling, begin: int, end: int, num_cells: int, rows: Tensor) -> Tensor:
    """Return the gradient of all cells of a level from a chunk of RoIs."""
    entries, order = _entries(pooling, begin, end), pooling.maps.order
    row, bins = entries.rows, pooling.maps.side**2
    if order is not None:
        place = order[begin:end, None].int() * bins + torch.arange(bins, dtype=torch.int32)
        row = place.flatten().index_select(0, row)
    else:
        row = row + begin * bins
    cells, by_cell = entries.cells.sort()
    edges = torch.arange(num_cells + 1, dtype=torch.int32)
    starts = torch.searchsorted(cells, edges, out_int32=True)
    weights = entries.weights.index_select(0, by_cell)
    return _sums(rows, row.index_select(0, by_cell), weights, starts)


def _sums(rows: Tensor, index: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    return F.embedding_bag(
        index, rows, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def _cells(features: Float[Tensor, "B D h w"]) -> Float[Tensor, "cells D"]:
    """Return a row per cell; free if the features are channels-last."""
    return features.detach().permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def _uncells(rows: Float[Tensor, "cells D"], shape: torch.Size) -> Float[Tensor, "B D h w"]:
    batch, _, h, w = shape
    return rows.view(batch, h, w, -1).permute(0, 3, 1, 2)


def _chunks(pooling: Pooling) -> Iterator[tuple[int, int, int]]:
    """Yield level, begin and end of runs of RoIs of one level with a bounded number of entries."""
    side = pooling.maps.side
    per_y, per_x = (axis.length.view(-1, side).sum(1) for axis in (pooling.y, pooling.x))
    total = torch.cat([per_y.new_zeros(1), per_y * per_x]).cumsum(0)
    begin = 0
    for level, number in enumerate(pooling.maps.num_rois):
        last = begin + number
        while begin < last:
            limit = total[begin] + MAX_ENTRIES
            end = int(torch.searchsorted(total, limit, right=True)) - 1
            end = min(max(end, begin + 1), last)
            yield level, begin, end
            begin = end


def _pooling(
    pyramid: Sequence[Tensor],
    levels: Levels | None,
    rois: RoIs,
    bins: tuple[int, int],
    strides: Sequence[int],
    samples: int | None,
) -> Pooling:
    boxes, image = rois.boxes.to(pyramid[0].dtype), rois.image
    shapes = tuple(features.shape for features in pyramid)
    order: Tensor | None = None
    num_rois: tuple[int, ...] = (len(boxes),)
    h, w, stride = torch.tensor([[*s[-2:], n] for s, n in zip(shapes, strides, strict=True)]).T
    if levels is not None:
        order, num_rois = levels.order, levels.counts
        boxes, image, level = boxes[order], image[order], levels.level[order]
        h, w, stride = h[level], w[level], stride[level]
    boxes = boxes * stride.to(boxes.dtype).reciprocal()[:, None]
    if samples is None:
        boxes = boxes - 0.5
    return Pooling(
        Maps(shapes, num_rois, order, bins[0]),
        _axis(boxes[:, 1], boxes[:, 3], h, bins, samples),
        _axis(boxes[:, 0], boxes[:, 2], w, bins, samples),
        (image * (h * w)).int(),
        w.int().expand(len(boxes)),
    )


def _axis(
    low: Float[Tensor, "R"],
    high: Float[Tensor, "R"],
    cells: Int[Tensor, "_"],
    bins: tuple[int, int],
    samples: int | None,
) -> Axis:
    """Return the weights of the RoIs from `low` to `high` along an axis of so many cells."""
    side, fine = bins
    if samples is None:
        length = (high - low) / fine
        number = length.ceil().nan_to_num(0, 0, 0).clamp(min=0)
    else:
        length = (high - low).clamp(min=1) / fine
        number = torch.where(length.isfinite(), samples, 0).to(length)
    # A RoI without extent, or one that is not a number, pools to zero: one sample, of no weight.
    weight = torch.where(number > 0, side / (fine * number), 0)
    number = number.clamp(min=1)

    per_bin = (number.int() * (fine // side)).repeat_interleave(side)
    bin_of, sample = _enumerate(per_bin)
    low, length, limit = low.nan_to_num(), length.nan_to_num(), cells.expand_as(low)
    values = torch.stack([low, length, number, weight, limit])
    low, length, number, weight, limit = values.index_select(1, bin_of // side)
    # The order of operations is torchvision's: where a sample falls decides whether it counts.
    fine_bin = bin_of % side * (fine // side) + (sample / number).floor()
    at = low + fine_bin * length + (sample % number + 0.5) * length / number
    weight = weight * ((at >= -1) & (at <= limit))

    at = at.clamp(min=0).minimum(limit - 1)
    here = at.int()
    beside = torch.minimum(here + 1, limit.int() - 1)
    part = at - here
    end = per_bin.cumsum(0)
    first = here[end - per_bin]
    count = beside[end - 1] - first + 1
    start = count.cumsum(0, dtype=torch.int32) - count
    offset = (start - first).index_select(0, bin_of)
    weights = at.new_zeros(int(count.sum()))
    weights.index_add_(0, offset + here, weight * (1 - part))
    weights.index_add_(0, offset + beside, weight * part)
    return Axis(first, count, start, weights)


def _entries(pooling: Pooling, begin: int, end: int) -> Entries:
    """Return the rows of the sparse matrix that belong to the RoIs from `begin` to `end`."""
    side = pooling.maps.side
    y, x = (_part(axis, begin * side, end * side) for axis in (pooling.y, pooling.x))
    shape = (end - begin, side, side)
    bin_x = torch.arange((end - begin) * side, dtype=torch.int32).view(-1, 1, side).expand(shape)
    # A run is what a bin covers in one row of cells.
    count = y.length.view(-1, side, 1).expand(shape).flatten()
    bin_of_run, row = _enumerate(count)
    bin_y = torch.div(bin_of_run, side, rounding_mode="floor")
    bin_x = bin_x.flatten().index_select(0, bin_of_run)
    width, origin = (
        values[begin:end, None].expand(-1, side).flatten().index_select(0, bin_y)
        for values in (pooling.width, pooling.origin)
    )
    cell = origin + (y.first.index_select(0, bin_y) + row) * width + x.first.index_select(0, bin_x)
    weight_y = y.weights.index_select(0, y.start.index_select(0, bin_y) + row)

    run, column = _enumerate(x.length.index_select(0, bin_x))
    weight_x = x.start.index_select(0, bin_x).index_select(0, run).add_(column)
    weights = x.weights.index_select(0, weight_x).mul_(weight_y.index_select(0, run))
    cells = cell.index_select(0, run).add_(column)
    per_row = count * x.length.view(-1, 1, side).expand(shape).flatten()
    starts = F.pad(per_row.cumsum(0, dtype=torch.int32), (1, 0))
    return Entries(cells, weights, bin_of_run.index_select(0, run), starts)


def _part(axis: Axis, begin: int, end: int) -> Axis:
    return Axis(axis.first[begin:end], axis.length[begin:end], axis.start[begin:end], axis.weights)


def _enumerate(count: Int[Tensor, "n"]) -> tuple[Int[Tensor, "total"], Int[Tensor, "total"]]:
    """Return, for each element of lists of these lengths, its list and its place in that list."""
    end = count.cumsum(0, dtype=torch.int32)
    owner = torch.repeat_interleave(count)
    place = torch.arange(owner.shape[0], dtype=torch.int32)
    return owner, place.sub_((end - count).index_select(0, owner))
