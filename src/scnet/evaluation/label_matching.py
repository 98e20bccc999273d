"""Which prediction is which object where neither overlap each other: StarDist's matching.

At an IoU threshold each object is matched with one prediction at most, so that as many as possible
have that IoU or more, and of such matchings the one with the largest sum of all IoUs (Schmidt et
al. 2018, `stardist.matching`). Above 0.5 only one is possible (Kirillov et al. 2019). Classes are
matched each by itself.

Whatever is left unmatched is a false prediction or a missed object, but for predictions on crowd
regions: as in COCO's matching, those whose share in one region is the IoU threshold or more count
neither as true nor as false.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from scnet.evaluation.counts import shortest_between
from scnet.evaluation.label_maps import Pairs
from scnet.evaluation.matching import Numbers


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Objects and predictions of an image, each with a pixel at least, and where they overlap."""

    objects: Int[np.ndarray, "n"]  # class of each
    predictions: Int[np.ndarray, "m"]  # class of each, by falling score
    scores: Float[np.ndarray, "m"]
    pairs: Pairs  # of any class
    in_region: Float[np.ndarray, "m"]  # largest share in one crowd region of any class
    in_region_of_class: Float[np.ndarray, "m"]  # in one of its own

    def without_classes(self) -> Overlaps:
        """Return the same with one class for all."""
        return replace(
            self,
            objects=np.zeros_like(self.objects),
            predictions=np.zeros_like(self.predictions),
            in_region_of_class=self.in_region,
        )

    def first(self, number: int) -> Overlaps:
        """Return what remains with so many predictions, those of the highest scores.

        What they share with objects stays as it is: a pixel belongs to the highest score.
        """
        kept = self.pairs.prediction < number
        return Overlaps(
            self.objects,
            self.predictions[:number],
            self.scores[:number],
            Pairs(*(column[kept] for column in self.pairs)),
            self.in_region[:number],
            self.in_region_of_class[:number],
        )


class Tally(NamedTuple):
    """What was counted, for each class or image (first axis) and IoU threshold (last)."""

    true: Int[np.ndarray, "*s T"]  # predictions that are an object
    false: Int[np.ndarray, "*s T"]
    missed: Int[np.ndarray, "*s T"]
    ignored: Int[np.ndarray, "*s T"]  # predictions on crowd regions
    iou: Float[np.ndarray, "*s T"]  # sum over the true ones

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> Tally:
        none = np.zeros(shape, np.int64)
        return cls(none, none, none, none, np.zeros(shape))

    def plus(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(self, other, strict=True)))

    def of(self, place: int) -> Tally:
        """Return the counts of one class or image."""
        return Tally(*(column[place] for column in self))

    def summed(self) -> Tally:
        """Return the sum over the first axis."""
        return Tally(*(column.sum(0) for column in self))


def tally(overlaps: Overlaps, thresholds: Sequence[float], classes: int) -> Tally:
    """Count an image at each threshold; the first axis is the class."""
    there = np.bincount(overlaps.objects, minlength=classes)
    found = np.bincount(overlaps.predictions, minlength=classes)
    pairs = _same_class(overlaps)
    columns = []
    for threshold in thresholds:
        chosen = match(pairs, threshold)
        label = overlaps.predictions[pairs.prediction[chosen]]
        true = np.bincount(label, minlength=classes)
        aside = _on_regions(overlaps, pairs.prediction[chosen], threshold)
        ignored = np.bincount(overlaps.predictions[aside], minlength=classes)
        iou = np.bincount(label, weights=pairs.iou[chosen], minlength=classes)
        columns.append((true, found - true - ignored, there - true, ignored, iou))
    return Tally(*(np.stack(column, axis=-1) for column in zip(*columns, strict=True)))


def match(pairs: Pairs, threshold: float) -> Numbers:
    """Return which of the overlapping pairs are matches at an IoU threshold."""
    candidates = np.flatnonzero(pairs.iou >= threshold)
    if _differ(pairs.object[candidates]) and _differ(pairs.prediction[candidates]):
        return candidates  # as always above 0.5
    return _assigned(pairs, threshold)


