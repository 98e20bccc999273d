"""The content of an annotation file whose numbers mean something else, written as COCO means it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scnet.data.faults import by_id
from scnet.data.geometry import (
    DECIMALS,
    PARTS,
    Reading,
    box_corners,
    polygon_points,
    relabelled,
)
from scnet.data.verdict import described
from scnet.data.wording import counted
from scnet.ops.rle import box, decode, encode, to_rle
from scnet.types import Size

Entry = dict[str, Any]


def restate(annotations: Sequence[Entry], sizes: Mapping[int, Size], reading: Reading) -> list[str]:
    """Let annotations mean in COCO's terms what they mean in a reading; return what was done.

    What is broken, or in an image of unknown size, stays as it is.
    """
    known = [(a, s) for a in annotations if (s := by_id(sizes, a.get("image_id")))]
    for entry, size in known:
        _restate_mask(entry, size, reading)
        if reading.boxes == "masks":
            _take_box(entry, size)
        elif reading.boxes != "xywh" or reading.of_boxes != "pixels":
            _restate_box(entry, size, reading)
        if PARTS.keys() & {reading.of_boxes, reading.coordinates}:
            entry.pop("area", None)  # is of the same kind; that of the mask takes its place
    how = described(reading, Reading())
    return [f"{counted(len(known), 'annotation')} read with {how}, as the settings of data say"]


def _restate_box(entry: Entry, size: Size, reading: Reading) -> None:
    """Write a box as x, y, width and height in pixels."""
    try:
        numbers = np.array([entry["bbox"]], np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        return
    if numbers.shape != (1, 4) or not np.isfinite(numbers).all():
        return
    corners = box_corners(numbers, np.array([size]), reading.boxes, reading.of_boxes)[0]
    entry["bbox"] = _rounded([*corners[:2], *(corners[2:] - corners[:2])])


def _restate_mask(entry: Entry, size: Size, reading: Reading) -> None:
    """Write a mask in pixels, its run lengths down the columns."""
    mask = entry.get("segmentation")
    if isinstance(mask, dict):
        other = relabelled(mask, size, reading.run_lengths)
        turned = other[0] is not mask and reading.run_lengths == "rows"
        entry["segmentation"] = _turned(*other) if turned else other[0]
    elif isinstance(mask, list) and reading.coordinates != "pixels":
        entry["segmentation"] = [_points(polygon, size, reading.coordinates) for polygon in mask]


def _turned(mask: Entry, size: Size) -> Entry:
    """Return the run lengths of a mask whose axes are exchanged; what is broken stays as it is."""
    try:
        return encode(decode(mask, size).T)
    except ValueError:
        return mask


def _points(polygon: Any, size: Size, coordinates: str) -> Any:
    try:
        points = np.array(polygon, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        return polygon
    sizes = np.tile(np.array([size]), (len(points), 1))
    return _rounded(polygon_points(points, sizes, coordinates).ravel())


def _take_box(entry: Entry, size: Size) -> None:
    """Write the box of the mask, if it has one."""
    mask = entry.get("segmentation")
    try:
        if isinstance(mask, list):
            points = np.concatenate([np.array(p, np.float64).reshape(-1, 2) for p in mask])
            low, high = points.min(0), points.max(0)
        else:
            corners = box(to_rle(mask, size))
            low, high = np.array(corners[:2]), np.array(corners[2:])
    except (TypeError, ValueError, OverflowError):
        return
    if np.isfinite([low, high]).all() and (high > low).all():
        entry["bbox"] = _rounded([*low, *(high - low)])


def _rounded(numbers: Any) -> list[float]:
    return [round(float(number), DECIMALS) for number in numbers]
