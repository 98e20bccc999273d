"""Ground truth and results as evaluators read them: complete, checked and numbered from 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from scnet.data.faults import crowd_fault, is_crowd
from scnet.evaluation.checks import check
from scnet.ops import rle

Json = dict[str, Any]
ScoreName = Literal["score", "mask_score"]


class ResultRows(NamedTuple):
    """Results as the evaluator reads them."""

    rows: Float[np.ndarray, "n 7"]  # image, x, y, width, height, score, category
    areas: Int[np.ndarray, "n"]  # pixels of the masks
    masks: list[Any]  # run lengths
    mask_scores: Float[np.ndarray, "n"]  # of the masks; those of the rows where they have no other

    def scored(self, kind: str) -> ResultRows:
        """Return the results with the scores of what is compared: boxes, or masks ("segm")."""
        if kind != "segm":
            return self
        rows = self.rows.copy()
        rows[:, 5] = self.mask_scores
        return self._replace(rows=rows)


def score_name(results: Sequence[Json], kind: str) -> ScoreName:
    """Return which score of a result counts: "mask_score" for masks ("segm") if any has one."""
    own = kind == "segm" and any("mask_score" in result for result in results)
    return "mask_score" if own else "score"


def result_rows(results: Sequence[Json], given: Json, kinds: Sequence[str]) -> ResultRows:
    """Check results and return them as the evaluator reads them."""
    columns = check(results, given, kinds)
    images, categories = _numbers(given)
    rows = np.zeros((len(results), 7))
    rows[:, 0] = [images[r["image_id"]] for r in results]
    rows[:, 1:5] = columns.boxes
    rows[:, 5] = columns.scores
    rows[:, 6] = [categories[r["category_id"]] for r in results]
    masks = [r["segmentation"] for r in results] if "segm" in kinds else []
    return ResultRows(rows, columns.areas, masks, columns.mask_scores)


def evaluable(given: Json, with_masks: bool) -> Json:
    """Return an annotation dict that lacks nothing the evaluator asks for.

    Everything is numbered anew from 1: the evaluator takes annotation 0 for "not matched".
    Annotations of categories that the file does not list are left out.
    """
    images, categories = _numbers(given)
    sizes = {image["id"]: (image["height"], image["width"]) for image in given["images"]}
    annotations = known_annotations(given)
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


def known_annotations(given: Json) -> list[Json]:
    """Return the annotations of categories that the file lists; `evaluable` numbers them from 1."""
    categories = {c["id"] for c in given["categories"]}
    return [a for a in given["annotations"] if a["category_id"] in categories]


def unique_names(categories: Sequence[Json]) -> Iterator[str]:
    """Give classes of the same name their category id too, lest one hides the other."""
    count = Counter(c["name"] for c in categories)
    for c in categories:
        yield c["name"] if count[c["name"]] == 1 else f"{c['name']} ({c['id']})"


def _numbers(given: Json) -> tuple[dict[Any, int], dict[Any, int]]:
    """Return numbers for the ids of images and categories, which may exceed what a float holds.

    Images keep the order of their ids, which decides between equal scores; categories that of the
    file.
    """
    images = sorted(image["id"] for image in given["images"])
    categories = [c["id"] for c in given["categories"]]
    return {x: n for n, x in enumerate(images, 1)}, {x: n for n, x in enumerate(categories, 1)}


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
