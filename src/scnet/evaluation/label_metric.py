"""The matching metric of cell biology: objects and predictions as label maps, matched by IoU.

The figures are those of StarDist's `matching_dataset` (Schmidt et al. 2018) and the panoptic
quality of Kirillov et al. (2019); `RESULT` says what each is.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from scnet.evaluation import label_figures, label_images
from scnet.evaluation.inputs import Json, score_name, unique_names
from scnet.evaluation.label_images import Cut, DataSet, Mapped
from scnet.evaluation.label_matching import Overlaps, Tally, best_score, tally
from scnet.evaluation.summary import DEFAULT_SCORE, Score
from scnet.runtime.collector import without_collector

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)  # StarDist's

RESULT = """
metric             "matching"
thresholds         from which IoU of masks a prediction can be an object, ascending
score              the score threshold; predictions of this score or a higher one are counted
score_from         "given"; "best": that of the highest mean AP of all images together; "default":
                   none was given, or there is no best
score_name         "score", or "mask_score" where masks have scores of their own
pooled             a row for each IoU, counted over all images together, without regard to
                   classes: IoU; TP, FP, FN, on_crowd_regions (neither TP nor FP); precision,
                   recall, F1, AP = TP / (TP + FP + FN), PQ, matched_IoU (mean over TP), object_IoU
                   (mean over objects, 0 where missed); AP_error and AP_interval, by the bootstrap
mean               rows of IoU, and precision to object_IoU as means over images
mean_AP            mean of AP over the thresholds: pooled, with error and interval; mean, over
                   images
per_class          objects, predictions, rows of pooled figures and their mean_AP, each class
                   matched by itself
bootstrap          resamples of the images, and seed. The error is the standard error, the interval
                   the middle 95 % of the resamples; null where there are not two images
images             number of images
empty_images       images with neither object nor prediction, which are 0 in means over images
objects            objects that have a pixel in the label map
predictions        likewise, of the score threshold or more
left_out           objects_without_pixel and predictions_without_pixel: others took all of theirs;
                   predictions_below_score; predictions_beyond_limit of an image
shared_pixels      pixels in several masks, of objects and of predictions
limit              max_detections of an image, or null; images_at_limit; images_cut: of those,
                   where none is below the score threshold, so that some may be missing
