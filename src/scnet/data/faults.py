"""What can be wrong with one entry of an annotation file, each said once.

Loading a data set stops at the first fault; `scnet check-data` collects them all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from scnet.data.classes import seen_name
from scnet.data.images import MAX_PIXELS
from scnet.ops.rle import Runs, check_polygons, runs
from scnet.types import Size

Entry = Mapping[str, Any]
Number = int | float
ReadRuns = Callable[[Any, Size], Runs]
Box = tuple[Number, Number, Number, Number]

LISTS = {"images", "annotations", "categories"}
TOO_DEEP = "holds lists within lists without end"
DRAWN = 3  # a polygon of fewer pixels across is drawn to know whether it covers any
STRAY = 2  # pixels that a box or mask may stick out of its image before that is worth a word


def size_of(image: Entry) -> Size:
    """Return height and width of a sound image entry."""
    return image["height"], image["width"]


def image_name(image: Entry) -> str:
    """Return how messages name an image."""
    return f"image {image.get('id')} ({image.get('file_name')})"


def annotation_name(annotation: Entry, image: Entry | None) -> str:
    """Return how messages name an annotation."""
    file = f", {image['file_name']}" if image else ""
    return f"annotation {annotation.get('id')} (image {annotation.get('image_id')}{file})"


def structure_faults(content: Any) -> Iterator[str]:
    """Yield what keeps the content of a file from being COCO annotations at all."""
    if not isinstance(content, dict):
        yield "not COCO annotations: expected an object with images, annotations and categories"
        return
    if not LISTS & content.keys():
        there = ", ".join(f"{key:.20}" for key in list(content)[:5]) or "nothing"
        yield f"not COCO annotations: no images, annotations and categories, but {there}"
        return
    for key in ("images", "annotations", "categories"):
        if key not in content:
            yield f"no list of {key}; expected COCO annotations"
        elif not isinstance(content[key], list):
            yield f"{key} is not a list"
        elif any(not isinstance(entry, dict) for entry in content[key]):
            yield f"{key} holds an entry that is not an object"
    if content.get("categories") == []:
        yield "no categories; list at least one class"


def category_fault(category: Entry) -> str | None:
    """Return what is wrong with a category."""
    if not _is_whole(category.get("id")):
        return "id is missing or not a whole number"
    name = category.get("name")
    if not isinstance(name, str):
        return "name is missing or not text"
    if not seen_name(name):
        return "name is blank"
    return None


def image_fault(image: Entry) -> str | None:
    """Return what is wrong with the entry of an image."""
    if not _is_whole(image.get("id")):
        return "id is missing or not a whole number"
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        return "file_name is missing"
    for key in ("width", "height"):
        if not _is_whole(image.get(key)) or image[key] <= 0:
            return f"{key} is missing or not a positive whole number"
    if image["width"] * image["height"] > MAX_PIXELS:
        size = f"{image['width']} x {image['height']}"
        return f"{size} is more than {MAX_PIXELS // 10**6} million pixels"
    return None


def sound_images(images: Iterable[Any]) -> list[Any]:
    """Return the entries of images that nothing is wrong with."""
    return [image for image in images if not image_fault(image)]


def leaves_root(file_name: str) -> bool:
    """Return whether a file name points out of the image folder, so that it is never opened."""
    # No Path: it puts each name into Python's table of strings, and takes longer.
    path = file_name.replace("\\", "/")
    return (
        path.startswith("/")
        or ".." in path.split("/")
        or bool(re.match(r"[A-Za-z]:", file_name))
        or "\0" in file_name
    )


def box_fault(annotation: Entry, size: Size) -> str | None:
    """Return what is wrong with the box of an annotation in an image of `size`."""
    box = annotation.get("bbox")
    if not isinstance(box, list | tuple) or len(box) != 4:
        return "bbox is missing or not four numbers x, y, width, height"
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in box):
        return "bbox holds something that is not a number"
    if not all(abs(v) < MAX_PIXELS for v in box):  # not true of nan either
        return "bbox holds a value that is not finite, or beyond any image"
    x, y, width, height = box
    for name, length in (("width", width), ("height", height)):
        if length <= 0:
            return f"box has {'zero' if length == 0 else 'negative'} {name}"
    if min(x + width, size[1]) <= max(x, 0) or min(y + height, size[0]) <= max(y, 0):
        return f"box lies outside the image of {size[1]} x {size[0]}"
    return None


def is_crowd(annotation: Entry) -> bool:
    """Return whether a sound annotation is a crowd region; for training and scoring alike."""
    return bool(annotation.get("iscrowd") == 1)


def crowd_fault(annotation: Entry) -> str | None:
    """Return what is wrong with the flag of crowd regions, which may be missing."""
    value = annotation.get("iscrowd")
    if value is None or value == 0 or value == 1:
        return None
    return f"iscrowd is {value!r:.40}; expected 0, or 1 for a crowd region"


def mask_fault(annotation: Entry, size: Size, runs: ReadRuns = runs) -> str | None:
    """Return what is wrong with the mask of an annotation; only small polygons are drawn for it.

    `runs` reads run lengths.
    """
    if not annotation.get("segmentation"):
        return "has no segmentation; instance segmentation learns from masks"
    segmentation = annotation["segmentation"]
    try:
        if isinstance(segmentation, list):
            check_polygons(segmentation, size)
            return _extent_fault(segmentation, size)
        return None if runs(segmentation, size)[1::2].any() else "mask is empty"
    except ValueError as error:
        return str(error)


def by_id(table: Mapping[int, Any], key: Any) -> Any:
    """Return the entry of a table, None where the key is unknown or no number at all."""
    return table.get(key) if _is_whole(key) else None


def annotation_fault(
    annotation: Entry, size: Size | None, known_category: bool, runs: ReadRuns = runs
) -> str | None:
    """Return the first thing wrong with an annotation; `size` is None for an unknown image.

    `runs` reads run lengths.
    """
    if size is None:
        if annotation.get("image_id") is None:
            return "image_id is missing"
        return f"belongs to image {annotation.get('image_id')}, which is not in the file"
    if not known_category:
        if annotation.get("category_id") is None:
            return "category_id is missing"
        return f"has category {annotation.get('category_id')}, which is not in the file"
    # A crowd region is no target, so its box does not matter.
    return (
        crowd_fault(annotation)
        or (None if is_crowd(annotation) else box_fault(annotation, size))
        or mask_fault(annotation, size, runs)
    )


def placement_warnings(annotation: Entry, size: Size, mask_box: Box) -> Iterator[str]:
    """Yield what looks wrong about where a sound annotation lies; `mask_box` is its mask's."""
    left, top, width, height = annotation["bbox"]
    box = (left, top, left + width, top + height)
    if _sticks_out(box, size):
        yield f"box sticks out of the image of {size[1]} x {size[0]}"
    polygons = annotation["segmentation"]
    if isinstance(polygons, list):
        xs = [x for polygon in polygons for x in polygon[::2]]
        ys = [y for polygon in polygons for y in polygon[1::2]]
        if _sticks_out((min(xs), min(ys), max(xs), max(ys)), size):
            yield f"mask sticks out of the image of {size[1]} x {size[0]}"
    if _iou(box, mask_box) < 0.1:
        yield "box and mask lie in different places"


