"""Which annotations of a file are sound, seen from all of them at once.

What is cleared here is sound by the rules of `faults`. What is not is mostly broken, but may be a
mask that has to be drawn or unpacked to know: that is looked at entry by entry.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from scnet.data.faults import DRAWN, Entry, crowd_fault, is_crowd
from scnet.data.images import MAX_PIXELS
from scnet.ops.rle import AT_ONCE, reach, sound_areas

Extents = tuple[
    Int64[np.ndarray, "k"], Float64[np.ndarray, "k 2"], Float64[np.ndarray, "k 2"]
]  # places, lowest and highest x and y

NUMBERS = {int, float}


@dataclass(frozen=True)
class Sheet:
    """What entries hold, in their order; with gaps where it is not what it should be."""

    owner: Int64[np.ndarray, "n"]  # place of the image among the images; -1 = unknown
    label: Int64[np.ndarray, "n"]  # -1 = unknown
    crowd: Bool[np.ndarray, "n"]
    boxes: Float64[np.ndarray, "n 4"]  # x, y, width, height; NaN where there are no four numbers
    numbers: Float64[np.ndarray, "m"]  # of all polygons
    starts: Int64[np.ndarray, "p"]  # of each polygon in the numbers, with the end of the last
    parts: Int64[np.ndarray, "n 2"]  # from which polygon to which; empty where there is none

    @classmethod
    def of(
        cls, entries: Sequence[Entry], images: Mapping[int, int], labels: Mapping[int, int]
    ) -> Sheet:
        """Read entries; `images` and `labels` say the place of each image and category id."""
        numbers, starts, ends = _polygons(entries)
        return cls(
            _looked_up(entries, "image_id", images),
            _looked_up(entries, "category_id", labels),
            np.array([is_crowd(entry) for entry in entries], bool),
            _boxes(entries),
            numbers,
            starts,
            np.stack([np.append(np.zeros(1, np.int64), ends[:-1])[: len(ends)], ends], 1),
        )

    @cached_property
    def extents(self) -> Extents:
        """Return which entries have polygons, and the lowest and highest x and y of each."""
        drawn = np.flatnonzero(self.parts[:, 1] > self.parts[:, 0])
        if not len(drawn):
            return drawn, np.zeros((0, 2)), np.zeros((0, 2))
        first = self.starts[self.parts[drawn, 0]] // 2
        points = self.numbers.reshape(-1, 2)
        low = np.minimum.reduceat(points, first, axis=0)
        return drawn, low, np.maximum.reduceat(points, first, axis=0)

    def cleared(
        self, entries: Sequence[Entry], sizes: Int64[np.ndarray, "i 2"]
    ) -> Bool[np.ndarray, "n"]:
        """Return which of the entries are sound for sure; `sizes` are those of all images."""
        known = (self.owner >= 0) & (self.label >= 0)
        size = sizes[self.owner] if len(sizes) else np.zeros((len(known), 2), np.int64)
        with np.errstate(invalid="ignore", over="ignore"):
            masks = self._polygons_clear(size) | _packed_clear(entries, known, size)
            clear: Bool[np.ndarray, "n"] = known & masks & (self.crowd | self._boxes_clear(size))
        clear &= np.array([crowd_fault(entry) is None for entry in entries], bool)
        return clear

    def corners(
        self, chosen: Int64[np.ndarray, "k"], sizes: Int64[np.ndarray, "i 2"]
    ) -> Float64[np.ndarray, "k 4"]:
        """Return the boxes of sound annotations as xyxy inside the image; of crowds, zeros."""
        boxes, size = self.boxes[chosen], sizes[self.owner[chosen]]
        left = np.maximum(boxes[:, :2], 0)
        right = np.minimum(boxes[:, :2] + boxes[:, 2:], size[:, ::-1])
        return np.where(self.crowd[chosen, None], 0.0, np.concatenate([left, right], 1))

    def _boxes_clear(self, size: Int64[np.ndarray, "n 2"]) -> Bool[np.ndarray, "n"]:
        corner, extent = self.boxes[:, :2], self.boxes[:, 2:]
        seen = np.minimum(corner + extent, size[:, ::-1]) > np.maximum(corner, 0)
        near = np.abs(self.boxes) < MAX_PIXELS
        clear: Bool[np.ndarray, "n"] = ((extent > 0) & seen).all(1) & near.all(1)
        return clear

    def _polygons_clear(self, size: Int64[np.ndarray, "n 2"]) -> Bool[np.ndarray, "n"]:
        clear = np.zeros(len(size), bool)
        drawn, low, high = self.extents
        size = size[drawn]
        far = reach(size.max(1, keepdims=True))
        inside = (high > 0) & (low < size[:, ::-1]) & (low >= -far) & (high <= far)
        clear[drawn] = (inside & (high - low >= DRAWN)).all(1)
        return clear


def _looked_up(
    entries: Sequence[Entry], key: str, table: Mapping[int, int]
) -> Int64[np.ndarray, "n"]:
    values = (entry.get(key) for entry in entries)
    return np.array([table.get(v, -1) if type(v) is int else -1 for v in values], np.int64)


def _boxes(entries: Sequence[Entry]) -> Float64[np.ndarray, "n 4"]:
    flat, none = array("d"), [float("nan")] * 4
    for entry in entries:
        box = entry.get("bbox")
        four = type(box) is list and len(box) == 4 and NUMBERS.issuperset(map(type, box))
        if not four or not _added(flat, box):
            flat.fromlist(none)
    return np.array(flat, np.float64).reshape(-1, 4)


def _added(flat: array[float], numbers: Any) -> bool:
    """Add numbers, or none of them if one is too large for a float."""
    try:
        flat.fromlist(numbers)
    except OverflowError:
        return False
    return True


def _polygons(
    entries: Sequence[Entry],
) -> tuple[Float64[np.ndarray, "m"], Int64[np.ndarray, "p"], Int64[np.ndarray, "n"]]:
    """Return numbers, where each polygon starts, and up to which polygon each entry goes."""
    numbers, starts, ends = array("d"), array("q", [0]), array("q")
    for entry in entries:
        _add_polygons(numbers, starts, entry.get("segmentation"))
        ends.append(len(starts) - 1)
    return np.array(numbers), np.array(starts, np.int64), np.array(ends, np.int64)


def _add_polygons(numbers: array[float], starts: array[int], segmentation: Any) -> None:
    """Add the polygons of an annotation, or none if one is no row of points."""
    before = len(numbers), len(starts)
    try:
        for polygon in segmentation:
            numbers.fromlist(polygon)
            starts.append(len(numbers))
            if len(polygon) < 6 or len(polygon) % 2:
                raise ValueError
    except (TypeError, ValueError, OverflowError):
        del numbers[before[0] :], starts[before[1] :]


def _packed_clear(
    entries: Sequence[Entry], known: Bool[np.ndarray, "n"], sizes: Int64[np.ndarray, "n 2"]
) -> Bool[np.ndarray, "n"]:
    """Return which masks are sound packed run lengths that hold something."""
    clear = np.zeros(len(entries), bool)
    packed = [
        position
        for position, entry in enumerate(entries)
        if type(mask := entry.get("segmentation")) is dict
        and known[position]
        and mask.get("size") == sizes[position].tolist()
        and type(text := mask.get("counts")) is str
        and text.isascii()
    ]
    for start in range(0, len(packed), AT_ONCE):
        some = packed[start : start + AT_ONCE]
        texts = [entries[position]["segmentation"]["counts"] for position in some]
        areas = sound_areas(texts, sizes[some])
        if areas is not None:
            clear[some] = areas > 0
    return clear
