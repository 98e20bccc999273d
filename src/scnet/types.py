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

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Num, UInt8
from torch import Tensor

Size = tuple[int, int]  # height, width
Losses = dict[str, Tensor]  # weighted scalars by name, such as `stage2.cls`; the total is their sum

IGNORE = -1  # value of a semantic map where nothing is learnt
PLAIN = (1.0, 1.0, 1.0)  # colours as they are
# Some box with an area, where there is none to aim at.
UNIT = torch.tensor([0.0, 0.0, 1.0, 1.0], device="cpu")


class Inverse(NamedTuple):
    """The way back from network pixels: original = (sign * network + shift) / scale."""

    sign: tuple[float, float]  # along x and y; -1 where mirrored
    shift: tuple[float, float]
    scale: tuple[float, float]  # network pixels per original pixel
    size: tuple[float, float]  # width and height of the original


@dataclass(frozen=True)
class View:
    """How the network sees an image: resized, cut to a window, then mirrored."""

    original: Size
    resized: Size  # of the whole image
    window: tuple[int, int, int, int]  # left, top, right, bottom: what is seen of it
    horizontal: bool = False  # mirrored
    vertical: bool = False  # upside down
    colour: tuple[float, float, float] = PLAIN  # factors of brightness, contrast and saturation

    @classmethod
    def whole(cls, original: Size, resized: Size | None = None) -> View:
        """Return the view of a whole image, perhaps resized."""
        resized = resized or original
        return cls(original, resized, (0, 0, resized[1], resized[0]))

    @property
    def size(self) -> Size:
        """Return height and width of what is seen."""
        left, top, right, bottom = self.window
        return bottom - top, right - left

    @property
    def scale(self) -> tuple[float, float]:
        """Return network pixels per original pixel, across and down."""
        return self.resized[1] / self.original[1], self.resized[0] / self.original[0]

    @property
    def inverse(self) -> Inverse:
        """Return the way back to the pixels of the original."""
        left, top, right, bottom = self.window
        return Inverse(
            (-1.0 if self.horizontal else 1.0, -1.0 if self.vertical else 1.0),
            (float(right if self.horizontal else left), float(bottom if self.vertical else top)),
            self.scale,
            (float(self.original[1]), float(self.original[0])),
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


@dataclass(frozen=True)
class Batch:
    """Images padded to one size (a multiple of 32), and what is known about them."""

    images: Num[Tensor, "B D H W"]  # RGB, 0..255, uint8 or float; anything may stand in the padding
    sizes: Int[Tensor, "B 2"]  # height and width of each image inside the padding
    inverse: Float[Tensor, "B 4 2"]  # sign, shift, scale and size of the way back, see `Inverse`
    info: tuple[ImageInfo, ...]
    targets: Targets | None = None  # None at inference
    # class of each pixel, IGNORE where unknown; None without the branch
    semantic: Int[Tensor, "B H W"] | None = None
    skipped: tuple[str, ...] = ()  # images that could not be used, with the reason

    @classmethod
    def of(cls, images: Num[Tensor, "B D H W"], info: Sequence[ImageInfo], **others: Any) -> Batch:
        """Return padded images as a batch; their sizes follow from how each is seen."""
        sizes = torch.tensor([i.view.size for i in info])
        inverse = torch.tensor([i.view.inverse for i in info], dtype=torch.float32)
        return cls(images, sizes, inverse, tuple(info), **others)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with every tensor on `device`."""
        moved: Batch = _moved(self, device)
        return moved


def _moved(value: Any, device: torch.device | str) -> Any:
    """Return a value with every tensor in it on `device`."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, MaskCrops):
        return MaskCrops(*(_moved(x, device) for x in value))
    if is_dataclass(value) and not isinstance(value, View):
        changes = {f.name: _moved(getattr(value, f.name), device) for f in fields(value)}
        return replace(value, **changes)  # type: ignore[type-var]
    return value


class RoIs(NamedTuple):
    """Regions of interest of a batch."""

    boxes: Float[Tensor, "R 4"]
    image: Int[Tensor, "R"]  # which image of the batch


class Proposals(NamedTuple):
    """Candidate boxes of each image, padded to the same number."""

    boxes: Float[Tensor, "B N 4"]
    valid: Bool[Tensor, "B N"]  # False where padding


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
