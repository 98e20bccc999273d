"""The masks of an image as a label map, in which a pixel belongs to one object at most.

What overlaps in a label map is counted in pixels, without a bitmap for each object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from scnet.ops import rle
from scnet.types import Size

Numbers = Int[np.ndarray, "_"]


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
        place, inside = _placed(masks[number - 1], size)
        several[place] |= inside & (labels[place] > 0)
        labels[place][inside] = number
    areas = np.bincount(labels.ravel("K"), minlength=len(masks) + 1)[1:]
    return LabelMap(labels, areas, int(several.sum()))


def overlapping(objects: LabelMap, predictions: LabelMap) -> Pairs:
    """Return which objects and predictions overlap, and their IoU."""
    of_object, of_prediction = objects.labels.ravel("K"), predictions.labels.ravel("K")
    both = np.flatnonzero((of_object > 0) & (of_prediction > 0))
    step = len(predictions.areas) + 1
    codes, pixels = np.unique(
        of_object[both].astype(np.int64) * step + of_prediction[both], return_counts=True
    )
    first, second = codes // step - 1, codes % step - 1
    union = objects.areas[first] + predictions.areas[second] - pixels
    return Pairs(first, second, pixels / union)


def share_inside(predictions: LabelMap, mask: Any) -> Float[np.ndarray, "n"]:
    """Return how much of each object of a map lies in a mask, as a fraction of its pixels."""
    place, inside = _placed(mask, predictions.labels.shape)
    pixels = np.bincount(predictions.labels[place][inside], minlength=len(predictions.areas) + 1)
    share: Float[np.ndarray, "n"] = pixels[1:] / np.maximum(predictions.areas, 1)
    return share


def _placed(mask: Any, size: Size) -> tuple[tuple[slice, slice], Bool[np.ndarray, "h w"]]:
    """Return where the box of a mask lies, and the mask in it."""
    found = rle.foreground(rle.runs(mask, size), size)
    if found is None:
        return np.s_[0:0, 0:0], np.zeros((0, 0), bool)
    crop, (x, y) = found
    return np.s_[y : y + crop.shape[0], x : x + crop.shape[1]], crop.view(bool)
