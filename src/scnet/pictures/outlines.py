"""Outlines of objects on a part of an image, enlarged: what is there and what was found.

Colour tells them apart, and so does the line: solid for one, dashed for the other, which leaves
both in sight where they coincide. A dark edge keeps them visible on any image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFilter

from scnet.ops.rle import foreground, runs
from scnet.pictures.colours import Colour

Array = np.ndarray
Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the image

DASH = 5  # length of a dash and of a gap, in line widths
FINE = 480  # pixels of the longer side for which the thinnest line has one pixel
SHADE = 0.55  # how much of the image stays under the dark edge


@dataclass(frozen=True)
class Outline:
    """What to draw: run lengths, or a box as x, y, width, height, in pixels of the image."""

    shape: Any
    colour: Colour
    dashed: bool = False
    weight: int = 1  # of the line; from 2 on it has a dark edge


class _Piece(NamedTuple):
    mask: Bool[Array, "h w"]
    x: int
    y: int


def outlined(
    photo: Image.Image, outlines: Sequence[Outline], window: Window, longest: int
) -> Image.Image:
    """Draw outlines on a window of an image, its longer side scaled to `longest` pixels."""
    left, top, right, bottom = window
    scale = longest / max(right - left, bottom - top)
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    cut = photo.convert("RGB").crop(window).resize(size, Image.Resampling.BICUBIC)
    canvas = np.array(cut)
    line = max(1, round(longest / FINE))
    for outline in outlines:
        piece = _piece(outline.shape)
        if piece is not None and _meets(piece, window):
            _draw(canvas, _placed(piece, window, scale), outline, line * outline.weight)
    return Image.fromarray(canvas)


def window_around(shape: Any, size: tuple[int, int], context: float, least: int) -> Window:
    """Return a square around a shape, so many times as long, inside an image of (height, width).

    `least` is its least side in pixels. It is cut where the image is smaller than the square, and
    all of the image for a shape of no pixels.
    """
    height, width = size
    piece = _piece(shape)
    if piece is None:
        return 0, 0, width, height
    rows, columns = piece.mask.shape
    side = max(least, math.ceil(context * max(rows, columns)))
    left, right = _span(piece.x + columns / 2, side, width)
    top, bottom = _span(piece.y + rows / 2, side, height)
    return left, top, right, bottom


def _span(middle: float, side: int, limit: int) -> tuple[int, int]:
    side = min(side, limit)
    start = min(max(0, round(middle - side / 2)), limit - side)
    return start, start + side


def _piece(shape: Any) -> _Piece | None:
    """Return a mask or box cut to its pixels; None if it has none."""
    if isinstance(shape, dict):
        size = tuple(shape["size"])
        found = foreground(runs(shape, size), size)
        return found and _Piece(found[0].astype(bool), *found[1])
    x, y, width, height = shape
    left, top = math.floor(x), math.floor(y)
    full = (max(0, math.ceil(y + height) - top), max(0, math.ceil(x + width) - left))
    return _Piece(np.ones(full, bool), left, top) if all(full) else None


def _meets(piece: _Piece, window: Window) -> bool:
    rows, columns = piece.mask.shape
    across = piece.x < window[2] and piece.x + columns > window[0]
    return across and piece.y < window[3] and piece.y + rows > window[1]


def _placed(piece: _Piece, window: Window, scale: float) -> _Piece:
    """Return a piece in pixels of the canvas, with a margin, its steps rounded."""
    rows, columns = (n + 2 for n in piece.mask.shape)
    left, top = (round((start - 1) * scale) for start in (piece.x - window[0], piece.y - window[1]))
    size = (max(3, round(columns * scale)), max(3, round(rows * scale)))
    image = Image.fromarray(np.pad(piece.mask, 1).astype(np.uint8) * np.uint8(255))
    large = np.asarray(image.resize(size, Image.Resampling.BICUBIC)) > 127
    return _Piece(np.pad(large, 3), left - 3, top - 3)


def _draw(canvas: UInt8[Array, "H W 3"], piece: _Piece, outline: Outline, line: int) -> None:
    """Draw the edge of a piece, in place."""
    edge = piece.mask & ~_filtered(piece.mask, ImageFilter.MinFilter(2 * line + 1))
    dark = _filtered(edge, ImageFilter.MaxFilter(3)) & ~edge & (outline.weight > 1)
    if outline.dashed:
        edge &= _dashes(piece.mask, DASH * line)
    height, width = canvas.shape[:2]
    rows, columns = piece.mask.shape
    top, left = max(0, piece.y), max(0, piece.x)
    bottom, right = min(height, piece.y + rows), min(width, piece.x + columns)
    part = (
        slice(top - piece.y, max(top, bottom) - piece.y),
        slice(left - piece.x, max(left, right) - piece.x),
    )
    view = canvas[top:bottom, left:right]
    view[dark[part]] = (view[dark[part]] * SHADE).astype(np.uint8)
    view[edge[part]] = outline.colour


def _dashes(mask: Bool[Array, "h w"], length: int) -> Bool[Array, "h w"]:
    """Say where there are dashes on a line round a mask, by the angle seen from its middle."""
    rows, columns = mask.shape
    y, x = np.mgrid[:rows, :columns]
    turn = np.arctan2(y - rows / 2, x - columns / 2) / (2 * math.pi)
    number = max(4, round((rows + columns) * 1.6 / (2 * length)))
    dashes: Bool[Array, "h w"] = np.floor(turn * 2 * number) % 2 == 0
    return dashes


def _filtered(mask: Bool[Array, "h w"], kind: ImageFilter.Filter) -> Bool[Array, "h w"]:
    image = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(image.filter(kind)) > 127
