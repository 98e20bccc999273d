"""What an evaluation is asked: the metric, or beside COCO's AP counts and a report of them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scnet.data.coco import CocoDataset
from scnet.data.same_classes import said_of
from scnet.data.wording import of_all
from scnet.evaluation.label_metric import THRESHOLDS, match_instances
from scnet.evaluation.matching import match
from scnet.evaluation.report import PICTURES, refuse_other, write
from scnet.evaluation.summary import DEFAULT_SCORE, Score, exact, judge, summarise
from scnet.runtime.files import refuse_taken

Json = dict[str, Any]
Metric = Literal["coco", "matching"]

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
        _check_score(self.score)
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
        _refuse_below(self.score, lowest)
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


@dataclass(frozen=True, kw_only=True)
class AskedMatching:
    """The matching metric instead of COCO's."""

    thresholds: tuple[float, ...] = THRESHOLDS
    score: Score | None = None  # 0.5

    def __post_init__(self) -> None:
        _check_score(DEFAULT_SCORE if self.score is None else self.score)
        if not self.thresholds:
            raise ValueError("thresholds are none; expected IoUs above 0 and up to 1")
        for threshold in self.thresholds:
            if not 0 < threshold <= 1:
                raise ValueError(f"thresholds have {threshold}; expected above 0 and up to 1")
            if self.thresholds.count(threshold) > 1:
                raise ValueError(f"thresholds have {threshold} twice; give each once")

    def check(self, lowest: float = 0.0) -> None:
        """Refuse a score below `lowest`, as `Asked.check` does."""
        _refuse_below(DEFAULT_SCORE if self.score is None else self.score, lowest)

    def answer(
        self, truth: Json, results: Sequence[Json], max_detections: int | None, quiet: bool
    ) -> Json:
        """Return the figures; warn of images that may lack predictions for the limit of them."""
        result = match_instances(
            truth,
            results,
            thresholds=self.thresholds,
            score=self.score,
            max_detections=max_detections,
            quiet=quiet,
        )
        if cut := result["limit"]["images_cut"]:
            warnings.warn(
                f"{of_all(cut, result['images'], 'image', 'has')} the most predictions that may be "
                f"({max_detections}), all of score {exact(result['score'])} or more, so that some "
                "may be missing; raise max_detections",
                stacklevel=3,
            )
        return result


def asking(
    score: Score | None,
    iou: float | None,
    report: str | os.PathLike[str] | None,
    pictures: int | None,
    overwrite: bool = False,
    metric: str = "coco",
    thresholds: Sequence[float] | None = None,
) -> Asked | AskedMatching | None:
    """Return what is asked; None if it is COCO's AP alone.

    Raises:
        ValueError: there is no such metric; an option has no effect without another or is one of
            the other metric, or is out of range.
    """
    if metric == "matching":
        _refuse_cocos(iou=iou, report=report, pictures=pictures)
        return AskedMatching(
            thresholds=THRESHOLDS if thresholds is None else tuple(thresholds), score=score
        )
    if metric != "coco":
        raise ValueError(f"there is no metric {metric!r}; expected 'coco' or 'matching'")
    if thresholds is not None:
        raise ValueError("thresholds have no effect on the coco metric; ask for metric 'matching'")
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


def _refuse_cocos(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            instead = "give thresholds" if name == "iou" else "leave it out"
            raise ValueError(
                f"{name} is of the coco metric and has no effect on metric 'matching'; {instead}"
            )


def _check_score(score: Score) -> None:
    if score != "best" and not 0 <= score <= 1:
        raise ValueError(f"score is {score}; expected 0 to 1, or 'best'")


def _refuse_below(score: Score, lowest: float) -> None:
    if score != "best" and score < lowest:
        raise ValueError(
            f"score {score:g} is below {lowest:g}, from which on the model finds objects "
            "(model.box.score_threshold), so that counts would lack some; give a higher one"
        )


def about(
    dataset: CocoDataset, data: str, split: str, taken: Mapping[str, str], **source: str
) -> Json:
    """Return what a report says of where its figures come from.

    `taken` are classes of the data that were taken for others.
    """
    found = {
        **source,
        "data": data,
        "split": split,
        "annotations": str(dataset.annotation_file),
    }
    return found | ({"classes": said_of(taken)} if taken else {})


def say_notes(dataset: CocoDataset, notes: Sequence[str] = ()) -> None:
    """Say what was taken for what in the annotation file, and what else is to be said of it."""
    for note in (*notes, *dataset.notes):
        print(f"note: {dataset.annotation_file}: {note}", file=sys.stderr)
