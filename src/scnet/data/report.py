"""What `scnet check-data` says about a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from PIL import Image

from scnet.data.contents import alike
from scnet.data.images import read_picture
from scnet.data.wording import counted
from scnet.ops.rle import RLE, to_rle

if TYPE_CHECKING:
    from rich.table import Table

SMALL, MEDIUM = 32**2, 96**2  # COCO's limits of mask area, in pixels
SHOWN_CLASSES = 30
# The gravest stand last, where a terminal shows them.
SEVERITIES: tuple[Literal["note", "warning", "error"], ...] = ("note", "warning", "error")


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set."""

    severity: Literal["error", "warning", "note"]  # an error stops training or evaluation
    file: str
    where: str  # such as `annotation 90412 (image 17, street.jpg)`; empty for the file as a whole
    reason: str
    action: str  # what to do

    def __str__(self) -> str:
        where = f" {self.where}:" if self.where else ""
        return f"{self.severity}: {self.file}:{where} {self.reason}; {self.action}"


class Row(NamedTuple):
    """Problems of one kind."""

    first: Problem
    number: int


@dataclass
class Summary:
    """Counts over one annotation file; only sound annotations are counted."""

    split: str
    file: Path
    images: int = 0
    crowds: int = 0
    seconds: float = 0.0  # spent reading images
    read: int = 0  # images read in that time
    per_class: Counter[str] = field(default_factory=Counter)  # with classes that have no object
    # objects by image id, with empty images
    per_image: Counter[int] = field(default_factory=Counter)
    areas: list[int] = field(default_factory=list)  # pixels of each mask
    stuff: str = ""  # what is known about semantic maps

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of objects by COCO's classes of size."""
        small = sum(area < SMALL for area in self.areas)
        large = sum(area >= MEDIUM for area in self.areas)
        return {"small": small, "medium": len(self.areas) - small - large, "large": large}

    def lines(self) -> Iterator[str]:
        """Yield the summary as text."""
        objects = len(self.areas)
        yield f"{self.split}: {self.file}"
        held = ((self.images, "image"), (objects, "object"), (self.crowds, "crowd region"))
        yield f"  {', '.join(counted(number, noun) for number, noun in held)}"
        if self.per_image:
            counts = self.per_image.values()
            empty = sum(count == 0 for count in counts)
            middle = f"{median(counts):g}"
            yield f"  objects per image: median {middle}, most {max(counts)}, none in {empty}"
        parts = (f"{name} {n} ({n / max(1, objects):.0%})" for name, n in self.sizes.items())
        yield f"  size of objects: {', '.join(parts)}"
        shown = [f"{name} {count}" for name, count in self.per_class.most_common(SHOWN_CLASSES)]
        more = len(self.per_class) - len(shown)
        rest = f" and {counted(more, 'more class')}" if more > 0 else ""
        yield f"  objects by class: {', '.join(shown)}{rest}"
        if self.read:
            rate = self.read / max(self.seconds, 1e-9)
            yield f"  read {counted(self.read, 'image')} at {rate:.0f} a second"
        if self.stuff:
            yield f"  {self.stuff}"


class LabelledImage(NamedTuple):
    """An image with its ground truth, to be drawn."""

    image: Image.Image
    rles: list[RLE]
    names: list[str]  # class of each mask
    caption: str


@dataclass(frozen=True)
class Report:
    """Everything found in a data set."""

    path: Path
    summaries: tuple[Summary, ...]
    problems: tuple[Problem, ...]
    chosen: tuple[tuple[Path, tuple[Mapping[str, Any], ...], Mapping[int, str]], ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return what stops training or evaluation."""
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def ok(self) -> bool:
        """Return whether training and evaluation can use the data as they are."""
        return not self.errors

    def samples(self) -> list[LabelledImage]:
        """Return a few images with their ground truth, to look at."""
        return [_labelled(*choice) for choice in self.chosen]

    @property
    def rows(self) -> list[Row]:
        """Return problems of one kind in one file as one row each, the gravest last."""
        kinds: dict[tuple[str, str, str, str], list[Problem]] = {}
        for p in self.problems:
            kinds.setdefault((p.severity, p.file, alike(p.reason), p.action), []).append(p)
        rows = [Row(found[0], len(found)) for found in kinds.values()]
        return sorted(rows, key=lambda row: SEVERITIES.index(row.first.severity))

    def table(self) -> Table:
        """Return the rows as a table: how grave, how often, what, where, what to do."""
        from rich.markup import escape
        from rich.table import Table

        table = Table("", "count", "what", "for example", "what to do", show_lines=True)
        colours = dict(zip(SEVERITIES, ("cyan", "yellow", "red"), strict=True))
        for problem, count in self.rows:
            file = Path(problem.file).name
            where = f"{file}: {problem.where}" if problem.where else file
            grave = f"[{colours[problem.severity]}]{problem.severity}[/]"
            table.add_row(
                grave, f"{count:,}", *map(escape, (problem.reason, where, problem.action))
            )
        return table

    @property
    def counts(self) -> str:
        """Return how many errors, warnings and notes there are."""
        counts = Counter(p.severity for p in self.problems)
        number = (counted(counts[s], s) for s in reversed(SEVERITIES))
        return f"{self.path}: {', '.join(number)}"

    def render(self, limit: int = 100) -> str:
        """Return the report as text; of each severity at most `limit` problems are written out."""
        lines = [line for summary in self.summaries for line in (*summary.lines(), "")]
        for severity in SEVERITIES:
            found = [str(p) for p in self.problems if p.severity == severity]
            lines += found[:limit]
            if len(found) > limit:
                lines.append(f"... and {counted(len(found) - limit, f'more {severity}')}")
        return "\n".join([*lines, self.counts])


def _labelled(
    path: Path, entries: Sequence[Mapping[str, Any]], names: Mapping[int, str]
) -> LabelledImage:
    image = read_picture(path)
    size = (image.height, image.width)
    rles = [to_rle(entry["segmentation"], size) for entry in entries]
    return LabelledImage(image, rles, [names[entry["category_id"]] for entry in entries], path.name)
