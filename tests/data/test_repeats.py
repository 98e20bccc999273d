"""Images of rare classes and large ones are seen more often, as often as is foretold."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scnet.config import DataConfig, OptimConfig
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.loader import train_loader
from scnet.data.repeats import Draw, draws, notes_of, repeat_factors
from scnet.settings import ConfigError

PLAIN = DataConfig(size=(30, 40), workers=0)


def load(path: Path, config: DataConfig) -> CocoDataset:
    return load_dataset(path, "train", config, train=True)


def write(folder: Path, sizes: list[tuple[int, int]], classes: list[list[int]]) -> Path:
    """Write images of these heights and widths, each with objects of these classes."""
    (folder / "train").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    random = np.random.default_rng(0)
    for i, ((height, width), labels) in enumerate(zip(sizes, classes, strict=True), 1):
        pixels = random.integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"train/{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        for j, label in enumerate(labels):
            x, y, w, h = 2 + 3 * j, 3, 12, 9
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": label, "iscrowd": 0}
                | {"bbox": [x, y, w, h], "area": w * h, "segmentation": [polygon]}
            )
    names = sorted({label for labels in classes for label in labels})
    categories = [{"id": label, "name": f"class{label}"} for label in names]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations/instances_train.json").write_text(json.dumps(content))
    return folder


def test_without_a_setting_every_image_is_seen_once(coco_folder: Path) -> None:
    dataset = load(coco_folder, PLAIN)
    assert dataset.draws() == [Draw(0), Draw(1), Draw(2), Draw(3)]
    assert dataset.looks == 4
    assert notes_of(dataset.repeats, PLAIN) == []


def test_a_rare_class_has_the_factor_of_lvis(tmp_path: Path) -> None:
    # Class 1 is in 9 of 10 images, class 2 in 2; the third image has neither. At a share of 0.8,
    # class 2 gets sqrt(0.8 / 0.2) = 2. An image counts by its rarest class, not by how many
    # objects it has of it.
    classes = [[1, 2, 2], [1, 2], [1], *[[1]] * 6, []]
    dataset = load(write(tmp_path, [(30, 40)] * 10, classes), replace(PLAIN, repeat_rare=0.8))
    assert dataset.repeats == pytest.approx([2, 2, *[1] * 8])
    assert dataset.looks == 12
    (note,) = notes_of(dataset.repeats, dataset.config)
    assert "12 times at the 10 images, at one of them 2.0 times" in note


def test_it_is_said_where_no_class_is_rare(coco_folder: Path) -> None:
    dataset = load(coco_folder, replace(PLAIN, repeat_rare=0.1))
    assert (
        "data.repeat_rare: every image is seen once" in notes_of(dataset.repeats, dataset.config)[0]
    )


def test_crowd_regions_make_no_class_frequent(coco_folder: Path) -> None:
    # Of the four images a ring is in two, and a coin in two and in one as a crowd region.
    dataset = load(coco_folder, replace(PLAIN, repeat_rare=1.0))
    raw = repeat_factors(dataset.images, dataset.config)
    assert raw[:3] == pytest.approx(raw[0])


def test_the_number_of_looks_is_whole_and_the_same_in_every_epoch() -> None:
    random = np.random.default_rng(0)
    for number in (1, 7, 400):
        factors = 1 + random.random(number) * 3
        factors *= np.rint(factors.sum()) / factors.sum()
        seen: Counter[int] = Counter()
        for epoch in range(200):
            found = draws(factors, seed=3, epoch=epoch)
            assert len(found) == round(factors.sum())
            count = Counter(draw.image for draw in found)
            assert all(abs(count[i] - f) < 1 for i, f in enumerate(factors))
            assert [d.turn for d in found] == [t for i in range(number) for t in range(count[i])]
            seen += count
        mean = np.array([seen[i] for i in range(number)]) / 200
        assert mean == pytest.approx(factors, abs=0.15)


def test_an_image_is_seen_for_each_window_that_it_holds(tmp_path: Path) -> None:
    folder = write(tmp_path, [(30, 40), (60, 80), (15, 20)], [[1], [1], [1]])
    config = replace(PLAIN, scale_factor=2.0, size=(60, 80), repeat_large=True)
    dataset = load(folder, config)
    assert dataset.repeats == pytest.approx([1, 4, 1])
    assert Counter(draw.image for draw in dataset.draws()) == {0: 1, 1: 4, 2: 1}


def test_each_look_at_an_image_is_another_and_the_same_in_any_worker(tmp_path: Path) -> None:
    folder = write(tmp_path, [(90, 120), (30, 40)], [[1, 1, 1], [1]])
    config = replace(PLAIN, scale_factor=1.0, repeat_large=True, flip=0.5)
    dataset = load(folder, config)
    looks = [dataset.look(draw).image for draw in dataset.draws() if draw.image == 0]
    assert len(looks) == 9
    assert len({look.float().mean().item() for look in looks}) > 6
    for draw in dataset.draws():
        assert dataset.sample_size(draw) == tuple(dataset.look(draw).image.shape[1:])
        assert torch.equal(dataset.look(draw).image, dataset.look(draw).image)
    batches = list(train_loader(dataset, OptimConfig(batch_size=2), config)[0])
    assert len(batches) == 5
    assert sum(info.path.endswith("1.png") for batch in batches for info in batch.info) == 9


def test_repeats_of_images_that_are_seen_whole_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.repeat_large: goes with data\.scale_factor"):
        DataConfig(repeat_large=True)
