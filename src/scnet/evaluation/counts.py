"""Scores that people ask for: what is found, missed and made up at a score threshold.

Pure counting over `matching.match`. Figures that are not defined are None: precision without finds,
recall without objects, F1 without either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from scnet.evaluation.matching import NOTHING, REGION, Matches

Numbers = Int[np.ndarray, "_"]


@dataclass(frozen=True)
class Counts:
    """Finds and objects of one class, or of all."""

    true: int  # finds that are an object
    false: int  # finds that are none
    missed: int  # objects that no find is

    @property
    def objects(self) -> int:
        return self.true + self.missed

    @property
    def precision(self) -> float | None:
        return _ratio(self.true, self.true + self.false)

    @property
    def recall(self) -> float | None:
        return _ratio(self.true, self.objects)

    @property
    def f1(self) -> float | None:
        return _ratio(2 * self.true, 2 * self.true + self.false + self.missed)

    def figures(self) -> dict[str, Any]:
        """Return all as plain values."""
        return {
            "objects": self.objects,
            "TP": self.true,
            "FP": self.false,
            "FN": self.missed,
            "precision": self.precision,
            "recall": self.recall,
            "F1": self.f1,
        }


@dataclass(frozen=True, eq=False)
class Curve:
    """Counts at every score that occurs, by falling score."""

    scores: Float[np.ndarray, "n"]
    true: Numbers
    false: Numbers
    objects: int

    @property
    def precision(self) -> Float[np.ndarray, "n"]:
        return _ratios(self.true, self.true + self.false)

    @property
    def recall(self) -> Float[np.ndarray, "n"]:
        return _ratios(self.true, np.full_like(self.true, self.objects))

    @property
    def f1(self) -> Float[np.ndarray, "n"]:
        return _ratios(2 * self.true, self.true + self.false + self.objects)

    def at(self, score: float) -> Counts:
        """Return the counts of finds of at least this score."""
        passed = int((self.scores >= score).sum())
        if not passed:
            return Counts(0, 0, self.objects)
        true, false = int(self.true[passed - 1]), int(self.false[passed - 1])
        return Counts(true, false, self.objects - true)

    def best(self) -> float | None:
        """Return the score threshold of the highest F1, the highest of such; None if it finds none.

        Of all thresholds with the same counts it is the one with the fewest decimals.
        """
        if not self.true.any():
            return None
        top = int(self.f1.argmax())
        below = float(self.scores[top + 1]) if top + 1 < len(self.scores) else 0.0
        return shortest_between(below, float(self.scores[top]))


def curve(matches: Matches, label: int | None = None) -> Curve:
    """Return the counts of a class at all scores; of all classes together for None.

    Finds on crowd regions count as nothing.
    """
    finds = matches.finds
    chosen = finds.partner != REGION
    objects = len(matches.objects.label)
    if label is not None:
        chosen &= finds.label == label
        objects = int((matches.objects.label == label).sum())
    scores, true = finds.score[chosen], finds.partner[chosen] != NOTHING
    ends = np.flatnonzero(np.append(scores[1:] < scores[:-1], True)[: len(scores)])
    return Curve(scores[ends], np.cumsum(true)[ends], np.cumsum(~true)[ends], objects)


def confusion(matches: Matches, score: float) -> Int[np.ndarray, "k k"]:
    """Return how many objects of class (row) were found as class (column), at a score threshold.

    The last row is background, finds that are no object of any class; the last column is what was
    not found. Finds are matched with objects of any class, by falling score, so a find of a wrong
    class with a higher score takes an object from one of the right class. That is the convention of
    hotcoco and, but for its order by overlap, of Ultralytics' ConfusionMatrix. The sum of a row is
    the number of objects of a class, that of a column the number of finds, but for those on crowd
    regions.
    """
    finds, background = matches.finds, len(matches.classes)
    passed = (finds.score >= score) & (finds.partner_of_any_class != REGION)
    partner = finds.partner_of_any_class[passed]
    missed = np.ones(len(matches.objects.label), bool)
    missed[partner[partner != NOTHING]] = False
    lost = matches.objects.label[missed]
    rows = np.concatenate([np.append(matches.objects.label, background)[partner], lost])
    columns = np.concatenate([finds.label[passed], np.full_like(lost, background)])
    size = background + 1
    pairs = np.bincount(rows * size + columns, minlength=size * size)
    return pairs.reshape(size, size)


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """Counts of each image, all classes together."""

    true: Numbers
    false: Numbers
    missed: Numbers

    @property
    def errors(self) -> Numbers:
        errors: Numbers = self.false + self.missed
        return errors

    @property
    def surplus(self) -> Numbers:
        """How many objects more were found than there are."""
        surplus: Numbers = self.false - self.missed
        return surplus

    def of(self, image: int) -> Counts:
        return Counts(int(self.true[image]), int(self.false[image]), int(self.missed[image]))


def by_image(matches: Matches, score: float) -> ImageCounts:
    """Return the counts of each image at a score threshold."""
    finds, images = matches.finds, len(matches.images)
    passed = finds.score >= score

    def counted(rows: Bool[np.ndarray, "m"]) -> Numbers:
        return np.bincount(finds.image[rows], minlength=images)

    true = counted(passed & (finds.partner >= 0))
    there = np.bincount(matches.objects.image, minlength=images)
    return ImageCounts(true, counted(passed & (finds.partner == NOTHING)), there - true)


def mean_f1(counts: list[Counts]) -> float | None:
    """Return the mean F1 of the classes that have objects, each with the same weight."""
    values = [c.f1 for c in counts if c.objects and c.f1 is not None]
    return sum(values) / len(values) if values else None


def mean_iou(matches: Matches, score: float) -> float | None:
    """Return the mean IoU of the finds that are objects."""
    finds = matches.finds
    values: list[float] = []
    for rows in matches.finds_by_image:
        true = rows[(finds.score[rows] >= score) & (finds.partner[rows] >= 0)]
        values += np.diag(matches.overlaps(true, finds.partner[true])).tolist()
    return math.fsum(values) / len(values) if values else None


def shortest_between(below: float, above: float) -> float:
    """Return the number of fewest decimals in (below, above]."""
    for digits in range(1, 17):
        value = float(math.floor(above * 10**digits) / 10**digits)
        if below < value <= above:
            return value
    return above


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _ratios(part: Numbers, whole: Numbers) -> Float[np.ndarray, "n"]:
    """Return quotients; 0 where there is nothing to divide by."""
    quotients: Float[np.ndarray, "n"] = np.zeros(len(part))
    np.divide(part, whole, out=quotients, where=whole > 0)
    return quotients
