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

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scnet.ops.ragged import enumerate_lists
from scnet.ops.rle import RLE, Runs, pack
from scnet.types import Size

# Masks, and columns of pixels, that are worked on at a time: some 20 MB.
MASKS_AT_ONCE = 128
COLUMNS_AT_ONCE = 16384


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
    longest: int  # rows of the longest piece


def paste(
    masks: Float[Tensor, "N S S"], boxes: Float[Tensor, "N 4"], size: Size, threshold: float = 0.5
) -> Bool[Tensor, "N {size[0]} {size[1]}"]:
    """Resize each mask to its box and place it on an empty image; outside the box is False."""
    placed = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    for i, mask in enumerate(_bordered(masks)):
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
    result: list[RLE] = []
    for start in range(0, len(masks), MASKS_AT_ONCE):
        part = slice(start, start + MASKS_AT_ONCE)
        keys = list(_edges(_bordered(masks[part]), boxes[part], size, threshold))
        mask, edges = np.divmod(torch.cat(keys).cpu().numpy(), _stride(size)) if keys else _NONE
        split = np.searchsorted(mask, np.arange(1, len(masks[part])))
        result += (pack(_runs(of_mask, size), size) for of_mask in np.split(edges, split))
    return result


_NONE = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def _runs(edges: Int[np.ndarray, "e"], size: Size) -> Runs:
    """Return the runs between sorted edges; a run's end and the next one's start may coincide."""
    touching = np.flatnonzero(edges[1:] == edges[:-1])
    edges = np.delete(edges, np.concatenate((touching, touching + 1)))
    lengths = np.diff(edges, prepend=0, append=size[0] * size[1])
    return lengths[:-1] if len(lengths) > 1 and not lengths[-1] else lengths


def _stride(size: Size) -> int:
    """Return how many places of an edge there are in an image: before each pixel, and the end."""
    return size[0] * size[1] + 1


def _edges(
    masks: Float[Tensor, "N s s"], boxes: Float[Tensor, "N 4"], size: Size, threshold: float
) -> Iterator[Int[Tensor, "_e"]]:
    """Yield the edges of all masks, sorted, as mask * stride + place down the columns."""
    rows, columns = _axes(boxes, masks.shape[-1] - 2, size)
    if not len(rows.mask) or not len(columns.mask):
        return
    pieces = _pieces(rows, len(masks))
    across = masks.transpose(1, 2).contiguous()  # so that a column of cells lies together
    for start in range(0, len(columns.mask), COLUMNS_AT_ONCE):
        part = Axis(*(values[start : start + COLUMNS_AT_ONCE] for values in columns))
        base = part.mask * _stride(size) + part.pixel * size[0]
        column, row = _column_edges(across, part, rows, pieces, threshold)
        yield (base[column] + row).sort().values


def _column_edges(
    across: Float[Tensor, "N s s"], columns: Axis, rows: Axis, pieces: Pieces, threshold: float
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

    # An edge between two pieces, or behind the last one at the border of the image.
    column, piece = (begins != F.pad(ends, (1, 0))[:, :-1]).nonzero(as_tuple=True)
    row = pieces.row[mask[column], piece]
    # An edge inside a piece: halve where it must lie.
    inner, piece = (begins != ends).nonzero(as_tuple=True)
    upper, lower, wanted = upper[inner, piece], lower[inner, piece], ends[inner, piece]
    low, high = first[inner, piece], last[inner, piece]
    for _ in range((pieces.longest - 1).bit_length()):
        middle = (low + high) // 2
        beyond = (_between(upper, lower, rows.part[middle]) >= threshold) == wanted
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    return torch.cat((column, inner)), torch.cat((row, rows.pixel[high]))


def _pieces(rows: Axis, masks: int) -> Pieces:
    """Part the rows of each mask; the table has room for an empty piece behind the last one."""
    changes = (rows.cell[1:] != rows.cell[:-1]) | (rows.mask[1:] != rows.mask[:-1])
    first = F.pad(changes, (1, 0), value=True).nonzero().squeeze(1)
    last = torch.cat((first[1:], first.new_tensor([len(rows.cell)]))) - 1
    owner, count = rows.mask[first], rows.mask[first].bincount(minlength=masks)
    width, longest = torch.stack((count.max() + 1, (last - first).max() + 1)).tolist()
    _, place = enumerate_lists(count)

    def table(values: Tensor) -> Tensor:
        out = values.new_zeros(masks, width)
        out[owner, place] = values
        return out

    row = table(rows.pixel[first])
    has = count.nonzero().squeeze(1)
    row[has, count[has]] = rows.pixel[last[count.cumsum(0)[has] - 1]] + 1
    full = torch.arange(width, device=count.device) < count[:, None]
    return Pieces(table(rows.cell[first]), table(first), table(last), row, full, longest)


def _axes(boxes: Float[Tensor, "N 4"], side: int, size: Size) -> tuple[Axis, Axis]:
    """Return rows and columns of masks on these boxes; none of a box without height and width."""
    boxes = boxes.detach().double()
    real = (boxes[:, 2:] > boxes[:, :2]).all(1) & boxes.isfinite().all(1)
    boxes = boxes.where(real[:, None], boxes.new_tensor([0.0, 0.0, 1.0, 1.0]))
    return (
        _axis(boxes[:, 1], boxes[:, 3], real, side, size[0]),
        _axis(boxes[:, 0], boxes[:, 2], real, side, size[1]),
    )


def _axis(
    low: Float[Tensor, "N"],
    high: Float[Tensor, "N"],
    real: Bool[Tensor, "N"],
    side: int,
    limit: int,
) -> Axis:
    length = high - low
    reach = length / (2 * side) + 1  # half a cell beyond the box the value has fallen to 0
    first = (low - reach).floor().clamp(0, limit).long()
    end = (high + reach).ceil().clamp(0, limit).long()
    mask, pixel = enumerate_lists((end - first) * real)
    pixel += first[mask]
    at = (pixel + 0.5 - low[mask]) / length[mask] * side + 0.5
    cell = at.floor().clamp(0, side)
    return Axis(mask, pixel, cell.long(), (at - cell).clamp(0, 1).float())


def _between(
    a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"], part: Float[Tensor, "..."]
) -> Float[Tensor, "*shape"]:
    return a + part * (b - a)  # rounded so, it never falls where it should rise


def _bordered(masks: Float[Tensor, "N S S"]) -> Float[Tensor, "N s s"]:
    return F.pad(masks.detach().float(), (1, 1, 1, 1))
