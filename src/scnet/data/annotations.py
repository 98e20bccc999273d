"""The content of a COCO annotation file, checked entry by entry."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from scnet.config import DataConfig
from scnet.data.areas import area_fault
from scnet.data.categories import ClassError, crowded, keep_classes
from scnet.data.columns import NOTHING, Annotation, Columns, Numbers
from scnet.data.faults import (
    TOO_DEEP,
    Entry,
    annotation_name,
    by_id,
    category_fault,
    image_fault,
    image_name,
    size_of,
    structure_faults,
)
from scnet.data.geometry import Reading
from scnet.data.holes import ACTION as HOLE_ACTION
from scnet.data.holes import hole_fault
from scnet.data.images import DataError
from scnet.data.mending import BOXES_ALONE, Settled
from scnet.data.mistakes import judge, stop_at
from scnet.data.overlap import key_notes
from scnet.data.reading import read_content
from scnet.data.same_classes import OF_MODEL, note_of, said_of, take_same
from scnet.data.screening import Sheet
from scnet.data.verdict import Verdict
from scnet.ops.rle import pack, runs
from scnet.runtime.collector import without_collector
from scnet.types import Size

__all__ = [
    "Annotation",
    "AnnotationFile",
    "ImageRecord",
    "checked_content",
    "numbered",
    "read_annotations",
]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of an annotation file."""

    id: int
    file_name: str  # inside the image folder
    size: Size
    columns: Columns = NOTHING  # all annotations of the file
    first: int = 0  # of this image's annotations
    end: int = 0

    @property
    def annotations(self) -> list[Annotation]:
        """Return what is annotated in the image."""
        return [self.columns.annotation(i, self.size) for i in range(self.first, self.end)]

    @property
    def empty(self) -> bool:
        """Return whether the image has no object to learn from."""
        return bool(self.columns.crowd[self.first : self.end].all())


@dataclass(frozen=True)
class AnnotationFile:
    """What training and inference take from an annotation file."""

    path: Path
    categories: dict[int, str]  # name of each category id, in the order of labels
    images: list[ImageRecord]
    dropped: dict[int, str]  # why, of annotations that are not learnt from, by place in the file
    changed: dict[int, Entry]  # what stands in the place of some that are broken
    notes: tuple[str, ...] = ()  # what was taken for what, a sentence each
    area_fault: str = ""  # what the areas of the file are, if not those of the masks
    taken: dict[str, str] = field(default_factory=dict)  # a model's names of classes by the file's


class Checked(NamedTuple):
    """The content of a file whose lists and categories are sound."""

    json: Any
    notes: tuple[str, ...]  # what was taken for what, a sentence each
    taken: dict[str, str]  # a model's names of classes by the file's, where they differ


def read_annotations(
    file: Path,
    classes: tuple[str, ...] | None,
    config: DataConfig,
    *,
    skip_empty: bool = False,
    image_root: Path | None = None,
    same: Mapping[str, str] | None = None,
) -> AnnotationFile:
    """Read an annotation file.

    Args:
        classes: the names that labels stand for, in order; None takes the file's.
        config: how the file is read.
        skip_empty: leave out images without objects.
        image_root: folder of the images; None looks near the file, where they have to be seen.
        same: as `take_same` has it; None takes classes by equal names alone.

    Raises:
        DataError: something is broken; says what, where and what to do.
    """
    try:
        with without_collector():
            found = _read(file, classes, config, image_root, same)
    except RecursionError:  # what could be parsed may still be too deep to be named
        raise DataError(f"{file}: {TOO_DEEP}; expected COCO annotations") from None
    if skip_empty:
        found = replace(found, images=[record for record in found.images if not record.empty])
    if not found.images:
        kind = "images with objects" if skip_empty else "images"
        raise DataError(f"{file}: no {kind}; give a file that has some")
    return found


def checked_content(
    file: Path,
    classes: tuple[str, ...] | None,
    config: DataConfig,
    image_root: Path | None = None,
    same: Mapping[str, str] | None = None,
) -> Checked:
    """Return the content of a file whose lists and categories are sound, with the wanted classes.

    Args:
        classes: the names that labels stand for, in order; None takes the file's.
        config: how the file is read.
        image_root: folder of the images; None looks near the file, where they have to be seen.
        same: as `take_same` has it; None takes classes by equal names alone.

    Raises:
        DataError: something is broken; says what, where and what to do.
    """
    content, notes = read_content(file, config, image_root)
    _stop_at(f"{file}: {fault}" for fault in structure_faults(content))
    categories = content["categories"]
    _stop_at(f"{file}: category {c.get('id')}: {f}" for c in categories if (f := category_fault(c)))
    if len({category["id"] for category in categories}) < len(categories):
        raise DataError(f"{file}: two categories have the same id; give each its own")
    try:
        taken = take_same(content, classes, same) if classes and same is not None else {}
        if taken:
            said = f"class {said_of(taken)}, as asked" if same else note_of(taken, OF_MODEL)
            notes = (*notes, said)
        notes += tuple(keep_classes(content, classes, config.classes))
    except ClassError as error:
        raise DataError(f"{file}: {error}") from None
    return Checked(content, notes, taken)


def _read(
    file: Path,
    classes: tuple[str, ...] | None,
    config: DataConfig,
    image_root: Path | None,
    same: Mapping[str, str] | None,
) -> AnnotationFile:
    """Return what the file holds; what was parsed for it is gone."""
    content, notes, taken = checked_content(file, classes, config, image_root, same)
    _stop_at(_image_faults(content, file))
    found = _records(content, file, config)
    notes = (*notes, *key_notes(content["annotations"]), *found.notes)
    return replace(found, notes=notes, taken=taken)


