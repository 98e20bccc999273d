"""The content of a COCO annotation file, checked entry by entry."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scnet.data.faults import (
    annotation_fault,
    annotation_name,
    by_id,
    category_fault,
    image_fault,
    image_name,
    size_of,
    structure_faults,
)
from scnet.data.images import DataError
from scnet.types import Size


class Annotation(NamedTuple):
    """One object of an image, in original pixels."""

    # xyxy, cut at the image's border; zeros for a crowd region
    box: tuple[float, float, float, float]
    label: int
    segmentation: Any  # polygons as arrays, or run lengths
    crowd: bool  # marks a region where nothing is learnt


@dataclass(frozen=True)
class ImageRecord:
    """One image of an annotation file."""

    id: int
    file_name: str  # inside the image folder
    size: Size
    annotations: tuple[Annotation, ...]

    @property
    def empty(self) -> bool:
        """Return whether the image has no object to learn from."""
        return all(a.crowd for a in self.annotations)


@dataclass(frozen=True)
class AnnotationFile:
    """What training and inference take from an annotation file."""

    path: Path
    categories: dict[int, str]  # name of each category id, in the order of labels
    images: list[ImageRecord]
    dropped: frozenset[int]  # positions in the file of annotations left out as broken


def read_annotations(
    file: Path, classes: tuple[str, ...] | None, *, drop_invalid: bool, skip_empty: bool
) -> AnnotationFile:
    """Read an annotation file.

    Args:
        classes: the names that labels stand for, in order; None takes the file's.
        drop_invalid: leave out broken annotations.
        skip_empty: leave out images without objects.

    Raises:
        DataError: something is broken; says what, where and what to do.
    """
    content = read_json(file)
    _stop_at(f"{file}: {fault}" for fault in structure_faults(content))
    categories = _categories(content, file, classes)
    _stop_at(_image_faults(content, file))
    images, dropped = _records(content, file, list(categories), drop_invalid)
    if skip_empty:
        images = [record for record in images if not record.empty]
    if not images:
        kind = "images with objects" if skip_empty else "images"
        raise DataError(f"{file}: no {kind}; give a file that has some")
    return AnnotationFile(file, categories, images, dropped)


def read_json(file: Path) -> Any:
    """Return the content of a JSON file; DataError if there is none."""
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON: {error}") from None


def _stop_at(faults: Iterable[str]) -> None:
    for fault in faults:
        raise DataError(fault)


def _categories(
    content: Mapping[str, Any], file: Path, classes: tuple[str, ...] | None
) -> dict[int, str]:
    """Return category id to name, in the order of labels."""
    entries = content["categories"]
    _stop_at(f"{file}: category {c.get('id')}: {f}" for c in entries if (f := category_fault(c)))
    found = {c["id"]: c["name"] for c in entries}
    if len(found) < len(entries):
        raise DataError(f"{file}: two categories have the same id; give each its own")
    names = tuple(found.values())
    if classes is None or names == classes:
        return found
    if Counter(names) == Counter(classes) and len(set(names)) == len(
        names
    ):  # another order is no other meaning
        return dict(sorted(found.items(), key=lambda item: classes.index(item[1])))
    raise DataError(
        f"{file}: its classes are not those of the model: {_difference(names, classes)}"
    )


def _difference(found: Sequence[str], wanted: Sequence[str]) -> str:
    missing = [n for n in wanted if n not in found]
    extra = [n for n in found if n not in wanted]
    parts = [f"the file has {len(found)}, the model {len(wanted)}"]
    parts += (
        [f"missing {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}"]
        if missing
        else []
    )
    parts += (
        [f"unknown to the model {', '.join(extra[:5])}{', ...' if len(extra) > 5 else ''}"]
        if extra
        else []
    )
    return "; ".join(parts) + "; use data with the same classes, or train a model on these"


def _image_faults(content: Mapping[str, Any], file: Path) -> Iterable[str]:
    seen: set[int] = set()
    for image in content["images"]:
        name = f"{file}: {image_name(image)}"
        if fault := image_fault(image):
            yield f"{name}: {fault}"
        elif image["id"] in seen:
            yield f"{name}: another image has the same id; give each its own"
        else:
            seen.add(image["id"])


def _records(
    content: Mapping[str, Any], file: Path, category_ids: Sequence[int], drop_invalid: bool
) -> tuple[list[ImageRecord], frozenset[int]]:
    """Return the images with their annotations, and the positions of broken annotations."""
    labels = {category: label for label, category in enumerate(category_ids)}
    images = {image["id"]: image for image in content["images"]}
    of_image: dict[int, list[Annotation]] = {image: [] for image in images}
    dropped = set()
    for position, entry in enumerate(content["annotations"]):
        image = by_id(images, entry.get("image_id"))
        size = size_of(image) if image else None
        fault = annotation_fault(entry, size, by_id(labels, entry.get("category_id")) is not None)
        if fault and not drop_invalid:
            where = f"{file}: {annotation_name(entry, image)}"
            raise DataError(f"{where}: {fault}; remove it or run with --data.drop-invalid")
        if fault or image is None or size is None:
            dropped.add(position)
            continue
        of_image[image["id"]].append(_annotation(entry, size, labels[entry["category_id"]]))
    records = [
        ImageRecord(i, image["file_name"], size_of(image), tuple(of_image[i]))
        for i, image in images.items()
    ]
    return records, frozenset(dropped)


def _annotation(entry: Mapping[str, Any], size: Size, label: int) -> Annotation:
    segmentation = entry["segmentation"]
    if isinstance(segmentation, list):  # an eighth of the memory of Python's numbers
        segmentation = [np.asarray(polygon, np.float64) for polygon in segmentation]
    crowd = bool(entry.get("iscrowd"))
    x, y, width, height = (0, 0, 0, 0) if crowd else entry["bbox"]
    right, bottom = min(x + width, size[1]), min(y + height, size[0])
    corners = (float(max(x, 0)), float(max(y, 0)), float(right), float(bottom))
    return Annotation(corners, label, segmentation, crowd)
