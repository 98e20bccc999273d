"""A small data set in COCO layout, written where a test wants it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Coco = dict[str, Any]


def _annotation(number: int, image: int, category: int, box: tuple[int, ...]) -> dict[str, Any]:
    x, y, w, h = box
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "segmentation": [polygon],
        "area": w * h,
        "iscrowd": 0,
    }


@pytest.fixture
def content() -> Coco:
    """Annotations of four images of 40 x 30: two objects, one, one and a crowd region, none."""
    crowd = _annotation(5, 3, 9, (20, 0, 10, 30))
    crowd |= {"iscrowd": 1, "segmentation": {"size": [30, 40], "counts": [600, 300, 300]}}
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3, 4)
        ],
        "annotations": [
            _annotation(1, 1, 7, (2, 3, 20, 10)),
            _annotation(2, 1, 9, (10, 5, 8, 6)),
            _annotation(3, 2, 9, (0, 0, 40, 30)),
            _annotation(4, 3, 7, (1, 1, 12, 12)),
            crowd,
        ],
        "categories": [{"id": 9, "name": "coin"}, {"id": 7, "name": "ring"}],
    }


@pytest.fixture
def write() -> Callable[..., Path]:
    """Return a function that writes annotations, and an image for each entry that it can."""

    def write(content: Any, annotations: Path, images: Path) -> Path:
        annotations.parent.mkdir(parents=True, exist_ok=True)
        images.mkdir(parents=True, exist_ok=True)
        annotations.write_text(json.dumps(content))
        random = np.random.default_rng(0)
        for entry in content["images"]:
            pixels = random.integers(0, 255, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / entry["file_name"])
        return annotations

    return write


@pytest.fixture
def coco_folder(tmp_path: Path, content: Coco, write: Callable[..., Path]) -> Path:
    """A data set with a training and a validation split."""
    for split in ("train", "val"):
        write(content, tmp_path / f"annotations/instances_{split}.json", tmp_path / split)
    return tmp_path
