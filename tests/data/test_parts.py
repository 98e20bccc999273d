"""Of a broken annotation what is sound stays; what is lost is no background."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scnet.config import DataConfig
from scnet.data.check import check
from scnet.data.coco import CocoDataset, DataError, load_dataset

PLAIN = DataConfig(size=(30, 40), flip=0.0, workers=0)
SQUARE = [4, 4, 12, 4, 12, 12, 4, 12]
RUNS = {"size": [30, 40], "counts": [124, 8, 22, 8, 1038]}
Write = Callable[..., Path]


def load(folder: Path, config: DataConfig = PLAIN) -> CocoDataset:
    return load_dataset(folder, "train", config, train=True)


@pytest.fixture
def changed(tmp_path: Path, content: Any, write: Write) -> Callable[..., Path]:
    """Return a function that writes the data set with another annotation in the place of one."""

    def change(**fields: Any) -> Path:
        content["annotations"][1] |= {"bbox": [4, 4, 8, 8], **fields}
        write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
        return tmp_path

    return change


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"segmentation": [SQUARE, [1, 1, 2, 2]]}, "a polygon is left out: polygon has .. numbers"),
        ({"segmentation": [[], SQUARE]}, "polygon has .. numbers"),
        ({"segmentation": [SQUARE, [1, 1, 2, 2, 3]]}, "polygon has .. numbers"),
        ({"segmentation": [SQUARE, None]}, "expected a list of x and y in turn"),
        ({"segmentation": [[1, 1, "a", 1, 9, 9], SQUARE]}, "holds something that is not a number"),
        ({"segmentation": [SQUARE, [1, 1, 9, 1, 1e12, 9]]}, "far outside the image"),
        ({"segmentation": [SQUARE], "bbox": None}, "bbox is missing: taken from the mask"),
        ({"segmentation": [SQUARE], "bbox": []}, "bbox is missing: taken from the mask"),
    ],
)
def test_an_object_stays_without_its_broken_part(
    changed: Callable[..., Path], fields: dict[str, Any], said: str
) -> None:
    folder = changed(**fields)
    dataset = load(folder)
    objects = dataset[0].objects
    assert objects is not None
    assert objects.boxes.tolist()[1] == [4, 4, 12, 12]
    assert int(objects.masks[1].pixels.sum()) == 64
    assert not objects.crowds
    assert not dataset.dropped
    assert dataset.notes[0].startswith("1 annotation mended, such as annotation 2 (image 1)")
    assert said in dataset.notes[0]
    truth = dataset.ground_truth["annotations"][1]
    assert truth["segmentation"] == [SQUARE]
    assert truth["bbox"] == [4, 4, 8, 8]
    report = check(folder / "annotations/instances_train.json")
    assert report.ok
    warned = [p for p in report.problems if p.severity == "warning"]
    assert [p.where.split(" (")[0] for p in warned] == ["annotation 2"]


@pytest.mark.parametrize("segmentation", [[], None, {}, ""])
def test_a_box_alone_is_ignored_like_crowd(changed: Callable[..., Path], segmentation: Any) -> None:
    folder = changed(segmentation=segmentation)
    dataset = load(folder)
    objects = dataset[0].objects
    assert objects is not None
    assert objects.labels.tolist() == [1]
    assert [int(crop.pixels.sum()) for crop in objects.crowds] == [64]
    assert str(dataset.contents).startswith("3 objects; 1 crowd region")
    assert "1 left out as broken (1 x has no segmentation" in str(dataset.contents)
    assert dataset.ground_truth["annotations"][1]["iscrowd"] == 1
    report = check(folder / "annotations/instances_train.json")
    assert report.ok
    assert "1 annotation has a box but no mask" in report.render()


@pytest.mark.parametrize("crowd", [False, True])
def test_boxes_alone_are_refused(tmp_path: Path, content: Any, write: Write, crowd: bool) -> None:
    for annotation in content["annotations"]:
        if not annotation["iscrowd"] or not crowd:
            annotation |= {"segmentation": [], "iscrowd": 0}
    write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    with pytest.raises(DataError, match="boxes but no masks, and instance segmentation learns"):
        load(tmp_path)
    errors = check(tmp_path).errors
    assert len(errors) == 1
    assert "boxes but no masks" in errors[0].reason


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"segmentation": [SQUARE], "category_id": 99}, 64),
        ({"segmentation": [SQUARE], "bbox": [4, 4, -8, 8]}, 64),
        ({"segmentation": [SQUARE], "iscrowd": 2}, 64),
        ({"segmentation": [[1, 1]]}, 64),
        ({"segmentation": RUNS | {"size": [40, 30]}}, 64),
        ({"segmentation": [SQUARE, [1, 1]], "bbox": [4, 4, 0, 8]}, 64),
        ({"segmentation": [[1, 1]], "bbox": [30, 20, 9, 9]}, 81),
        ({"segmentation": [[1, 1]], "bbox": [50, 20, 1, 1]}, 0),
        ({"segmentation": [SQUARE], "image_id": 99}, 0),
    ],
)
def test_what_is_dropped_is_no_background(
    changed: Callable[..., Path], fields: dict[str, Any], ignored: int
) -> None:
    dataset = load(changed(**fields), DataConfig(size=(30, 40), flip=0.0, drop_invalid=True))
    objects = dataset[0].objects
    assert objects is not None
    assert objects.labels.tolist() == [1]
    assert sum(int(crop.pixels.sum()) for crop in objects.crowds) == ignored
    assert len(dataset.contents.faults) == 1
    assert dataset.contents.crowd == 1


def test_regions_are_ignored_in_scoring_too(changed: Callable[..., Path]) -> None:
    folder = changed(segmentation=[])
    truth = load(folder).ground_truth
    file = json.loads((folder / "annotations/instances_train.json").read_text())
    assert [a["id"] for a in truth["annotations"]] == [a["id"] for a in file["annotations"]]
    assert [a["iscrowd"] for a in truth["annotations"]] == [0, 1, 0, 0, 1]
