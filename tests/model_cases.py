"""Batches and small detectors for the tests of the model."""

from __future__ import annotations

from dataclasses import replace

import torch

from scnet import recipes
from scnet.config import BackboneConfig, Config, replace_at
from scnet.model.detector import Detector
from scnet.ops.masks import crop, join_crops
from scnet.types import Batch, ImageInfo, Targets, View

HEIGHT, WIDTH, CLASSES = 96, 128, 3


def small(name: str, backbone: BackboneConfig | None = None) -> Config:
    """A recipe with all of its parts, narrow enough for a test."""
    config = recipes.find(name)
    model = config.model
    if backbone is None:
        backbone = replace(model.backbone, name="resnet18", widths=(8, 16, 32, 64), weights="none")
    counts = {"before_nms": 100, "after_nms": 60, "before_nms_train": 100, "after_nms_train": 60}
    model = replace(
        model,
        num_classes=CLASSES,
        backbone=backbone,
        channels=16,
        rpn=replace(model.rpn, **counts),
        box=replace(model.box, hidden=32, samples=32),
    )
    return replace(config, model=model)


def make_detector(name: str, seed: int = 0, **changes: object) -> Detector:
    """A small detector of a recipe, with fields of its config replaced (`__` stands for a dot)."""
    torch.manual_seed(seed)
    config = small(name)
    for path, value in changes.items():
        config = replace_at(config, path.replace("__", "."), value)
    return Detector(config)


def make_batch(counts: tuple[int, ...], seed: int = 0) -> Batch:
    """Noise images with that many rectangles each."""
    random = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=random))

    boxes, crops = [], []
    for count in counts:
        for _ in range(count):
            x, y, w, h = draw(0, 80), draw(0, 50), draw(10, 46), draw(10, 46)
            mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
            mask[y : y + h, x : x + w] = True
            boxes.append([x, y, x + w, y + h])
            crops.append(crop(mask))
    labels = torch.randint(0, CLASSES, (len(boxes),), generator=random)
    targets = Targets.of(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4).split(counts),
        labels.split(counts),
        join_crops(crops),
    )
    pixels = torch.randint(0, 256, (len(counts), 3, HEIGHT, WIDTH), generator=random)
    view = View.whole((HEIGHT, WIDTH))
    info = [ImageInfo(i, f"{i}.png", view) for i in range(len(counts))]
    return replace(
        Batch.of(list(pixels.to(torch.uint8)), info),
        targets=targets,
        semantic=torch.randint(0, CLASSES + 1, (len(counts), HEIGHT, WIDTH), generator=random),
    )
