"""The annotations of a file as columns: a few arrays instead of objects.

Processes that read images share arrays, while Python's objects are copied into each as soon as they
are counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

from scnet.types import Size

Array = np.ndarray[Any, Any]

MOST_ODD = 0.1  # share of numbers that may be no hundredths for these to be worth it


class Annotation(NamedTuple):
    """One object of an image, in original pixels."""

    # xyxy, cut at the image's border; zeros for a crowd region
    box: tuple[float, float, float, float]
    label: int
    segmentation: Any  # polygons as arrays, or run lengths
    crowd: bool  # marks a region where nothing is learnt


class Numbers(NamedTuple):
    """Numbers of double precision; in a quarter of the memory if most are hundredths, as COCO's."""

    stored: Array  # numbers times `factor`
    factor: float
    odd: Int64[np.ndarray, "k"]  # places of those that are not stored exactly, in order
    exact: Float64[np.ndarray, "k"]  # and what stands there

    @classmethod
    def of(cls, numbers: Float64[np.ndarray, "n"]) -> Numbers:
        """Return numbers in the smallest kind that holds most of them."""
        with np.errstate(over="ignore"):
            hundredths = np.rint(numbers * 100)
        for kind in (np.uint16, np.int32):
            fits = (hundredths >= np.iinfo(kind).min) & (hundredths <= np.iinfo(kind).max)
            fits &= hundredths / 100 == numbers
            odd = np.flatnonzero(~fits)
            if len(odd) <= MOST_ODD * len(numbers):
                return cls(np.where(fits, hundredths, 0).astype(kind), 100.0, odd, numbers[odd])
        return cls(numbers, 1.0, np.zeros(0, np.int64), np.zeros(0))

    def part(self, start: int, end: int) -> Float64[np.ndarray, "m"]:
        """Return some numbers in a row, as they were."""
        numbers = self.stored[start:end] / self.factor
        first, last = np.searchsorted(self.odd, (start, end))
        numbers[self.odd[first:last] - start] = self.exact[first:last]
        return numbers


@dataclass(frozen=True)
class Columns:
    """The annotations of a file, those of an image behind one another.

    `parts` says from where to where an annotation's polygons stand in `starts`, or its run lengths
    in `text`. `starts` says where each polygon begins in `numbers`.
    """

    boxes: Float32[np.ndarray, "n 4"]
    labels: Int32[np.ndarray, "n"]
    crowd: Bool[np.ndarray, "n"]
    packed: Bool[np.ndarray, "n"]  # the mask is given as run lengths
    parts: Int64[np.ndarray, "n 2"]
    starts: Int64[np.ndarray, "p"]  # with the end of the last
    numbers: Numbers  # x and y in turn
    text: UInt8[np.ndarray, "t"]  # packed run lengths

    def annotation(self, index: int, size: Size) -> Annotation:
        """Return an annotation of an image of `size`."""
        left, top, right, bottom = self.boxes[index].tolist()
        return Annotation(
            (left, top, right, bottom),
            int(self.labels[index]),
            self._run_lengths(index, size) if self.packed[index] else list(self._polygons(index)),
            bool(self.crowd[index]),
        )

    def _run_lengths(self, index: int, size: Size) -> dict[str, Any]:
        start, end = self.parts[index]
        return {"size": list(size), "counts": self.text[start:end].tobytes().decode("ascii")}

    def _polygons(self, index: int) -> Iterator[Float64[np.ndarray, "m"]]:
        first, end = self.parts[index].tolist()
        starts = self.starts[first : end + 1].tolist()
        for start, stop in itertools.pairwise(starts):
            yield self.numbers.part(start, stop)


NOTHING = Columns(
    boxes=np.zeros((0, 4), np.float32),
    labels=np.zeros(0, np.int32),
    crowd=np.zeros(0, bool),
    packed=np.zeros(0, bool),
    parts=np.zeros((0, 2), np.int64),
    starts=np.zeros(1, np.int64),
    numbers=Numbers.of(np.zeros(0)),
    text=np.zeros(0, np.uint8),
)
