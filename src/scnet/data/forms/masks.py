"""Masks in another form than COCO's: polygons by other lists, run lengths as other text."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from scnet.data.forms.notes import RefusedError
from scnet.data.forms.values import NUMBERS, are_numbers, number, types, whole

Taken = tuple[Any, str] | None

DEPTH = 5  # of lists within lists
_WRAPPED = ("b'", 'b"', "[", "'", '"', " ")  # no packed run lengths begin so, but for the third
_AXES = (("x", "y"), ("all_points_x", "all_points_y"))
_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_ELSEWHERE = (
    "{:.60} is an image, and masks in other files are not read; write polygons or run lengths"
)
_HOLES = (
    "a polygon of GeoJSON has holes, which COCO's polygons cannot have; "
    "write these masks as run lengths"
)


def are_plain(segmentations: Sequence[Any]) -> bool:
    """Return whether masks are lists of polygons or run lengths, by the kinds of what they hold."""
    if not types(segmentations) <= {list, dict, type(None)}:
        return False
    drawn = [s for s in segmentations if type(s) is list]
    packed = [s for s in segmentations if type(s) is dict]
    polygons = list(itertools.chain.from_iterable(drawn))
    # A number or text in the place of a polygon cannot be added up either.
    plain = are_numbers(polygons) and 2 not in set(map(len, polygons))
    return plain and all(map(_is_plain, packed))


def in_form(segmentation: Any) -> Taken:
    """Return a mask in COCO's form and what it was; None if it is left as it is.

    Raises:
        RefusedError: it cannot be written in COCO's form.
    """
    if isinstance(segmentation, str):
        if segmentation.lower().endswith(_IMAGES):
            raise RefusedError(_ELSEWHERE.format(segmentation))
        found = _parsed(segmentation)
        inner = in_form(found)
        return (inner[0] if inner else found, "is text, read as JSON") if found else None
    if isinstance(segmentation, dict):
        return _packed(segmentation) if "counts" in segmentation else _of_names(segmentation)
    if not isinstance(segmentation, list) or not segmentation:
        return None
    if len(segmentation) == 1 and isinstance(segmentation[0], dict) and "counts" in segmentation[0]:
        inner = _packed(segmentation[0])
        return inner[0] if inner else segmentation[0], "is run lengths in a list, taken out of it"
    found = _polygons(segmentation, DEPTH)
    return None if found is None or found == segmentation else (found, _said(segmentation))


def _said(segmentation: list[Any]) -> str:
    """Return what the polygons were that had to be changed."""
    first = segmentation[0]
    if type(first) in NUMBERS or type(first) is str:
        return "is one flat list, taken as [[x, y, ...]]"
    if _point(first):
        return "is a list of points, taken as [[x, y, ...]]"
    if isinstance(first, list) and str in types(first):
        return "holds text, taken as numbers"
    return "has lists within lists, taken as [[x, y, ...], ...]"


def _polygons(value: Any, depth: int) -> list[list[Any]] | None:
    """Return the polygons that a list means, at any depth; None if it is something else."""
    if not isinstance(value, list) or not depth:
        return None
    if numbers := _numbers(value):
        return [numbers]
    if not value:
        return [[]]
    points = [_point(part) for part in value]
    if len(points) >= 3 and all(points):
        return [[n for point in points if point for n in point]]
    parts = [_polygons(part, depth - 1) for part in value]
    return None if None in parts else [polygon for part in parts for polygon in part or ()]


def _numbers(values: Iterable[Any]) -> list[int | float] | None:
    """Return numbers, some of them perhaps text; None if one is something else."""
    found = [value if type(value) in NUMBERS else number(value) for value in values]
    return None if None in found else [n for n in found if n is not None]


def _point(value: Any) -> list[int | float] | None:
    """Return x and y of a point, given as two numbers, by name, or alone in a list."""
    if isinstance(value, dict) and value.keys() >= {"x", "y"}:
        return _numbers([value["x"], value["y"]])
    if not isinstance(value, list):
        return None
    if len(value) == 1:
        return _point(value[0]) if isinstance(value[0], list) else None
    return _numbers(value) if len(value) == 2 else None


def _of_names(mask: dict[str, Any]) -> Taken:
    """Return polygons that are given by name, as VIA and GeoJSON have them."""
    for x, y in _AXES:
        axes = [mask.get(x), mask.get(y)]
        if all(isinstance(axis, list) for axis in axes) and len(mask[x]) == len(mask[y]) >= 3:
            numbers = _numbers(itertools.chain.from_iterable(zip(*axes, strict=True)))
            return (
                ([numbers], f"is lists of {x} and {y}, taken as [[x, y, ...]]") if numbers else None
            )
    rings = mask.get("coordinates")
    if mask.get("type") not in ("Polygon", "MultiPolygon") or not isinstance(rings, list):
        return None
    several = rings if mask["type"] == "MultiPolygon" else [rings]
    if any(isinstance(polygon, list) and len(polygon) > 1 for polygon in several):
        raise RefusedError(_HOLES)
    found = _polygons(several, DEPTH)
    return (found, "is GeoJSON, taken as [[x, y, ...], ...]") if found else None


def _is_plain(mask: dict[str, Any]) -> bool:
    """Return whether size and counts of run lengths have the types that they should have."""
    size, counts = mask.get("size"), mask.get("counts")
    if type(size) is not list or not types(size) <= {int}:
        return False
    if type(counts) is str:
        return not counts.startswith(_WRAPPED)
    return type(counts) is list and are_numbers([counts])


def _packed(mask: dict[str, Any]) -> Taken:
    """Return run lengths with size and counts in COCO's form."""
    size, counts = _size(mask.get("size")), _counts(mask["counts"])
    if size is mask.get("size") and counts is mask["counts"]:
        return None
    said = "holds run lengths whose size or counts are of another type, taken as whole numbers"
    if _is_repr(mask["counts"]):
        said = "holds run lengths that were bytes written as text (b'...'), taken as they were"
    return {**mask, "size": size, "counts": counts}, said


def _is_repr(counts: Any) -> bool:
    return isinstance(counts, str) and counts.startswith(("b'", 'b"'))


def _size(size: Any) -> Any:
    """Return height and width as whole numbers; what is none stays as it is."""
    values = _parsed(size) if isinstance(size, str) else size
    found = [whole(value) for value in values] if isinstance(values, list) else [None]
    return size if None in found or _are_whole(size) else found


def _counts(counts: Any) -> Any:
    """Return packed text or whole numbers; what is none of both stays as it is."""
    if _is_repr(counts):
        counts = _of_repr(counts)
    if isinstance(counts, str):
        values = _parsed(counts)  # packed text may begin with a bracket, but holds no comma
        if not isinstance(values, list):
            return counts
    else:
        values = counts
    found = [whole(value) for value in values] if isinstance(values, list) else [None]
    return counts if None in found or _are_whole(counts) else found


def _are_whole(values: Any) -> bool:
    return isinstance(values, list) and types(values) <= {int}


def _of_repr(text: str) -> str:
    """Return the text in bytes that Python wrote as b'...'; the text itself if there are none."""
    try:
        found = ast.literal_eval(text)
        return found.decode("ascii") if isinstance(found, bytes) else text
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _parsed(text: str) -> Any:
    """Return the list or object that text holds as JSON, None if it holds none."""
    text = text.strip()
    if not text.startswith(("[", "{", "(")) or not text.endswith(("]", "}", ")")):
        return None
    try:
        found = json.loads(text.replace("(", "[").replace(")", "]"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list | dict) else None
