"""Results in COCO's layout, checked before they reach compiled code.

pycocotools reads malformed run lengths past their end, and no evaluator says which detection it
was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scnet.ops import rle
from scnet.types import Size

Json = dict[str, Any]


def check(results: Sequence[Json], truth: Json, kinds: Sequence[str]) -> None:
    """Check results against the annotation dict `truth`; masks only where `kinds` has "segm".

    Raises:
        ValueError: what is wrong, with the number of the detection and its image.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    categories = {c["id"] for c in truth["categories"]}
    step = rle.AT_ONCE
    parts = (results[start : start + step] for start in range(0, len(results), step))
    if all(_are_sound(part, sizes, categories, kinds) for part in parts):
        return
    for number, result in enumerate(results):
        problem = (
            _wrong_ids(result, sizes, categories)
            or _wrong_numbers(result, boxes="bbox" in kinds)
            or ("segm" in kinds and _wrong_mask(result, sizes[result["image_id"]]))
        )
        if problem:
            raise ValueError(f"detection {number} (image {result.get('image_id')}): {problem}")


def _are_sound(
    results: Sequence[Json], sizes: Mapping[int, Size], categories: set[int], kinds: Sequence[str]
) -> bool:
    """Return whether nothing is wrong with any of the results, as far as is seen at a glance."""
    try:
        shapes = np.array([sizes[r["image_id"]] for r in results], np.int64).reshape(-1, 2)
        columns = [np.array([r["score"] for r in results])]
        if "bbox" in kinds:
            columns.append(np.array([r["bbox"] for r in results]).reshape(-1, 4))
        if not categories.issuperset(r["category_id"] for r in results):
            return False
        for column in columns:
            if column.dtype.kind not in "fi" or len(column) != len(results):
                return False
            if not np.isfinite(column).all():
                return False
        if "segm" not in kinds:
            return True
        masks = [r["segmentation"] for r in results]
        if [list(mask["size"]) for mask in masks] != shapes.tolist():
            return False
        return rle.are_sound([m["counts"] for m in masks], shapes)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return False


def _wrong_ids(result: Json, sizes: Mapping[int, Size], categories: set[int]) -> str:
    if result.get("image_id") not in sizes:
        return "there is no such image in the annotation file"
    if result.get("category_id") not in categories:
        return f"category {result.get('category_id')} is not in the annotation file"
    return ""


def _wrong_numbers(result: Json, boxes: bool) -> str:
    if not _finite([result.get("score")], 1):
        return f"score {result.get('score')} is not a finite number"
    if boxes and not _finite(result.get("bbox"), 4):
        return f"bbox {result.get('bbox')} is not four finite numbers x, y, width, height"
    return ""


def _wrong_mask(result: Json, size: Size) -> str:
    mask = result.get("segmentation")
    if not isinstance(mask, Mapping) or not isinstance(mask.get("counts"), str | bytes):
        return "segmentation is not packed run lengths {'size': [h, w], 'counts': str}"
    try:
        rle.runs(mask, size)
    except (ValueError, TypeError) as error:
        return f"segmentation: {error}"
    return ""


def _finite(values: Any, length: int) -> bool:
    try:
        return len(values) == length and all(math.isfinite(v) for v in values)
    except TypeError:
        return False
