"""Classes are matched by name, chosen by name, and what is left out is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scnet.cli.convert import class_names
from scnet.cli.errors import UsageError
from scnet.config import DataConfig
from scnet.data.check import check
from scnet.data.coco import CocoDataset, DataError, load_dataset

PLAIN = DataConfig(size=(30, 40), flip=0.0, workers=0)
Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, content: Any, write: Write) -> Callable[[], Path]:
    """Return a function that writes the content as it is then."""

    def make() -> Path:
        write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
        return tmp_path

    return make


def load(folder: Path, config: DataConfig = PLAIN, **options: Any) -> CocoDataset:
    return load_dataset(folder, "train", config, **{"train": True, **options})


def labels(dataset: CocoDataset) -> list[list[int]]:
    return [[a.label for a in r.annotations if not a.crowd] for r in dataset.images]


def test_classes_can_be_chosen_and_ordered(folder: Callable[[], Path]) -> None:
    place = folder()
    one = load(place, replace(PLAIN, classes=("ring",)))
    assert one.classes == ("ring",)
    assert labels(one) == [[0], [], [0], []]
    assert one.notes == ("1 class left out (not in data.classes): coin (3 annotations)",)
    assert {a["category_id"] for a in one.ground_truth["annotations"]} == {7}
    both = load(place, replace(PLAIN, classes=("ring", "coin")))
    assert both.classes == ("ring", "coin")
    assert both.category_ids == (7, 9)
    assert labels(both) == [[0, 1], [1], [0], []]
    assert not both.notes


def test_a_class_that_is_not_there_cannot_be_chosen(folder: Callable[[], Path]) -> None:
    said = r"data.classes: there is no class Coin \(did you mean coin for Coin\?\); the file has"
    with pytest.raises(DataError, match=said):
        load(folder(), replace(PLAIN, classes=("Coin",)))


def test_names_that_look_the_same_are_the_same(
    content: Any, folder: Callable[[], Path], tmp_path: Path
) -> None:
    content["categories"][1]["name"] = "ring\u2060 "
    chosen = load(folder(), replace(PLAIN, classes=("ring\u200b", " coin")))
    assert chosen.classes == ("ring", "coin")
    model = ("coin\ufeff", "ring")
    evaluated = load(tmp_path, classes=model, train=False)
    assert evaluated.classes == model
    assert labels(evaluated) == [[1, 0], [0], [1], []]
    assert class_names("coin\u200b, Zelle\u0301") == ["coin", "Zell\u00e9"]


def test_joiners_are_spelling(content: Any, folder: Callable[[], Path]) -> None:
    content["categories"][0]["name"] = "\u0645\u06cc\u200c\u062e\u0648"
    assert content["categories"][0]["name"] in load(folder()).classes


def test_a_name_that_is_not_seen_is_blank(content: Any, folder: Callable[[], Path]) -> None:
    content["categories"][0]["name"] = " \u200b"
    with pytest.raises(DataError, match="name is blank"):
        load(folder())
    with pytest.raises(UsageError, match="a name is blank"):
        class_names("\u200b,coin")


def test_a_supercategory_without_objects_is_left_out(
    content: Any, folder: Callable[[], Path]
) -> None:
    content["categories"] = [
        {"id": 0, "name": "things-kx2p", "supercategory": "none"},
        *(c | {"supercategory": "things-kx2p"} for c in content["categories"]),
    ]
    dataset = load(folder())
    assert dataset.classes == ("coin", "ring")
    said = "1 class left out (a supercategory or background without objects): things-kx2p"
    assert [note.partition(" (0")[0] for note in dataset.notes] == [said]
    assert load(folder(), classes=("coin", "ring")).classes == ("coin", "ring")


def test_a_supercategory_with_objects_stays(content: Any, folder: Callable[[], Path]) -> None:
    content["categories"][0]["supercategory"] = "ring"
    assert load(folder()).classes == ("coin", "ring")


def test_classes_that_are_their_own_supercategory_stay(
    content: Any, folder: Callable[[], Path]
) -> None:
    for category in content["categories"]:
        category["supercategory"] = category["name"]
    content["categories"].append({"id": 3, "name": "nail", "supercategory": "nail"})
    assert load(folder()).classes == ("coin", "ring", "nail")


def test_categories_of_one_name_are_one_class(content: Any, folder: Callable[[], Path]) -> None:
    content["categories"].append({"id": 3, "name": "coin"})
    content["annotations"][2]["category_id"] = 3
    dataset = load(folder())
    assert dataset.classes == ("coin", "ring")
    assert dataset.category_ids == (9, 7)
    assert labels(dataset) == [[1, 0], [0], [1], []]
    assert dataset.notes == ("categories of one name are one class: coin",)
    assert {a["category_id"] for a in dataset.ground_truth["annotations"]} == {9, 7}


def test_a_model_is_evaluated_on_the_classes_that_both_have(
    content: Any, folder: Callable[[], Path]
) -> None:
    dataset = load(folder(), classes=("ring", "nail"), train=False)
    assert dataset.classes == ("ring", "nail")
    assert dataset.category_ids == (7, 10)
    assert labels(dataset) == [[0], [], [0], []]
    assert dataset.notes == (
        "1 class left out (not a class of the model): coin (3 annotations)",
        "1 class without objects here: nail",
    )
    assert [c["name"] for c in dataset.ground_truth["categories"]] == ["ring", "nail"]


@pytest.mark.parametrize("name", ["Coin", "COIN ", "co-in", "coins"])
def test_names_that_nearly_match_are_said(
    content: Any, folder: Callable[[], Path], name: str
) -> None:
    dataset = load(folder(), classes=("ring", name), train=False)
    assert f"(did you mean {name} for coin?)" in dataset.notes[0]


def crowd_of(content: Any, name: int) -> None:
    """Let all annotations of a class be crowd regions, four at least."""
    for annotation in content["annotations"]:
        annotation["iscrowd"] = int(annotation["category_id"] == name)
    extra = next(a for a in content["annotations"] if a["category_id"] == name)
    content["annotations"] += [extra | {"id": 100 + i} for i in range(2)]


def test_a_class_of_crowd_regions_stops(content: Any, folder: Callable[[], Path]) -> None:
    crowd_of(content, 9)
    place = folder()
    with pytest.raises(DataError, match=r"5 of 5 annotations of class coin .*data.crowd objects"):
        load(place)
    assert len(check(place).errors) == 1
    ignoring = load(place, replace(PLAIN, crowd="ignore"))
    assert labels(ignoring) == [[1], [], [1], []]
    assert ignoring.contents.crowd == 5
    objects = load(place, replace(PLAIN, crowd="objects"))
    assert objects.contents.objects == 7
    assert objects.contents.crowd == 0
    assert objects.notes[0] == "5 annotations with iscrowd 1 taken as objects (data.crowd)"
    assert all(a["iscrowd"] == 0 for a in objects.ground_truth["annotations"])
    sample = objects[0].objects
    assert sample is not None
    assert not sample.crowds
    assert len(sample.masks) == 4


def test_crowd_regions_among_objects_are_counted_and_no_fault(
    content: Any, folder: Callable[[], Path]
) -> None:
    place = folder()
    assert "1 crowd region (iscrowd 1), not learnt from" in str(load(place).contents)
    report = check(place)
    assert report.ok
    assert "1 of 5 annotations is a crowd region" in report.render()


def of_both(folder: Path, content: Any, write: Write, names: tuple[str, ...]) -> list[str]:
    """Return what is said where the validation split lists other names."""
    write(content, folder / "annotations/instances_train.json", folder / "train")
    used = content["categories"][: len(names)]
    content["categories"] = [c | {"name": n} for c, n in zip(used, names, strict=False)]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 9]
    write(content, folder / "annotations/instances_val.json", folder / "val")
    return [p.reason for p in check(folder).problems if "val.json" in p.file and p.where == ""]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("coin",), "1 class of the train split not listed here: ring"),
        (("Coin", "ring"), "class Coin (2 objects) is not in the train split; did you mean coin?"),
        (("bolt", "ring"), "class bolt (2 objects) is not in the train split"),
    ],
)
def test_classes_of_all_splits_are_compared(
    tmp_path: Path, content: Any, write: Write, names: tuple[str, ...], said: str
) -> None:
    assert said in of_both(tmp_path, content, write, names)


def test_splits_of_the_same_classes_are_not_named(
    tmp_path: Path, content: Any, write: Write
) -> None:
    said = of_both(tmp_path, content, write, ("coin", "ring"))
    assert not any("train split" in reason for reason in said)
