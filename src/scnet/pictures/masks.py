"""Masks painted on a photo: tinted inside, with an edge of their full colour.

Each mask costs as much as its box, whatever the size of the photo. All is whole numbers, the planes
of the three colours lie apart, and edges are found on bits, 64 pixels at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int16, UInt8, UInt64
from PIL import Image

from scnet.pictures.colours import Colour

Array = np.ndarray

SHIFT = 7
WHOLE = 1 << SHIFT  # the share of a colour that hides all below it: products fit into 16 bits
TINT = 58  # the share inside a mask: 45 %
ENOUGH = 8_000  # pixels of a mask's box of which its mean colour is taken


class Canvas(NamedTuple):
    """A photo as planes of red, green and blue, painted in place."""

    planes: tuple[UInt8[Array, "H W"], ...]

    @classmethod
    def of(cls, photo: Image.Image) -> Canvas:
        """Return a copy of an RGB image."""
        return cls(tuple(np.array(band) for band in photo.split()))

    @property
    def picture(self) -> Image.Image:
        """Return what is painted."""
        return Image.merge("RGB", [Image.fromarray(plane) for plane in self.planes])

    def mean(self, mask: Bool[Array, "h w"], x: int, y: int) -> list[float]:
        """Return the mean colour below a mask, of some pixels; x and y are those of its corner."""
        step = 1 + int((mask.size / ENOUGH) ** 0.5)
        rows, columns = (place[::7] * step for place in np.nonzero(mask[::step, ::step]))
        if not len(rows):  # what is thin may lie between
            rows, columns = np.nonzero(mask)
        return [float(plane[rows + y, columns + x].mean()) for plane in self.planes]

    def paint(self, mask: Bool[Array, "h w"], x: int, y: int, colour: Colour, edge: int) -> None:
        """Paint a mask whose corner is at x and y; `edge` is the width of its edge."""
        if not mask.size:
            return
        share = _shares(mask, edge)
        window = slice(y, y + mask.shape[0]), slice(x, x + mask.shape[1])
        for plane, value in zip(self.planes, colour, strict=True):
            below = plane[window]
            change = below.astype(np.int16)
            np.subtract(np.int16(value), change, out=change)
            change *= share
            change += np.int16(WHOLE // 2)
            change >>= SHIFT
            change += below
            below[...] = change


def _shares(mask: Bool[Array, "h w"], edge: int) -> Int16[Array, "h w"]:
    """Return how much of its colour a mask has in each pixel."""
    # Masks lie in memory column by column, where they are unrolled from run lengths.
    turned = mask.flags.f_contiguous
    lines = np.ascontiguousarray(mask.T if turned else mask)
    shares = lines.view(np.uint8) * np.uint8(WHOLE)
    shares -= eroded(lines, edge).view(np.uint8) * np.uint8(WHOLE - TINT)
    return (shares.T if turned else shares).astype(np.int16, order="C")


def eroded(mask: Bool[Array, "h w"], steps: int) -> Bool[Array, "h w"]:
    """Return the pixels that are more than so many steps, up, down or aside, from any outside."""
    height, width = mask.shape
    words = width // 64 + 1  # of a line; a bit at its end at least is free, and not set
    bits = np.zeros((height, words * 8), np.uint8)
    bits[:, : -(-width // 8)] = np.packbits(mask, axis=1, bitorder="little")
    inner = bits.ravel().view("<u8")
    for _ in range(steps):
        inner = _inner(inner, words)
    bits = inner.view(np.uint8).reshape(height, -1)
    return np.unpackbits(bits, axis=1, count=width, bitorder="little").view(bool)


def _inner(bits: UInt64[Array, "n"], words: int) -> UInt64[Array, "n"]:
    """Return the bits whose four neighbours are set, too; lines follow on one another."""
    before, after = bits << np.uint64(1), bits >> np.uint64(1)
    before[1:] |= bits[:-1] >> np.uint64(63)
    after[:-1] |= bits[1:] << np.uint64(63)
    before &= after
    before &= bits
    before[words:] &= bits[:-words]
    before[:-words] &= bits[words:]
    before[:words] = before[-words:] = 0
    return before