def best_score(images: Iterable[Overlaps], thresholds: Sequence[float]) -> float | None:
    """Return the score threshold of the highest mean over IoU thresholds of TP / (TP + FP + FN).

    The counts are those of all images together. Of all thresholds with the same counts it is the
    one with the fewest decimals, of several that are equally good the highest; None if no
    prediction is an object at any score.
    """
    images = list(images)
    scores = np.concatenate([np.zeros(0), *(one.scores for one in images)])
    order = np.argsort(-scores, kind="stable")
    grown = [_growth(one, thresholds) for one in images]
    empty = np.zeros((0, len(thresholds)), np.int64)
    true, false = (
        np.cumsum(np.concatenate([empty, *parts])[order], axis=0)
        for parts in ([of.true for of in grown], [of.false for of in grown])
    )
    if not true.any():
        return None
    scores = scores[order]
    ends = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))
    objects = sum(len(one.objects) for one in images)
    top = int((true[ends] / (objects + false[ends])).mean(1).argmax())
    below = float(scores[ends[top] + 1]) if top + 1 < len(ends) else 0.0
    return shortest_between(below, float(scores[ends[top]]))


class _Growth(NamedTuple):
    """How many more predictions are true and false with each, by falling score."""

    true: Int[np.ndarray, "m T"]
    false: Int[np.ndarray, "m T"]


def _growth(overlaps: Overlaps, thresholds: Sequence[float]) -> _Growth:
    pairs = _same_class(overlaps)
    shape = (len(overlaps.scores), len(thresholds))
    true, false = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for column, threshold in enumerate(thresholds):
        candidates = np.flatnonzero(pairs.iou >= threshold)
        chosen = match(pairs, threshold)
        if len(chosen) == len(candidates):  # no two compete, so each is matched once it is there
            is_true = np.zeros(shape[0], bool)
            is_true[pairs.prediction[chosen]] = True
            aside = _on_regions(overlaps, pairs.prediction[chosen], threshold)
            true[:, column], false[:, column] = is_true, ~is_true & ~aside
            continue
        counted = [tally(overlaps.first(n), [threshold], 1) for n in range(shape[0] + 1)]
        true[:, column] = np.diff([int(one.true.sum()) for one in counted])
        false[:, column] = np.diff([int(one.false.sum()) for one in counted])
    return _Growth(true, false)


def _same_class(overlaps: Overlaps) -> Pairs:
    pairs = overlaps.pairs
    same = overlaps.objects[pairs.object] == overlaps.predictions[pairs.prediction]
    return Pairs(*(column[same] for column in pairs))


def _on_regions(overlaps: Overlaps, matched: Numbers, threshold: float) -> Bool[np.ndarray, "m"]:
    """Return which predictions lie on a crowd region of their class and are matched with none."""
    aside: Bool[np.ndarray, "m"] = overlaps.in_region_of_class >= threshold
    aside[matched] = False
    return aside


def _differ(values: Numbers) -> bool:
    return len(np.unique(values)) == len(values)


def _assigned(pairs: Pairs, threshold: float) -> Numbers:
    """Match where several pairs compete: first the most matches, then the largest sum of IoUs."""
    from scipy.optimize import linear_sum_assignment

    objects, row = np.unique(pairs.object, return_inverse=True)
    predictions, column = np.unique(pairs.prediction, return_inverse=True)
    most = min(len(objects), len(predictions))
    costs = np.zeros((len(objects), len(predictions)))
    costs[row, column] = -(pairs.iou >= threshold).astype(float) - pairs.iou / (2 * most)
    number = np.full(costs.shape, -1)
    number[row, column] = np.arange(len(pairs.iou))
    chosen = number[linear_sum_assignment(costs)]
    chosen = chosen[chosen >= 0]
    matches: Numbers = np.sort(chosen[pairs.iou[chosen] >= threshold])
    return matches