per_image          image_id; objects, predictions; TP, FP, FN and sum_IoU at each threshold
seconds            that this took
"""


def match_instances(
    truth: Json,
    results: Sequence[Json],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    score: Score | None = None,
    max_detections: int | None = None,
    quiet: bool = True,
) -> Json:
    """Return the figures of the matching metric as `RESULT` says.

    Args:
        truth: annotations with masks, as COCO lays them out.
        results: with masks, as COCO lays them out.
        thresholds: IoUs, each above 0 and up to 1.
        score: threshold of the score, 0.5 if not given; "best" takes that of the highest mean AP.
        max_detections: most results of an image, the best first; None for all.
        quiet: False shows how far it is.

    Raises:
        ValueError: there are no masks, a result names an unknown image or class or is malformed.
    """
    start = time.perf_counter()
    ascending = sorted(thresholds)
    with without_collector():
        data = label_images.read(truth, results)
        chosen, origin = _chosen(data, ascending, score, max_detections, quiet)
        kept = label_images.cut(data, chosen, max_detections)
        images = _mapped(data, kept, quiet)
        result = {
            "metric": "matching",
            "thresholds": ascending,
            "score": chosen,
            "score_from": origin,
            "score_name": score_name(results, "segm"),
            **_figures([one.overlaps for one in images], ascending, data.ids),
            **_left_out(images, kept, chosen, max_detections),
        }
        names = tuple(unique_names(truth["categories"]))
        result["per_class"] = _per_class([one.overlaps for one in images], ascending, names)
    return result | {"seconds": round(time.perf_counter() - start, 3)}


def _mapped(data: DataSet, kept: Cut, quiet: bool) -> list[Mapped]:
    console = Console(stderr=True)
    return list(
        track(
            label_images.mapped(data, kept.rows),
            "matching",
            len(data.ids),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
    )


def _chosen(
    data: DataSet, thresholds: Sequence[float], score: Score | None, limit: int | None, quiet: bool
) -> tuple[float, str]:
    """Return the score threshold, and where it comes from."""
    if score is None:
        return DEFAULT_SCORE, "default"
    if score != "best":
        return float(score), "given"
    images = _mapped(data, label_images.cut(data, -np.inf, limit), quiet)
    best = best_score([one.overlaps.without_classes() for one in images], thresholds)
    if best is None:
        text = "no prediction is an object at any score, so none is the best; counted at"
        warnings.warn(f"{text} {DEFAULT_SCORE}", stacklevel=3)
        return DEFAULT_SCORE, "default"
    return best, "best"


def _figures(images: Sequence[Overlaps], thresholds: Sequence[float], ids: list[Any]) -> Json:
    """Return figures without regard to classes."""
    by_image = _concatenated(
        (tally(one.without_classes(), thresholds, 1) for one in images), len(thresholds)
    )
    return {
        **_overall(by_image, thresholds),
        "images": len(images),
        "empty_images": sum(not len(one.objects) + len(one.predictions) for one in images),
        "objects": sum(len(one.objects) for one in images),
        "predictions": sum(len(one.predictions) for one in images),
        "per_image": _per_image(images, by_image, ids),
    }


def _concatenated(parts: Iterable[Tally], thresholds: int) -> Tally:
    none = Tally.zeros((0, thresholds))
    return Tally(*map(np.concatenate, zip(none, *parts, strict=True)))


def _overall(by_image: Tally, thresholds: Sequence[float]) -> Json:
    pooled = label_figures.rows(by_image.summed(), thresholds)
    mean = label_figures.mean_rows(by_image, thresholds)
    mean_ap: Json = {"pooled": _mean_ap(pooled), "mean": _mean_ap(mean)}
    spread = label_figures.spread(by_image)
    columns = [column.tolist() for column in spread] if spread else []
    for place, row in enumerate([*pooled, mean_ap]):
        error, *interval = [column[place] for column in columns] or [None]
        prefix = "" if row is mean_ap else "AP_"
        row |= {f"{prefix}error": error, f"{prefix}interval": interval or None}
    return {
        "pooled": pooled,
        "mean": mean,
        "mean_AP": mean_ap,
        "bootstrap": {"resamples": label_figures.RESAMPLES, "seed": label_figures.SEED},
    }


def _mean_ap(rows: Sequence[Json]) -> float:
    return float(np.mean([row["AP"] for row in rows]))


def _per_class(
    images: Sequence[Overlaps], thresholds: Sequence[float], names: Sequence[str]
) -> Json:
    total = Tally.zeros((len(names), len(thresholds)))
    for one in images:
        total = total.plus(tally(one, thresholds, len(names)))
    return {
        name: {
            "objects": int(of.true[0] + of.missed[0]),
            "predictions": int(of.true[0] + of.false[0] + of.ignored[0]),
            "pooled": (rows := label_figures.rows(of, thresholds)),
            "mean_AP": _mean_ap(rows),
        }
        for name, of in ((name, total.of(label)) for label, name in enumerate(names))
    }


def _per_image(images: Sequence[Overlaps], by_image: Tally, ids: list[Any]) -> list[Json]:
    return [
        {
            "image_id": ids[place],
            "objects": len(one.objects),
            "predictions": len(one.predictions),
            "TP": by_image.true[place].tolist(),
            "FP": by_image.false[place].tolist(),
            "FN": by_image.missed[place].tolist(),
            "sum_IoU": by_image.iou[place].tolist(),
        }
        for place, one in enumerate(images)
    ]


def _left_out(images: Sequence[Mapped], kept: Cut, score: float, limit: int | None) -> Json:
    return {
        "left_out": {
            "objects_without_pixel": sum(one.hidden_objects for one in images),
            "predictions_without_pixel": sum(one.hidden_predictions for one in images),
            "predictions_below_score": kept.below,
            "predictions_beyond_limit": kept.beyond,
        },
        "shared_pixels": {
            "objects": sum(one.shared_by_objects for one in images),
            "predictions": sum(one.shared_by_predictions for one in images),
        },
        "limit": {
            "max_detections": limit,
            "images_at_limit": len(kept.lowest),
            "images_cut": int((kept.lowest >= score).sum()),
        },
    }
