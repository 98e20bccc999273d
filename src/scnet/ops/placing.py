"""Masks laid on their boxes in an image: as bitmaps, or straight to run lengths.

A mask is a grid of probabilities over its box, 28 x 28 as a rule. A pixel of the image has the
value that lies between the four cells around it, 0 outside the grid, and belongs to the mask from
the threshold on. `paste` computes every pixel. `run_lengths` computes only where the mask begins
and ends: down a column of pixels the value is linear between two rows of cells, so there it crosses
the threshold at most once. What that takes grows with the width of the masks, not their area, and
no bitmap exists at any time. Both do the same arithmetic in the same order, so that they agree in
every pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scnet.ops.rle import RLE, pack
from scnet.types import Size

# Masks, and columns of pixels, that are worked on at a time: some 20 MB.
MASKS_AT_ONCE = 256
COLUMNS_AT_ONCE = 16384


class Span(NamedTuple):
    """Where each mask lies along an axis of the image."""

    low: Float[Tensor, "N"]  # of its box
    high: Float[Tensor, "N"]
    first: Int[Tensor, "N"]  # pixel that it may cover
    number: Int[Tensor, "N"]  # of such pixels


class Axis(NamedTuple):
    """The rows or the columns of pixels that each mask may cover, mask after mask."""

    mask: Int[Tensor, "n"]
    pixel: Int[Tensor, "n"]
    cell: Int[Tensor, "n"]  # before the pixel, in the grid with a border of zeros
    part: Float[Tensor, "n"]  # of the way from that cell to the next, 0..1


class Pieces(NamedTuple):
    """Rows of pixels that lie between the same two rows of cells, as a table for each mask.

    Behind its last piece a mask has empty ones.
    """

    cell: Int[Tensor, "N P"]
    first: Int[Tensor, "N P"]  # index into the rows
    last: Int[Tensor, "N P"]
    row: Int[Tensor, "N P"]  # of the image, where the piece begins
    full: Bool[Tensor, "N P"]


def paste(
    masks: Float[Tensor, "N S S"], boxes: Float[Tensor, "N 4"], size: Size, threshold: float = 0.5
) -> Bool[Tensor, "N {size[0]} {size[1]}"]:
    """Resize each mask to its box and place it on an empty image; outside the box is False."""
    placed = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    for i, mask in enumerate(F.pad(masks.detach().float(), (1, 1, 1, 1))):
        rows, columns = _axes(boxes[i : i + 1], masks.shape[-1], size)
        across = _between(mask[:, columns.cell], mask[:, columns.cell + 1], columns.part)
        values = _between(across[rows.cell], across[rows.cell + 1], rows.part[:, None])
        placed[i, rows.pixel[:, None], columns.pixel] = values >= threshold
    return placed


def run_lengths(
    masks: Float[Tensor, "N S S"], boxes: Float[Tensor, "N 4"], size: Size, threshold: float = 0.5
) -> list[RLE]:
    """Return what `paste` places, in COCO's packed run lengths, on any device.

    Args:
        masks: probabilities.
        boxes: in pixels of the image; may reach over its border.
        size: height and width of the image.
        threshold: above 0.
    """
    limits = torch.tensor([size], device=boxes.device).expand(len(boxes), 2)
    return run_lengths_in(masks, boxes, limits, [size] * len(boxes), threshold)


def run_lengths_in(
    masks: Float[Tensor, "N S S"],
    boxes: Float[Tensor, "N 4"],
    limits: Int[Tensor, "N 2"],
    sizes: Sequence[Size],
    threshold: float = 0.5,
) -> list[RLE]:
    """Return the run lengths of masks that lie in several images.

    Args:
        limits: height and width of the image of each mask.
        sizes: the same, on the host.
    """
    result: list[RLE] = []
    for start in range(0, len(sizes), MASKS_AT_ONCE):
        part = slice(start, start + MASKS_AT_ONCE)
        stride = max(height * width for height, width in sizes[part]) + 1
        bordered = F.pad(masks[part].detach().float(), (1, 1, 1, 1))
        keys = list(_edges(bordered, boxes[part], limits[part], stride, threshold))
        mask, edges = np.divmod(torch.cat(keys).cpu().numpy(), stride) if keys else _NONE
        split = np.searchsorted(mask, np.arange(1, len(sizes[part])))
        by_mask = zip(np.split(edges, split), sizes[part], strict=True)
        result += (_packed(of_mask, size) for of_mask, size in by_mask)
    return result


_NONE = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def _packed(edges: Int[np.ndarray, "e"], size: Size) -> RLE:
    """Return the runs between sorted edges; a run's end and the next one's start may coincide."""
    touching = np.flatnonzero(edges[1:] == edges[:-1])
    edges = np.delete(edges, np.concatenate((touching, touching + 1)))
    lengths = np.diff(edges, prepend=0, append=size[0] * size[1])
    return pack(lengths[:-1] if len(lengths) > 1 and not lengths[-1] else lengths, size)


def _edges(
    masks: Float[Tensor, "N s s"],
    boxes: Float[Tensor, "N 4"],
    limits: Int[Tensor, "N 2"],
    stride: int,
    threshold: float,
) -> Iterator[Int[Tensor, "_e"]]:
    """Yield the edges of all masks, sorted, as mask * stride + place down the columns.

    Waits for the device once, and once for each part of the columns.
    """
    side = masks.shape[-1] - 2
    down, over = _spans(boxes, side, limits)
    # Rows of pixels between the same two rows of cells, at most.
    deepest = ((down.high - down.low) / side).clamp(max=stride).ceil().max() + 1
    totals = torch.stack([*(span.number.sum().double() for span in (down, over)), deepest])
    num_rows, num_columns, longest = map(int, totals.tolist())
    if not num_rows or not num_columns:
        return
    rows = _axis(down, side, num_rows)
    columns = _axis(over, side, num_columns)
    pieces = _pieces(rows, down.number, side)
    across = masks.transpose(1, 2).contiguous()  # so that a column of cells lies together
    for start in range(0, num_columns, COLUMNS_AT_ONCE):
        part = Axis(*(values[start : start + COLUMNS_AT_ONCE] for values in columns))
        base = part.mask * stride + part.pixel * limits[part.mask, 0]
        column, row = _column_edges(across, part, rows, pieces, longest, threshold)
        yield (base[column] + row).sort().values


def _column_edges(
    across: Float[Tensor, "N s s"],
    columns: Axis,
    rows: Axis,
    pieces: Pieces,
    longest: int,
    threshold: float,
) -> tuple[Int[Tensor, "e"], Int[Tensor, "e"]]:
    """Return in which of the columns, and before which row, a mask begins or ends."""
    mask, cell = columns.mask, columns.cell
    values = _between(across[mask, cell], across[mask, cell + 1], columns.part[:, None])
    between = pieces.cell[mask]
    upper, lower = values.gather(1, between), values.gather(1, between + 1)
    first, last = pieces.first[mask], pieces.last[mask]
    full = pieces.full[mask]
    begins = (_between(upper, lower, rows.part[first]) >= threshold) & full
    ends = (_between(upper, lower, rows.part[last]) >= threshold) & full

    # An edge between two pieces, or behind the last one at the border of the image; or inside one.
    between_two = begins != F.pad(ends, (1, 0))[:, :-1]
    inside, column, piece = torch.stack((between_two, begins != ends)).nonzero(as_tuple=True)
    upper, lower, wanted = (x[column, piece] for x in (upper, lower, ends))
    low, high = first[column, piece], last[column, piece]
    for _ in range((longest - 1).bit_length()):  # halve where it must lie
        middle = (low + high) // 2
        beyond = (_between(upper, lower, rows.part[middle]) >= threshold) == wanted
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    return column, torch.where(inside == 1, rows.pixel[high], pieces.row[mask[column], piece])


def _pieces(rows: Axis, count: Int[Tensor, "N"], side: int) -> Pieces:
    """Part the rows of each mask; the table has room for an empty piece behind the last one."""
    mask, masks, width = rows.mask, count.shape[0], side + 2
    new_mask = F.pad(mask[1:] != mask[:-1], (1, 1), value=True)  # also behind the last row
    begins = F.pad(rows.cell[1:] != rows.cell[:-1], (1, 1), value=True) | new_mask
    number = begins[:-1].cumsum(0)
    slot = mask * width + number - number[(count.cumsum(0) - count)[mask]]
    nowhere = masks * width
    starts, stops = (torch.where(x, slot, nowhere) for x in (begins[:-1], begins[1:]))
    behind = torch.where(new_mask[1:], slot + 1, nowhere)

    table = slot.new_zeros(len(Pieces._fields), nowhere + 1)
    cell, first, last, row, full = table
    place = torch.arange(mask.shape[0], device=mask.device)
    cell[starts], first[starts], last[stops] = rows.cell, place, place
    row[behind] = rows.pixel + 1
    row[starts] = rows.pixel
    full[starts] = torch.ones_like(slot)
    cell, first, last, row, full = table[:, :-1].view(len(table), masks, width)
    return Pieces(cell, first, last, row, full.bool())


def _axes(boxes: Float[Tensor, "N 4"], side: int, size: Size) -> tuple[Axis, Axis]:
    """Return rows and columns of masks on these boxes; none of a box without height and width."""
    limits = torch.tensor(size, device=boxes.device).expand(len(boxes), 2)
    down, over = _spans(boxes, side, limits)
    return _axis(down, side, int(down.number.sum())), _axis(over, side, int(over.number.sum()))


def _spans(boxes: Float[Tensor, "N 4"], side: int, limits: Int[Tensor, "N 2"]) -> tuple[Span, Span]:
    """Return which rows and columns each mask may cover; none where a box has no area."""
    boxes = boxes.detach().double()
    real = (boxes[:, 2:] > boxes[:, :2]).all(1) & boxes.isfinite().all(1)
    # The others have sides that are made up.
    low, high = boxes[:, :2].where(real[:, None], 0), boxes[:, 2:].where(real[:, None], 1)
    reach = (high - low) / (2 * side) + 1  # half a cell beyond the box the value has fallen to 0
    most = limits.flip(1).double()
    first = (low - reach).floor().clamp(min=0).minimum(most).long()
    end = (high + reach).ceil().clamp(min=0).minimum(most).long()
    number = (end - first) * real[:, None]
    down, over = (Span(low[:, i], high[:, i], first[:, i], number[:, i]) for i in (1, 0))
    return down, over


def _axis(span: Span, side: int, total: int) -> Axis:
    """Return the pixels of spans that are `total` together."""
    mask = torch.repeat_interleave(span.number, output_size=total)
    before = span.number.cumsum(0) - span.number
    pixel = torch.arange(total, device=mask.device) + (span.first - before)[mask]
    length = span.high - span.low
    at = (pixel + 0.5 - span.low[mask]) / length[mask] * side + 0.5
    cell = at.floor().clamp(0, side)
    return Axis(mask, pixel, cell.long(), (at - cell).clamp(0, 1).float())


def _between(
    a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"], part: Float[Tensor, "..."]
) -> Float[Tensor, "*shape"]:
    return a + part * (b - a)  # rounded so, it never falls where it should rise