def area_warning(annotation: Entry) -> str | None:
    """Return what is wrong with the area that an annotation gives, if it does."""
    if "area" in annotation and not is_finite(annotation["area"]):
        return "area is not a finite number; evaluation takes that of the mask"
    return None


def _sticks_out(box: Box, size: Size) -> bool:
    return min(box[:2]) < -STRAY or box[2] > size[1] + STRAY or box[3] > size[0] + STRAY


def _iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return shared / (area_a + area_b - shared)


def _extent_fault(polygons: list[list[Number]], size: Size) -> str | None:
    xs = [x for p in polygons for x in p[::2]]
    ys = [y for p in polygons for y in p[1::2]]
    if min(xs) == max(xs) or min(ys) == max(ys):
        return "mask is empty: all points of the polygon lie on one line"
    if max(xs) <= 0 or max(ys) <= 0 or min(xs) >= size[1] or min(ys) >= size[0]:
        return f"mask lies outside the image of {size[1]} x {size[0]}"
    # Drawing every polygon takes too long when loading; small ones are those that cover no pixel.
    small = min(max(xs) - min(xs), max(ys) - min(ys)) < DRAWN
    return (
        "mask is empty: the polygon covers no pixel"
        if small and not runs(polygons, size)[1::2].any()
        else None
    )


def is_finite(value: Any) -> bool:
    """Return whether a value is a number that a float can hold."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
