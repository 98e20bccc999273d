"""Images as a network is given them before they are resized: 8 bits, their bands chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
from PIL import Image, ImageOps

from scnet.config import DataConfig
from scnet.data import jpeg2000, tiff
from scnet.data.numbers import WHITE, Numbers, choose, contrast_fault, dim_fault, to_bytes
from scnet.types import Pixels

# 16-bit colours of a PNG as Pillow names them, and how it can be made to give their bytes: it keeps
# the upper byte of each value alone, so the lower ones are decoded in a second pass.
DEEP_PNG = {
    "RGB;16B": (("RGB", "RGB;16B"), ("RGB", "RGB;16L")),
    "RGBA;16B": (("RGBA", "RGBA;16B"), ("RGBA", "RGBA;16L")),
    "LA;16B": (("RGBA", "RGBA"),),  # four bytes of a pixel: two of grey, two of transparency
}
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # JPEG of cameras holds previews and depth beside


def of_image(image: Image.Image, data: DataConfig) -> Pixels:
    """Return the pixels of an image that Pillow opened.

    Raises:
        DataError: bands would be cut, or are not there.
    """
    numbers = _deep_png(image) or _stack(image)
    cut, keep = cut_fault(image), _holds_bands(image)
    if numbers is None:
        image.load()
        image = ImageOps.exif_transpose(image)
        as_it_is = data.range == "full" and data.bands is None and not keep
        if as_it_is and not _has_numbers(image.mode):
            return Pixels(upright_rgb(image), cut)
        numbers = Numbers(np.asarray(image), 255.0) if keep else _numbers(image)
    else:
        numbers = _turned(numbers, image.getexif().get(0x0112, 1))
    pixels = of_numbers(numbers, data)
    return replace(pixels, fault=pixels.fault or cut)


def all_faults(pixels: Pixels, data: DataConfig) -> str:
    """Return what was lost of an image, and whether one of 8 bits has little contrast.

    To look for the latter takes time, which reading for a training does without.
    """
    if pixels.fault or not isinstance(pixels.values, Image.Image):
        return pixels.fault
    lowest, highest = zip(*cast(Any, pixels.values.getextrema()), strict=True)
    return dim_fault(float(min(lowest)), float(max(highest)), data.range)


def of_tiff(source: tiff.File, data: DataConfig, most: int) -> Pixels:
    """Return the pixels of a TIFF that Pillow does not read as it should.

    Raises:
        DataError: bands would be cut, or are not there; not readable.
    """
    numbers, orientation = tiff.read(source, data.bands, most)
    return of_numbers(_turned(numbers, orientation), data)


def of_numbers(numbers: Numbers, data: DataConfig) -> Pixels:
    """Return numbers with their bands chosen, as 8 bits.

    Raises:
        DataError: bands would be cut, or are not there.
    """
    numbers = choose(numbers, data.bands)
    fault = contrast_fault(numbers, data.range)
    values = np.ascontiguousarray(to_bytes(numbers, data.range))
    if data.bands is None and values.shape[2] == 1:
        return Pixels(Image.fromarray(values[..., 0]).convert("RGB"), fault)
    return Pixels(Image.fromarray(values) if values.shape[2] == 3 else values, fault)


def cut_fault(image: Image.Image) -> str:
    """Return what Pillow leaves out of an image that is not decoded yet; empty if nothing."""
    tiles: list[Any] = cast(Any, image).tile if image.format == "PPM" else []
    if tiles and image.mode == "RGB" and tiles[0].args[-1] > 255:
        return _DEEP
    head = jpeg2000.head(image)
    if head and head.bits > 8 and not _has_numbers(image.mode):
        return _DEEP
    frames = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
    if frames == 1:
        return ""
    return f"holds {frames} frames, of which the first is read; save each frame as a file"


_DEEP = "has more than 8 bits, of which 8 are read; save it as PNG or TIFF"


def _holds_bands(image: Image.Image) -> bool:
    """Return whether what Pillow takes for transparency is a band like the others."""
    head = jpeg2000.head(image)
    return bool(head and image.mode in ("LA", "RGBA") and not head.alpha)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits, which is upright already, as RGB; transparency is dropped."""
    if image.mode == "RGB":
        return image
    # Pillow has no direct way, or warns about transparency.
    if image.mode in ("P", "PA", "RGBa", "La"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("RGB")


def _has_numbers(mode: str) -> bool:
    """Return whether pixels have more than 8 bits."""
    return mode == "F" or mode.startswith("I")


def _numbers(image: Image.Image) -> Numbers:
    if _has_numbers(image.mode):
        return Numbers(np.asarray(image)[..., None], None if image.mode == "F" else WHITE)
    if image.mode in ("1", "L", "LA", "La"):
        return Numbers(np.asarray(upright_rgb(image))[..., :1], 255.0)
    return Numbers(np.asarray(upright_rgb(image)), 255.0)


def _stack(image: Image.Image) -> Numbers | None:
    """Return the pages of a TIFF that was opened elsewhere; None where there is one page."""
    if image.format != "TIFF" or cast(Any, image).n_frames == 1:
        return None
    pages, size = [], image.size
    for page in range(cast(Any, image).n_frames):
        image.seek(page)
        if image.size == size:  # others are the same picture, smaller
            pages.append(_numbers(image))
    image.seek(0)
    values = np.concatenate([page.values for page in pages], axis=2)
    return Numbers(values, pages[0].white, pages=len(pages) > 1)


def _deep_png(image: Image.Image) -> Numbers | None:
    """Return 16-bit colours of a PNG; None where it has none, or has been decoded before."""
    tiles: list[Any] = cast(Any, image).tile if image.format == "PNG" else []
    ways = DEEP_PNG.get(str(tiles[0].args)) if tiles else None
    if ways is None:
        return None
    planes, file = [], cast(Any, image).fp
    place = file.tell()  # where the image itself would go on reading
    for mode, raw in ways:
        file.seek(0)
        again: Any = Image.open(file)
        again._mode = mode
        again.tile = [tiles[0]._replace(args=raw)]
        again.load()
        planes.append(np.asarray(again).astype(np.uint16))
    file.seek(place)
    if len(planes) == 1:
        return Numbers((planes[0][..., :1] << 8) | planes[0][..., 1:2])
    return Numbers(((planes[0] << 8) | planes[1])[..., :3])


def _turned(numbers: Numbers, orientation: int) -> Numbers:
    """Return numbers upright; as `ImageOps.exif_transpose` does."""
    values = numbers.values
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return numbers._replace(values=values)
