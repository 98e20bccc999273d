"""An evaluation may take a class for one of another name and says so; a training never does."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scnet.config import Config, DataConfig
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.image_list import read_image_list
from scnet.data.images import DataError
from scnet.training.log import Log
from scnet.training.validation import load_val_set

MODEL = ("nucleus",)


def category(number: int, name: str, above: str = "none") -> dict[str, Any]:
    return {"id": number, "name": name, "supercategory": above}


@pytest.fixture
def file(coco_folder: Path) -> Path:
    """A file whose objects are of the categories 9 (three, and a crowd region) and 7 (two)."""
    return coco_folder / "annotations/instances_val.json"


def rewrite(file: Path, categories: Sequence[Any], ids: dict[int, int] | None = None) -> None:
    """Give a file other categories, and its objects other ids of them."""
    content = json.loads(file.read_text())
    content["categories"] = categories
    for annotation in content["annotations"]:
        number = annotation["category_id"]
        annotation["category_id"] = (ids or {}).get(number, number)
    file.write_text(json.dumps(content))


def load(file: Path, same: dict[str, str] | None, classes: tuple[str, ...] = MODEL) -> CocoDataset:
    return load_dataset(
        file, "val", DataConfig(size=(30, 40)), train=False, classes=classes, same=same
    )


def objects_of(dataset: CocoDataset) -> list[int]:
    return [a.label for record in dataset.images for a in record.annotations]


ONE = [category(9, "cell")]
UNDER_ROOT = [category(0, "project-x"), category(9, "cell", "project-x")]
UNDER_ITS_NAME = [category(0, "nucleus"), category(9, "cell", "nucleus")]
WITH_BACKGROUND = [category(0, "background"), category(9, "cell")]
TWICE = [category(9, "cell"), category(7, "cell")]


@pytest.mark.parametrize(
    "categories", [ONE, UNDER_ROOT, UNDER_ITS_NAME, WITH_BACKGROUND, TWICE], ids=str
)
def test_the_only_class_is_taken_for_the_models_only_one(categories: Any, file: Path) -> None:
    rewrite(file, categories, None if categories is TWICE else {7: 9})
    dataset = load(file, {})
    assert dataset.classes == MODEL
    assert dataset.taken == {"cell": "nucleus"}
    assert objects_of(dataset) == [0] * 5
    truth = dataset.ground_truth
    assert [c["name"] for c in truth["categories"]] == ["nucleus"]
    assert {a["category_id"] for a in truth["annotations"]} == set(dataset.category_ids)
    assert len(truth["annotations"]) == 5
    said = "class cell of the data is taken for nucleus of the model, as neither has another"
    assert sum(said in note for note in dataset.notes) == 1
    assert pickle.loads(pickle.dumps(dataset)).taken == dataset.taken  # as workers get it


def test_classes_of_equal_names_are_not_spoken_of(file: Path) -> None:
    rewrite(file, [category(9, " nucleus")], {7: 9})
    dataset = load(file, {})
    assert dataset.taken == {}
    assert not any("taken for" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("categories", "classes"),
    [
        ([category(9, "cell"), category(7, "dust")], MODEL),
        ([category(9, "cell"), category(7, "cells", "cell")], MODEL),
        ([category(9, "cell"), category(7, "cell"), category(8, "dust")], MODEL),
        ([category(9, "cell"), category(7, "cell")], ("nucleus", "dust")),
    ],
)
def test_several_classes_are_refused_with_the_way_out(
    categories: Any, classes: tuple[str, ...], file: Path
) -> None:
    rewrite(file, categories)
    with pytest.raises(DataError, match=r"none of its classes.*--same-class DATA=MODEL"):
        load(file, {}, classes)


def test_a_class_of_the_models_name_leaves_others_out_as_before(file: Path) -> None:
    rewrite(file, [category(9, "cell"), category(7, "nucleus")])
    dataset = load(file, {})
    assert dataset.taken == {}
    assert len(dataset.ground_truth["annotations"]) == 2


def test_named_classes_are_taken_and_become_one(file: Path) -> None:
    rewrite(file, [category(9, "cell"), category(7, "dead cell"), category(8, "dust")])
    dataset = load(file, {"cell ": "nucleus"})
    assert len(dataset.ground_truth["annotations"]) == 3
    assert any("class cell of the data is taken for nucleus, as asked" in n for n in dataset.notes)
    both = load(file, {"cell": "nucleus", "dead cell": "nucleus"})
    assert both.taken == {"cell": "nucleus", "dead cell": "nucleus"}
    assert objects_of(both) == [0] * 5
    assert len(both.ground_truth["annotations"]) == 5
    assert {a["category_id"] for a in both.ground_truth["annotations"]} == {9}


def test_names_may_change_places(file: Path) -> None:
    plain = load(file, {}, ("coin", "ring"))
    turned = load(file, {"coin": "ring", "ring": "coin"}, ("coin", "ring"))
    assert objects_of(turned) == [1 - label for label in objects_of(plain)]
    ids = [dataset.ground_truth["categories"] for dataset in (plain, turned)]
    assert [c["id"] for c in ids[0]] == [9, 7]
    assert [c["id"] for c in ids[1]] == [7, 9]


@pytest.mark.parametrize(
    ("same", "said"),
    [
        ({"Cell": "nucleus"}, r"Cell=nucleus: the file has no class Cell \(did you mean cell for"),
        ({"cell": "nuclei"}, r"cell=nuclei: the model has no class nuclei.*; it has nucleus"),
        ({"cell": "dust", "dust": "nucleus"}, "the model has no class dust"),
    ],
)
def test_names_that_there_are_not_are_refused(same: Any, said: str, file: Path) -> None:
    rewrite(file, [category(9, "cell"), category(7, "dust")])
    with pytest.raises(DataError, match=said):
        load(file, same)


def test_a_name_taken_for_itself_is_refused(file: Path) -> None:
    with pytest.raises(DataError, match="coin=coin: has no effect"):
        load(file, {"coin": "coin"}, ("coin",))


@pytest.mark.parametrize("categories", [ONE, UNDER_ROOT], ids=str)
def test_a_training_takes_no_class_of_another_name(
    categories: Any, file: Path, coco_folder: Path
) -> None:
    rewrite(file, categories, {7: 9})
    with pytest.raises(DataError, match=r"none of its classes \(.*cell\).*or train a model") as why:
        load(file, None)
    assert "--same-class" not in str(why.value)
    config = Config(classes=MODEL, data=DataConfig(path=str(coco_folder)))
    log = Log(coco_folder / "log.jsonl", quiet=True)
    with pytest.raises(DataError, match="none of its classes"):
        load_val_set(config, log)


def test_a_list_gives_its_only_id_to_the_models_only_class(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")

    def ids(*categories: Any, classes: tuple[str, ...] = MODEL) -> Any:
        images = [{"id": 1, "file_name": "a.png"}]
        content = {"images": images, "categories": categories}
        (tmp_path / "l.json").write_text(json.dumps(content))
        return read_image_list(tmp_path / "l.json").category_ids(classes, (1,) * len(classes))

    found = ids(category(5, "cell"))
    assert found.ids == (5,)
    assert len(found.notes) == 1
    assert "class cell of the data is taken for nucleus of the model" in found.notes[0]
    assert ids(*UNDER_ROOT).ids == (9,)
    assert ids(*UNDER_ITS_NAME).ids == (0,)  # a list does not say whether there are objects of it
    with pytest.raises(DataError, match="none of its categories"):
        ids(category(5, "cell"), category(6, "dust"))
    with pytest.raises(DataError, match="none of its categories"):
        ids(category(5, "cell"), classes=("nucleus", "dust"))
