"""Figures of matched instances, of all images together and as means over images; their spread.

As in StarDist what has nothing to divide by is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from scnet.evaluation.label_matching import Tally

RESAMPLES, SEED = 1000, 0
_AT_ONCE = 4_000_000  # numbers of a part of the resamples

Columns = dict[str, Num[np.ndarray, "*s T"]]


class Spread(NamedTuple):
    """How far figures would vary with other images, by a bootstrap over images."""

    error: Float[np.ndarray, "k"]  # standard error
    low: Float[np.ndarray, "k"]  # the middle 95 % of the resamples
    high: Float[np.ndarray, "k"]


def figures(of: Tally) -> Columns:
    """Return the figures of counts: precision, recall, F1, AP, PQ and the mean IoUs.

    AP is StarDist's accuracy, which the Data Science Bowl calls average precision. `matched_IoU`
    is StarDist's mean matched score, over true predictions; `object_IoU` its mean true score, over
    all objects, of which those without a match have 0.
    """
    errors = of.false + of.missed
    return {
        "precision": ratio(of.true, of.true + of.false),
        "recall": ratio(of.true, of.true + of.missed),
        "F1": ratio(2 * of.true, 2 * of.true + errors),
        "AP": ratio(of.true, of.true + errors),
        "PQ": ratio(of.iou, of.true + errors / 2),
        "matched_IoU": ratio(of.iou, of.true),
        "object_IoU": ratio(of.iou, of.true + of.missed),
    }


def rows(of: Tally, thresholds: Sequence[float]) -> list[dict[str, Any]]:
    """Return counts and figures at each threshold as plain values."""
    names = {"TP": of.true, "FP": of.false, "FN": of.missed, "on_crowd_regions": of.ignored}
    return _rows({**names, **figures(of)}, thresholds)


def mean_rows(images: Tally, thresholds: Sequence[float]) -> list[dict[str, Any]]:
    """Return the mean over images of their figures at each threshold; 0 where there is no image."""
    number = max(1, len(images.true))
    means = {name: column.sum(0) / number for name, column in figures(images).items()}
    return _rows(means, thresholds)


def spread(images: Tally, resamples: int = RESAMPLES, seed: int = SEED) -> Spread | None:
    """Return the spread of AP at each threshold and, last, of its mean over them.

    Each resample draws as many images as there are, with replacement, and counts them together
    (Efron 1979). One image says nothing of others: None.
    """
    number = len(images.true)
    if number < 2:
        return None
    of = _resampled(images, resamples, np.random.default_rng(seed))
    with_mean = np.concatenate([of, of.mean(1, keepdims=True)], axis=1)
    low, high = np.quantile(with_mean, (0.025, 0.975), axis=0)
    return Spread(with_mean.std(0, ddof=1), low, high)


def ratio(part: Any, whole: Any) -> Float[np.ndarray, "*s"]:
    """Return quotients; 0 where there is nothing to divide by."""
    quotients: Float[np.ndarray, "*s"] = np.zeros(np.shape(part))
    np.divide(part, whole, out=quotients, where=np.asarray(whole) > 0)
    return quotients


def _rows(columns: Columns, thresholds: Sequence[float]) -> list[dict[str, Any]]:
    lists = [column.tolist() for column in columns.values()]
    return [
        {"IoU": threshold, **dict(zip(columns, values, strict=True))}
        for threshold, *values in zip(thresholds, *lists, strict=True)
    ]


def _resampled(
    images: Tally, resamples: int, generator: np.random.Generator
) -> Float[np.ndarray, "r T"]:
    """Return AP of all images of each resample together."""
    number, thresholds = images.true.shape
    both = np.concatenate([images.true, images.true + images.false + images.missed], axis=1)
    step = max(1, _AT_ONCE // number)
    parts = []
    for start in range(0, resamples, step):
        drawn = generator.multinomial(
            number, np.full(number, 1 / number), min(step, resamples - start)
        )
        sums = drawn.astype(np.float64) @ both  # whole numbers, so exact in any order
        parts.append(ratio(sums[:, :thresholds], sums[:, thresholds:]))
    return np.concatenate(parts)
