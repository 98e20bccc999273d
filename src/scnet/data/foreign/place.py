"""Where a data set of another format has a split."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from scnet.data.images import DataError, upright_size
from scnet.types import Size

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2"}


class Place(NamedTuple):
    """A split: the folder of its labels, which stands for an annotation file, and of its images."""

    labels: Path
    images: tuple[Path, ...]


def measured(file: Path) -> Size:
    """Return height and width of an image file; DataError if it cannot be read."""
    try:
        return upright_size(file)
    except Exception as error:  # decoders of broken files raise anything
        raise DataError(
            f"{file}: cannot be read: {error}; replace or remove the file and its labels"
        ) from error


def lines_of(file: Path) -> list[str]:
    """Return the lines of a text file that are not blank; DataError if it cannot be read."""
    try:
        return [line for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}; save it as UTF-8") from None


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder and of those in it."""
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGES)
