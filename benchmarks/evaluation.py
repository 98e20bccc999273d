"""COCO evaluation of many images: our time, and that of pycocotools, with the same figures.

    python benchmarks/evaluation.py [--images 5000] [--detections 100] [--rounds 7] [--peer]

Ground truth and results are drawn at random, as COCO has them: 640 x 480, seven objects an image of
80 classes, some of them crowds; results are objects moved a little, and others that are nowhere.
`--peer` runs pycocotools too, which takes minutes, and compares every figure.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import platform
import statistics
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from scnet.evaluation.scoring import score
from scnet.ops import rle
from scnet.ops.placing import run_lengths

SIZE, CLASSES = (480, 640), 80
KINDS = ("bbox", "segm")


def main() -> None:
    """Draw, evaluate, compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer", action="store_true", help="pycocotools beside")
    args = parser.parse_args()
    truth, results = draw(args.images, args.detections)
    print(
        f"{args.images} images x {args.detections} results, {len(truth['annotations'])} objects; "
        f"python {platform.python_version()}, numpy {np.__version__}"
    )
    seconds = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        ours = score(truth, results)
        seconds.append(time.perf_counter() - start)
        print(f"ours: {seconds[-1]:.2f} s; mask AP {ours['segm']['AP']:.4f}", flush=True)
    print(f"ours, median of {args.rounds}: {statistics.median(seconds):.2f} s")
    if args.peer:
        start = time.perf_counter()
        theirs = {kind: pycocotools(truth, results, kind) for kind in KINDS}
        print(f"pycocotools: {time.perf_counter() - start:.1f} s")
        worst = max(
            abs(a - b)
            for kind in KINDS
            for a, b in zip(ours[kind].values(), theirs[kind], strict=True)
        )
        print(f"largest difference of 24 figures: {worst:.1e}")


def draw(
    images: int, detections: int, seed: int = 0
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return ground truth and results as COCO lays them out."""
    random = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        objects = int(random.poisson(7))
        boxes, labels = _boxes(random, objects), random.integers(1, CLASSES + 1, objects)
        for box, label, mask in zip(boxes, labels, _masks(boxes, random), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": _xywh(box),
                    "area": rle.area(mask),
                    "iscrowd": int(random.random() < 0.02),
                    "segmentation": mask,
                }
            )
        near = random.integers(0, max(1, objects), detections)
        found, guess = _boxes(random, detections), random.integers(1, CLASSES + 1, detections)
        if objects:
            hit = random.random(detections) < 0.3
            moved = boxes[near] + random.normal(0, 4, (detections, 4))
            found, guess = np.where(hit[:, None], moved, found), np.where(hit, labels[near], guess)
        scores = np.round(random.random(detections), 4)
        for box, label, value, mask in zip(
            found, guess, scores, _masks(found, random), strict=True
        ):
            results.append(
                {
                    "image_id": image,
                    "category_id": int(label),
                    "score": float(value),
                    "bbox": _xywh(box),
                    "segmentation": mask,
                }
            )
    height, width = SIZE
    truth = {
        "images": [{"id": i, "height": height, "width": width} for i in range(1, images + 1)],
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)],
        "annotations": annotations,
    }
    return truth, results


def pycocotools(truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> list[float]:
    """Return the twelve figures of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = [
        {k: v for k, v in r.items() if k != ("bbox" if kind == "segm" else "segmentation")}
        for r in copy.deepcopy(results)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        images = COCO()
        images.dataset = copy.deepcopy(truth) | {"info": {}}
        images.createIndex()
        evaluator = COCOeval(images, images.loadRes(results), kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [float(value) for value in evaluator.stats]


def _boxes(random: np.random.Generator, number: int) -> np.ndarray:
    """Return boxes of the sizes that COCO's objects have, most of them small."""
    limits = np.array([SIZE[1], SIZE[0]])
    side = limits * np.clip(random.lognormal(-2.2, 0.9, (number, 2)), 0.01, 0.95)
    corner = random.random((number, 2)) * (limits - side)
    return np.concatenate((corner, corner + side), 1)


def _masks(boxes: np.ndarray, random: np.random.Generator) -> list[rle.RLE]:
    coarse = torch.from_numpy(random.normal(1.0, 1.5, (len(boxes), 1, 6, 6))).float()
    if not len(boxes):
        return []
    masks = F.interpolate(coarse, size=(28, 28), mode="bicubic")[:, 0].sigmoid()
    return run_lengths(masks, torch.from_numpy(boxes).float(), SIZE)


def _xywh(box: np.ndarray) -> list[float]:
    x0, y0, x1, y1 = np.round(box, 2).tolist()
    return [x0, y0, x1 - x0, y1 - y0]


if __name__ == "__main__":
    main()
