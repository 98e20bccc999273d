"""The values that flow between parts, and the conventions that hold everywhere.

Letters for sizes, the same in every annotation:

    B images, R RoIs of the whole batch, G ground truths of the whole batch, N boxes of one image,
    M ground truths of one image (padded), C classes, D channels, H W image pixels,
    h w feature cells, S side of a pooled RoI, A anchors of one image, K stages,
    P samples of one image

Conventions:

    boxes    xyxy in pixels, float32, right and bottom exclusive
    masks    bool (or 0/1 bytes where they travel), one pixel per pixel of the image
    labels   0..C-1; C, the last index, is background
    images   RGB in [0, 255] until the detector normalises them
    scores   are probabilities; `*_logits` are not

The boxes of a batch are one flat tensor with an image index beside it, never a list of per-image
bags: an image without boxes then needs no branch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Size = tuple[int, int]  # height, width
Losses = dict[str, Tensor]  # weighted scalars by name, such as `stage2.cls`; the total is their sum

DIVISOR = 32  # the sides of a batch are multiples of it, so that the coarsest map has whole cells
IGNORE = -1  # value of a semantic map where nothing is learnt
PLAIN = (1.0, 1.0, 1.0)  # colours as they are
# Some box with an area, where there is none to aim at.
UNIT = torch.tensor([0.0, 0.0, 1.0, 1.0], device="cpu")


@dataclass(frozen=True)
class Pixels:
    """An image of 8 bits, upright, its bands chosen and its numbers scaled."""

    values: Image.Image | NDArray[np.uint8]  # RGB; or (H, W, D) where there are not three bands
    fault: str = ""  # what was lost in reading, if that is much, and what to do

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return height, width and the number of bands."""
        if isinstance(self.values, Image.Image):
            return self.values.height, self.values.width, 3
        height, width, bands = self.values.shape
        return height, width, bands

    @property
    def picture(self) -> Image.Image:
        """Return the image as RGB, to be looked at: its first three bands, or grey."""
        if isinstance(self.values, Image.Image):
            return self.values
        last = self.values.shape[2] - 1
        shown = [0, min(1, last), min(2, last)]
        return Image.fromarray(np.ascontiguousarray(self.values[..., shown]))


class Inverse(NamedTuple):
    """The way back from network pixels: original = (sign * network + shift) / scale."""

    sign: tuple[float, float]  # along x and y; -1 where mirrored
    shift: tuple[float, float]
    scale: tuple[float, float]  # network pixels per original pixel
    size: tuple[float, float]  # width and height of the original


@dataclass(frozen=True)
class View:
    """How the network sees an image: resized, cut to a window, mirrored, then turned."""

    original: Size
    resized: Size  # of the whole image
    window: tuple[int, int, int, int]  # left, top, right, bottom: what is seen of it
    horizontal: bool = False  # mirrored
    vertical: bool = False  # upside down
    turned: bool = False  # by a quarter to the left; in training alone
    colour: tuple[float, float, float] = PLAIN  # factors of brightness, contrast and saturation

    @classmethod
    def whole(cls, original: Size, resized: Size | None = None) -> View:
        """Return the view of a whole image, perhaps resized."""
        resized = resized or original
        return cls(original, resized, (0, 0, resized[1], resized[0]))

    @property
    def size(self) -> Size:
        """Return height and width of what is seen."""
        height, width = self.cut
        return (width, height) if self.turned else (height, width)

    @property
    def cut(self) -> Size:
        """Return height and width of the window."""
        left, top, right, bottom = self.window
        return bottom - top, right - left

    @property
    def scale(self) -> tuple[float, float]:
        """Return network pixels per original pixel along x and y, before it is turned."""
        return self.resized[1] / self.original[1], self.resized[0] / self.original[0]

    @property
    def reflected(self) -> bool:
        """Whether it is a mirror image, with left and right of things exchanged.

        Mirrored both ways it is not, but turned by 180 degrees.
        """
        return self.horizontal != self.vertical

    @property
    def inverse(self) -> Inverse:
        """Return the way back to the pixels of the original; NaN where the view is turned."""
        left, top, right, bottom = self.window
        height, width = self.original
        if self.turned:  # x and y change places, which an `Inverse` cannot say
            nowhere = (math.nan, math.nan)
            return Inverse(nowhere, nowhere, nowhere, (float(width), float(height)))
        return Inverse(
            (-1.0 if self.horizontal else 1.0, -1.0 if self.vertical else 1.0),
            (float(right if self.horizontal else left), float(bottom if self.vertical else top)),
            self.scale,
            (float(width), float(height)),
        )


class ImageInfo(NamedTuple):
    """Where an image came from, and how it is seen; travels with it to results and messages."""

    id: int  # image id of the annotation file
    path: str  # file on disk
    view: View

    @property
    def size(self) -> Size:
        """Height and width of the original, upright (EXIF applied)."""
        return self.view.original


class MaskCrops(NamedTuple):
    """Binary masks, each cut to its object, so that a thousand small objects cost little.

    A crop holds the tight box of the mask and a margin of one pixel on every side. Where the margin
    lies outside the image it repeats the image's border pixel, which is what RoIAlign sees there on
    a mask of full size; so pooling a crop equals pooling the whole mask. The crops lie behind one
    another without padding, as one large object among many small ones is usual.
    """

    pixels: UInt8[Tensor, "pixels"]  # 0 or 1, crop after crop and row after row
    # x and y, in the image, of the crop's first pixel; -1 where the margin is outside
    origin: Int[Tensor, "G 2"]
    sizes: tuple[Size, ...]  # of each crop; known on the host, so nothing waits for the device


