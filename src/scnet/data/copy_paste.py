"""Objects of one training image pasted into another (simple copy-paste, Ghiasi et al. 2021).

Each of the two images is first scaled, cut and mirrored on its own. Objects are pasted as they are:
the paper found that blending their edges gains nothing. Where a pasted object hides another, the
hidden one's mask is cut. An object of which only a trace shows is removed
(`transforms.keep_visible`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from scnet.data.transforms import Objects, Sample, keep_visible, mask_area, select
from scnet.ops.masks import Crop, cut_crop, hide_crop, inside
from scnet.types import Size

# Share of an object that must lie within the image into which it is pasted. The paper's images are
# padded to one size first; without padding, pieces of large objects would fill small images.
WITHIN = 0.5

Window = tuple[slice, slice]  # rows and columns


def paste_objects(sample: Sample, source: Sample, random: np.random.Generator) -> Sample:
    """Paste some objects of `source`, drawn at random, into a sample at a random place.

    Crowd regions are not pasted. A stuff map, if both have one, is pasted with the objects.
    """
    assert sample.objects is not None
    assert source.objects is not None
    size = _size(sample)
    corner = _random_corner(_size(source), size, random)
    pasted = _moved(_some(source.objects, random), corner, size)
    if not pasted.masks:
        return sample
    cover = covered(pasted.masks, size)
    image, semantic = sample.image, sample.semantic
    here, there = _overlap(size, _size(source), corner)
    image = _pasted(image, source.image, cover, here, there)
    if semantic is not None and source.semantic is not None:
        semantic = _pasted(semantic, source.semantic, cover, here, there)
    objects = joined(hidden(sample.objects, cover), pasted)
    return replace(sample, image=image, objects=objects, semantic=semantic)


def hidden(objects: Objects, cover: Bool[Tensor, "H W"]) -> Objects:
    """Return what is left of objects and crowd regions behind a cover."""
    areas = [mask_area(mask) for mask in objects.masks]
    masks = tuple(hide_crop(mask, cover) for mask in objects.masks)
    crowds = tuple(hide_crop(crowd, cover) for crowd in objects.crowds)
    return keep_visible(replace(objects, masks=masks, crowds=crowds), areas)


def covered(masks: Sequence[Crop], size: Size) -> Bool[Tensor, "H W"]:
    """Return the pixels of an image that one of the masks covers."""
    cover = torch.zeros(size, dtype=torch.bool)
    for mask in masks:
        pixels, (x, y) = inside(mask)
        cover[y : y + pixels.shape[0], x : x + pixels.shape[1]] |= pixels.bool()
    return cover


def joined(first: Objects, second: Objects) -> Objects:
    """Return the objects of both; those in front last."""
    return Objects(
        torch.cat((first.boxes, second.boxes)),
        torch.cat((first.labels, second.labels)),
        first.masks + second.masks,
        first.crowds + second.crowds,
    )


def _some(objects: Objects, random: np.random.Generator) -> Objects:
    """Draw how many objects are taken, and which; crowd regions stay behind."""
    total = len(objects.masks)
    count = int(random.integers(1, total + 1)) if total else 0
    index = sorted(random.permutation(total)[:count].tolist())
    return select(replace(objects, crowds=()), index)


def _random_corner(source: Size, size: Size, random: np.random.Generator) -> tuple[int, int]:
    """Draw the x and y in an image of `size` of the source's corner: one lies within the other."""
    y, x = (
        int(random.integers(min(0, whole - part), max(0, whole - part) + 1))
        for whole, part in zip(size, source, strict=True)
    )
    return x, y


def _moved(objects: Objects, corner: tuple[int, int], size: Size) -> Objects:
    """Return objects as they lie in an image of `size` that holds their own image at `corner`."""
    x, y = corner
    window = (-x, -y, size[1] - x, size[0] - y)
    boxes: Float[Tensor, "M 4"] = objects.boxes + torch.tensor([x, y, x, y], dtype=torch.float32)
    limits = torch.tensor([size[1], size[0]] * 2, dtype=torch.float32)
    areas = [mask_area(mask) for mask in objects.masks]
    masks = tuple(cut_crop(mask, window) for mask in objects.masks)
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    return keep_visible(replace(objects, boxes=boxes, masks=masks), areas, WITHIN)


def _pasted(
    values: Shaped[Tensor, "*channels H W"],
    source: Shaped[Tensor, "*channels _H _W"],
    cover: Bool[Tensor, "H W"],
    here: Window,
    there: Window,
) -> Shaped[Tensor, "*channels H W"]:
    """Return values with those of the source where they are covered."""
    result = values.clone()
    place = result[(..., *here)]
    place.copy_(torch.where(cover[here], source[(..., *there)], place))
    return result


def _overlap(size: Size, source: Size, corner: tuple[int, int]) -> tuple[Window, Window]:
    """Return where an image and a source that lies in it at `corner` overlap, in both."""
    x, y = corner
    top, bottom = max(0, y), min(size[0], y + source[0])
    left, right = max(0, x), min(size[1], x + source[1])
    here = slice(top, bottom), slice(left, right)
    return here, (slice(top - y, bottom - y), slice(left - x, right - x))


def _size(sample: Sample) -> Size:
    height, width = sample.image.shape[1:]
    return height, width
