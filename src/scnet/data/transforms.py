"""Resize and mirror an image and everything that lies on it.

How an image is seen is drawn first, as a `View`; then each part is made to fit it once: polygons
are drawn at the final size instead of being resized as bitmaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from scnet.config import DataConfig
from scnet.ops.masks import Crop, crop_segmentation, flip_crop
from scnet.types import ImageInfo, Size


@dataclass(frozen=True)
class View:
    """How the network shall see an image."""

    original: Size
    size: Size  # after resizing
    horizontal: bool = False  # mirrored
    vertical: bool = False  # upside down

    @property
    def scale(self) -> tuple[float, float]:
        """Return network pixels per original pixel, across and down."""
        return self.size[1] / self.original[1], self.size[0] / self.original[0]


@dataclass(frozen=True)
class Objects:
    """The ground truth of one image, in network pixels."""

    boxes: Float[Tensor, "M 4"]
    labels: Int[Tensor, "M"]
    masks: tuple[Crop, ...]


@dataclass(frozen=True)
class Sample:
    """One image as the network sees it."""

    image: UInt8[Tensor, "3 H W"]
    info: ImageInfo
    scale: tuple[float, float]  # network pixels per original pixel, across and down
    objects: Objects | None = None  # None at inference
    semantic: Int[Tensor, "H W"] | None = None


def network_size(original: Size, limits: tuple[int, int]) -> Size:
    """Return height and width after resizing until the short or the long side meets its limit.

    >>> network_size((480, 640), (800, 1333))
    (800, 1067)
    """
    short, long = limits
    scale = min(short / min(original), long / max(original))
    height, width = (max(1, int(side * scale + 0.5)) for side in original)
    return height, width


def eval_view(original: Size, data: DataConfig) -> View:
    """Return how an image is seen at inference."""
    return View(original, network_size(original, data.size))


def train_view(original: Size, data: DataConfig, random: np.random.Generator) -> View:
    """Draw how an image is seen in training: one of `data.scales`, and mirrored by chance."""
    draws = random.random(3)
    scales = data.scales or (data.size[0],)
    short = scales[int(draws[0] * len(scales))]
    return View(
        original,
        network_size(original, (short, data.size[1])),
        horizontal=bool(draws[1] < data.flip),
        vertical=bool(draws[2] < data.vertical_flip),
    )


def view_image(image: Image.Image, view: View) -> UInt8[Tensor, "3 H W"]:
    """Resize and mirror an image; shrinking averages over all pixels, so patterns do not alias."""
    height, width = view.size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.array(image)[:: -1 if view.vertical else 1, :: -1 if view.horizontal else 1]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def view_boxes(boxes: Float[Tensor, "M 4"], view: View) -> Float[Tensor, "M 4"]:
    """Resize and mirror boxes, and cut them at the image's border."""
    height, width = view.size
    x0, y0, x1, y1 = (boxes * torch.tensor(view.scale * 2)).unbind(1)
    if view.horizontal:
        x0, x1 = width - x1, width - x0
    if view.vertical:
        y0, y1 = height - y1, height - y0
    x0, x1 = x0.clamp(0, width), x1.clamp(0, width)
    y0, y1 = y0.clamp(0, height), y1.clamp(0, height)
    return torch.stack((x0, y0, x1, y1), dim=1)


def view_mask(segmentation: Any, view: View) -> Crop:
    """Draw a COCO segmentation as it is seen, cut to its object."""
    crop = crop_segmentation(segmentation, view.original, view.size)
    return flip_crop(crop, view.size, horizontal=view.horizontal, vertical=view.vertical)


def view_map(semantic: Int[Tensor, "H W"], view: View) -> Int[Tensor, "H W"]:
    """Mirror a map that has the view's size already."""
    axes = [axis for axis, flip in ((0, view.vertical), (1, view.horizontal)) if flip]
    return semantic.flip(axes) if axes else semantic
