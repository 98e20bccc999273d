"""The types of what annotations hold, seen at once: what shows that a file is in plain form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from scnet.data.forms.masks import are_plain
from scnet.data.forms.values import Entry, are_numbers, column, types

AT_ONCE = 500  # annotations that are looked at together; more leave the processor's caches
_KEYS = ("id", "image_id", "category_id", "iscrowd", "area")


class Survey(NamedTuple):
    """What kinds of values annotations have; None's type stands for a value that is missing."""

    kinds: dict[str, set[type]]
    boxes: bool  # are lists of numbers, or missing
    masks: bool  # are lists of polygons or run lengths, or missing

    @classmethod
    def of(cls, annotations: Sequence[Entry]) -> Survey:
        """Look at annotations."""
        kinds: dict[str, set[type]] = {key: set() for key in _KEYS}
        boxes = masks = True
        for start in range(0, len(annotations), AT_ONCE):
            some = annotations[start : start + AT_ONCE]
            for key, found in kinds.items():
                found.update(types(column(some, key)))
            boxes = boxes and _are_boxes(column(some, "bbox"))
            masks = masks and are_plain(column(some, "segmentation"))
        return cls(kinds, boxes, masks)


def _are_boxes(boxes: Sequence[Any]) -> bool:
    return are_numbers(filter(None, boxes))  # keys of an object cannot be added up
