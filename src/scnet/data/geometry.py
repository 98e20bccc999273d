"""Where the boxes and masks of a whole file lie, by any reading of its numbers.

A reading says what the four numbers of a box are, in which coordinates boxes and polygons are
given, and along which way run lengths go. A mask is seen as the extent of its points or pixels
alone, which all readings turn, scale or mirror as a whole: so a file is read anew in no time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from scnet.config import DataConfig
from scnet.data.faults import STRAY, Entry
from scnet.data.screening import Sheet
from scnet.ops.rle import extent, runs
from scnet.types import Size

Corners = Float64[np.ndarray, "n 4"]  # left, top, right, bottom in pixels
Sizes = Int64[np.ndarray, "n 2"]  # height, width

PARTS = {"normalised": 1.0, "percent": 100.0, "thousandths": 1000.0}  # of a side, which is all
ALIKE = 0.5  # IoU from which on a box is that of a mask
NEAR = 2  # pixels between edges that are as good as one, lest small objects disagree
ONE = 0.9  # pixels of extent, below which a mask holds none
SLACK = 0.01  # of a side, by which a mark may stick out of its image
DECIMALS = 4  # of a pixel, to which numbers are rounded that were computed


class Reading(NamedTuple):
    """What the numbers of an annotation file mean; each field is the setting of that name."""

    boxes: str = "xywh"
    coordinates: str = "pixels"  # of polygons, and of boxes unless they have their own
    box_coordinates: str | None = None
    run_lengths: str = "columns"

    @classmethod
    def of(cls, config: DataConfig) -> Reading:
        """Return what the settings say."""
        return cls(*(getattr(config, field) for field in cls._fields))

    @property
    def of_boxes(self) -> str:
        """Return the coordinates of boxes."""
        return self.box_coordinates or self.coordinates


@dataclass(frozen=True)
class Marks:
    """The annotations of a file that can be compared: in an image, no crowd, with a mask."""

    place: Int64[np.ndarray, "n"]  # in the file
    boxes: Float64[np.ndarray, "n 4"]  # the four numbers as they stand; NaN where there are none
    extents: Corners  # of polygons as they stand
    size: Sizes  # of the image
    image: Int64[np.ndarray, "n"]  # its place in the file
    packed: dict[int, Mapping[str, Any]]  # run lengths, by row
    known: dict[str, Corners] = field(default_factory=dict)  # extents of these, by way

    @classmethod
    def of(
        cls,
        sheet: Sheet,
        entries: Sequence[Entry],
        sizes: Int64[np.ndarray, "i 2"],
        step: int = 1,
    ) -> Marks:
        """Return what can be compared; `sizes` are those of all images.

        Of all annotations every `step`th is looked at.
        """
        usable = (sheet.owner >= 0) & ~sheet.crowd
        usable[np.arange(len(usable)) % step > 0] = False
        drawn, low, high = (part[usable[sheet.extents[0]]] for part in sheet.extents)
        known = np.zeros(len(usable), bool)
        known[drawn] = np.isfinite(low).all(1) & np.isfinite(high).all(1)
        packed = {
            place: mask
            for place in np.flatnonzero(usable & ~known).tolist()
            if isinstance(mask := entries[place].get("segmentation"), dict) and "counts" in mask
        }
        extents = np.full((len(usable), 4), np.nan)
        extents[drawn] = np.concatenate([low, high], 1)
        known[list(packed)] = True
        chosen = np.flatnonzero(usable & known)
        rows = {place: row for row, place in enumerate(chosen.tolist()) if place in packed}
        owner = sheet.owner[chosen]
        return cls(
            chosen,
            sheet.boxes[chosen],
            extents[chosen],
            sizes[owner].reshape(-1, 2),
            owner,
            {rows[place]: mask for place, mask in packed.items()},
        )

    def __len__(self) -> int:
        return len(self.place)

    def some(self, most: int) -> Marks:
        """Return all polygons, and of run lengths an even choice of so many."""
        if len(self.packed) <= most:
            return self
        left = [*self.packed][:: -(-len(self.packed) // most)]
        keep = np.isfinite(self.extents[:, 0])
        keep[left] = True
        return self.rows(np.flatnonzero(keep))

    def rows(self, chosen: Int64[np.ndarray, "k"]) -> Marks:
        """Return some of the marks."""
        packed = {
            new: self.packed[row] for new, row in enumerate(chosen.tolist()) if row in self.packed
        }
        return Marks(
            self.place[chosen],
            self.boxes[chosen],
            self.extents[chosen],
            self.size[chosen],
            self.image[chosen],
            packed,
        )

    def measured(self, run_lengths: str) -> Corners:
        """Return the extents of run lengths, NaN where they are broken or there are none."""
        if run_lengths not in self.known:
            found = self.known[run_lengths] = np.full((len(self), 4), np.nan)
            for row, mask in self.packed.items():
                height, width = self.size[row].tolist()
                found[row] = _packed_extent(mask, (height, width), run_lengths)
        return self.known[run_lengths]


def box_corners(
    boxes: Float64[np.ndarray, "n 4"], size: Sizes, order: str, coordinates: str
) -> Corners:
    """Return boxes whose four numbers have an order and coordinates, in pixels."""
    first = _points(boxes[:, :2], size, coordinates)
    second = _points(boxes[:, 2:], size, coordinates)
    if order == "xywh":
        second = first + second
    elif order == "centres":
        first, second = first - second / 2, first + second / 2
    return _upright(np.concatenate([first, second], 1), size, coordinates)


def polygon_corners(extents: Corners, size: Sizes, coordinates: str) -> Corners:
    """Return the extents of polygons that are given in some coordinates, in pixels."""
    first, second = (_points(part, size, coordinates) for part in np.split(extents, 2, axis=1))
    return _upright(np.concatenate([first, second], 1), size, coordinates)


def polygon_points(
    points: Float64[np.ndarray, "p 2"], size: Sizes, coordinates: str
) -> Float64[np.ndarray, "p 2"]:
    """Return points that are given in some coordinates, in pixels; `size` for each of them."""
    if coordinates == "upward":
        return np.stack([points[:, 0], size[:, 0] - points[:, 1]], 1)
    return _points(points, size, coordinates)


def relabelled(mask: Mapping[str, Any], size: Size, run_lengths: str) -> tuple[Any, Size]:
    """Return run lengths that go down the columns of an image of the size that comes with them.

    Along the rows of an image is down the columns of the same image with its axes exchanged.
    """
    given, turned = mask.get("size"), size[::-1]
    if run_lengths == "rows" and given in (list(size), list(turned)):
        return {**mask, "size": list(turned)}, turned
    if run_lengths == "swapped_size" and given == list(turned):
        return {**mask, "size": list(size)}, size
    return mask, size


def agree(boxes: Corners, masks: Corners, size: Sizes) -> Bool[np.ndarray, "n"]:
    """Return whether a box is that of its mask, both being where a mark can be in their image."""
    with np.errstate(invalid="ignore"):
        missing = np.isnan(boxes).any(1)  # says nothing against the mask
        close = (np.abs(boxes - masks) <= NEAR).all(1)
        fits = missing | (_inside(boxes, size) & (close | (ious(boxes, masks, size) >= ALIKE)))
        return np.asarray(fits & _inside(masks, size) & _holds_pixels(masks))


def _holds_pixels(masks: Corners) -> Bool[np.ndarray, "n"]:
    """Return which masks are of pixels, and not all in the first one, as parts of the sides are."""
    large = masks[:, 2:] - masks[:, :2] >= ONE
    return np.asarray(large.any(1) & (masks[:, 2:] > 1).any(1))


def ious(a: Corners, b: Corners, size: Sizes) -> Float64[np.ndarray, "n"]:
    """Return the overlap of boxes inside the image, 0 where there is none."""
    a, b = _cut(a, size), _cut(b, size)
    shared = _area(np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a, b)[:, 2:]], 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nan_to_num(shared / (_area(a) + _area(b) - shared)))


def _packed_extent(mask: Mapping[str, Any], size: Size, run_lengths: str) -> Any:
    """Return left, top, right and bottom of run lengths."""
    mask, made_for = relabelled(mask, size, run_lengths)
    try:
        lengths = runs(mask, made_for)
    except ValueError:
        return np.nan
    found = extent(lengths, made_for)
    if found is None:
        return np.nan
    left, top, right, bottom = found
    return (top, left, bottom, right) if run_lengths == "rows" else found


def _points(
    points: Float64[np.ndarray, "n 2"], size: Sizes, coordinates: str
) -> Float64[np.ndarray, "n 2"]:
    """Return points in pixels, y still counted from where it was."""
    if coordinates == "swapped":
        return points[:, ::-1]
    if coordinates in PARTS:
        return np.asarray(points * (size[:, ::-1] / PARTS[coordinates]))
    return points


def _upright(corners: Corners, size: Sizes, coordinates: str) -> Corners:
    """Return corners with y counted from above."""
    if coordinates == "upward":
        corners[:, [1, 3]] = size[:, :1] - corners[:, [3, 1]]
    return corners


def _inside(corners: Corners, size: Sizes) -> Bool[np.ndarray, "n"]:
    """Return which marks hardly stick out of their image, and are not turned inside out."""
    slack = np.maximum(STRAY, SLACK * size[:, ::-1])
    first, second = corners[:, :2], corners[:, 2:]
    inside = (first >= -slack) & (second <= size[:, ::-1] + slack) & (second >= first)
    return np.asarray(inside.all(1))


def _cut(corners: Corners, size: Sizes) -> Corners:
    return np.asarray(np.clip(corners, 0, np.tile(size[:, ::-1], 2)))


def _area(corners: Corners) -> Float64[np.ndarray, "n"]:
    return np.asarray(np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1))
