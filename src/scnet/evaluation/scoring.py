"""COCO box and mask AP: ground truth and results in, a plain dict of figures out.

The matching is hotcoco's, whose figures equal pycocotools'. Both leave three things to the caller,
which are here and in `inputs.py`: a cap on detections other than 100, annotations that lack fields,
and the area of a detection. For mask AP that is the area of its mask. pycocotools takes the area of
the box where a result carries one, so everybody who publishes mask AP removes the boxes first.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scnet.evaluation.inputs import ResultRows, evaluable, result_rows, unique_names
from scnet.runtime.collector import without_collector

if TYPE_CHECKING:
    from rich.table import Table

Json = dict[str, Any]
Result = dict[str, Any]  # what `score` returns

KINDS = ("bbox", "segm")
AREAS = ("", "s", "m", "l")  # all, below 32 x 32 px, below 96 x 96 px, larger


def score(
    ground_truth: Json,
    results: Sequence[Json],
    *,
    max_detections: int = 100,
    kinds: Sequence[str] = KINDS,
) -> Result:
    """Compare results with an annotation file, both as COCO lays them out.

    Masks go by the `mask_score` of a result where it has one, boxes by its `score`.

    Returns `{"bbox": {"AP": .., ..}, "segm": {..}, "per_class": {..}, "images": n, "seconds": s}`;
    AP as fractions, -1 where there is no object to find. `max_detections` caps the detections of
    each image and class, in AP too, and names the last recall, `AR100`. No argument is changed.

    Raises:
        ValueError: a result names an unknown image or class, or is malformed; or an annotation says
            neither yes nor no to being a crowd region.
    """
    if max_detections < 1:
        raise ValueError(f"max_detections is {max_detections}; at least one is needed")
    with without_collector():
        return _score(ground_truth, results, max_detections, kinds)


def _score(
    ground_truth: Json, results: Sequence[Json], max_detections: int, kinds: Sequence[str]
) -> Result:
    start = time.perf_counter()
    truth = evaluable(ground_truth, with_masks="segm" in kinds)
    found = result_rows(results, ground_truth, kinds)
    objects = Counter(a["category_id"] for a in truth["annotations"] if not a["iscrowd"])
    per_class: dict[str, Any] = {
        name: {"objects": objects[number]}
        for number, name in enumerate(unique_names(ground_truth["categories"]), 1)
    }
    result: Result = {}
    for kind in kinds:
        result[kind], aps = _figures(truth, found.scored(kind), kind, max_detections)
        for entry, ap in zip(per_class.values(), aps, strict=True):
            entry[kind] = ap
    seconds = round(time.perf_counter() - start, 3)
    return result | {"per_class": per_class, "images": len(truth["images"]), "seconds": seconds}


def table(result: Result) -> Table:
    """Return the figures of `score` as a table in percent."""
    from rich.table import Table

    kinds = [kind for kind in KINDS if kind in result]
    names = list(result[kinds[0]])
    rows = Table("", *({"bbox": "boxes", "segm": "masks"}[k] for k in kinds), title=_title(result))
    for column in rows.columns[1:]:
        column.justify = "right"
    for name in names:
        rows.add_row(name, *(percent(result[kind][name]) for kind in kinds))
    return rows


def class_table(result: Result) -> Table:
    """Return the AP of each class that has objects, in percent, best first."""
    from rich.table import Table

    kinds = [kind for kind in KINDS if kind in result]
    rows = Table("class", "objects", *({"bbox": "box AP", "segm": "mask AP"}[k] for k in kinds))
    for column in rows.columns[1:]:
        column.justify = "right"
    present = [(n, e) for n, e in result["per_class"].items() if e["objects"]]
    for name, entry in sorted(present, key=lambda item: -float(item[1][kinds[-1]])):
        rows.add_row(name, str(entry["objects"]), *(percent(entry[kind]) for kind in kinds))
    return rows


def _figures(
    truth: Json, found: ResultRows, kind: str, cap: int
) -> tuple[dict[str, float], list[float]]:
    """Return the twelve figures and the AP of each category, in the order of `truth`."""
    precision, recall, caps = _accumulate(truth, found, kind, cap)
    last = caps.index(cap)

    def ap(area: int = 0, iou: slice = slice(None)) -> float:
        return _mean(precision[iou, :, :, area, last])

    figures = {"AP": ap(), "AP50": ap(iou=slice(0, 1)), "AP75": ap(iou=slice(5, 6))}
    figures |= {f"AP{name}": ap(area) for area, name in enumerate(AREAS) if name}
    figures |= {f"AR{c}": _mean(recall[:, :, 0, i]) for i, c in enumerate(caps)}
    figures |= {
        f"AR{name}": _mean(recall[:, :, area, last]) for area, name in enumerate(AREAS) if name
    }
    return figures, [
        _mean(of_category) for of_category in precision[..., 0, last].transpose(2, 0, 1)
    ]


def _accumulate(
    truth: Json, found: ResultRows, kind: str, cap: int
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Match and count.

    Returns precision by (IoU, recall, category, area, cap), recall by (IoU, category, area, cap),
    and the caps.
    """
    from hotcoco import COCO, COCOeval

    objects = COCO(truth)
    if kind == "bbox":
        results = objects.load_res(found.rows)
    else:
        results = objects.load_res(found.rows, segmentation=found.masks)
        results.update_anns(ids=np.arange(1, len(found.rows) + 1), area=found.areas)
    evaluator = COCOeval(objects, results, kind)
    caps = sorted({1, 10, cap})
    evaluator.params.max_dets = caps
    evaluator.evaluate()
    evaluator.accumulate()
    counted: Json = evaluator.eval or {}
    return np.asarray(counted["precision"]), np.asarray(counted["recall"]), caps


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def _title(result: Result) -> str:
    skipped = f", {result['skipped']} left out" if result.get("skipped") else ""
    return f"{result['images']} images{skipped}, percent"


def percent(value: float) -> str:
    """Return a figure in percent; "-" where there is no object to find."""
    return "-" if value < 0 else f"{100 * value:.1f}"
