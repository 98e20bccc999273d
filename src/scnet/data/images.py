"""Image files of any kind to upright RGB, or to the bands that are asked for."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

from PIL import Image, UnidentifiedImageError

from scnet.config import DataConfig
from scnet.data import tiff
from scnet.data.errors import DataError
from scnet.data.no_image import HEAD, REPLACE, named
from scnet.data.numbers import ADVICE
from scnet.data.pixels import of_image, of_tiff
from scnet.types import Pixels, Size

__all__ = [
    "DataError",
    "ImageSource",
    "open_image",
    "read_image",
    "read_picture",
    "read_pixels",
    "shrinking",
    "tagged_size",
    "upright_size",
]

ImageSource = str | os.PathLike[str] | BufferedIOBase | Image.Image

MAX_PIXELS = 300_000_000
DEFAULT = DataConfig()
_opening = threading.Lock()


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
        DataError: the file is missing, damaged, no image, or larger than `MAX_PIXELS`; or it has
            bands or pages that would be cut.
    """
    return read_pixels(source, DEFAULT, shrink).picture


def read_pixels(source: ImageSource, data: DataConfig, shrink: int = 1) -> Pixels:
    """Return an image with its numbers scaled and its bands chosen as the settings say.

    A JPEG comes `shrink` times smaller, as from `read_image`, unless its own values say what is
    black and white: those of a smaller image are others.

    Raises:
        DataError: as `read_image`; or bands that are chosen are not there.
    """
    try:
        if isinstance(source, Image.Image):
            return of_image(source, data)
        return _read(source, data, 1 if data.range in ("minmax", "percentile") else shrink)
    except FileNotFoundError:
        raise DataError(f"{_name(source)}: no such image file") from None
    except Image.DecompressionBombError:
        raise DataError(f"{_name(source)}: {_TOO_LARGE}") from None
    except DataError as error:
        raise DataError(f"{_name(source)}: {error}") from error.__cause__
    except Exception as error:  # decoders of broken files raise anything
        unknown = isinstance(error, UnidentifiedImageError)
        reason = named(_head(source)) if unknown else f"{error}; {REPLACE}"
        raise DataError(f"{_name(source)}: cannot be read: {reason}") from error


def read_picture(source: str | os.PathLike[str]) -> Image.Image:
    """Return an image file to be looked at, whatever it holds.

    Three bands are shown; values are spread where an image would lose its contrast.

    Raises:
        DataError: cannot be read.
    """
    with suppress(DataError):
        pixels = read_pixels(source, DEFAULT)
        if ADVICE not in pixels.fault:
            return pixels.picture
    return read_pixels(source, DataConfig(range="percentile", bands="all")).picture


def _read(source: str | os.PathLike[str] | BufferedIOBase, data: DataConfig, shrink: int) -> Pixels:
    try:
        opened = open_image(source)
    except UnidentifiedImageError:
        if not tiff.is_tiff(source):
            raise
        return of_tiff(source, data, MAX_PIXELS)
    with opened as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DataError(f"{width} x {height}: {_TOO_LARGE}")
        if image.format != "TIFF" or tiff.is_plain(image):
            if shrink > 1:
                image.draft(None, (width // shrink, height // shrink))
            return of_image(image, data)
    return of_tiff(source, data, MAX_PIXELS)


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


def upright_size(path: str | os.PathLike[str]) -> Size:
    """Return height and width of an image, EXIF orientation applied, from the head of its file."""
    return tagged_size(path)[0]


def tagged_size(path: str | os.PathLike[str]) -> tuple[Size, int]:
    """Return height and width of an image upright, and the EXIF orientation that turns it so.

    The orientation is 1 where the image lies as it is stored.
    """
    try:
        opened = open_image(path)
    except UnidentifiedImageError:
        if not tiff.is_tiff(path):
            raise
        return tiff.upright_size(path), 1
    with opened as image:
        width, height = image.size
        tag = image.getexif().get(0x0112, 1)
        if image.format == "TIFF" and not tiff.is_plain(image):
            return tiff.upright_size(path), 1
    if tag not in range(2, 9):
        return (height, width), 1
    return ((width, height) if tag >= 5 else (height, width)), tag


def _head(source: ImageSource) -> bytes:
    """Return what a file begins with; nothing can be told of an image that is open."""
    if isinstance(source, BufferedIOBase):
        source.seek(0)
        return source.read(HEAD)
    with open(cast(Any, source), "rb") as file:
        return file.read(HEAD)


def _name(source: ImageSource) -> str:
    return str(Path(source)) if isinstance(source, str | os.PathLike) else "image"
