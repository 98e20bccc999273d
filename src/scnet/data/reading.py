"""The content of an annotation file in the one form that the rest knows.

Every step here changes what was parsed, as little as it can, and says in a sentence what it did.
Training, scoring and `scnet check-data` all read through it, so they never see different things.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from scnet.config import DataConfig
from scnet.data.faults import image_fault, is_crowd, size_of
from scnet.data.foreign import known_content, read_folder
from scnet.data.forms import RefusedError, normalise
from scnet.data.geometry import Reading
from scnet.data.images import DataError
from scnet.data.mistakes import judge_file, stop_at
from scnet.data.not_json import explain, stop_at_doubles, unpacked
from scnet.data.parse import parse_json
from scnet.data.restating import restate
from scnet.runtime.collector import without_collector


class Content(NamedTuple):
    """What an annotation file holds; nothing in it is checked yet."""

    json: Any
    notes: tuple[str, ...] = ()  # what was taken for what, a sentence each


def read_content(file: Path, config: DataConfig) -> Content:
    """Return the content of an annotation file as the settings want it read.

    Raises:
        DataError: there is no JSON, or it has a form that is not read.
    """
    content, notes = read_folder(file) if file.is_dir() else (read_json(file), [])
    if known := known_content(content):
        raise DataError(f"{file}: {known}")
    try:
        notes += normalise(content, file)
    except RefusedError as error:
        raise DataError(f"{file}: {error}") from None
    notes += _restated(content, file, config)
    notes += _objects_of_crowds(content) if config.crowd == "objects" else []
    return Content(content, tuple(notes))


def read_json(file: Path) -> Any:
    """Return the content of a JSON file; DataError if there is none."""
    try:
        data = file.read_bytes()
    except OSError as error:
        reason = error.strerror
        raise DataError(f"{file}: cannot be read: {reason}; write or download it again") from None
    try:
        with without_collector():
            content = parse_json(text := unpacked(data))
            stop_at_doubles(text)
            return content
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON: {explain(data, error)}") from None


def entries(content: Any, key: str) -> list[dict[str, Any]]:
    """Return what is an object in a list of the file; none where there is no such list."""
    found = content.get(key) if isinstance(content, dict) else None
    return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []


def _restated(content: Any, file: Path, config: DataConfig) -> list[str]:
    """Let numbers that mean something else by the settings mean what COCO says.

    Raises:
        DataError: the file contradicts itself as the settings read it.
    """
    reading = Reading.of(config)
    if reading == Reading():  # judged by whoever looks at all annotations anyway
        return []
    images = {i["id"]: i for i in entries(content, "images") if not image_fault(i)}
    annotations = entries(content, "annotations")
    notes = stop_at(judge_file(annotations, images, config), file, annotations, images, config)
    sizes = {number: size_of(image) for number, image in images.items()}
    return notes + restate(annotations, sizes, reading)


def _objects_of_crowds(content: Any) -> list[str]:
    """Take crowd regions as objects, each with the box that it has."""
    crowds = [entry for entry in entries(content, "annotations") if is_crowd(entry)]
    for entry in crowds:
        entry["iscrowd"] = 0
    return [f"{len(crowds):,} annotations with iscrowd 1 are taken as objects (data.crowd)"]
