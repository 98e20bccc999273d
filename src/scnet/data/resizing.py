"""Marks of images that were resized since, brought to the size that these have now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from scnet.data.faults import by_id, size_of, sound_images
from scnet.data.geometry import DECIMALS
from scnet.data.images import MAX_PIXELS, upright_size
from scnet.data.wording import counted
from scnet.ops.rle import decode, encode
from scnet.types import Size

Entry = dict[str, Any]
Scale = tuple[float, float]  # of x and y

SAME_SHAPE = 0.01  # part by which width / height may differ in an image that was resized evenly


def scale_marks(images: Sequence[Entry], annotations: Sequence[Entry], scale: Scale) -> list[str]:
    """Multiply all marks by the same factors; return what was done.

    Sizes in the entries of images are those that the images have now.
    """
    sizes = {image["id"]: size_of(image) for image in sound_images(images)}
    known = [(e, size) for e in annotations if (size := by_id(sizes, e.get("image_id")))]
    for entry, size in known:
        _scale(entry, scale, size)
    by = f"{scale[0]:g} (x) and {scale[1]:g} (y)"
    return [f"{counted(len(known), 'annotation')} scaled by {by} (data.scale_marks)"]


def scale_to_files(
    images: Sequence[Entry], annotations: Sequence[Entry], files: Mapping[str, Path]
) -> list[str]:
    """Give images the size of their file, and scale marks by as much; return what was done.

    Args:
        files: where images are, by the name that their entry has.
    """
    resized = _resized(sound_images(images), files)
    notes, scales = _notes(resized), dict[int, tuple[Scale, Size]]()
    for image, new in resized:
        scales[image["id"]] = (new[1] / image["width"], new[0] / image["height"]), new
        image["height"], image["width"] = new
    for entry in annotations if scales else ():
        if found := by_id(scales, entry.get("image_id")):
            _scale(entry, *found)
    return notes


def size_action(found: Size, expected: Size) -> str:
    """Return what to do about an image that has another size than its annotation file says."""
    if found == expected[::-1]:
        return (
            "set --data.orientation upright if marks lie where viewers show the objects, or stored "
            "if they lie on the image before EXIF turns it"
        )
    how = "resized" if _is_even(found, expected) else "stretched, and neither cut nor padded,"
    return (
        "use the image that the annotations were made on, or, if it was "
        f"{how} since, --data.scale-marks files"
    )


def _is_even(new: Size, old: Size) -> bool:
    """Return whether a size is another of the same shape, but for rounding to whole pixels."""
    down, across = new[0] / old[0], new[1] / old[1]
    return abs(across / down - 1) < max(SAME_SHAPE, 1 / min(new))


def _resized(images: Sequence[Entry], files: Mapping[str, Path]) -> list[tuple[Entry, Size]]:
    """Return the images whose file has another size, not merely exchanged, and that size."""
    there = [image for image in images if image["file_name"] in files]
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(_size, (files[image["file_name"]] for image in there)))
    found = zip(there, sizes, strict=True)
    same = ((image, size, size_of(image)) for image, size in found if size)
    return [(image, new) for image, new, old in same if new not in (old, old[::-1])]


def _size(file: Path) -> Size | None:
    try:
        return upright_size(file)
    except Exception:  # decoders of broken files raise anything; whoever reads the image says it
        return None


def _notes(resized: Sequence[tuple[Entry, Size]]) -> list[str]:
    if not resized:
        return ["no image has another size than the file says: data.scale_marks changes nothing"]
    image, new = resized[0]
    height, width = size_of(image)
    notes = [
        f"{counted(len(resized), 'image')} resized since, such as {image['file_name']} from "
        f"{width} x {height} to {new[1]} x {new[0]}: marks are scaled likewise (data.scale_marks)"
    ]
    uneven = sum(not _is_even(size, size_of(image)) for image, size in resized)
    if uneven:
        notes.append(
            f"{counted(uneven, 'image', 'has')} another shape than the annotations were made for: "
            "marks are stretched, which is wrong if images were cut or padded"
        )
    return notes


def _scale(entry: Entry, scale: Scale, size: Size) -> None:
    """Scale the marks of an annotation in an image that has a size now; what is broken stays."""
    entry.pop("area", None)  # that of the mask takes its place
    entry["bbox"] = _scaled_points(entry.get("bbox"), scale)
    mask = entry.get("segmentation")
    if isinstance(mask, dict):
        entry["segmentation"] = _scaled_mask(mask, scale, size)
    elif isinstance(mask, list):
        entry["segmentation"] = [_scaled_points(polygon, scale) for polygon in mask]


def _scaled_points(numbers: Any, scale: Scale) -> Any:
    """Return x and y in turn, scaled; what is not that as it is."""
    try:
        points = np.array(numbers, np.float64).reshape(-1, 2) * scale
    except (TypeError, ValueError, OverflowError):
        return numbers
    return np.round(points, DECIMALS).ravel().tolist()


def _scaled_mask(mask: Entry, scale: Scale, size: Size) -> Any:
    """Return run lengths drawn anew at a size, the nearest pixel for each."""
    try:
        height, width = mask["size"]
        fits = abs(width * scale[0] - size[1]) <= 1 and abs(height * scale[1] - size[0]) <= 1
        if not fits or height * width > MAX_PIXELS:
            return mask
        pixels = decode(mask, (height, width))
    except (KeyError, TypeError, ValueError):
        return mask
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, (height, width), strict=True)
    )
    return encode(pixels[rows][:, columns])