@dataclass(frozen=True)
class Targets:
    """Ground truth of a batch. Crowd regions are not among it.

    Every image has the same number M of places, at least one; what is padding comes first.
    """

    boxes: Float[Tensor, "B M 4"]
    labels: Int[Tensor, "B M"]
    valid: Bool[Tensor, "B M"]  # False where padding
    rows: Int[Tensor, "B M"]  # which of the masks, which are sorted by image; 0 where padding
    masks: MaskCrops
    # objects in each image; known on the host, so nothing waits for the device
    counts: tuple[int, ...]

    @classmethod
    def of(
        cls,
        boxes: Sequence[Float[Tensor, "_n 4"]],
        labels: Sequence[Int[Tensor, "_n"]],
        masks: MaskCrops,
    ) -> Targets:
        """Lay out the objects of each image; masks are those of all of them."""
        counts = tuple(len(of_image) for of_image in labels)
        images, most = len(counts), max(1, *counts)
        count = torch.tensor(counts)
        place = torch.arange(-most, 0)
        valid = place >= -count[:, None]
        padded = torch.zeros(images, most, 4), torch.zeros(images, most, dtype=torch.int64)
        for out, values in zip(padded, (boxes, labels), strict=True):
            out[valid] = torch.cat(list(values))
        rows = torch.where(valid, count.cumsum(0)[:, None] + place, 0)
        return cls(*padded, valid, rows, masks, counts)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Targets:
        """Return the targets with every tensor on `device`."""
        tensors = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
        moved: dict[str, Any] = {
            k: v.to(device, non_blocking=non_blocking) for k, v in tensors.items()
        }
        pixels, origin = (x.to(device, non_blocking=non_blocking) for x in self.masks[:2])
        return replace(self, **moved, masks=MaskCrops(pixels, origin, self.masks.sizes))


@dataclass(frozen=True)
class Batch:
    """Images padded to one size (multiples of 32), and what is known about them."""

    images: Num[Tensor, "B D H W"]  # RGB, 0..255, uint8 or float; anything may stand in the padding
    sizes: Int[Tensor, "B 2"]  # height and width of each image inside the padding
    inverse: Float[Tensor, "B 4 2"]  # sign, shift, scale and size of the way back, see `Inverse`
    info: tuple[ImageInfo, ...]
    targets: Targets | None = None  # None at inference
    # class of each pixel, IGNORE where unknown; None without the branch
    semantic: Int[Tensor, "B H W"] | None = None
    skipped: tuple[str, ...] = ()  # images that could not be used, with the reason

    @classmethod
    def of(
        cls,
        images: Sequence[Num[Tensor, "D _h _w"]],
        info: Sequence[ImageInfo],
        least: Size = (0, 0),
    ) -> Batch:
        """Return images of any sizes as a batch, each at the top left of its place.

        The common size is that of the largest, or `least` (height, width) where that is more.
        """
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        sides = (max(side) for side in zip(*sizes, least, strict=True))
        height, width = (-(-side // DIVISOR) * DIVISOR for side in sides)
        padded = images[0].new_zeros(len(images), len(images[0]), height, width)
        for slot, image, (h, w) in zip(padded, images, sizes, strict=True):
            slot[:, :h, :w] = image
        inverse = torch.tensor([i.view.inverse for i in info], dtype=torch.float32)
        return cls(padded, torch.tensor(sizes), inverse, tuple(info))

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with every tensor on `device`."""
        parts = {k: v for k, v in vars(self).items() if isinstance(v, Tensor | Targets)}
        moved: dict[str, Any] = {k: v.to(device, non_blocking=True) for k, v in parts.items()}
        return replace(self, **moved)


class RoIs(NamedTuple):
    """Regions of interest of a batch."""

    boxes: Float[Tensor, "R 4"]
    image: Int[Tensor, "R"]  # which image of the batch


class Proposals(NamedTuple):
    """Candidate boxes of each image, padded to the same number."""

    boxes: Float[Tensor, "B N 4"]
    valid: Bool[Tensor, "B N"]  # False where padding
    logits: Float[Tensor, "B N"] | None = None  # object or not; None where a stage refined them


class Samples(NamedTuple):
    """RoIs chosen for a training step: positives first in each image, padded to P per image."""

    rois: RoIs  # (B * P) boxes
    labels: Int[Tensor, "R"]  # class to predict; C = background
    gt: Int[Tensor, "R"]  # place among all B * M of Targets; -1 = background
    is_gt: Bool[Tensor, "R"]  # the RoI is itself a ground-truth box
    valid: Bool[Tensor, "R"]  # False where padding


class Scene(NamedTuple):
    """What a batch of images offers to every RoI."""

    pyramid: tuple[Float[Tensor, "B D _h _w"], ...]  # P2..P5, strides 4..32
    semantic: Float[Tensor, "B D h8 w8"] | None  # embedding of the semantic branch, stride 8
    context: Float[Tensor, "B D"] | None  # one vector per image from the global-context branch


class Candidates(NamedTuple):
    """Boxes that may hold an object, with the score of each class, before suppression."""

    boxes: Float[Tensor, "R #C 4"]  # one for each class, or one for all
    scores: Float[Tensor, "R C"]  # -1 where there is no box
    image: Int[Tensor, "R"]  # which image of the batch


class Found(NamedTuple):
    """What the network found, in network pixels, before masks are placed on an image."""

    boxes: Float[Tensor, "R 4"]
    scores: Float[Tensor, "R"]
    labels: Int[Tensor, "R"]
    # which image of the batch; sorted, and by falling score within an image
    image: Int[Tensor, "R"]
    masks: Float[Tensor, "R S S"]  # probability of the mask on a grid laid over the box
    # of each mask with its object, 0..1, as mask scoring foretells; None where the model has none
    mask_ious: Float[Tensor, "R"] | None = None
