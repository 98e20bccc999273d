"""Polygons that lie within another of their annotation.

COCO draws all polygons of an annotation filled, so that what was meant as a hole is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from scnet.data.faults import Entry
from scnet.data.wording import of_all

LOOKED_AT = 500  # annotations, evenly chosen
MOST = 6  # polygons of an annotation that are compared
CORNERS = 64  # of an outline, evenly chosen: each is compared with all edges of the other
FEW = 0.02  # share that is not spoken of: slips of whoever drew, as in COCO itself
ACTION = "write such masks as run lengths, which have holes"

Outline = Float64[np.ndarray, "_n 2"]  # x and y in pixels


def hole_fault(entries: Sequence[Entry]) -> str:
    """Return how many annotations have a polygon within another; empty if none or few have.

    `entries` are sound, and have several polygons each.
    """
    chosen = entries[:: -(-len(entries) // LOOKED_AT) or 1]
    number = sum(_is_nested(entry) for entry in chosen)
    if number <= FEW * len(chosen):
        return ""
    has = of_all(number, len(chosen), "annotation", "has")
    looked_at = f"of those looked at with several polygons {has} one within another"
    return f"{looked_at}, filled where a hole may be"


def _is_nested(entry: Entry) -> bool:
    outlines = [np.array(p, np.float64).reshape(-1, 2) for p in entry["segmentation"][:MOST]]
    return any(_is_within(a, b) for a, b in itertools.permutations(outlines, 2))


def _is_within(inner: Outline, outer: Outline) -> bool:
    """Return whether an outline lies inside another with all corners that are looked at."""
    (low, high), (least, most) = ((o.min(0), o.max(0)) for o in (inner, outer))
    if not ((low > least) & (high < most)).all():
        return False
    x, y = inner[:: -(-len(inner) // CORNERS)].T
    (x1, y1), (x2, y2) = outer.T[..., None], np.roll(outer, -1, axis=0).T[..., None]
    spans = (y1 > y) != (y2 > y)  # edges that a level through a corner meets
    with np.errstate(divide="ignore", invalid="ignore"):
        right = spans & (x < x1 + (x2 - x1) * (y - y1) / (y2 - y1))
    return bool((right.sum(0) % 2 == 1).all())
