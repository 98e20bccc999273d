"""Data sets of other formats: read as if they were COCO, or answered with what to do.

A folder of labels stands for an annotation file. It is read into what a COCO file would hold, so
that everything behind it is the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scnet.data.foreign import labelme, yolo
from scnet.data.foreign.place import Place
from scnet.data.foreign.signatures import known_content, known_folder
from scnet.data.images import DataError

__all__ = ["Place", "find_places", "known_content", "known_folder", "read_folder"]

_FORMATS = ((yolo.splits, yolo.read), (labelme.splits, labelme.read))


def find_places(path: Path, words: dict[str, tuple[str, ...]]) -> dict[str, Place]:
    """Return the splits of a data set that is read without COCO files; none if it is no such.

    Args:
        words: what each split may be called.

    Raises:
        DataError: it is one, but cannot be read.
    """
    return next((found for splits, _ in _FORMATS if (found := splits(path, words))), {})


def read_folder(labels: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the labels in a folder as the content of a COCO file, and what there is to say.

    Raises:
        DataError: there are none, or they are broken.
    """
    for splits, read in _FORMATS:
        if splits(labels, {}):
            return read(labels)
    raise DataError(f"{labels}: no labels; give a folder of COCO, YOLO or labelme data")
