"""The masks of an image as a label map, in which a pixel belongs to one object at most.

What overlaps in a label map is counted in pixels, without a bitmap for each object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32

from scnet.ops.visible import placed
from scnet.types import Size

_AT_ONCE = 1 << 22  # pixels that are compared together; more take memory


class LabelMap(NamedTuple):
    """Objects without overlap, each the number of its place from 1 on; 0 is background."""

    labels: Int32[np.ndarray, "H W"]
    areas: Int[np.ndarray, "n"]  # pixels that each object keeps; 0: others took all
    shared: int  # pixels that lie in the masks of several


class Pairs(NamedTuple):
    """Objects and predictions that have pixels in common, a row each; numbers are places from 0."""

    object: Int[np.ndarray, "p"]
    prediction: Int[np.ndarray, "p"]
    iou: Float[np.ndarray, "p"]


def label_map(masks: Sequence[Any], size: Size) -> LabelMap:
    """Lay run lengths on one map; a pixel in several masks belongs to the first of them."""
    labels = np.zeros(size, np.int32, order="F")  # run lengths go down the columns
    several = np.zeros(size, bool, order="F")
    for number in range(len(masks), 0, -1):
        place, inside = placed(masks[number - 1], size)
        several[place] |= inside & (labels[place] > 0)
        labels[place][inside] = number
    return LabelMap(labels, _areas(labels, len(masks)), int(several.sum()))


def overlapping(objects: LabelMap, predictions: LabelMap) -> Pairs:
    """Return which objects and predictions overlap, and their IoU."""
    step = len(predictions.areas) + 1
    of_object, of_prediction = objects.labels.ravel("K"), predictions.labels.ravel("K")
    parts = []
    for here in _pieces(len(of_object)):
        both = np.flatnonzero((of_object[here] > 0) & (of_prediction[here] > 0))
        codes = of_object[here][both].astype(np.int64) * step + of_prediction[here][both]
        parts.append(np.unique(codes, return_counts=True))
    all_codes, all_pixels = (np.concatenate(column) for column in zip(*parts, strict=True))
    codes, place = np.unique(all_codes, return_inverse=True)
    pixels = np.bincount(place, weights=all_pixels, minlength=len(codes))
    first, second = codes // step - 1, codes % step - 1
    union = objects.areas[first] + predictions.areas[second] - pixels
    return Pairs(first, second, pixels / union)


def share_inside(predictions: LabelMap, mask: Any) -> Float[np.ndarray, "n"]:
    """Return how much of each object of a map lies in a mask, as a fraction of its pixels."""
    place, inside = placed(mask, predictions.labels.shape)
    pixels = np.bincount(predictions.labels[place][inside], minlength=len(predictions.areas) + 1)
    share: Float[np.ndarray, "n"] = pixels[1:] / np.maximum(predictions.areas, 1)
    return share


def _areas(labels: Int32[np.ndarray, "H W"], number: int) -> Int[np.ndarray, "n"]:
    """Return the pixels of each label from 1 to `number`."""
    flat, areas = labels.ravel("K"), np.zeros(number + 1, np.int64)
    for here in _pieces(len(flat)):
        areas += np.bincount(flat[here], minlength=number + 1)
    return areas[1:]


def _pieces(pixels: int) -> Iterator[slice]:
    return (slice(start, start + _AT_ONCE) for start in range(0, pixels, _AT_ONCE))
