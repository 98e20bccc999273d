"""What can be kept of a broken annotation.

A polygon that is none goes and the object stays. What cannot be learnt from is still there in the
image, so it must not be taught as background: the place where it lies is ignored, as crowd regions
are.
"""

from __future__ import annotations

from typing import Any

from scnet.data.contents import commonest
from scnet.data.faults import (
    Entry,
    annotation_fault,
    annotation_name,
    box_fault,
    crowd_fault,
    mask_fault,
)
from scnet.data.wording import counted
from scnet.ops.rle import box, to_rle
from scnet.types import Size

BOXES_ALONE = (
    "its annotations have boxes but no masks, and instance segmentation learns from masks; draw "
    "polygons, make masks from the boxes with a promptable model, or train a detector of boxes"
)


class Settled:
    """What came of the broken annotations of a file, by their place in it."""

    def __init__(self) -> None:
        self.dropped: dict[int, str] = {}  # why nothing is learnt from it
        self.changed: dict[int, Entry] = {}  # what stands in its place
        self.boxes_alone = 0
        self._mended: list[str] = []  # what was left out or filled in
        self._example = ""

    def settle(self, place: int, entry: Entry, size: Size | None, known_class: bool) -> str | None:
        """Mend an annotation, or ignore where it lies; return why that loses an object."""
        fault = annotation_fault(entry, size, known_class)
        if not fault:
            return None
        if size and known_class and (part := mended(entry, size)):
            self.changed[place] = part[0]
            self._mended.append(part[1])
            self._example = self._example or annotation_name(entry, None)
            return None
        self.dropped[place] = fault
        if size and (there := region(entry, size)):
            self.changed[place] = there
        if size and known_class and is_box_alone(entry, size):
            self.boxes_alone += 1
            return None
        return fault

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what was mended."""
        if not self._mended:
            return ()
        number = counted(len(self._mended), "annotation")
        return (f"{number} mended, such as {self._example}: {commonest(self._mended)}",)


def mended(entry: Entry, size: Size) -> tuple[Entry, str] | None:
    """Return a broken annotation without what is broken, and what that was; None if more is."""
    fault = mask_fault(entry, size)
    segmentation = _sound_polygons(entry.get("segmentation"), size) if fault else None
    if segmentation:
        entry = {**entry, "segmentation": segmentation}
        reason = f"a polygon is left out: {fault}"
    elif not fault and entry.get("bbox") in (None, []):
        entry = {**entry, "bbox": _box_of_mask(entry, size)}
        reason = "bbox is missing: taken from the mask"
    else:
        return None
    return None if annotation_fault(entry, size, known_category=True) else (entry, reason)


def is_box_alone(entry: Entry, size: Size) -> bool:
    """Return whether an annotation is sound but for having no mask at all."""
    nothing = not entry.get("segmentation")
    return nothing and not box_fault(entry, size) and not crowd_fault(entry)


def region(entry: Entry, size: Size) -> Entry | None:
    """Return where a broken annotation lies, as a crowd region; None if nothing says it."""
    if not mask_fault(entry, size):
        segmentation = entry["segmentation"]
    elif segmentation := _sound_polygons(entry.get("segmentation"), size):
        pass
    elif not box_fault(entry, size):
        x, y, width, height = entry["bbox"]
        right, bottom = min(x + width, size[1]), min(y + height, size[0])
        x, y = max(x, 0), max(y, 0)
        segmentation = [[x, y, right, y, right, bottom, x, bottom]]
    else:
        return None
    found = {**entry, "segmentation": segmentation, "iscrowd": 1}
    return None if mask_fault(found, size) else found


def _sound_polygons(segmentation: Any, size: Size) -> list[Any]:
    if not isinstance(segmentation, list):
        return []
    return [p for p in segmentation if not mask_fault({"segmentation": [p]}, size)]


def _box_of_mask(entry: Entry, size: Size) -> list[int]:
    left, top, right, bottom = box(to_rle(entry["segmentation"], size))
    return [left, top, right - left, bottom - top]
