"""Where a data set of another format has a split."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2"}


class Place(NamedTuple):
    """A split: the folder of its labels, which stands for an annotation file, and of its images."""

    labels: Path
    images: tuple[Path, ...]


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder and of those in it."""
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGES)
