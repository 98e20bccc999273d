"""An evaluation stops at an image that cannot be used, or leaves it out and says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scnet import recipes
from scnet.config import Config, DataConfig
from scnet.data.coco import CocoDataset, DataError, load_dataset
from scnet.evaluation.run import detect_dataset, evaluate_dataset, truth_as_detections
from scnet.evaluation.scoring import table
from scnet.types import Batch, Found

SKIP = DataConfig(size=(30, 40), workers=0, unreadable="skip")


class Oracle:
    """Finds the objects that are there, as all of them fill their boxes."""

    config: Config = recipes.find("mask_rcnn")
    device = torch.device("cpu")

    def __init__(self, dataset: CocoDataset) -> None:
        number = {record.id: index for index, record in enumerate(dataset.images)}
        self.truth = {i: truth_as_detections(dataset, index) for i, index in number.items()}

    def detect(
        self, batch: Batch, *, min_score: float = 0.0, max_detections: int | None = None
    ) -> Found:
        truth = [self.truth[info.id] for info in batch.info]
        image = torch.arange(len(truth)).repeat_interleave(torch.tensor([len(t) for t in truth]))
        boxes, scores, labels = (
            torch.cat([getattr(t, name) for t in truth]) for name in ("boxes", "scores", "labels")
        )
        return Found(boxes, scores, labels, image, torch.ones(len(boxes), 28, 28))


def load(folder: Path, config: DataConfig = SKIP) -> CocoDataset:
    return load_dataset(folder, "val", config, train=False)


def break_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / "val" / name).write_bytes(b"broken")


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_an_image_that_cannot_be_used_is_left_out_with_its_objects(
    coco_folder: Path, batch_size: int
) -> None:
    break_images(coco_folder, "1.png")
    dataset = load(coco_folder)
    with pytest.warns(UserWarning, match=r"1 of 4 images left out .*1\.png: cannot be read"):
        result, found = evaluate_dataset(Oracle(dataset), dataset, batch_size=batch_size)
    assert (result["images"], result["skipped"]) == (3, 1)
    assert result["bbox"]["AP"] == pytest.approx(1)
    assert result["segm"]["AP"] == pytest.approx(1)
    assert [c["objects"] for c in result["per_class"].values()] == [1, 1]
    assert [f is None for f in found] == [True, False, False, False]
    assert "3 images, 1 left out" in str(table(result).title)


def test_nothing_is_said_where_every_image_can_be_used(coco_folder: Path) -> None:
    dataset = load(coco_folder)
    result, found = evaluate_dataset(Oracle(dataset), dataset)
    assert (result["images"], result["skipped"]) == (4, 0)
    assert result["segm"]["AP"] == pytest.approx(1)
    assert None not in found
    assert table(result).title == "4 images, percent"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_it_stops_the_evaluation_unless_it_may_be_skipped(coco_folder: Path, workers: int) -> None:
    break_images(coco_folder, "3.png")
    dataset = load(coco_folder, replace(SKIP, unreadable="stop", workers=workers))
    with pytest.raises(DataError, match=r"val/3\.png: cannot be read"):
        evaluate_dataset(Oracle(dataset), dataset)


def test_an_evaluation_without_any_usable_image_stops(coco_folder: Path) -> None:
    break_images(coco_folder, *(f"{i}.png" for i in (1, 2, 3, 4)))
    dataset = load(coco_folder)
    with pytest.raises(DataError, match=r"none of the 4 images can be used; .*1\.png"):
        evaluate_dataset(Oracle(dataset), dataset)


def test_what_needs_every_image_stops_at_one_that_cannot_be_used(coco_folder: Path) -> None:
    break_images(coco_folder, "2.png")
    dataset = load(coco_folder)
    detections = detect_dataset(Oracle(dataset), dataset)
    assert len(next(detections)) == 2
    with pytest.raises(DataError, match=r"2\.png"):
        next(detections)
