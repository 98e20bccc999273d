"""Marks that lie on an image as it is stored, turned upright with it as EXIF says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scnet.data.faults import by_id, image_fault, size_of
from scnet.ops.rle import decode, encode
from scnet.types import Size

Entry = dict[str, Any]
Points = Float[np.ndarray, "p 2"]

ON_ITS_SIDE = 5  # the EXIF orientation from which on width and height are exchanged


@dataclass(frozen=True)
class Turns:
    """EXIF orientations of the images whose marks lie on them as stored, by image id."""

    tags: Mapping[int, int]
    notes: tuple[str, ...] = ()

    def turn(self, images: Sequence[Entry], annotations: Sequence[Entry]) -> None:
        """Turn marks and sizes upright."""
        sizes = {i["id"]: size_of(i) for i in images if not image_fault(i) and i["id"] in self.tags}
        for entry in annotations if sizes else ():
            size = by_id(sizes, entry.get("image_id"))
            if size:
                _turn(entry, size, self.tags[entry["image_id"]])
        for image in images if sizes else ():
            if by_id(sizes, image.get("id")) and self.tags[image["id"]] >= ON_ITS_SIDE:
                image["width"], image["height"] = image["height"], image["width"]


def _turn(entry: Entry, size: Size, tag: int) -> None:
    """Turn an annotation of an image of a stored size upright."""
    mask = entry.get("segmentation")
    try:
        box = np.array(entry.get("bbox"), np.float64)
        corners = turned_points(np.stack([box[:2], box[:2] + box[2:]]), size, tag)
        low, high = corners.min(0), corners.max(0)
        entry["bbox"] = [*low.tolist(), *(high - low).tolist()]
    except (TypeError, ValueError, IndexError, OverflowError):
        pass  # no box; what is broken is said by whoever reads it
    try:
        if isinstance(mask, dict):
            entry["segmentation"] = encode(turned_mask(decode(mask, size), tag))
        elif isinstance(mask, list):
            entry["segmentation"] = [
                turned_points(np.array(p, np.float64).reshape(-1, 2), size, tag).ravel().tolist()
                for p in mask
            ]
    except (TypeError, ValueError, OverflowError):
        pass


def turned_points(points: Points, size: Size, tag: int) -> Points:
    """Return points of an image of a stored size where an EXIF orientation moves them."""
    (height, width), (x, y) = size, points.T
    moved = {
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }
    return np.stack(moved.get(tag, (x, y)), 1)


def turned_mask(mask: Bool[Tensor, "h w"], tag: int) -> Bool[Tensor, "H W"]:
    """Return a mask as an EXIF orientation turns it."""
    if tag in (5, 7):
        mask = mask.T
    quarters = {3: 2, 6: -1, 7: 2, 8: 1}.get(tag, 0)
    mask = torch.rot90(mask, quarters)
    return mask.flip({2: 1, 4: 0}[tag]) if tag in (2, 4) else mask
