"""COCO box and mask AP: ground truth and results in, a plain dict of figures out.

The matching is hotcoco's, whose figures equal pycocotools'. Both leave three things to the caller,
which are here: a cap on detections other than 100, annotations that lack fields, and the area of a
detection. For mask AP that is the area of its mask. pycocotools takes the area of the box where a
result carries one, so everybody who publishes mask AP removes the boxes first.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from scnet.data.faults import crowd_fault, is_crowd
from scnet.evaluation.checks import check
from scnet.ops import rle
from scnet.runtime.collector import without_collector

if TYPE_CHECKING:
    from rich.table import Table

Json = dict[str, Any]
Result = dict[str, Any]  # what `score` returns

KINDS = ("bbox", "segm")
AREAS = ("", "s", "m", "l")  # all, below 32 x 32 px, below 96 x 96 px, larger


class ResultRows(NamedTuple):
    """Results as the evaluator reads them."""

    rows: Float[np.ndarray, "n 7"]  # image, x, y, width, height, score, category
    areas: Int[np.ndarray, "n"]  # pixels of the masks
    masks: list[Any]  # run lengths


def score(
    ground_truth: Json,
    results: Sequence[Json],
    *,
    max_detections: int = 100,
    kinds: Sequence[str] = KINDS,
) -> Result:
    """Compare results with an annotation file, both as COCO lays them out.

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
    truth = _ground_truth(ground_truth, with_masks="segm" in kinds)
    found = _result_rows(results, ground_truth, kinds)
    objects = Counter(a["category_id"] for a in truth["annotations"] if not a["iscrowd"])
    per_class: dict[str, Any] = {
        name: {"objects": objects[number]}
        for number, name in enumerate(_unique_names(ground_truth["categories"]), 1)
    }
    result: Result = {}
    for kind in kinds:
        result[kind], aps = _figures(truth, found, kind, max_detections)
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


def _numbers(given: Json) -> tuple[dict[Any, int], dict[Any, int]]:
    """Return numbers for the ids of images and categories, which may exceed what a float holds.

    Images keep the order of their ids, which decides between equal scores; categories that of the
    file.
    """
    images = sorted(image["id"] for image in given["images"])
    categories = [c["id"] for c in given["categories"]]
    return {x: n for n, x in enumerate(images, 1)}, {x: n for n, x in enumerate(categories, 1)}


def _result_rows(results: Sequence[Json], given: Json, kinds: Sequence[str]) -> ResultRows:
    """Check results and return them as the evaluator reads them."""
    columns = check(results, given, kinds)
    images, categories = _numbers(given)
    rows = np.zeros((len(results), 7))
    rows[:, 0] = [images[r["image_id"]] for r in results]
    rows[:, 1:5] = columns.boxes
    rows[:, 5] = columns.scores
    rows[:, 6] = [categories[r["category_id"]] for r in results]
    masks = [r["segmentation"] for r in results] if "segm" in kinds else []
    return ResultRows(rows, columns.areas, masks)


def _ground_truth(given: Json, with_masks: bool) -> Json:
    """Return an annotation dict that lacks nothing the evaluator asks for.

    Everything is numbered anew from 1: the evaluator takes annotation 0 for "not matched".
    Annotations of categories that the file does not list are left out.
    """
    images, categories = _numbers(given)
    sizes = {image["id"]: (image["height"], image["width"]) for image in given["images"]}
    annotations = [a for a in given["annotations"] if a["category_id"] in categories]
    rows = [
        _annotation(a, number, images[a["image_id"]], categories[a["category_id"]])
        for number, a in enumerate(annotations, 1)
    ]
    drawn = [
        (row, a["segmentation"], sizes[a["image_id"]])
        for row, a in zip(rows, annotations, strict=True)
        if with_masks or row["bbox"] is None or row["area"] is None
    ]
    masks = rle.to_rles([s for _, s, _ in drawn], [size for *_, size in drawn])
    for (row, *_), mask in zip(drawn, masks, strict=True):
        _add_mask(row, mask)
    return {
        "info": {},
        "images": [{"id": images[i], "height": h, "width": w} for i, (h, w) in sizes.items()],
        "categories": [{"id": n, "name": str(n)} for n in categories.values()],
        "annotations": rows,
    }


def _annotation(given: Json, number: int, image: int, category: int) -> Json:
    if fault := crowd_fault(given):
        raise ValueError(f"annotation {given.get('id')} (image {given['image_id']}): {fault}")
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "iscrowd": int(is_crowd(given)),
        "bbox": given.get("bbox"),
        "area": given.get("area"),
    }


def _add_mask(row: Json, mask: rle.RLE) -> None:
    """Add a mask to an annotation, and what it lacks."""
    row["segmentation"] = mask
    if row["area"] is None:
        row["area"] = rle.area(mask)
    if row["bbox"] is None:
        x1, y1, x2, y2 = rle.box(mask)
        row["bbox"] = [x1, y1, x2 - x1, y2 - y1]


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def _unique_names(categories: Sequence[Json]) -> Iterator[str]:
    """Give classes of the same name their category id too, lest one hides the other."""
    count = Counter(c["name"] for c in categories)
    for c in categories:
        yield c["name"] if count[c["name"]] == 1 else f"{c['name']} ({c['id']})"


def _title(result: Result) -> str:
    skipped = f", {result['skipped']} left out" if result.get("skipped") else ""
    return f"{result['images']} images{skipped}, percent"


def percent(value: float) -> str:
    """Return a figure in percent; "-" where there is no object to find."""
    return "-" if value < 0 else f"{100 * value:.1f}"
