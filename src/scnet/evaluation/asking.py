"""What an evaluation is asked beside AP: counts at a score threshold, and a report of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scnet.data.coco import CocoDataset
from scnet.evaluation.matching import match
from scnet.evaluation.report import PICTURES, refuse_other, write
from scnet.evaluation.summary import DEFAULT_SCORE, Score, judge, summarise
from scnet.runtime.files import refuse_taken

Json = dict[str, Any]

DEFAULT_IOU = 0.5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How to count, and what to write."""

    score: Score = DEFAULT_SCORE
    iou: float = DEFAULT_IOU
    report: Path | None = None  # a new folder
    overwrite: bool = False  # the folder may be that of another report
    pictures: int = PICTURES  # of the worst misses, and of the worst false finds

    def __post_init__(self) -> None:
        if self.score != "best" and not 0 <= self.score <= 1:
            raise ValueError(f"score is {self.score}; expected 0 to 1, or 'best'")
        if not 0 < self.iou <= 1:
            raise ValueError(f"iou is {self.iou}; expected above 0 and up to 1")
        if self.pictures < 0:
            raise ValueError(f"pictures is {self.pictures}; expected 0 or more")

    def check(self, lowest: float = 0.0) -> None:
        """Refuse what cannot be done, before anything is computed.

        `lowest` is the score below which nothing is found.

        Raises:
            ValueError: the score is below it.
            FileExistsError: the folder of the report exists and holds what shall stay.
        """
        if self.score != "best" and self.score < lowest:
            raise ValueError(
                f"score {self.score:g} is below {lowest:g}, from which on the model finds objects "
                "(model.box.score_threshold), so that counts would lack some; give a higher one"
            )
        if self.report:
            if self.overwrite:
                refuse_other(self.report)
            else:
                refuse_taken(self.report, "pass overwrite=True")

    def answer(
        self,
        result: Json,
        dataset: CocoDataset,
        truth: Json,
        results: Sequence[Json],
        max_detections: int,
        about: Json,
    ) -> Json:
        """Return the figures with "counts" added, and write the report if there shall be one."""
        matches = match(truth, results, iou=self.iou, max_detections=max_detections)
        judged = judge(matches, self.score)
        summary = summarise(judged)
        if self.report:
            write(self.report, judged, summary, result, dataset, about, self.pictures)
        return {**result, "counts": summary}


def asking(
    score: Score | None,
    iou: float | None,
    report: str | os.PathLike[str] | None,
    pictures: int | None,
    overwrite: bool = False,
) -> Asked | None:
    """Return what is asked; None if it is AP alone.

    Raises:
        ValueError: an option has no effect without another, or is out of range.
    """
    if score is None and report is None:
        if iou is not None or pictures is not None:
            name = "iou" if iou is not None else "pictures"
            needs = "score or report" if iou is not None else "report"
            raise ValueError(f"{name} has no effect without {needs}; AP is over COCO's IoUs")
        return None
    if report is None and pictures is not None:
        raise ValueError("pictures has no effect without report")
    return Asked(
        score=DEFAULT_SCORE if score is None else score,
        iou=DEFAULT_IOU if iou is None else iou,
        report=None if report is None else Path(report),
        overwrite=overwrite,
        pictures=PICTURES if pictures is None else pictures,
    )


def about(dataset: CocoDataset, data: str, split: str, **source: str) -> Json:
    """Return what a report says of where its figures come from."""
    return {
        **source,
        "data": data,
        "split": split,
        "annotations": str(dataset.annotation_file),
    }


def say_notes(dataset: CocoDataset, notes: Sequence[str] = ()) -> None:
    """Say what was taken for what in the annotation file, and what else is to be said of it."""
    for note in (*notes, *dataset.notes):
        print(f"note: {dataset.annotation_file}: {note}", file=sys.stderr)
