"""What a file contradicts itself in, and in which words that is said."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scnet.data.faults import Entry, annotation_name
from scnet.data.geometry import Reading
from scnet.data.wording import of_all

FEW = 0.02  # share that disagrees in sound files too, as boxes may be loose or drawn by hand
MANY = 0.1  # share that disagrees from which on the file as a whole is in doubt
NEARLY_ALL = 0.9  # share that agrees in the right reading
LEAST = 2  # annotations that are no accident
SMALLER = "or, if images were made smaller since, --data.scale-marks '[0.5,0.5]' for half the size"

ORDERS = {
    "xywh": "boxes as x, y, width, height",
    "corners": "boxes as corners (x1, y1, x2, y2)",
    "centres": "boxes as centre, width and height",
    "masks": "boxes as those of the masks",
}
COORDINATES = {
    "pixels": "in pixels",
    "normalised": "in parts of the image's sides (0 to 1)",
    "percent": "in percent of the image's sides (0 to 100)",
    "thousandths": "in thousandths of the image's sides (0 to 1000)",
    "swapped": "with y before x",
    "upward": "with y counted from the lower border",
}
RUN_LENGTHS = {
    "columns": "run lengths down the columns",
    "rows": "run lengths along the rows",
    "swapped_size": "the size of run lengths as width, height",
}


@dataclass(frozen=True)
class Verdict:
    """What contradicts itself in a file."""

    number: int  # annotations that were compared
    places: tuple[int, ...]  # in the file, of those that disagree
    reading: Reading  # as the file was read
    meant: tuple[Reading, ...] = ()  # what fits better, equally well
    agreeing: int = 0  # annotations that agree then
    explained: int = 0  # of those that disagree
    close: bool = False  # boxes then are those of the masks
    how: str = ""  # in which words that is said, where a reading does not say it
    hint: str = ""  # what else there is to see

    @property
    def wrong(self) -> int:
        """Return how many annotations disagree."""
        return len(self.places)

    def of(self, left: Container[int]) -> Verdict | None:
        """Return the verdict on annotations that are left; None if they hardly disagree."""
        places = tuple(place for place in self.places if place in left)
        return replace(self, places=places) if len(places) > FEW * self.number else None

    @property
    def certain(self) -> bool:
        """Return whether the file has been misread, and no accident explains that."""
        return (
            bool(self.meant)
            and self.close
            and self.wrong >= max(LEAST, MANY * self.number)
            and self.agreeing >= NEARLY_ALL * self.number
            and self.explained >= NEARLY_ALL * self.wrong
        )

    @property
    def settings(self) -> dict[str, Any] | None:
        """Return the settings of the data that read the file right, where it is certain which."""
        only = self.certain and len(self.meant) == 1 and not self.hint
        return _changes(self.meant[0], self.reading) if only else None

    def message(self, entries: Sequence[Entry], images: Mapping[int, Entry]) -> tuple[str, str]:
        """Return what is wrong, and what to do."""
        entry = entries[self.places[0]]
        example = annotation_name(entry, images.get(entry["image_id"]))
        said = (
            "box, mask and image contradict each other in "
            f"{of_all(self.wrong, self.number, 'annotation')}, such as {example}"
        )
        if not self.meant:
            hint = f"; {self.hint}" if self.hint else ""
            action = "look at them; --data.boxes masks takes boxes from the masks instead"
            return f"{said}{hint}", action
        named = self.how or " or ".join(described(reading, self.reading) for reading in self.meant)
        said += f"; with {named}, {self.agreeing:,} agree"
        switches = " or ".join(_switches(reading, self.reading) for reading in self.meant)
        if self.certain:
            which = ", whichever the pictures show to be right" if len(self.meant) > 1 else ""
            smaller = f", {SMALLER}" if self.hint else ""
            other = f"or --data.contradictions warn if the file is right{smaller}"
            return said, f"set {switches}{which}, {other}"
        return said, f"make the file one of a kind; where all are so, {switches} reads them"


def _changes(reading: Reading, base: Reading) -> dict[str, Any]:
    return {
        field: getattr(reading, field)
        for field in Reading._fields
        if getattr(reading, field) != getattr(base, field)
    }


def _switches(reading: Reading, base: Reading) -> str:
    return " ".join(
        f"--data.{field.replace('_', '-')} {'null' if value is None else value}"
        for field, value in _changes(reading, base).items()
    )


def described(reading: Reading, base: Reading) -> str:
    """Return in words how a reading differs."""
    said = [ORDERS[reading.boxes]] if reading.boxes != base.boxes else []
    if reading.of_boxes == reading.coordinates:
        if (reading.coordinates, reading.of_boxes) != (base.coordinates, base.of_boxes):
            said.append(f"all coordinates {COORDINATES[reading.coordinates]}")
    else:
        said += [f"boxes {COORDINATES[reading.of_boxes]}"] * (reading.of_boxes != base.of_boxes)
        other = reading.coordinates != base.coordinates
        said += [f"polygons {COORDINATES[reading.coordinates]}"] * other
    said += [RUN_LENGTHS[reading.run_lengths]] * (reading.run_lengths != base.run_lengths)
    return " and ".join(said)
