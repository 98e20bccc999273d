"""The content of an annotation file in the one form that the rest knows.

Every step here changes what was parsed, as little as it can, and says in a sentence what it did.
Training, scoring and `scnet check-data` all read through it, so they never see different things.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from scnet.config import DataConfig
from scnet.data.faults import image_fault, is_crowd, size_of, sound_images
from scnet.data.foreign import known_content, read_folder
from scnet.data.forms import RefusedError, normalise, normalise_images
from scnet.data.geometry import Reading
from scnet.data.images import DataError
from scnet.data.layout import image_files
from scnet.data.mistakes import judge_file, stop_at
from scnet.data.not_json import explain, stop_at_doubles, unpacked
from scnet.data.orientation import orient
from scnet.data.parse import parse_json
from scnet.data.resizing import scale_marks, scale_to_files
from scnet.data.restating import restate
from scnet.data.wording import counted
from scnet.runtime.collector import without_collector


class Content(NamedTuple):
    """What an annotation file holds; nothing in it is checked yet."""

    json: Any
    notes: tuple[str, ...] = ()  # what was taken for what, a sentence each


def read_content(file: Path, config: DataConfig, image_root: Path | None = None) -> Content:
    """Return the content of an annotation file as the settings want it read.

    Args:
        config: how the file is read.
        image_root: folder of the images; None looks near the file, where they have to be seen.

    Raises:
        DataError: there is no JSON, or it has a form that is not read.
    """
    content, notes = _normalised(file, normalise)
    notes += _restated(content, file, config, image_root)
    notes += _objects_of_crowds(content) if config.crowd == "objects" else []
    return Content(content, tuple(notes))


def read_images(file: Path) -> Content:
    """Return the images and categories of a file, which may have annotations or not.

    Raises:
        DataError: there is no JSON, or it has a form that is not read.
    """
    content, notes = _normalised(file, normalise_images)
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


def is_image_list(content: Any) -> bool:
    """Return whether a file is a list of images as of COCO's test sets, with nothing marked."""
    images = content.get("images") if isinstance(content, dict) else None
    return bool(isinstance(images, list) and images) and "annotations" not in content


def entries(content: Any, key: str) -> list[dict[str, Any]]:
    """Return what is an object in a list of the file; none where there is no such list."""
    found = content.get(key) if isinstance(content, dict) else None
    return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []


def _normalised(file: Path, normalise: Callable[[Any, Path], list[str]]) -> tuple[Any, list[str]]:
    content, notes = read_folder(file) if file.is_dir() else (read_json(file), [])
    if known := known_content(content):
        raise DataError(f"{file}: {known}")
    try:
        return content, notes + normalise(content, file)
    except RefusedError as error:
        raise DataError(f"{file}: {error}") from None


def _restated(content: Any, file: Path, config: DataConfig, image_root: Path | None) -> list[str]:
    """Let marks that mean something else by the settings, or lie sideways, mean what COCO says.

    Raises:
        DataError: the file contradicts itself as the settings read it.
    """
    reading, images = Reading.of(config), entries(content, "images")
    annotations = entries(content, "annotations")
    notes = []
    if isinstance(config.scale_marks, tuple):
        notes += scale_marks(images, annotations, config.scale_marks)
    turns = orient(images, annotations, file, config.orientation, reading, image_root)
    notes += turns.notes
    if reading != Reading():  # else judged by whoever looks at all annotations anyway
        sound = {image["id"]: image for image in images if not image_fault(image)}
        verdict = judge_file(annotations, sound, config)
        stop_at(verdict, file, annotations, sound, config)
        notes += ["; ".join(verdict.message(annotations, sound))] if verdict else []
        sizes = {number: size_of(image) for number, image in sound.items()}
        notes += restate(annotations, sizes, reading)
    turns.turn(images, annotations)
    if config.scale_marks == "files":
        names = [image["file_name"] for image in sound_images(images)]
        notes += scale_to_files(images, annotations, image_files(file, names, image_root))
    return notes


def _objects_of_crowds(content: Any) -> list[str]:
    """Take crowd regions as objects, each with the box that it has."""
    crowds = [entry for entry in entries(content, "annotations") if is_crowd(entry)]
    for entry in crowds:
        entry["iscrowd"] = 0
    return [f"{counted(len(crowds), 'annotation')} with iscrowd 1 taken as objects (data.crowd)"]
