"""COCO results: of one image, with its picture, or of many as one list that grows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scnet.inference.detections import Detections
from scnet.runtime.files import growing_file, whole_file
from scnet.types import Size

Entries = list[dict[str, Any]]

FAST = 1  # of zlib's levels: a quarter of the time of Pillow's own choice, files 5 % larger


def entries(found: Detections, image_id: int | str, file_name: str = "") -> Entries:
    """Return the entries of a COCO result file; each with the file name where one is given.

    COCO's own have none, and readers pass over it.
    """
    named = {"file_name": file_name} if file_name else {}
    return [{**entry, **named} for entry in found.to_coco(image_id)]


def write(
    found: Detections, folder: Path, image_id: int | str = 1, file_name: str = ""
) -> tuple[Path, Path]:
    """Write the overlay picture and the COCO results of one image; return both files.

    Each is written whole or not at all. They are named after the image; a number tells images of
    the same name apart. `image_id` is that of the results, so that those of several images can be
    put together; `file_name` is what they call the image, its path if it is empty.
    """
    name = _free_name(found, folder)
    picture = folder / f"{name}_masks.png"
    with whole_file(picture) as new:
        found.plot().save(new, "PNG", compress_level=FAST)
    return picture, _write(found, folder / f"{name}.json", image_id, file_name)


def write_results(
    found: Detections, folder: Path, image_id: int | str = 1, file_name: str = ""
) -> Path:
    """Write the COCO results alone, as `write` does."""
    return _write(found, folder / f"{_free_name(found, folder)}.json", image_id, file_name)


@contextlib.contextmanager
def one_list(file: Path) -> Iterator[Callable[[Entries], None]]:
    """Give a function that adds entries to one COCO result file; each is a line of it.

    Where the block raises, what was added stays in a file of its own, which is JSON too
    (`runtime.files.partial`).

    Raises:
        FileExistsError: there is such a file.
    """
    with growing_file(file, "[", "\n]\n") as grow:
        separator = "\n"

        def add(found: Entries) -> None:
            nonlocal separator
            if found:
                grow(separator + ",\n".join(map(json.dumps, found)))
                separator = ",\n"

        yield add


def write_images(
    file: Path,
    images: Sequence[tuple[int | str, str, Size]],
    classes: Sequence[str],
    category_ids: Sequence[int | str],
) -> None:
    """Write a COCO file of images and classes, to which a result file can be loaded.

    Args:
        images: id, file name, and height and width of each.
    """
    content = {
        "images": [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, name, (height, width) in images
        ],
        "annotations": [],
        "categories": [
            {"id": number, "name": name} for number, name in zip(category_ids, classes, strict=True)
        ],
    }
    with whole_file(file) as new:
        new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write(found: Detections, file: Path, image_id: int | str, file_name: str) -> Path:
    with whole_file(file) as new:
        text = json.dumps(entries(found, image_id, file_name or found.path))
        new.write_text(text + "\n", encoding="utf-8")
    return file


def _free_name(found: Detections, folder: Path) -> str:
    """Return a name after the image that no files of another image have."""
    stem = Path(found.path).stem or "image"
    number, name = 1, stem
    while (folder / f"{name}_masks.png").exists() or (folder / f"{name}.json").exists():
        number += 1
        name = f"{stem}-{number}"
    return name
