"""Which masks of an image show enough of themselves when the better ones lie on top.

Cells, crowns and coins do not lie in one another, but two boxes that overlap too little for
non-maximum suppression can hold masks of the same thing. The second of them shows little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
        found = rle.foreground(rle.runs(mask, size), size)
        if found is None:
            continue
        pixels, (x, y) = found[0].view(bool), found[1]
        under = taken[y : y + pixels.shape[0], x : x + pixels.shape[1]]
        free = np.count_nonzero(pixels & ~under)
        if free and free >= least * np.count_nonzero(pixels):
            under |= pixels
            kept.append(place)
    return kept
