"""TIFF files that Pillow cannot read, or of which it would cut bands, pages or bits.

Pillow reads one page of 8-bit grey or colours as it should. Of other files it takes the first page
or the upper byte without a word, or does not know them; these are read by tifffile.
"""

from __future__ import annotations

import math
import os
from io import BufferedIOBase
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scnet.data.errors import DataError
from scnet.data.numbers import WHITE, Bands, Numbers, require_bands
from scnet.data.tiff_log import whole_or_refused
from scnet.types import Size

File = str | os.PathLike[str] | BufferedIOBase

BITS, PHOTOMETRIC, DESCRIPTION, SAMPLES, EXTRA_SAMPLES, SAMPLE_FORMAT = 258, 262, 270, 277, 338, 339
COLOURS = {2: 3, 5: 4, 6: 3, 8: 3, 9: 3}  # samples of a pixel by photometric: RGB, CMYK, YCbCr, Lab
ALPHA = (1, 2)  # of extra samples: associated and not
FEW = 32  # a last axis no longer than this, of a stack of more pages, holds bands
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF


class Layout(NamedTuple):
    """Where the numbers of a file are."""

    series: Any  # of tifffile
    shape: tuple[int, ...]
    axes: str  # of the shape: Y, X, S for samples of a pixel, and others of pages
    orientation: int  # as in EXIF

    @property
    def alpha(self) -> bool:
        """Return whether the last sample of a pixel is its transparency."""
        extra = tuple(map(int, self.series.keyframe.extrasamples))
        return self.count("S") in (2, 4) and len(extra) == 1 and extra[0] in ALPHA

    @property
    def size(self) -> Size:
        """Return height and width, upright."""
        height, width = self.count("Y"), self.count("X")
        return (width, height) if self.orientation >= 5 else (height, width)

    @property
    def pages(self) -> int:
        """Return how many pictures the file holds, one behind the other."""
        sides = zip(self.shape, self.axes, strict=True)
        return math.prod(length for length, axis in sides if axis not in "YXS")

    @property
    def is_stack(self) -> bool:
        """Return whether bands are pages, which nobody meant to be colours."""
        return self.pages > 1 and self.pages == self.bands

    @property
    def bands(self) -> int:
        """Return the number of bands, transparency left out."""
        return self.pages * (self.count("S") - self.alpha)

    def count(self, axis: str) -> int:
        """Return the length of an axis; 1 where there is none."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1


def is_tiff(source: File) -> bool:
    """Return whether a file begins as TIFF does."""
    if isinstance(source, BufferedIOBase):
        source.seek(0)
        head = source.read(4)
        source.seek(0)
        return head in MAGIC
    with open(source, "rb") as file:
        return file.read(4) in MAGIC


def is_plain(image: Image.Image) -> bool:
    """Return whether Pillow reads all of an opened TIFF: one page of 8-bit grey or colours."""
    tags = cast(Any, image).tag_v2
    text = str(tags.get(DESCRIPTION, ""))
    stack = text.startswith("ImageJ=") and "images=" in text  # several pictures behind one head
    bits, kinds = tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (1,))
    more = tags.get(SAMPLES, 1) - COLOURS.get(tags.get(PHOTOMETRIC), 1)
    whole = more <= 0 or (more == 1 and tags.get(EXTRA_SAMPLES, (0,))[0] in ALPHA)
    small = max(bits) <= 8 and set(kinds) <= {1, 4}
    return whole and small and not stack and cast(Any, image).n_frames == 1


def layout(file: Any) -> Layout:
    """Return where the numbers of an opened `tifffile.TiffFile` are.

    Raises:
        DataError: it holds several images of different sizes.
    """
    series = [s for s in file.series if not (s.keyframe.is_reduced or s.keyframe.is_mask)]
    if not file.series:
        raise DataError("holds no image; replace or remove the file")
    main, *others = series or list(file.series)
    height, width = main.keyframe.imagelength, main.keyframe.imagewidth
    pages = [s.keyframe for s in others]
    if any(2 * page.imagelength > height or 2 * page.imagewidth > width for page in pages):
        raise DataError(f"holds {len(pages) + 1} images of other sizes; save the one that is meant")
    tag = main.keyframe.tags.get(274)
    orientation = int(tag.value) if tag else 1
    shape, axes = tuple(main.get_shape(False)), main.get_axes(False)
    return Layout(main, *_bands_last(shape, axes), orientation)


def _bands_last(shape: tuple[int, ...], axes: str) -> tuple[tuple[int, ...], str]:
    """Take a stack of many tiny pages for what it is: an array (H, W, D) that was saved as such."""
    long = [(n, axis) for n, axis in zip(shape, axes, strict=True) if n > 1]
    if len(long) == 3 and [axis for _, axis in long][1:] == ["Y", "X"] and long[0][1] != "S":
        (first, _), (second, _), (third, _) = long
        if third <= FEW < min(first, second):
            return (first, second, third), "YXS"
    return shape, axes


def upright_size(source: File) -> Size:
    """Return height and width of a file, orientation applied."""
    from tifffile import TiffFile

    with whole_or_refused(), TiffFile(cast(Any, source)) as file:
        return layout(file).size


def read(source: File, bands: Bands, most: int) -> tuple[Numbers, int]:
    """Return the numbers of a file and its orientation.

    Args:
        most: pixels that an image may have.

    Raises:
        DataError: bands would be cut, or are not there; too large; a compression not known here;
            not whole.
    """
    from tifffile import TiffFile

    with whole_or_refused(), TiffFile(cast(Any, source)) as file:
        place = layout(file)
        height, width = place.size
        require_bands(place.bands, bands, pages=place.is_stack)
        if height * width * max(1, place.bands // 3) > most:
            raise DataError(
                f"{width} x {height}, {place.bands} bands: more than {most // 10**6} million "
                "pixels; cut the image into parts"
            )
        try:
            values = _as_bands(place.series.asarray(), place)
        except (ValueError, KeyError) as error:
            if "imagecodecs" not in str(error):
                raise
            return _pages_of_pillow(source, place), place.orientation
        return _numbers(values, place), place.orientation


def _as_bands(values: NDArray[Any], place: Layout) -> NDArray[Any]:
    """Return values as (H, W, D): pages and samples one behind the other, transparency dropped."""
    values = values.reshape(place.shape)
    others = [i for i, axis in enumerate(place.axes) if axis not in "YXS"]
    order = [place.axes.index("Y"), place.axes.index("X"), *others]
    values = values.transpose(*order, *([place.axes.index("S")] if "S" in place.axes else []))
    if place.alpha:
        values = values[..., :-1]
    return values.reshape(*values.shape[:2], -1)


def _numbers(values: NDArray[Any], place: Layout) -> Numbers:
    page = place.series.keyframe
    photometric = getattr(page.photometric, "name", str(page.photometric))
    if values.dtype.kind not in "biuf" or photometric in ("PALETTE", "SEPARATED", "CIELAB"):
        raise DataError(
            f"pages of {values.dtype}, {photometric}, are not read; save it as grey or RGB"
        )
    white = _white(values.dtype, page.bitspersample)
    if photometric == "MINISWHITE" and white is not None:
        values = (white - values).astype(values.dtype)
    return Numbers(values, white, place.is_stack)


def _white(dtype: np.dtype[Any], bits: int) -> float | None:
    if dtype.kind == "f":
        return None
    if dtype.kind == "b":
        return 1.0
    return float(2**bits - 1) if dtype.kind == "u" and bits < 16 else _white_of(dtype)


def _white_of(dtype: np.dtype[Any]) -> float:
    return 127.0 if dtype == np.int8 else WHITE


def _pages_of_pillow(source: File, place: Layout) -> Numbers:
    """Read pages with a compression that only Pillow knows here, where it does so without loss."""
    if isinstance(source, BufferedIOBase):
        source.seek(0)
    pages = []
    try:
        with Image.open(cast(Any, source)) as image:
            for page in range(place.pages):
                image.seek(page)
                pages.append(_exact(image))
            values = np.concatenate(pages, axis=2)
            bits = int(cast(Any, image).tag_v2.get(BITS, (1,))[0])
    except (OSError, EOFError, ValueError) as error:
        name = place.series.keyframe.compression.name
        raise DataError(
            f"compression {name} needs the package imagecodecs: pip install imagecodecs, "
            "or save it without compression"
        ) from error
    return Numbers(values, _white(values.dtype, bits), place.is_stack)


def _exact(image: Image.Image) -> NDArray[Any]:
    """Return the pixels of a page as (H, W, D), if Pillow keeps all bits and bands of it."""
    bits = cast(Any, image).tag_v2.get(BITS, (1,))
    if image.mode in ("F", "I") or image.mode.startswith("I;16") or image.mode == "L":
        return np.asarray(image)[..., None]
    if max(bits) > 8 or len(bits) not in (1, 3):
        raise ValueError(image.mode)
    return np.asarray(image.convert("RGB"))
