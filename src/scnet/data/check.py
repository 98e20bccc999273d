"""Read a whole data set and say everything that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from scnet.config import DataConfig
from scnet.data.categories import differences
from scnet.data.check_file import FileCheck
from scnet.data.check_images import Progress
from scnet.data.check_pixels import Look
from scnet.data.images import DataError
from scnet.data.layout import annotation_files
from scnet.data.overlap import Part, overlaps
from scnet.data.report import Problem, Report, Summary

__all__ = ["Problem", "Report", "Summary", "check"]


def check(
    path: str | Path, progress: Progress | None = None, config: DataConfig | None = None
) -> Report:
    """Return a report on every split of a data set, or on one annotation file.

    Args:
        path: a folder in one of the usual layouts, or an annotation file.
        progress: called with the images read and their number.
        config: how the files are read; None reads them as a training does unless told otherwise.

    >>> print(check("my_data").render())  # doctest: +SKIP
    """
    path = Path(path).expanduser()
    checks: list[FileCheck] = []
    problems = []
    files: list[Path] = []
    try:
        files = annotation_files(path)
    except DataError as error:
        reason, _, action = str(error).removeprefix(f"{path}: ").rpartition("; ")
        problems.append(Problem("error", str(path), "", reason, action))
    looks: dict[Path, Look] = {}
    for file in files:
        checks.append(FileCheck(file, config or DataConfig(), looks, progress))
        problems += checks[-1].problems
    parts = [Part(c.file, c.summary.split, c.root, c.files) for c in checks if c.root]
    problems += [Problem(said[0], str(part.file), "", *said[1:]) for part, said in overlaps(parts)]
    problems += _other_classes([c.summary for c in checks])
    chosen = next((c.chosen for c in checks if c.chosen), ())
    return Report(path, tuple(c.summary for c in checks), tuple(problems), tuple(chosen))


def _other_classes(summaries: Sequence[Summary]) -> Iterator[Problem]:
    """Yield how the classes of each file differ from those of the first, or of the training."""
    listed = sorted((s for s in summaries if s.per_class), key=lambda s: s.split != "train")
    for summary in listed[1:]:
        first = listed[0]
        for reason, action in differences(first.per_class, summary.per_class, first.split):
            yield Problem("warning", str(summary.file), "", reason, action)
