"""Results in COCO's layout, checked before they reach compiled code, as columns.

pycocotools reads malformed run lengths past their end, and no evaluator says which detection it
was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from scnet.ops import rle
from scnet.types import Size

Json = dict[str, Any]
SHOWN = 5  # categories that are written out


class Columns(NamedTuple):
    """Results, a row each."""

    scores: Float[np.ndarray, "n"]
    mask_scores: Float[np.ndarray, "n"]  # `scores` where a result has none, or none are asked for
    boxes: Float[np.ndarray, "n 4"]  # x, y, width, height; zeros where not asked for
    areas: Int[np.ndarray, "n"]  # pixels of the masks; zeros where not asked for


def check(results: Sequence[Json], truth: Json, kinds: Sequence[str]) -> Columns:
    """Check results against the annotation dict `truth`; masks only where `kinds` has "segm".

    Raises:
        ValueError: what is wrong, with the number of the detection and its image.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    categories = {c["id"] for c in truth["categories"]}
    step = rle.AT_ONCE
    columns = []
    for start in range(0, max(len(results), 1), step):
        part = _at_a_glance(results[start : start + step], sizes, categories, kinds)
        if part is None:
            _check_each(results, sizes, categories, kinds)
            return _columns(results, kinds)
        columns.append(part)
    return Columns(*map(np.concatenate, zip(*columns, strict=True)))


def _check_each(
    results: Sequence[Json], sizes: Mapping[int, Size], categories: set[int], kinds: Sequence[str]
) -> None:
    for number, result in enumerate(results):
        problem = (
            _wrong_ids(result, sizes, categories)
            or _wrong_numbers(result, boxes="bbox" in kinds, masks="segm" in kinds)
            or ("segm" in kinds and _wrong_mask(result, sizes[result["image_id"]]))
        )
        if problem:
            raise ValueError(f"detection {number} (image {result.get('image_id')}): {problem}")


def _at_a_glance(
    results: Sequence[Json], sizes: Mapping[int, Size], categories: set[int], kinds: Sequence[str]
) -> Columns | None:
    """Return results as columns; None if anything is wrong with any, or seems to be."""
    try:
        shapes = np.array([sizes[r["image_id"]] for r in results], np.int64).reshape(-1, 2)
        scores = mask_scores = np.array([r["score"] for r in results])
        if "segm" in kinds:
            mask_scores = np.array([r.get("mask_score", r["score"]) for r in results])
        boxes = np.zeros((len(results), 4))
        if "bbox" in kinds:
            boxes = np.array([r["bbox"] for r in results]).reshape(-1, 4)
        if not categories.issuperset(r["category_id"] for r in results):
            return None
        for column in (scores, mask_scores, boxes):
            if column.dtype.kind not in "fi" or len(column) != len(results):
                return None
            if not np.isfinite(column).all():
                return None
        areas: Any = np.zeros(len(results), np.int64)
        if "segm" in kinds:
            masks = [r["segmentation"] for r in results]
            if [list(mask["size"]) for mask in masks] != shapes.tolist():
                return None
            areas = rle.sound_areas([m["counts"] for m in masks], shapes)
        if areas is None:
            return None
        scores, mask_scores, boxes = (x.astype(np.float64) for x in (scores, mask_scores, boxes))
        return Columns(scores, mask_scores, boxes, areas)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _columns(results: Sequence[Json], kinds: Sequence[str]) -> Columns:
    """Return results that were checked one by one as columns."""
    boxes = [r["bbox"] if "bbox" in kinds else (0, 0, 0, 0) for r in results]
    areas = [rle.area(r["segmentation"]) if "segm" in kinds else 0 for r in results]
    scores = np.array([r["score"] for r in results], np.float64)
    mask_scores = scores
    if "segm" in kinds:
        mask_scores = np.array([r.get("mask_score", r["score"]) for r in results], np.float64)
    return Columns(scores, mask_scores, np.array(boxes, np.float64), np.array(areas))


def _wrong_ids(result: Json, sizes: Mapping[int, Size], categories: set[int]) -> str:
    if result.get("image_id") not in sizes:
        return "there is no such image in the annotation file"
    if result.get("category_id") not in categories:
        has = ", ".join(map(str, sorted(categories)[:SHOWN])) + ", ..." * (len(categories) > SHOWN)
        return (
            f"category {result.get('category_id')} is not in the annotation file, which has {has}; "
            "give results the ids of these"
        )
    return ""


def _wrong_numbers(result: Json, boxes: bool, masks: bool) -> str:
    if not _finite([result.get("score")], 1):
        return f"score {result.get('score')} is not a finite number"
    if masks and "mask_score" in result and not _finite([result["mask_score"]], 1):
        return f"mask_score {result['mask_score']} is not a finite number"
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
