"""Resize, cut, mirror and turn an image and everything that lies on it.

How an image is seen is drawn first, as a `View`; then each part is made to fit it once: polygons
are drawn at the final size instead of being resized as bitmaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scnet.config import DataConfig
from scnet.ops.masks import Crop, crop_segmentation, cut_crop, flip_crop, inside, turn_crop
from scnet.types import PLAIN, ImageInfo, Size, View

# An object that a cut or another object hides in part stays if so much of its mask is still seen.
VISIBLE = 0.05
SMALLEST = 4  # pixels


@dataclass(frozen=True)
class Objects:
    """The ground truth of one image, in network pixels."""

    boxes: Float[Tensor, "M 4"]
    labels: Int[Tensor, "M"]
    masks: tuple[Crop, ...]
    crowds: tuple[Crop, ...] = ()  # regions where nothing is learnt


@dataclass(frozen=True)
class Sample:
    """One image as the network sees it."""

    image: UInt8[Tensor, "D H W"]
    info: ImageInfo
    objects: Objects | None = None  # None at inference
    semantic: Int[Tensor, "H W"] | None = None
    skipped: tuple[str, ...] = ()  # images whose place this one took, with the reason


def network_size(original: Size, limits: tuple[int, int], keep_ratio: bool = True) -> Size:
    """Return height and width after resizing until the short or the long side meets its limit.

    Without `keep_ratio` the limits are the height and width.

    >>> network_size((480, 640), (800, 1333))
    (800, 1067)
    """
    if not keep_ratio:
        return limits
    short, long = limits
    return scaled_size(original, min(short / min(original), long / max(original)))


def scaled_size(original: Size, factor: float) -> Size:
    """Return height and width after resizing by a factor, at least a pixel each."""
    height, width = (max(1, int(side * factor + 0.5)) for side in original)
    return height, width


def eval_view(original: Size, data: DataConfig) -> View:
    """Return how an image is seen at inference."""
    if data.scale_factor is not None:
        resized = scaled_size(original, data.scale_factor)
    else:
        resized = network_size(original, data.size, data.keep_ratio)
    return View(original, resized, (0, 0, *resized[::-1]))


def train_view(original: Size, data: DataConfig, random: np.random.Generator) -> View:
    """Draw how an image is seen in training.

    One of `data.scales`, or with `data.jitter` any scale (large-scale jitter, Ghiasi et al. 2021);
    with that or a fixed `data.scale_factor` cut to `data.size`; mirrored and turned by chance.
    """
    draws = random.random(3)
    scales = data.scales or (data.size[0],)
    short, long = scales[int(draws[0] * len(scales))], data.size[1]
    if not data.keep_ratio:
        long = max(1, round(long * short / data.size[0]))
    factor = random.uniform(*data.jitter) if data.jitter else 1.0
    if data.jitter:
        short, long = (max(1, round(side * factor)) for side in data.size)
    if data.scale_factor is not None:
        resized = scaled_size(original, data.scale_factor * factor)
    else:
        resized = network_size(original, (short, long), data.keep_ratio)
    quarters = int(random.integers(4)) if data.quarter_turns else 0
    half, turned = quarters >= 2, quarters % 2 == 1  # half a turn is mirroring both ways
    return View(
        original,
        resized,
        _random_window(resized, data, random, turned) if cuts(data) else (0, 0, *resized[::-1]),
        horizontal=bool(draws[1] < data.flip) != half,
        vertical=bool(draws[2] < data.vertical_flip) != half,
        turned=turned,
        colour=_random_colour(data.color_jitter, random) if any(data.color_jitter) else PLAIN,
    )


def cuts(data: DataConfig) -> bool:
    """Return whether a training image may be seen in part."""
    return data.jitter is not None or data.scale_factor is not None


def resize_image(image: Image.Image | NDArray[np.uint8], size: Size) -> UInt8[Tensor, "D H W"]:
    """Resize an image, RGB or (H, W, D).

    Shrinking averages over all pixels, so patterns do not alias. PyTorch gives what Pillow's
    `resize` does, with differences of 1 at most (in 0.05 % of the values of photographs), three
    times as fast.
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    if pixels.shape[1:] == size:
        return pixels
    return F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]


def view_image(image: Image.Image | NDArray[np.uint8], view: View) -> UInt8[Tensor, "D H W"]:
    """Resize, cut, mirror and turn an image, RGB or (H, W, D), and change its colours."""
    pixels = _cut_and_turned(resize_image(image, view.resized), view)
    return pixels if view.colour == PLAIN else _coloured(pixels, view.colour)


