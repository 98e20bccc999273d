"""Marks that were made for another size of their images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from scnet.data.geometry import Corners, Sizes, agree

SAME = 0.05  # a scale that is nearer to 1 explains nothing
BEYOND = 1.05  # times the image's side, as far as marks reach that were made for a larger one

Ends = Float64[np.ndarray, "n 2"]


class Scaled(NamedTuple):
    """Boxes that agree with their masks when they are scaled."""

    how: str
    boxes: Corners
    agrees: Bool[np.ndarray, "n"]


def scaled_boxes(boxes: Corners, masks: Corners, size: Sizes) -> Scaled | None:
    """Return the scale that brings most boxes to their masks; None if none brings any.

    It is the same for all, or brings boxes of one size of images to each image's own.
    """
    sides = size[:, ::-1].astype(np.float64)
    alike, own = _scale(boxes, masks, np.ones_like(sides)), _scale(boxes, masks, sides)
    found = []
    if alike is not None and (np.abs(alike - 1) > SAME).any():
        text = f"boxes scaled by {alike[0]:.3g} (x) and {alike[1]:.3g} (y)"
        found.append(_scaled(text, boxes, masks, size, np.tile(alike, (len(boxes), 1))))
    if own is not None and len(np.unique(size, axis=0)) > 1:
        text = f"boxes taken as those of images of {1 / own[0]:.0f} x {1 / own[1]:.0f}"
        found.append(_scaled(text, boxes, masks, size, own * sides))
    return max(found, key=lambda one: int(one.agrees.sum()), default=None)


def reach(masks: Corners, size: Sizes) -> str:
    """Return how far marks reach out of their images to the right and below; empty if they do not.

    One mark that is out of place says nothing: so many are passed over that they are no accident.
    """
    with np.errstate(invalid="ignore"):
        ratios = masks[:, 2:] / size[:, ::-1]
    ratios = ratios[np.isfinite(ratios).all(1)]
    if not len(ratios):
        return ""
    far = np.quantile(ratios, 0.95, axis=0)
    if not (far > BEYOND).any():
        return ""
    return (
        f"marks reach to {far[0]:.2f} times the width and {far[1]:.2f} times the height of images; "
        "if these were made smaller since, scale marks too, as "
        "--data.scale-marks '[0.5,0.5]' does for half the size"
    )


def _scale(boxes: Corners, masks: Corners, units: Ends) -> Float64[np.ndarray, "2"] | None:
    """Return by how many units the far ends of boxes are multiplied in those of masks."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = masks[:, 2:] / (boxes[:, 2:] * units)
    usable = np.isfinite(ratios).all(1) & (ratios > 0).all(1)
    return np.median(ratios[usable], axis=0) if usable.any() else None


def _scaled(text: str, boxes: Corners, masks: Corners, size: Sizes, scale: Ends) -> Scaled:
    boxes = boxes * np.tile(scale, 2)
    return Scaled(text, boxes, agree(boxes, masks, size))
