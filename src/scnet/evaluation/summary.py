"""All numbers at a score threshold, as values for JSON; `SUMMARY` says what each is."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scnet.evaluation import counts
from scnet.evaluation.matching import REGION, Matches
from scnet.evaluation.mistakes import FALSE_KINDS, MISS_KINDS, Mistakes, kinds, mistakes

Score = float | Literal["best"]
Summary = dict[str, Any]

DEFAULT_SCORE = 0.5

SUMMARY = """
kind               "segm" or "bbox": what had to overlap
iou                from which IoU a find is an object
score              the score threshold; finds of this score or a higher one are counted
score_name         "score", or "mask_score" where masks have scores of their own
score_from         "given"; "best": that of the highest overall F1; "default": there is no best
max_detections     most finds of an image and class
beyond             finds left out for it
crowded_images     images with more objects of a class than that, which cannot all be found
on_crowd_regions   finds that are counted neither as true nor as false
overall, per_class objects; TP true finds, FP false finds, FN missed objects; precision, recall, F1;
                   best_score, the threshold of the highest F1, and best_F1. null: not defined
mean_F1            mean of the F1 of the classes that have objects
mean_IoU           of the true finds with their objects
counting           finds and objects of an image compared: mean_absolute_error and bias (mean of
                   finds - objects)
false_finds        how many of each kind, after TIDE
misses             how many of each kind
confusion          classes; matrix with objects as rows and finds as columns, background last
"""


@dataclass(frozen=True, eq=False)
class Judged:
    """Matches looked at from a score threshold."""

    matches: Matches
    score: float
    score_from: str  # "given", "best", or "default" where the best is asked for and there is none
    mistakes: Mistakes


def judge(matches: Matches, score: Score) -> Judged:
    """Look at matches from a score threshold; "best" is that of the highest overall F1.

    Where no threshold is the best, as no find is an object, it is 0.5, with a warning.
    """
    threshold, origin = (None, "best") if score == "best" else (float(score), "given")
    if threshold is None:
        threshold = counts.curve(matches).best()
    if threshold is None:
        threshold, origin = DEFAULT_SCORE, "default"
        text = f"no find is an object at any score, so none is the best; counted at {threshold}"
        warnings.warn(text, stacklevel=2)
    return Judged(matches, threshold, origin, mistakes(matches, threshold))


def summarise(judged: Judged) -> Summary:
    """Return all numbers at the score threshold."""
    matches, threshold, found = judged.matches, judged.score, judged.mistakes
    curves = [counts.curve(matches, label) for label in range(len(matches.classes))]
    crowd = (matches.finds.partner == REGION) & (matches.finds.score >= threshold)
    return {
        "kind": matches.kind,
        "iou": matches.iou,
        "score": threshold,
        "score_name": matches.score_name,
        "score_from": judged.score_from,
        "max_detections": matches.max_detections,
        "beyond": matches.beyond,
        "crowded_images": _crowded(matches),
        "on_crowd_regions": int(crowd.sum()),
        "overall": _figures(counts.curve(matches), threshold),
        "mean_F1": counts.mean_f1([curve.at(threshold) for curve in curves]),
        "mean_IoU": counts.mean_iou(matches, threshold),
        "per_class": {
            name: _figures(curve, threshold)
            for name, curve in zip(matches.classes, curves, strict=True)
        },
        "counting": _counting(matches, threshold),
        "false_finds": kinds(found.false_finds, FALSE_KINDS),
        "misses": kinds(found.misses, MISS_KINDS),
        "confusion": {
            "classes": [*matches.classes, "background"],
            "matrix": counts.confusion(matches, threshold).tolist(),
        },
    }


def line(summary: Summary) -> str:
    """Return the overall figures as a sentence."""
    of, name = summary["overall"], summary["score_name"].replace("_", " ")
    shown = ", ".join(f"{key} {share(of[key])}" for key in ("precision", "recall", "F1"))
    best = "no threshold finds any"
    if of["best_score"] is not None:
        best = f"best F1 {share(of['best_F1'])} at {name} {exact(of['best_score'])}"
    what = "masks" if summary["kind"] == "segm" else "boxes"
    return (
        f"at {name} {exact(summary['score'])} and IoU {summary['iou']:g} of {what}: {shown} "
        f"({of['TP']} true, {of['FP']} false, {of['FN']} missed); {best}"
    )


def exact(score: float) -> str:
    """Return a score threshold with all its digits: rounded it could lie on the other side."""
    return repr(float(score)).removesuffix(".0")


def share(value: float | None) -> str:
    """Return a figure in per cent; "-" where it is not defined."""
    return "-" if value is None else f"{100 * value:.1f}"


def _figures(curve: counts.Curve, threshold: float) -> dict[str, Any]:
    best = curve.best()
    return curve.at(threshold).figures() | {
        "best_score": best,
        "best_F1": None if best is None else curve.at(best).f1,
    }


def _crowded(matches: Matches) -> int:
    """Return how many images have more objects of a class than finds are counted."""
    pairs = np.stack([matches.objects.image, matches.objects.label], 1)
    cells, number = np.unique(pairs, axis=0, return_counts=True)
    return len(np.unique(cells[number > matches.max_detections, 0]))


def _counting(matches: Matches, threshold: float) -> dict[str, Any]:
    surplus = counts.by_image(matches, threshold).surplus
    if not len(surplus):
        return {"images": 0, "mean_absolute_error": None, "bias": None}
    return {
        "images": len(surplus),
        "mean_absolute_error": float(abs(surplus).mean()),
        "bias": float(surplus.mean()),
    }
