"""Compare the counts of a report with a plain loop over pycocotools' overlaps.

    scnet eval results.json --data ANNOTATIONS.json --report page
    python benchmarks/count_check.py page/report.json results.json ANNOTATIONS.json

`results.json` holds COCO results of any detector. The loop removes what is below the threshold and
matches each image and class by itself, as COCO does. Compared are all classes at the threshold of
the report, all classes together at each hundredth of the score, the counts of each image, and the
sums of the confusion matrix. The exit status is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as reference_mask

Json = dict[str, Any]
Counts = tuple[int, int, int]  # true, false, missed
Cell = tuple[Any, Any]  # image, category


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, usage="%(prog)s REPORT RESULTS TRUTH")
    for name in ("report", "results", "truth"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    report, results, truth = (
        json.loads(path.read_text()) for path in (options.report, options.results, options.truth)
    )
    settings = report["counts"]
    cells = all_cells(truth, results, settings["kind"])
    wrong = 0
    checked = 0
    for what, shown, plain in comparisons(report, cells, truth, results):
        checked += 1
        if shown != plain:
            wrong += 1
            print(f"{what}: the report has {shown}, the loop {plain}")
    print(f"{checked} comparisons at IoU {settings['iou']:g} of {settings['kind']}, {wrong} differ")
    return int(wrong > 0)


def comparisons(
    report: Json, cells: dict[Cell, Json], truth: Json, results: list[Json]
) -> list[tuple[str, Any, Any]]:
    """Return what is compared, what the report has and what the loop counts."""
    settings = report["counts"]
    score, iou, cap = (settings[key] for key in ("score", "iou", "max_detections"))
    counted = {cell: plain_match(given, score, iou, cap) for cell, given in cells.items()}
    rows = []
    for category in truth["categories"]:
        plain = total(c for (_, number), c in counted.items() if number == category["id"])
        rows.append((category["name"], shown(settings["per_class"][category["name"]]), plain))
    rows.append(("all classes", shown(settings["overall"]), total(counted.values())))
    for image in report["per_image"]:
        plain = total(c for (number, _), c in counted.items() if number == image["image_id"])
        rows.append((image["file_name"], shown(image), plain))
    for at in report["thresholds"]:
        plain = total(plain_match(given, at["score"], iou, cap) for given in cells.values())
        rows.append((f"score {at['score']}", shown(at), plain))
    matrix = np.array(settings["confusion"]["matrix"])
    objects = [
        sum(a["category_id"] == c["id"] and not a["iscrowd"] for a in truth["annotations"])
        for c in truth["categories"]
    ]
    return [*rows, ("objects of the matrix", matrix[:-1].sum(1).tolist(), objects)]


def shown(figures: Json) -> Counts:
    return figures["TP"], figures["FP"], figures["FN"]


def total(counts: Any) -> Counts:
    true, false, missed = (sum(column) for column in zip((0, 0, 0), *counts, strict=True))
    return true, false, missed


def all_cells(truth: Json, results: list[Json], kind: str) -> dict[Cell, Json]:
    """Return for each image and class scores, overlaps and what is a crowd; by falling score."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    there, found = defaultdict(list), defaultdict(list)
    for entries, grouped in ((truth["annotations"], there), (results, found)):
        for entry in entries:
            grouped[entry["image_id"], entry["category_id"]].append(entry)
    cells = {}
    for cell in there.keys() | found.keys():
        finds = sorted(found[cell], key=lambda r: -r["score"])
        crowd = [int(a.get("iscrowd", 0)) for a in there[cell]]
        shapes = [[shape(e, kind, sizes[cell[0]]) for e in es] for es in (finds, there[cell])]
        overlap = np.zeros((len(finds), len(crowd)))
        if finds and crowd:
            overlap = reference_mask.iou(*shapes, crowd)
        scores = [r["score"] for r in finds]
        cells[cell] = {"scores": scores, "overlap": overlap.tolist(), "crowd": crowd}
    return cells


def shape(entry: Json, kind: str, size: tuple[int, int]) -> Any:
    if kind == "bbox":
        return entry["bbox"]
    given = entry["segmentation"]
    if isinstance(given, list):
        return reference_mask.merge(reference_mask.frPyObjects(given, *size))
    if isinstance(given["counts"], list):
        return reference_mask.frPyObjects(given, *size)
    return given


def plain_match(cell: Json, score: float, iou: float, cap: int) -> Counts:
    """Match what passes the threshold, find by find."""
    objects = [n for n, crowd in enumerate(cell["crowd"]) if not crowd]
    crowds = [n for n, crowd in enumerate(cell["crowd"]) if crowd]
    passed = [n for n, value in enumerate(cell["scores"]) if value >= score][:cap]
    free = set(objects)
    true = false = 0
    for find in passed:
        overlap = cell["overlap"][find]
        best, partner = iou, None
        for number in objects:
            if number in free and overlap[number] >= best:
                best, partner = overlap[number], number
        if partner is not None:
            free.remove(partner)
            true += 1
        elif not any(overlap[number] >= iou for number in crowds):
            false += 1
    return true, false, len(free)


if __name__ == "__main__":
    sys.exit(main())
