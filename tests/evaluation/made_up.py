"""Made-up annotations and results for counting, and the plain loop that counts them."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as reference_mask

Json = dict[str, Any]
NAMES = ("cell", 'a <b> & "c"', "bird", "never there")
SIZE = (48, 64)  # height, width of the images


def rle(mask: np.ndarray[Any, Any]) -> Json:
    packed = reference_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": packed["counts"].decode()}


def rectangle(x: int, y: int, width: int, height: int) -> np.ndarray[Any, Any]:
    mask = np.zeros(SIZE, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def entry(image: int, category: int, box: tuple[int, int, int, int], **more: Any) -> Json:
    """Return an annotation, or with `score` a result."""
    mask = rectangle(*box)
    found = {"bbox": list(map(float, box)), "segmentation": rle(mask), "area": int(mask.sum())}
    return {"image_id": image, "category_id": category, **found, **more}


def made_up(seed: int, images: int = 12, classes: int = 3) -> tuple[Json, list[Json]]:
    """Return objects and finds that are moved, doubled, mislabelled, of equal scores, on crowds.

    One class more than `classes` has no object; one image has none, another no finds.
    """
    rng = np.random.default_rng(seed)
    annotations: list[Json] = []
    results: list[Json] = []
    for image in range(1, images + 1):
        for _ in range(0 if image == 1 else rng.integers(0, 9)):
            box = random_box(rng)
            category = int(rng.integers(1, classes + 1))
            crowd = int(rng.random() < 0.15)
            annotations.append(entry(image, category, box, id=len(annotations) + 1, iscrowd=crowd))
            for _ in range(0 if image == 2 else rng.integers(0, 4)):
                other = int(rng.integers(1, classes + 2)) if rng.random() < 0.3 else category
                results.append(scored(rng, image, other, near(rng, box)))
        if image != 2:
            results.append(scored(rng, image, 1, random_box(rng)))
    categories = [{"id": n, "name": NAMES[n - 1]} for n in range(1, classes + 2)]
    rows = [
        {"id": n, "height": SIZE[0], "width": SIZE[1], "file_name": f"{n}.png"}
        for n in range(1, images + 1)
    ]
    return {"images": rows, "categories": categories, "annotations": annotations}, results


def scored(rng: Any, image: int, category: int, box: Any) -> Json:
    return entry(image, category, box, score=round(float(rng.random()), 1))


def random_box(rng: Any) -> tuple[int, int, int, int]:
    x, y, width, height = rng.integers((0, 0, 6, 6), (44, 30, 20, 18)).tolist()
    return x, y, width, height


def near(rng: Any, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x, y, width, height = (np.array(box) + rng.integers(-3, 4, 4)).tolist()
    return max(0, x), max(0, y), max(2, width), max(2, height)


def shape(given: Json, kind: str) -> Any:
    return given["segmentation"] if kind == "segm" else given["bbox"]


def plain_counts(
    truth: Json,
    results: list[Json],
    score: float,
    iou: float = 0.5,
    cap: int = 100,
    kind: str = "segm",
) -> dict[int, tuple[int, int, int]]:
    """Count true and false finds and missed objects of each category, slow and obvious.

    Finds below the score are removed first; then each image and class is matched as COCO does.
    """
    totals = {}
    for category in truth["categories"]:
        true = false = missed = 0
        for image in truth["images"]:
            wanted = {"image_id": image["id"], "category_id": category["id"]}
            there = [a for a in truth["annotations"] if a.items() >= wanted.items()]
            found = [r for r in results if r.items() >= wanted.items() and r["score"] >= score]
            t, f, m = plain_match(there, found, iou, cap, kind)
            true, false, missed = true + t, false + f, missed + m
        totals[category["id"]] = (true, false, missed)
    return totals


def plain_match(
    there: list[Json], found: list[Json], iou: float, cap: int, kind: str
) -> tuple[int, int, int]:
    objects = [a for a in there if not a.get("iscrowd")]
    crowds = [a for a in there if a.get("iscrowd")]
    taken: set[int] = set()
    true = false = 0
    for find in sorted(found, key=lambda r: -r["score"])[:cap]:
        best, partner = iou, None
        for number, thing in enumerate(objects):
            overlap = one_iou(find, thing, kind, crowd=False)
            if number not in taken and overlap >= best:
                best, partner = overlap, number
        if partner is not None:
            taken.add(partner)
            true += 1
        elif all(one_iou(find, crowd, kind, crowd=True) < iou for crowd in crowds):
            false += 1
    return true, false, len(objects) - len(taken)


def one_iou(find: Json, thing: Json, kind: str, crowd: bool) -> float:
    pair = [shape(find, kind)], [shape(thing, kind)]
    return float(reference_mask.iou(*pair, [int(crowd)])[0, 0])