def view_boxes(boxes: Float[Tensor, "M 4"], view: View) -> Float[Tensor, "M 4"]:
    """Resize, mirror and turn boxes, and cut them at the border of what is seen."""
    height, width = view.cut
    corner = torch.tensor(view.window[:2], dtype=torch.float32)
    x0, y0, x1, y1 = (boxes * torch.tensor(view.scale * 2) - corner.repeat(2)).unbind(1)
    if view.horizontal:
        x0, x1 = width - x1, width - x0
    if view.vertical:
        y0, y1 = height - y1, height - y0
    x0, x1 = x0.clamp(0, width), x1.clamp(0, width)
    y0, y1 = y0.clamp(0, height), y1.clamp(0, height)
    if view.turned:
        x0, y0, x1, y1 = y0, width - x1, y1, width - x0
    return torch.stack((x0, y0, x1, y1), dim=1)


def view_mask(segmentation: Any, view: View) -> Crop:
    """Draw a COCO segmentation as it is seen, cut to its object."""
    return view_crop(draw_mask(segmentation, view), view)


def draw_mask(segmentation: Any, view: View) -> Crop:
    """Draw a COCO segmentation in the whole resized image."""
    return crop_segmentation(segmentation, view.original, view.resized)


def view_crop(crop: Crop, view: View) -> Crop:
    """Cut, mirror and turn a mask that was drawn in the whole resized image."""
    if view.cut != view.resized:
        crop = cut_crop(crop, view.window)
    crop = flip_crop(crop, view.cut, horizontal=view.horizontal, vertical=view.vertical)
    return turn_crop(crop, view.cut) if view.turned else crop


def view_map(semantic: Int[Tensor, "H W"], view: View) -> Int[Tensor, "h w"]:
    """Cut, mirror and turn a map that is resized already."""
    return _cut_and_turned(semantic, view)


def select(objects: Objects, index: Sequence[int]) -> Objects:
    """Return some of the objects, with all crowd regions."""
    chosen = torch.tensor(index, dtype=torch.int64)
    masks = tuple(objects.masks[i] for i in index)
    return replace(objects, boxes=objects.boxes[chosen], labels=objects.labels[chosen], masks=masks)


def keep_visible(objects: Objects, areas: Sequence[int], share: float = VISIBLE) -> Objects:
    """Return the objects of which enough is left, given the pixels that each mask had before.

    An object that lost pixels stays if at least that share of them and `SMALLEST` pixels are left,
    and takes the box of what is left of its mask. One without any pixel goes.
    """
    left = [mask_area(mask) for mask in objects.masks]
    boxes = objects.boxes.clone()
    kept = []
    for i, (now, before) in enumerate(zip(left, areas, strict=True)):
        if now < before:
            boxes[i] = torch.tensor(mask_box(objects.masks[i]), dtype=torch.float32)
        if now and (now == before or now >= max(SMALLEST, share * before)):
            kept.append(i)
    return select(replace(objects, boxes=boxes), kept)


def mask_area(crop: Crop) -> int:
    """Return the number of pixels of a mask."""
    return int(np.count_nonzero(inside(crop).pixels.numpy()))


def mask_box(crop: Crop) -> tuple[int, int, int, int]:
    """Return the tight box of a mask."""
    pixels, (x, y) = inside(crop)
    return x, y, x + pixels.shape[1], y + pixels.shape[0]


def _random_window(
    resized: Size, data: DataConfig, random: np.random.Generator, turned: bool
) -> tuple[int, int, int, int]:
    """Draw a window that, once it is `turned`, is no larger than `data.size`."""
    # Fitted images are tall or wide; `size` says nothing of which side is longer.
    fitted = data.keep_ratio and data.scale_factor is None
    swapped = resized[0] > resized[1] if fitted else turned
    limits = data.size[::-1] if swapped else data.size
    height, width = (min(side, limit) for side, limit in zip(resized, limits, strict=True))
    top = int(random.integers(resized[0] - height + 1))
    left = int(random.integers(resized[1] - width + 1))
    return left, top, left + width, top + height


def _random_colour(
    most: tuple[float, float, float], random: np.random.Generator
) -> tuple[float, float, float]:
    brightness, contrast, saturation = (random.uniform(1 - m, 1 + m) for m in most)
    return brightness, contrast, saturation


def _coloured(
    pixels: UInt8[Tensor, "D H W"], colour: tuple[float, float, float]
) -> UInt8[Tensor, "D H W"]:
    # Importing torchvision takes seconds, and reading data does without.
    from torchvision.transforms.v2.functional import (
        adjust_brightness,
        adjust_contrast,
        adjust_saturation,
    )

    brightness, contrast, saturation = colour
    changed: Tensor = adjust_contrast(adjust_brightness(pixels, brightness), contrast)
    coloured: Tensor = adjust_saturation(changed, saturation)
    return coloured


def _cut_and_turned(
    values: Shaped[Tensor, "*channels H W"], view: View
) -> Shaped[Tensor, "*channels h w"]:
    left, top, right, bottom = view.window
    values = values[..., top:bottom, left:right]
    axes = [axis for axis, flip in ((-2, view.vertical), (-1, view.horizontal)) if flip]
    values = values.flip(axes) if axes else values
    return values.rot90(1, (-2, -1)) if view.turned else values
