"""Left and right classes change places in mirrored images, and what does not is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scnet.config import DataConfig
from scnet.data.check import check
from scnet.data.coco import CocoDataset, DataError, load_dataset
from scnet.data.sides import ByName, by_name
from scnet.settings import ConfigError
from scnet.types import IGNORE, View

PLAIN = DataConfig(size=(30, 40), flip=0.0, workers=0)
CLASSES = ("left_door", "hood", "right_door")
Make = Callable[..., CocoDataset]


@pytest.fixture
def make(coco_folder: Path) -> Make:
    """Return what reads two images, each with a left door on the left and a hood on the right."""

    def make(
        flip: float, vertical: float = 0.0, classes: tuple[str, ...] = CLASSES, **options: Any
    ) -> CocoDataset:
        semantic = options.pop("semantic", False)
        file = coco_folder / "annotations/instances_train.json"
        content = json.loads(file.read_text())
        content["images"] = content["images"][:2]
        content["categories"] = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
        content["annotations"] = [
            {
                "id": 2 * image + category,
                "image_id": image,
                "category_id": category,
                "bbox": [x, 5, 10, 20],
                "segmentation": [[x, 5, x + 10, 5, x + 10, 25, x, 25]],
                "area": 200,
                "iscrowd": 0,
            }
            for image in (1, 2)
            for category, x in ((1, 2), (2, 25))
        ]
        file.write_text(json.dumps(content))
        config = replace(PLAIN, flip=flip, vertical_flip=vertical, **options)
        return load_dataset(coco_folder, "train", config, train=True, semantic=semantic)

    return make


def labels(dataset: CocoDataset, index: int = 0) -> list[int]:
    objects = dataset[index].objects
    assert objects is not None
    return objects.labels.tolist()


def notes(dataset: CocoDataset) -> str:
    assert dataset.swaps is not None
    return "; ".join(dataset.swaps.notes)


@pytest.mark.parametrize(
    ("names", "pairs", "alone"),
    [
        (("left_door", "right_door", "hood"), [("left_door", "right_door")], []),
        (("Right Lung", "LEFT-lung"), [("LEFT-lung", "Right Lung")], []),
        (("back_left_light", "back_right_light"), [("back_left_light", "back_right_light")], []),
        (("door right", "door left"), [("door left", "door right")], []),
        (("left", "right"), [("left", "right")], []),
        (("left_door", "right_window"), [], ["left_door", "right_window"]),
        (("front_left", "left_rear_right"), [], ["left_rear_right", "front_left"]),
        (("left_eye", "Left eye", "right_eye"), [], ["left_eye", "Left eye", "right_eye"]),
        # No word of its own, or a letter that may mean anything.
        (("copyleft", "copyright", "bright", "leftover", "rightover"), [], []),
        (("door_l", "door_r", "l", "r"), [], []),
    ],
)
def test_pairs_differ_in_the_word_left_or_right_alone(
    names: tuple[str, ...], pairs: list[tuple[str, str]], alone: list[str]
) -> None:
    assert by_name(names) == ByName(tuple(pairs), tuple(alone))


@pytest.mark.parametrize(
    ("flip", "vertical", "expected"),
    [(0.0, 0.0, [0, 1]), (1.0, 0.0, [2, 1]), (0.0, 1.0, [2, 1]), (1.0, 1.0, [0, 1])],
)
def test_one_reflection_swaps_and_two_do_not(
    make: Make, flip: float, vertical: float, expected: list[int]
) -> None:
    assert labels(make(flip, vertical)) == expected


def test_a_view_is_reflected_when_it_is_mirrored_once() -> None:
    whole = View.whole((3, 4))
    assert not whole.reflected
    assert replace(whole, horizontal=True).reflected
    assert replace(whole, vertical=True).reflected
    assert not replace(whole, horizontal=True, vertical=True).reflected


def test_pairs_that_are_given_are_swapped_and_no_others(make: Make) -> None:
    given = make(1.0, flip_swaps=(("left_door", " hood"),))
    assert labels(given) == [1, 0]
    assert notes(given) == (
        "in mirrored images left_door and hood change places (data.flip_swaps: as given); "
        "1 class without one clear counterpart on the other side, the same in mirrored images: "
        "right_door; name pairs with data.flip_swaps, or mirror nothing (data.flip 0)"
    )


def test_an_empty_list_swaps_nothing_and_says_so(make: Make) -> None:
    off = make(1.0, flip_swaps=())
    assert labels(off) == [0, 1]
    assert notes(off) == (
        "in mirrored images left_door and right_door stay what they are (data.flip_swaps)"
    )


def test_what_is_found_by_name_is_said_where_images_are_mirrored(make: Make) -> None:
    said = notes(make(0.5, classes=("left_door", "left arm", "right_door")))
    assert "left_door and right_door change places (data.flip_swaps: auto, by their names)" in said
    assert "1 class without one clear counterpart" in said
    assert "mirrored images: left arm;" in said
    assert notes(make(0.0)) == ""
    assert notes(make(0.5, classes=("coin", "ring", "disc"))) == ""


def test_data_that_are_not_trained_on_swap_nothing(make: Make, coco_folder: Path) -> None:
    make(1.0)
    assert load_dataset(coco_folder, "train", PLAIN, train=False).swaps is None


def test_classes_that_there_are_not_are_refused_with_near_ones(make: Make) -> None:
    with pytest.raises(DataError, match=r"flip_swaps: there is no class left-door .*did you mean"):
        make(1.0, flip_swaps=(("left-door", "right_door"),))
    with pytest.raises(DataError, match=r"classes are left_door, hood, right_door. Name pairs of"):
        make(1.0, flip_swaps=(("coin", "hood"),))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((("a", "a"),), "a is paired with itself; leave the pair out"),
        ((("a", "b"), ("b", "c")), "b is in 2 pairs; keep one of them"),
        ((("a", "b"), ("b", "a")), "a is in 2 pairs"),
    ],
)
def test_pairs_that_contradict_each_other_are_refused(
    pairs: tuple[tuple[str, str], ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"data.flip_swaps: {message}"):
        DataConfig(flip_swaps=pairs)


def test_two_spellings_of_one_class_are_one(make: Make) -> None:
    with pytest.raises(ConfigError, match="hood is in 2 pairs"):
        make(1.0, flip_swaps=(("left_door", "hood"), ("hood\u200b", "right_door")))


def test_a_painted_map_has_the_classes_of_the_objects(make: Make) -> None:
    straight, mirrored = make(0.0, semantic=True)[0], make(1.0, semantic=True)[0]
    assert straight.semantic is not None
    assert mirrored.semantic is not None
    expected = torch.tensor([2, 1, 0, 3], dtype=torch.int16)[straight.semantic.flip(-1).long()]
    assert torch.equal(mirrored.semantic, expected)


def write_stuff(folder: Path, names: list[str] | None) -> None:
    maps = folder / "semantic_train"
    maps.mkdir()
    values = np.full((30, 40), 255, np.uint8)
    values[:, :10], values[:, 10:20], values[:, 20:30] = 0, 1, 2
    Image.fromarray(values).save(maps / "1.png")
    if names is not None:
        (maps / "categories.json").write_text(json.dumps([{"name": name} for name in names]))


def columns(dataset: CocoDataset) -> list[int]:
    """Values of the map of the first image, one for each quarter of a row."""
    semantic = dataset[0].semantic
    assert semantic is not None
    assert all(len(set(semantic[:, x : x + 10].flatten().tolist())) == 1 for x in (0, 10, 20, 30))
    return semantic[0, ::10].tolist()


def test_stuff_maps_swap_the_classes_that_their_list_names(make: Make, coco_folder: Path) -> None:
    write_stuff(coco_folder, ["right_door", "road", "left_door", "sky"])
    dataset = make(1.0, semantic=True)
    assert columns(dataset) == [IGNORE, 0, 1, 2]
    assert "so do left_door and right_door of the stuff maps in" in notes(dataset)
    assert columns(make(1.0, 1.0, semantic=True)) == [IGNORE, 2, 1, 0]
    assert columns(make(0.0, semantic=True)) == [0, 1, 2, IGNORE]
    assert columns(make(1.0, flip_swaps=(), semantic=True)) == [IGNORE, 2, 1, 0]
    given = make(1.0, flip_swaps=(("left_door", "right_door"),), semantic=True)
    assert columns(given) == [IGNORE, 0, 1, 2]


def test_stuff_maps_without_both_classes_stay_and_are_said_to(
    make: Make, coco_folder: Path
) -> None:
    write_stuff(coco_folder, ["left_door", "road", "sky"])
    for setting in ("auto", (("left_door", "right_door"),)):
        dataset = make(1.0, flip_swaps=setting, semantic=True)
        assert columns(dataset) == [IGNORE, 2, 1, 0]
        assert "the stuff maps in" in notes(dataset)
        assert "counterpart there, the same in mirrored images: left_door" in notes(dataset)


def test_stuff_maps_without_names_stay_and_are_said_to(make: Make, coco_folder: Path) -> None:
    write_stuff(coco_folder, None)
    dataset = make(1.0, semantic=True)
    assert columns(dataset) == [IGNORE, 2, 1, 0]
    assert "have no list of names (*categories.json)" in notes(dataset)
    assert "list of names" not in notes(make(1.0, classes=("a", "b", "c"), semantic=True))


def test_pasted_objects_have_the_class_of_their_own_mirroring(make: Make) -> None:
    dataset = make(0.5, copy_paste=1.0)
    seen = set()
    for epoch in range(30):
        dataset.set_epoch(epoch)
        sample = dataset[0]
        assert sample.objects is not None
        mirrored = sample.info.view.horizontal
        own = [2, 1] if mirrored else [0, 1]
        others = [label for label in sample.objects.labels.tolist() if label not in own]
        seen.add((mirrored, bool(others)))
        assert set(others) <= {0, 2}
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


def test_the_check_says_and_refuses_what_a_training_does(make: Make, coco_folder: Path) -> None:
    make(0.5)
    said = [p.reason for p in check(coco_folder).problems if p.severity == "note"]
    assert any("left_door and right_door change places" in reason for reason in said)
    unmirrored = check(coco_folder, config=replace(PLAIN, flip_swaps="auto"))
    assert not any("mirrored images" in problem.reason for problem in unmirrored.problems)
    report = check(coco_folder, config=DataConfig(flip_swaps=(("left_door", "boot"),)))
    assert not report.ok
    (refused,) = [p for p in report.problems if "flip_swaps" in p.reason]
    assert refused.reason == "data.flip_swaps: there is no class boot"
    assert refused.action.startswith("the classes are left_door, hood, right_door. Name pairs")
