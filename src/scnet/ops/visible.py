"""Which masks of an image show enough of themselves when the better ones lie on top.

Cells, crowns and coins do not lie in one another, but two boxes that overlap too little for
non-maximum suppression can hold masks of the same thing. The second of them shows little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from scnet.ops import rle
from scnet.types import Size


def visible(masks: Sequence[rle.RLE], size: Size, least: float) -> list[int]:
    """Return the places of the masks that show at least this share of their pixels.

    The first mask lies on top; one that does not show enough hides nothing.

    Args:
        masks: run lengths of an image of `size`, the best first.
        least: above 0; empty masks show nothing.
    """
    taken = np.zeros(size, bool, order="F")  # run lengths go down the columns
    kept = []
    for place, mask in enumerate(masks):
        window, pixels = placed(mask, size)
        under = taken[window]
        free = np.count_nonzero(pixels & ~under)
        if free and free >= least * np.count_nonzero(pixels):
            under |= pixels
            kept.append(place)
    return kept


def placed(mask: Any, size: Size) -> tuple[tuple[slice, slice], Bool[np.ndarray, "h w"]]:
    """Return where the box of a mask lies in an image of `size`, and the mask in it."""
    found = rle.foreground(rle.runs(mask, size), size)
    if found is None:
        return np.s_[0:0, 0:0], np.zeros((0, 0), bool)
    crop, (x, y) = found
    return np.s_[y : y + crop.shape[0], x : x + crop.shape[1]], crop.view(bool)
