"""All images of one run: of a list with their ids, or as sources name them, numbered from 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scnet.config import Config
from scnet.data.errors import DataError
from scnet.data.image_list import Id, ImageList
from scnet.inference.gather import Gathered
from scnet.inference.sources import to_pixels
from scnet.types import Pixels, Size

SHOWN = 5  # names that are written out


class Item(NamedTuple):
    """An image to predict on."""

    id: Id
    name: str  # as it was given, or as its list has it
    path: Path
    folder: str = ""  # where it lies below the folder of all, and its files below theirs
    size: Size | None = None  # that its list says it has


class Task(NamedTuple):
    """The images of a run, and what there is to say of others."""

    items: tuple[Item, ...]
    faults: tuple[str, ...] = ()  # why others cannot be read
    notes: tuple[str, ...] = ()  # what was taken for what, and what is left out


def of_files(found: Gathered) -> Task:
    """Return files that were named, numbered in their order."""
    items = [Item(n, str(f.path), f.path, f.folder) for n, f in enumerate(found.files, 1)]
    notes = list(found.notes)
    if found.repeated:
        notes.append(f"named more than once, predicted on once: {_listed(found.repeated)}")
    if found.left_out:
        notes.append(found.left_out)
    return Task(tuple(items), tuple(found.faults), tuple(notes))


def of_list(images: ImageList) -> Task:
    """Return the images of a list under its ids."""
    items = [
        Item(image.id, image.file_name, path, _below(path, images.root), image.size)
        for image in images.images
        if (path := image.path)
    ]
    faults = [image.fault for image in images.images if not image.path]
    notes = [f"{images.file}: {note}" for note in images.notes]
    return Task(tuple(items), tuple(faults), tuple(notes))


def read_batches(
    items: Sequence[Item], config: Config, number: int, refuse: Callable[[str], None]
) -> Iterator[tuple[list[Item], list[Pixels]]]:
    """Yield so many images at a time as a model with these settings reads them.

    Args:
        refuse: is told why an image cannot be read, which is left out.
    """
    batch: list[tuple[Item, Pixels]] = []
    for place, item in enumerate(items, 1):
        try:
            batch.append((item, to_pixels(item.path, config)))
        except DataError as error:
            refuse(str(error))
        if batch and (place == len(items) or len(batch) == number):
            yield [item for item, _ in batch], [pixels for _, pixels in batch]
            batch = []


def _below(path: Path, root: Path) -> str:
    folder = path.parent.relative_to(root).as_posix()
    return "" if folder == "." else folder


def _listed(paths: Sequence[Path]) -> str:
    named = ", ".join(str(path) for path in paths[:SHOWN])
    return named + (f" and {len(paths) - SHOWN:,} more" if len(paths) > SHOWN else "")
