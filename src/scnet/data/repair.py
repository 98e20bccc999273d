"""Annotation files as they were read: mended, written anew, the originals untouched."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from scnet.config import DataConfig
from scnet.data.annotations import AnnotationFile, checked_content, numbered, read_annotations
from scnet.data.areas import mask_area
from scnet.data.contents import commonest
from scnet.data.faults import by_id, image_fault, is_crowd, is_finite, size_of
from scnet.data.geometry import Reading
from scnet.data.images import DataError
from scnet.data.layout import (
    Split,
    SplitName,
    annotation_files,
    find_split,
    locate_images,
    split_of,
)
from scnet.data.mistakes import judge_file
from scnet.data.reading import is_image_list, read_content
from scnet.data.wording import counted
from scnet.runtime.files import whole_folder


class Repaired(NamedTuple):
    """A mended copy of an annotation file, and what was done."""

    file: Path
    done: tuple[str, ...]


def repair(path: Path, folder: Path, config: DataConfig) -> tuple[list[Repaired], Path]:
    """Write every annotation file of a data set into a folder; return them, and where they belong.

    Names are those of the originals; labels of other formats become annotations/instances_*.json.
    What is left out as broken becomes a crowd region where it is known to lie, else it goes. Images
    get the names under which they were found. Lists of images without annotations are passed over;
    the folder is made if anything else is there, and only when all of it is mended.

    Raises:
        DataError: there is no annotation file, or one in which more is broken than annotations.
    """
    files = annotation_files(path)
    root = _root(path, files[0])
    annotated = [file for file in files if not is_image_list(read_content(file, config).json)]
    if not annotated:
        return [], root
    with whole_folder(folder.absolute()) as new:
        done = {
            _name(file, root): _write(file, new / _name(file, root), config) for file in annotated
        }
    return [Repaired(folder / name, what) for name, what in done.items()], root


def _write(file: Path, copy: Path, config: DataConfig) -> tuple[str, ...]:
    """Write the mended copy of a file; return what was done."""
    meant, said = _as_meant(file, config)
    content, done = _mended(file, replace(meant, drop_invalid=True))
    done += _rename(content["images"], file)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(json.dumps(content), encoding="utf-8")
    return (*said, *done)


def _root(path: Path, file: Path) -> Path:
    """Return the folder into which copies are put, so that their images are found from there."""
    if file.is_dir() and file == path:  # labels of another format, which may lie beside the images
        return Path(os.path.commonpath([file.resolve(), _split(file).image_roots[0].resolve()]))
    return path if path.is_dir() else path.parent


def _name(file: Path, root: Path) -> Path:
    """Return the name of a copy within the folder where it belongs."""
    if file.is_dir():
        return Path("annotations", f"instances_{_split(file).name}.json")
    name = file.relative_to(root)
    return name.with_suffix("") if name.suffix == ".gz" else name


def _split(file: Path) -> Split:
    return find_split(file, cast(SplitName, split_of(file) or "train"))


def _rename(images: Sequence[dict[str, Any]], file: Path) -> tuple[str, ...]:
    """Give images the names under which they were found; return what was done."""
    try:
        found = locate_images(_split(file), [image["file_name"] for image in images])
    except DataError as error:
        reason = str(error).removeprefix(f"{file}: ").partition("; ")[0]
        return (f"file names are left as they are: {reason}",)
    for image in images:
        image["file_name"] = found.names.get(image["file_name"], image["file_name"])
    unclear = f"{counted(len(found.faults), 'file name')} left as written"
    return (*found.notes, *([unclear] if found.faults else []))


def _as_meant(file: Path, config: DataConfig) -> tuple[DataConfig, list[str]]:
    """Return the settings that read a file right where that is certain, and why they do."""
    content = checked_content(file, None, config).json
    images = {entry["id"]: entry for entry in content["images"] if not image_fault(entry)}
    annotations = content["annotations"]
    if Reading.of(config) != Reading():  # judged when it was read
        return config, []
    verdict = judge_file(annotations, images, config)
    if verdict is None or not verdict.settings or config.contradictions != "stop":
        return config, []
    return replace(config, **verdict.settings), [verdict.message(annotations, images)[0]]


def _mended(file: Path, config: DataConfig) -> tuple[dict[str, Any], tuple[str, ...]]:
    content: dict[str, Any] = checked_content(file, None, config).json
    found = read_annotations(file, None, config)
    kept = [_mend(entry, place, found) for place, entry in enumerate(content["annotations"])]
    annotations = [entry for entry in kept if entry is not None]
    done = list(found.notes)
    if found.dropped:
        broken = f"{counted(len(found.dropped), 'annotation', 'is')} broken"
        gone = f"{len(kept) - len(annotations):,} removed, the others are crowd regions now"
        done.append(f"{broken} ({commonest(found.dropped.values())}): {gone}")
    sizes = {image["id"]: size_of(image) for image in content["images"]}
    without = [entry for entry in annotations if not is_finite(entry.get("area"))]
    for entry in annotations if found.area_fault else without:
        entry["area"] = mask_area(entry, sizes[entry["image_id"]])
    if found.area_fault:
        done.append(f"{found.area_fault}; it is now")
    elif without:
        done.append(f"{counted(len(without), 'annotation', 'has')} the area of the mask now")
    if numbered(annotations):
        done.append("annotations are numbered anew, as ids were missing, zero or double")
    return {**content, "annotations": annotations}, tuple(done)


def _mend(entry: dict[str, Any], place: int, found: AnnotationFile) -> dict[str, Any] | None:
    """Return an annotation as it was read; None if nothing is left of it."""
    if place in found.dropped and place not in found.changed:
        return None
    entry = dict(found.changed.get(place, entry))
    if by_id(found.categories, entry.get("category_id")) is None:
        return None
    entry["iscrowd"] = int(is_crowd(entry))
    return entry