def numbered(annotations: Sequence[dict[str, Any]]) -> bool:
    """Number annotations anew if ids are missing, zero or double; return whether they were."""
    ids = {i for a in annotations if isinstance(i := a.get("id"), int) and i > 0}
    if len(ids) == len(annotations):
        return False
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    return True


def _stop_at(faults: Iterable[str]) -> None:
    for fault in faults:
        raise DataError(fault)


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


def _records(content: Mapping[str, Any], file: Path, config: DataConfig) -> AnnotationFile:
    """Return the images with their annotations, and what came of broken annotations."""
    images = {image["id"]: image for image in content["images"]}
    categories = {category["id"]: category["name"] for category in content["categories"]}
    places = {image: place for place, image in enumerate(images)}
    labels = {category: label for label, category in enumerate(categories)}
    sizes = np.array([size_of(image) for image in images.values()], np.int64).reshape(-1, 2)
    entries = content["annotations"]
    sheet = Sheet.of(entries, places, labels)
    verdict = None
    if Reading.of(config) == Reading():  # else judged before the settings were followed
        verdict = judge(sheet, entries, sizes, Reading())
        stop_at(verdict, file, entries, images, config)
    sound = sheet.cleared(entries, sizes)
    settled = _settle(sound, sheet, entries, images, file, config, verdict)
    if config.crowd == "auto":
        _stop_at(f"{file}: {fault}" for fault in crowded(sheet, sound, tuple(categories.values())))
    if settled.changed:
        sound[list(settled.changed)] = True
        entries = [settled.changed.get(place, entry) for place, entry in enumerate(entries)]
        sheet = Sheet.of(entries, places, labels)
    chosen = np.flatnonzero(sound)
    chosen = chosen[np.argsort(sheet.owner[chosen], kind="stable")]
    columns = _columns(sheet, chosen, entries, sizes)
    if settled.boxes_alone and columns.crowd.all():
        raise DataError(f"{file}: {BOXES_ALONE}")
    bounds = np.searchsorted(sheet.owner[chosen], np.arange(len(images) + 1)).tolist()
    records = _image_records(images.values(), columns, bounds)
    kept = set(np.flatnonzero(sound).tolist()) - settled.changed.keys() if verdict else set()
    left = verdict.of(kept) if verdict else None
    notes = ["; ".join(left.message(entries, images))] if left else []
    notes += settled.notes
    several = np.flatnonzero((sheet.parts[:, 1] - sheet.parts[:, 0] > 1) & sound)
    if holes := hole_fault([entries[place] for place in several.tolist()]):
        notes.append(f"{holes}; {HOLE_ACTION}")
    areas = area_fault(entries, {i: size_of(image) for i, image in images.items()})
    return AnnotationFile(
        file, categories, records, settled.dropped, settled.changed, tuple(notes), areas
    )


def _settle(
    sound: Bool[np.ndarray, "n"],
    sheet: Sheet,
    entries: Sequence[Entry],
    images: Mapping[int, Entry],
    file: Path,
    config: DataConfig,
    verdict: Verdict | None,
) -> Settled:
    """Mend or leave out what may not be sound, and mark what is after all.

    Raises:
        DataError: an object would be lost, and the settings do not allow that.
    """
    settled = Settled()
    for position in np.flatnonzero(~sound).tolist():
        entry, image = entries[position], by_id(images, entries[position].get("image_id"))
        size, known = size_of(image) if image else None, bool(sheet.label[position] >= 0)
        fault = settled.settle(position, entry, size, known)
        if fault and not config.drop_invalid:
            where = f"{file}: {annotation_name(entry, image)}"
            hint = f"; {verdict.hint}" if verdict and verdict.hint else ""
            raise DataError(f"{where}: {fault}; remove it or run with --data.drop-invalid{hint}")
        sound[position] = position not in settled.dropped
    return settled


def _image_records(
    images: Iterable[Mapping[str, Any]], columns: Columns, bounds: Sequence[int]
) -> list[ImageRecord]:
    """Return the images; the annotations of each go from one of the bounds to the next."""
    shared: dict[Size, Size] = {}  # most images of a data set have one of a few sizes
    return [
        ImageRecord(
            image["id"],
            image["file_name"],
            shared.setdefault(size_of(image), size_of(image)),
            columns,
            first,
            end,
        )
        for image, (first, end) in zip(images, itertools.pairwise(bounds), strict=True)
    ]


def _columns(
    sheet: Sheet,
    chosen: Int64[np.ndarray, "n"],
    entries: Sequence[Mapping[str, Any]],
    sizes: Int64[np.ndarray, "i 2"],
) -> Columns:
    """Return the chosen annotations, which are sound, as columns in this order."""
    parts, text = sheet.parts[chosen], bytearray()
    packed = np.flatnonzero(parts[:, 1] == parts[:, 0])
    for row in packed.tolist():
        height, width = sizes[sheet.owner[chosen[row]]].tolist()
        start = len(text)
        text += _counts(entries[chosen[row]]["segmentation"], (height, width))
        parts[row] = start, len(text)
    return Columns(
        boxes=sheet.corners(chosen, sizes).astype(np.float32),
        labels=sheet.label[chosen].astype(np.int32),
        crowd=sheet.crowd[chosen],
        packed=np.isin(np.arange(len(chosen)), packed),
        parts=parts,
        starts=sheet.starts,
        numbers=Numbers.of(sheet.numbers),
        text=np.frombuffer(bytes(text), np.uint8),
    )


def _counts(mask: Mapping[str, Any], size: Size) -> bytes:
    """Return run lengths packed, as they are if they were."""
    counts = mask["counts"]
    text: str = counts if isinstance(counts, str) else pack(runs(mask, size), size)["counts"]
    return text.encode("ascii")
