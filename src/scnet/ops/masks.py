"""Masks as training needs them: cropped to their object, pooled to a RoI.

Nothing here holds a bitmap of the whole image for each object.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from scnet.ops.rle import foreground, runs
from scnet.types import MaskCrops, Size

POOLED_AT_ONCE = 2**25  # mask pixels that `crop_targets` holds as float: 128 MB


class Crop(NamedTuple):
    """One mask cut to its object, see `MaskCrops`."""

    pixels: UInt8[Tensor, "h w"]
    origin: tuple[int, int]  # x and y in the image


def crop(mask: Bool[Tensor, "H W"] | UInt8[Tensor, "H W"]) -> Crop:
    """Cut a mask to its tight box and a margin of one pixel; an empty one to one empty pixel."""
    return _tight_crop(mask.cpu().numpy().astype(np.uint8), 0, 0, mask.shape)


def inside(crop: Crop) -> Crop:
    """Return a crop without its margin: the tight box of the mask, and where that lies."""
    return Crop(crop.pixels[1:-1, 1:-1], (crop.origin[0] + 1, crop.origin[1] + 1))


def cut_crop(crop: Crop, window: tuple[int, int, int, int]) -> Crop:
    """Return what lies of a mask in a window (left, top, right, bottom), as an image of its own."""
    pixels, (x, y) = inside(crop)
    left, top, right, bottom = window
    first, above = max(0, left - x), max(0, top - y)
    part = pixels[above : max(0, bottom - y), first : max(0, right - x)]
    size = (bottom - top, right - left)
    return _tight_crop(part.numpy(), x + first - left, y + above - top, size)


def hide_crop(crop: Crop, cover: Bool[Tensor, "H W"]) -> Crop:
    """Return what is left of a mask where another lies over it."""
    pixels, (x, y) = inside(crop)
    height, width = pixels.shape
    hidden = cover[y : y + height, x : x + width]
    if not hidden.any():
        return crop
    return _tight_crop((pixels * ~hidden).numpy(), x, y, cover.shape)


def crop_segmentation(segmentation: Any, size: Size, target: Size) -> Crop:
    """Return the crop of a segmentation of an image of `size`, in that image resized to `target`.

    Polygons are drawn at the target size, so that enlarging keeps their edges smooth; run lengths
    are resized to the nearest pixel.
    """
    if isinstance(segmentation, dict):
        lengths, drawn = runs(segmentation, size), size
    else:
        scale = np.array([target[1] / size[1], target[0] / size[0]])
        scaled = [(np.asarray(p, np.float64).reshape(-1, 2) * scale).ravel() for p in segmentation]
        lengths, drawn = runs(scaled, target), target
    found = foreground(lengths, drawn)
    if found is None:
        return _empty_crop()
    pixels, (x, y) = found
    if drawn != target:
        rows, y = _nearest(y, pixels.shape[0], drawn[0], target[0])
        columns, x = _nearest(x, pixels.shape[1], drawn[1], target[1])
        pixels = pixels[rows[:, None], columns]
    return _with_margin(pixels, x, y, target) if pixels.size else _empty_crop()


def flip_crop(crop: Crop, size: Size, *, horizontal: bool, vertical: bool) -> Crop:
    """Return the crop as it lies in the mirrored image of `size`."""
    pixels, (x, y) = crop
    height, width = pixels.shape
    if horizontal:
        pixels, x = pixels.flip(1), size[1] - x - width
    if vertical:
        pixels, y = pixels.flip(0), size[0] - y - height
    return Crop(pixels, (x, y))


def turn_crop(crop: Crop, size: Size) -> Crop:
    """Return the crop as it lies in the image of `size` after a quarter turn to the left."""
    pixels, (x, y) = crop
    return Crop(pixels.rot90(1), (y, size[1] - x - pixels.shape[1]))


def join_crops(crops: Sequence[Crop]) -> MaskCrops:
    """Return crops as one value."""
    flat = [c.pixels.flatten() for c in crops]
    return MaskCrops(
        torch.cat(flat) if flat else torch.zeros(0, dtype=torch.uint8),
        torch.tensor([c.origin for c in crops], dtype=torch.int64).reshape(-1, 2),
        tuple((c.pixels.shape[0], c.pixels.shape[1]) for c in crops),
    )


def crop_targets(
    crops: MaskCrops, index: Int[Tensor, "R"], boxes: Float[Tensor, "R 4"], size: int
) -> Float[Tensor, "R {size} {size}"]:
    """Return what a mask branch shall predict: for each box its mask, `index`, pooled to 0 or 1.

    The mask is averaged by RoIAlign with as many samples as it has pixels, as in Mask R-CNN's
    release.
    """
    # Importing torchvision takes seconds, and reading data does without.
    from torchvision.ops import roi_align

    pixels = torch.split(crops.pixels, [height * width for height, width in crops.sizes])
    boxes = boxes - crops.origin[index].repeat(1, 2).to(boxes)
    targets = boxes.new_zeros(boxes.shape[0], size, size)
    wanted = index.tolist()  # waits for the device; all that depends on it is planned on the host
    for group in _groups(sorted(set(wanted)), crops.sizes):
        place = {mask: i for i, mask in enumerate(group)}
        chosen = [i for i, mask in enumerate(wanted) if mask in place]
        sizes = [crops.sizes[mask] for mask in group]
        plan = torch.tensor([*chosen, *(place[wanted[i]] for i in chosen), *sum(sizes, ())])
        rows, of, sides = torch.split(
            plan.to(index.device), [len(chosen), len(chosen), 2 * len(group)]
        )
        masks = _padded([pixels[i] for i in group], sizes, sides.view(-1, 2), boxes)
        rois = torch.cat((of[:, None].to(boxes), boxes[rows]), dim=1)
        pooled = roi_align(masks[:, None], rois, size, sampling_ratio=0, aligned=True)
        targets[rows] = (pooled[:, 0] >= 0.5).to(boxes)
    return targets


def shares_inside(
    crops: MaskCrops, index: Int[Tensor, "R"], boxes: Float[Tensor, "R 4"]
) -> Float[Tensor, "R"]:
    """Return which share of the pixels of its mask, `index`, lies in each box.

    The sides of a box are rounded down to whole pixels, and it is at least one pixel wide and high,
    as in MMDetection. A mask without pixels has the share 0.
    """
    areas = [height * width for height, width in crops.sizes]
    starts = itertools.accumulate(areas, initial=0)
    plan = [(start, *size) for start, size in zip(starts, crops.sizes, strict=False)]
    of_masks = torch.tensor(plan, dtype=torch.int64).view(-1, 3).to(index.device)
    first, height, width = of_masks[index].unbind(1)
    before = F.pad(crops.pixels.cumsum(0, dtype=torch.int64), (1, 0))
    rows = torch.arange(max((h for h, _ in crops.sizes), default=0), device=index.device)

    def count(left: Tensor, top: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
        """Count the pixels of each mask in a box of its crop; all but the margin is in bounds."""
        left, right = (torch.minimum(x.clamp(min=1), width - 1) for x in (left, right))
        top, bottom = (torch.minimum(x.clamp(min=1), height - 1) for x in (top, bottom))
        within = (rows >= top[:, None]) & (rows < bottom[:, None])
        row = torch.where(within, first[:, None] + rows * width[:, None], 0)
        in_row = before[row + right[:, None]] - before[row + left[:, None]]
        return (in_row * within).sum(1)

    low, high = torch.split(boxes.floor().long(), 2, dim=1)
    high = torch.maximum(high, low + 1)
    corners = torch.cat((low, high), dim=1) - crops.origin[index].repeat(1, 2)
    whole = count(torch.ones_like(width), torch.ones_like(height), width - 1, height - 1)
    return count(*corners.unbind(1)) / whole.clamp(min=1)


def _groups(masks: Sequence[int], sizes: Sequence[Size]) -> list[list[int]]:
    """Part masks into groups of like size that, padded to a common one, are not too many pixels."""
    groups: list[list[int]] = []
    height = width = 0
    for i in sorted(masks, key=lambda i: -max(sizes[i])):
        height, width = max(height, sizes[i][0]), max(width, sizes[i][1])
        if not groups or (len(groups[-1]) + 1) * height * width > POOLED_AT_ONCE:
            groups.append([])
            height, width = sizes[i]
        groups[-1].append(i)
    return groups


def _padded(
    pixels: Sequence[UInt8[Tensor, "_n"]],
    sizes: Sequence[Size],
    size: Int[Tensor, "G 2"],
    like: Tensor,
) -> Float[Tensor, "G h w"]:
    """Return masks of several sizes as one tensor, padded with zeros; sizes on host and device."""
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    rows = torch.arange(height, device=like.device) < size[:, :1]
    columns = torch.arange(width, device=like.device) < size[:, 1:]
    inside = rows[:, :, None] & columns[:, None]
    return like.new_zeros(inside.shape).masked_scatter_(inside, torch.cat(list(pixels)).to(like))


def _nearest(start: int, length: int, size: int, target: int) -> tuple[Int[np.ndarray, "n"], int]:
    """Return which pixels of a stretch are taken when its line is resized, and the new start."""
    source = _sources(size, target)
    first, last = np.searchsorted(source, [start, start + length]).tolist()
    return source[first:last] - start, first


@functools.lru_cache(maxsize=16)  # the objects of an image share both sides
def _sources(size: int, target: int) -> Int[np.ndarray, "n"]:
    """Return the pixel of a line that each pixel of the resized line is taken from."""
    return np.minimum(((np.arange(target) + 0.5) * (size / target)).astype(np.int64), size - 1)


def _tight_crop(pixels: UInt8[np.ndarray, "h w"], x: int, y: int, size: Sequence[int]) -> Crop:
    """Return the crop of a mask of which `pixels`, lying at x and y, are a part with all of it."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return _empty_crop()
    first, above = int(columns[0]), int(rows[0])
    tight = pixels[above : rows[-1] + 1, first : columns[-1] + 1]
    return _with_margin(tight, x + first, y + above, size)


def _with_margin(tight: UInt8[np.ndarray, "h w"], x: int, y: int, size: Sequence[int]) -> Crop:
    height, width = tight.shape
    pixels = np.zeros((height + 2, width + 2), np.uint8)
    pixels[1:-1, 1:-1] = tight
    if x == 0:
        pixels[:, 0] = pixels[:, 1]
    if x + width == size[1]:
        pixels[:, -1] = pixels[:, -2]
    if y == 0:
        pixels[0] = pixels[1]
    if y + height == size[0]:
        pixels[-1] = pixels[-2]
    return Crop(torch.from_numpy(pixels), (x - 1, y - 1))


def _empty_crop() -> Crop:
    return Crop(torch.zeros(1, 1, dtype=torch.uint8), (0, 0))
