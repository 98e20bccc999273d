"""Image files of any kind to upright RGB."""

from __future__ import annotations

import os
import threading
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image, ImageOps

from scnet.types import Size

ImageSource = str | os.PathLike[str] | BufferedIOBase | Image.Image

MAX_PIXELS = 300_000_000
_opening = threading.Lock()


class DataError(ValueError):
    """Data that cannot be used: says what is wrong, where, and what to do."""


def open_image(source: str | os.PathLike[str] | BufferedIOBase) -> Image.Image:
    """Open an image of any size; its pixels are read later, so its size can be checked before.

    Pillow's own limit, above which it warns and soon refuses, is one for the whole process. Aerial
    images and slides pass it, so it is lifted for as long as a file's head is read.
    """
    with _opening:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(cast(Any, source))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def read_image(source: ImageSource, shrink: int = 1) -> Image.Image:
    """Return an image as 8-bit RGB, turned upright as its EXIF data says.

    Grey values of 16 bits are scaled from 0..65535; floating-point values by their maximum if that
    is above 1, else from 0..1. Transparency is dropped. A JPEG comes `shrink` (1, 2, 4 or 8) times
    smaller, which saves most of its decoding.

    Raises:
        DataError: the file is missing, damaged, no image, or larger than `MAX_PIXELS`.
    """
    try:
        if isinstance(source, Image.Image):
            return _upright_rgb(source)
        with open_image(source) as image:
            width, height = image.size
            if width * height <= MAX_PIXELS:
                if shrink > 1:
                    image.draft(None, (width // shrink, height // shrink))
                return _upright_rgb(image)
    except FileNotFoundError:
        raise DataError(f"{_name(source)}: no such image file") from None
    except Image.DecompressionBombError:
        raise DataError(f"{_name(source)}: {_TOO_LARGE}") from None
    except Exception as error:  # decoders of broken files raise anything
        reason = "not an image in a known format" if "cannot identify" in str(error) else str(error)
        raise DataError(
            f"{_name(source)}: cannot be read: {reason}; replace or remove the file"
        ) from error
    raise DataError(f"{_name(source)}: {width} x {height}: {_TOO_LARGE}")


_TOO_LARGE = f"more than {MAX_PIXELS // 10**6} million pixels; cut the image into parts"


def shrinking(size: Size, target: Size) -> int:
    """Return how much smaller a JPEG of `size` may be read that will be resized to `target`.

    It stays half as large again as the target: so much is left to the resizing, which averages
    over more pixels, that the result hardly differs. And it shrinks without a rest, so that nothing
    moves.
    """
    spare = min(side / (1.5 * wanted) for side, wanted in zip(size, target, strict=True))
    whole = [shrink for shrink in (8, 4, 2) if not any(side % shrink for side in size)]
    return next((shrink for shrink in whole if spare >= shrink), 1)


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return height and width of an image, EXIF orientation applied, from the head of its file."""
    with open_image(path) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) >= 5
    return (width, height) if turned else (height, width)


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_numbers(np.asarray(image).astype(np.float32), image.mode)
    # Pillow has no direct way, or warns about transparency.
    if image.mode in ("P", "PA", "RGBa", "La"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("RGB")


def _from_numbers(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], mode: str
) -> Image.Image:
    values = np.nan_to_num(values, posinf=0, neginf=0)
    limit = max(float(values.max(initial=0)), 1.0) if mode == "F" else 65535.0
    grey = np.clip(values * (255 / limit) + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _name(source: ImageSource) -> str:
    return str(Path(source)) if isinstance(source, str | os.PathLike) else "image"
