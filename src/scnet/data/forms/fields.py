"""Sizes, boxes and flags in another form than COCO's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scnet.data.forms.masks import in_form
from scnet.data.forms.notes import Notes, RefusedError
from scnet.data.forms.survey import Survey
from scnet.data.forms.values import NUMBERS, Entry, column, number, types, whole
from scnet.data.wording import counted

Taken = (
    tuple[Any, str] | None
)  # a value in COCO's form and what to say; None if it is left as it is
Take = Callable[[Any], Taken]

_TEXT = "is text, taken as a number"
_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1}
_CORNER = (("x", "y"), ("left", "top"))
_EXTENT = (("width", "height"), ("w", "h"))
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))


def take_fields(
    images: Sequence[Entry], annotations: Sequence[Entry], seen: Survey, notes: Notes
) -> None:
    """Bring the fields of entries into COCO's form, where their kinds show that one is not."""
    for key in ("width", "height"):
        if not types(column(images, key)) <= {int, type(None)}:
            _take(images, key, "image", _length, notes)
    if not seen.kinds["iscrowd"] <= {int, bool, float, type(None)}:
        _take(annotations, "iscrowd", "annotation", _flag, notes)
    if str in seen.kinds["area"]:
        _take(annotations, "area", "annotation", _text, notes)
    if not seen.boxes:
        _take(annotations, "bbox", "annotation", _box, notes)
    if not seen.masks:
        _take(annotations, "segmentation", "annotation", in_form, notes)


def _take(found: Sequence[Entry], key: str, noun: str, take: Take, notes: Notes) -> None:
    """Replace the values of a key by what they mean; refuse once what is not to be read."""
    refused: list[str] = []
    for entry in found:
        try:
            taken = take(entry[key]) if key in entry else None
        except RefusedError as error:
            refused.append(str(error))
            continue
        if taken:
            entry[key], said = taken
            notes.add(noun, f"{key} {said}")
    if refused:
        raise RefusedError(f"{counted(len(refused), noun)}: {key}: {refused[0]}")


def _length(value: Any) -> Taken:
    found = None if type(value) is int else whole(value)
    if found is None:  # "160.0"
        found = whole(number(value))
    return None if found is None else (found, "is text or has a decimal point, taken as a number")


def _flag(value: Any) -> Taken:
    text = value.strip().lower() if isinstance(value, str) else ""
    return (_FLAGS[text], _TEXT) if text in _FLAGS else None


def _text(value: Any) -> Taken:
    found = number(value)
    return None if found is None else (found, _TEXT)


def _box(value: Any) -> Taken:
    if isinstance(value, dict):
        named = _of_names(value)
        return (named, "is an object, taken as [x, y, width, height]") if named else None
    if isinstance(value, str):
        split = _four(value.strip().strip("[]()").replace(",", " ").split())
        return (split, "is text, taken as [x, y, width, height]") if split else None
    if not isinstance(value, list):
        return None
    if len(value) == 1 and isinstance(value[0], list) and (inner := _four(value[0])):
        return inner, "is a list within a list, taken as [x, y, width, height]"
    if str in types(value) and (found := _four(value)):
        return found, "holds text, taken as numbers"
    return None


def _four(values: Iterable[Any]) -> list[int | float] | None:
    """Return four numbers, some of them perhaps text; None if they are not."""
    found = [value if type(value) in NUMBERS else number(value) for value in values]
    return [n for n in found if n is not None] if len(found) == 4 and None not in found else None


def _of_names(box: dict[str, Any]) -> list[int | float] | None:
    """Return x, y, width and height of a box whose numbers have names."""
    for first, second in itertools.product(_CORNER, _EXTENT):
        if box.keys() >= {*first, *second}:
            return _four(box[key] for key in (*first, *second))
    for names in _CORNERS:
        if box.keys() >= set(names) and (corners := _four(box[key] for key in names)):
            left, top, right, bottom = corners
            return [left, top, right - left, bottom - top]
    return None
