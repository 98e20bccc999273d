"""Made-up label maps, the plain way to match them, and what StarDist's own functions gave."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
from tests.evaluation.made_up import rle

Json = dict[str, Any]
Map = np.ndarray[Any, Any]

SHAPE = (64, 96)
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
BOXES = ((0, 44), (0, 72), (8, 20), (8, 24))  # y, x, height, width


def label_maps(images: int = 6, seed: int = 7) -> list[tuple[Map, Map]]:
    """Return maps of objects and of predictions; one image has neither, one no predictions.

    `RandomState` gives the same numbers in every release of NumPy.
    """
    random = np.random.RandomState(seed)
    pairs = []
    for image in range(images):
        there, found = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.int32)
        for label in range(1, 13 if image else 1):
            y, x, height, width = (int(random.randint(low, high)) for low, high in BOXES)
            there[y : y + height, x : x + width] = label
            for part in range(2 if image != 1 else 0):  # one like the object, and one in its middle
                up, left, high, wide = (int(random.randint(-1, 2)) for _ in range(4))
                top, start = max(0, y + up + part * height // 2), max(0, x + left)
                area = np.s_[top : top + height // (part + 1) + high, start : start + width + wide]
                if (random.randint(4) == 0) == part:
                    found[area] = 2 * label - part
        pairs.append((there, found))
    return pairs


# `matching_dataset(objects, predictions, thresholds)` of stardist 0.9.2, of `label_maps()`: tp, fp,
# fn, precision, recall, f1, accuracy, panoptic_quality, mean_matched_score, mean_true_score.
POOLED: tuple[tuple[float, ...], ...] = (
    (38, 8, 21, 0.826087, 0.644068, 0.72381, 0.567164, 0.473188, 0.653747, 0.421057),
    (37, 9, 22, 0.804348, 0.627119, 0.704762, 0.544118, 0.470871, 0.668128, 0.418996),
    (27, 19, 32, 0.586957, 0.457627, 0.514286, 0.346154, 0.391119, 0.760509, 0.348029),
    (19, 27, 40, 0.413043, 0.322034, 0.361905, 0.22093, 0.299826, 0.828467, 0.266794),
    (3, 43, 56, 0.065217, 0.050847, 0.057143, 0.029412, 0.054438, 0.952672, 0.048441),
)
# Likewise with by_image=True, from precision on.
MEAN: tuple[tuple[float, ...], ...] = (
    (0.554353, 0.539141, 0.543262, 0.459219, 0.354838, 0.434679, 0.352749),
    (0.535835, 0.525253, 0.527389, 0.439988, 0.352908, 0.445773, 0.35106),
    (0.391835, 0.382576, 0.385018, 0.275987, 0.293353, 0.508298, 0.291217),
    (0.279521, 0.268939, 0.272602, 0.175183, 0.226173, 0.554656, 0.223032),
    (0.040945, 0.042929, 0.041861, 0.02185, 0.039934, 0.476336, 0.040957),
)


def coco(pairs: list[tuple[Map, Map]]) -> tuple[Json, list[Json]]:
    """Return maps as annotations and results of one class; scores fall from 0.9 to 0.6."""
    images = [
        {"id": n, "height": SHAPE[0], "width": SHAPE[1], "file_name": f"{n}.png"}
        for n in range(1, len(pairs) + 1)
    ]
    annotations: list[Json] = []
    results: list[Json] = []
    for number, (there, found) in enumerate(pairs, 1):
        for mask in parts(there):
            annotations.append(annotation(mask, number, id=len(annotations) + 1))
        masks = parts(found)
        for rank, mask in enumerate(masks):
            results.append(annotation(mask, number, score=0.9 - 0.3 * rank / len(masks)))
    return truth(images, annotations), results


def truth(images: list[Json], annotations: list[Json], classes: int = 1) -> Json:
    categories = [{"id": n, "name": f"class {n}"} for n in range(1, classes + 1)]
    return {"images": images, "categories": categories, "annotations": annotations}


def annotation(mask: Map, image: int = 1, category: int = 1, **more: Any) -> Json:
    ys, xs = np.nonzero(mask)
    box = [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]
    entry = {"image_id": image, "category_id": category, "segmentation": rle(mask)}
    return {**entry, "bbox": box, "area": int(mask.sum()), **more}


def parts(labels: Map) -> list[Map]:
    return [labels == label for label in np.unique(labels) if label]


def plain_match(there: list[Map], found: list[Map], threshold: float) -> tuple[int, list[float]]:
    """Return the most matches, and the sums of their IoUs in the best of all ways to match.

    Best are those of the most matches with the largest sum of all IoUs, also those below the
    threshold; of several that are equally good all are returned.
    """
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in found] for a in there])
    iou = iou.reshape(len(there), len(found))
    iou = iou if len(there) <= len(found) else iou.T
    ways = []
    for columns in permutations(range(iou.shape[1]), len(iou)):
        chosen = iou[np.arange(len(iou)), list(columns)]
        passed = chosen[chosen >= threshold]
        ways.append((len(passed), float(chosen.sum()), float(passed.sum())))
    number, total, _ = max(ways)
    return number, [s for n, all_of, s in ways if n == number and all_of > total - 1e-9]
