"""A list of images to predict on: any COCO file with their ids, annotated or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scnet.data.categories import closest, keep_classes, listed, near, respell
from scnet.data.errors import DataError
from scnet.data.faults import category_fault, image_name
from scnet.data.finding import Found
from scnet.data.forms import ORIGINAL
from scnet.data.layout import SplitName, find_list, locate_images
from scnet.data.reading import read_images
from scnet.data.same_classes import OF_MODEL, note_of, only_class
from scnet.data.wording import counted
from scnet.types import Size

Id = int | str  # as it is written in a file
SHOWN = 5  # names that are written out


class Listed(NamedTuple):
    """One image of a list."""

    id: Id
    file_name: str  # as it stands in the list
    path: Path | None  # None where there is no such file
    fault: str = ""  # why there is none
    size: Size | None = None  # that the list says it has


class CategoryIds(NamedTuple):
    """The ids that a model's classes have in a list, by label."""

    ids: tuple[Id, ...]
    notes: tuple[str, ...]  # what was taken for what, a sentence each


@dataclass(frozen=True)
class ImageList:
    """Images with their ids, and the categories that the list names."""

    file: Path
    root: Path  # folder of the images
    images: tuple[Listed, ...]
    categories: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]  # what was taken for what, a sentence each

    def category_ids(self, classes: Sequence[str], own: Sequence[int]) -> CategoryIds:
        """Return the list's ids of a model's classes, matched by name as in an evaluation.

        The only category of a list is taken for the only class of a model, by any name.

        Args:
            classes: names, by label.
            own: the model's own ids, which a list without categories leaves as they are.

        Raises:
            DataError: the list has categories, and none is a class of the model.
        """
        if not self.categories:
            return CategoryIds(
                tuple(own), ("it lists no categories: category ids are the model's",)
            )
        categories = [dict(category) for category in self.categories]
        respell(categories, classes)
        names = [category["name"] for category in categories]
        content: dict[str, Any] = {"categories": categories, "annotations": []}
        taken = {} if set(classes) & set(names) else only_class(content, classes)
        for category in categories:
            category["name"] = taken.get(category["name"], category["name"])
        names = [category["name"] for category in categories]
        if not set(classes) & set(names):
            raise DataError(
                f"{self.file}: none of its categories ({listed(names)}) is a class of the model "
                f"({listed(classes)}){near(classes, names)}; correct the names, or remove "
                "categories from the file to have the model's own ids in the results"
            )
        keep_classes(content, classes)
        found = tuple(_written(category) for category in content["categories"])
        notes = (note_of(taken, OF_MODEL),) if taken else ()
        differing = _differences(dict(zip(classes, found, strict=True)), names)
        return CategoryIds(found, (*notes, *differing))


def read_image_list(path: str | Path, split: SplitName | None = None) -> ImageList:
    """Read the images of a COCO file, or of a split of a data set, and find their files.

    Annotations are not looked at. A file that is not there is no error: `Listed.fault` says so.

    Raises:
        DataError: no list there, or it has no images; ids are missing or double; no image is found.
    """
    found = find_list(path, split)
    file = found.annotations
    content, notes = read_images(file)
    images = _images(content, file)
    categories = _categories(content, file)
    names = [name for image in images if isinstance(name := image.get("file_name"), str) and name]
    if not names:
        raise DataError(f"{file}: no image has a file_name; write one for each")
    where = locate_images(found, names)
    listed = tuple(_listed_image(image, where) for image in images)
    return ImageList(file, where.root, listed, categories, (*notes, *_spelling(where)))


def _images(content: Any, file: Path) -> list[dict[str, Any]]:
    """Return the entries of images, whose ids are sound."""
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise DataError(f"{file}: no list of images; expected a COCO file, annotated or not")
    if not images:
        raise DataError(f"{file}: no images; give a file that has some")
    seen: set[int] = set()
    for image in images:
        number = image.get("id")
        if type(number) is not int:
            raise DataError(f"{file}: {image_name(image)}: id is missing, or no number or text")
        if number in seen:
            what = "another image has the same id; give each its own"
            raise DataError(f"{file}: {image_name(image)}: {what}")
        seen.add(number)
    return images


def _categories(content: dict[str, Any], file: Path) -> tuple[dict[str, Any], ...]:
    """Return sound categories; none where there is no list of them."""
    categories = content.get("categories") or []
    if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
        raise DataError(f"{file}: categories is no list of objects; correct or remove it")
    for category in categories:
        if fault := category_fault(category):
            raise DataError(f"{file}: category {category.get('id')}: {fault}")
    if len({category["id"] for category in categories}) < len(categories):
        raise DataError(f"{file}: two categories have the same id; give each its own")
    return tuple(categories)


def _listed_image(image: dict[str, Any], where: Found) -> Listed:
    name, number = image.get("file_name"), _written(image)
    height, width = image.get("height"), image.get("width")
    known = None  # sizes of 0 are written where they are not known
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        known = height, width
    if not isinstance(name, str) or not name:
        return Listed(number, "", None, f"image {number}: file_name is missing", known)
    if fault := where.faults.get(name):
        return Listed(number, name, None, f"image {number}: {fault}", known)
    if name in where.missing:
        near = where.missing[name]
        meant = f" (did you mean {near}?)" if near else ""
        fault = f"image {number}: {name} is not in {where.root}{meant}"
        return Listed(number, name, None, fault, known)
    return Listed(number, name, where.root / where.names.get(name, name), "", known)


def _written(entry: dict[str, Any]) -> Id:
    """Return the id as the file has it."""
    number: Id = entry.get(ORIGINAL, entry["id"])
    return number


def _spelling(where: Found) -> tuple[str, ...]:
    """Return what is to be said of files found under other names; what is missing is said later."""
    return where._replace(missing={}).notes


def _differences(ids: dict[str, Id], names: Sequence[str]) -> Iterator[str]:
    """Yield how the classes of a model differ from the categories of a list."""
    own = [name for name in ids if name not in names]
    if own:
        numbers = ", ".join(f"{name} = {ids[name]}" for name in own[:SHOWN])
        more = ", ..." * (len(own) > SHOWN)
        number = counted(len(own), "class")
        yield f"{number} of the model not in it, with ids of their own: {numbers}{more}"
    never = [name for name in dict.fromkeys(names) if name not in ids]
    if never:
        hints = [f"{hint} for {name}" for name in never if (hint := closest(name, own))]
        meant = f" (did you mean {listed(hints)}?)" if hints else ""
        number = counted(len(never), "class")
        yield f"{number} in it that the model does not know: {listed(never)}{meant}"
