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

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Num, UInt8
from torch import Tensor

Size = tuple[int, int]  # height, width
Losses = dict[str, Tensor]  # weighted scalars by name, such as `stage2.cls`; the total is their sum

IGNORE = -1  # value of a semantic map where nothing is learnt


class ImageInfo(NamedTuple):
    """Where an image came from; travels with it so that results and messages can name it."""

    id: int  # image id of the annotation file
    path: str  # file on disk
    size: Size  # height and width of the original, upright (EXIF applied)


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
    """Ground truth of a batch, sorted by image. Crowd regions are not among them."""

    boxes: Float[Tensor, "G 4"]
    labels: Int[Tensor, "G"]
    image: Int[Tensor, "G"]  # which image of the batch
    masks: MaskCrops
    # objects in each image; known on the host, so nothing waits for the device
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Images padded to one size (a multiple of 32), and what is known about them."""

    images: Num[Tensor, "B 3 H W"]  # RGB, 0..255, uint8 or float; anything may stand in the padding
    sizes: Int[Tensor, "B 2"]  # height and width of each image inside the padding
    info: tuple[ImageInfo, ...]
    targets: Targets | None = None  # None at inference
    # class of each pixel, IGNORE where unknown; None without the branch
    semantic: Int[Tensor, "B H W"] | None = None
    skipped: tuple[str, ...] = ()  # images that could not be used, with the reason

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with every tensor on `device`."""

        def move(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=True)

        targets = self.targets
        if targets is not None:
            masks = targets.masks
            targets = replace(
                targets,
                boxes=move(targets.boxes),
                labels=move(targets.labels),
                image=move(targets.image),
                masks=MaskCrops(move(masks.pixels), move(masks.origin), masks.sizes),
            )
        semantic = None if self.semantic is None else move(self.semantic)
        return replace(
            self,
            images=move(self.images),
            sizes=move(self.sizes),
            targets=targets,
            semantic=semantic,
        )


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
    gt: Int[Tensor, "R"]  # index into Targets; -1 = background
    is_gt: Bool[Tensor, "R"]  # the RoI is itself a ground-truth box
    valid: Bool[Tensor, "R"]  # False where padding


class Scene(NamedTuple):
    """What a batch of images offers to every RoI."""

    pyramid: tuple[Float[Tensor, "B D _h _w"], ...]  # P2..P5, strides 4..32
    semantic: Float[Tensor, "B D h8 w8"] | None  # embedding of the semantic branch, stride 8
    context: Float[Tensor, "B D"] | None  # one vector per image from the global-context branch


class Found(NamedTuple):
    """What the network found, in network pixels, before masks are placed on an image."""

    boxes: Float[Tensor, "R 4"]
    scores: Float[Tensor, "R"]
    labels: Int[Tensor, "R"]
    # which image of the batch; sorted, and by falling score within an image
    image: Int[Tensor, "R"]
    masks: Float[Tensor, "R S S"]  # probability of the mask on a grid laid over the box
