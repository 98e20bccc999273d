"""Whether the areas that a file gives are those of its masks, which COCO's AP by size goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scnet.data.faults import Entry, by_id, is_crowd, is_finite
from scnet.data.wording import of_all
from scnet.ops.rle import area, to_rle
from scnet.types import Size

LOOKED_AT = 100  # annotations, evenly chosen
FEWEST = 3  # annotations that say something
MOSTLY = 0.5  # share of areas that are far from the mask's in a file where areas are something else
ALWAYS = 0.9  # share of areas that are the box's, where the mask's is another
EQUAL = 0.02  # part by which areas that are the same may differ, such as for how edges are counted
OTHER = 0.1  # part by which a mask differs from its box
TIMES = 2  # as large, or as small, is far off

ACTION = (
    "scnet's own evaluation takes the areas of the masks; others would take small objects for "
    "large ones, or large for small, in APs, APm and APl; --fix writes those of the masks"
)


def area_fault(entries: Sequence[Entry], sizes: Mapping[int, Size]) -> str:
    """Return what the areas of a file are instead of those of its masks; empty where they are.

    Args:
        entries: annotations in COCO's form; what is broken is passed over.
        sizes: of the images, by id.
    """
    chosen = entries[:: -(-len(entries) // LOOKED_AT) or 1]
    chosen = [e for e in chosen if not is_crowd(e) and is_finite(e.get("area"))]
    rows = [row for e in chosen if (row := _areas(e, by_id(sizes, e.get("image_id"))))]
    if len(rows) < FEWEST:
        return ""
    given, masks, boxes = np.array(rows).T
    of = f"(looked at {of_all(len(rows), len(entries), 'annotation')})"
    if (given <= 1).all() and (masks > TIMES).all():
        return f"area is {given.min():g}{_up_to(given)}, not that of the mask {of}"
    other = np.abs(boxes - masks) > OTHER * boxes
    as_box = np.abs(given - boxes) <= EQUAL * boxes
    if other.sum() >= FEWEST and as_box[other].mean() >= ALWAYS:
        return f"area is that of the box, not that of the mask {of}"
    far = (given * TIMES < masks) | (given > TIMES * masks)
    if far.mean() >= MOSTLY:
        return f"area is less than half or more than twice that of the mask {of}"
    return ""


def mask_area(entry: Entry, size: Size) -> int | None:
    """Return the pixels of a mask; None if it is broken."""
    try:
        return area(to_rle(entry.get("segmentation"), size))
    except (ValueError, TypeError):
        return None


def _areas(entry: Entry, size: Size | None) -> tuple[float, float, float] | None:
    """Return the given area, that of the mask and that of the box; None if one is not there."""
    box: Any = entry.get("bbox")
    if size is None or not isinstance(box, list | tuple) or len(box) != 4:
        return None
    found = mask_area(entry, size)
    if not found or not all(is_finite(v) for v in box):
        return None
    return float(entry["area"]), float(found), float(box[2]) * float(box[3])


def _up_to(given: np.ndarray) -> str:
    return f" to {given.max():g}" if given.max() > given.min() else ""
