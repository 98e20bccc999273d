"""What a data set has twice, does not look at or marks without effect is counted and named."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scnet.config import DataConfig
from scnet.data.check import Report, check
from scnet.data.coco import load_dataset
from scnet.data.overlap import END, same_content, shared_notes
from scnet.data.wording import counted

Write = Callable[..., Path]
CONFIG = DataConfig(size=(30, 40))


def load(file: Path) -> Any:
    return load_dataset(file, "train", CONFIG, train=True)


def said(report: Report, severity: str) -> str:
    return "\n".join(str(p) for p in report.problems if p.severity == severity)


@pytest.fixture
def folder(tmp_path: Path, content: Any, write: Write) -> Path:
    """A sound data set of a training and a validation split without a common image."""
    write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    write(content, tmp_path / "annotations/instances_val.json", tmp_path / "val")
    for file in (tmp_path / "val").iterdir():
        with Image.open(file) as image:
            image.transpose(Image.Transpose.ROTATE_180).save(file)
    return tmp_path


def change(folder: Path, content: Any, split: str = "train") -> Path:
    file = folder / f"annotations/instances_{split}.json"
    file.write_text(json.dumps(content))
    return file


def test_a_sound_data_set_has_nothing_of_all_this(folder: Path) -> None:
    text = check(folder).render()
    for word in ("twice", "too", "no entry", "content", "effect"):
        assert word not in text
    assert load(folder / "annotations/instances_train.json").notes == ()


@pytest.mark.parametrize("places", [(0,), (0, 2), (0, 1, 2, 3), (0, 0, 0)])
def test_annotations_that_are_there_twice_are_counted(
    folder: Path, content: Any, places: tuple[int, ...]
) -> None:
    for number, place in enumerate(places, start=1000):
        content["annotations"].append({**content["annotations"][place], "id": number})
    file = change(folder, content)
    sentence = f"{counted(len(places), 'annotation', 'is')} there twice"
    assert f"{sentence}, such as 1000 and 1 (same image" in said(check(folder), "warning")
    assert [note.startswith(sentence) for note in load(file).notes] == [True]


@pytest.mark.parametrize(
    "changes",
    [
        {"image_id": 2},
        {"segmentation": [[2, 3, 22, 3, 22, 13, 3, 13]]},
        {"bbox": [2, 3, 20, 9]},
    ],
)
def test_annotations_that_differ_are_not_twice(
    folder: Path, content: Any, changes: dict[str, Any]
) -> None:
    content["annotations"].append({**content["annotations"][0], "id": 1000, **changes})
    file = change(folder, content)
    assert "twice" not in check(folder).render()
    assert load(file).notes == ()


def test_an_object_of_two_classes_is_spoken_of(folder: Path, content: Any) -> None:
    first = content["annotations"][0]
    for number in (1000, 1001):  # the second is there twice besides
        content["annotations"].append({**first, "id": number, "category_id": 9})
    file = change(folder, content)
    sentence = "1 annotation has the image, box and mask of one of another class"
    assert f"{sentence}, such as 1000 and 1" in said(check(folder), "warning")
    notes = load(file).notes
    assert [note.partition(";")[0] for note in notes[1:]] == [sentence]
    assert notes[0].startswith("1 annotation is there twice")


def test_long_masks_that_differ_in_the_middle_are_not_twice(folder: Path, content: Any) -> None:
    polygon = [2, 3, *[22, 3] * 1000, 22, 13, *[2, 13] * 1000]
    other = copy.copy(polygon)
    other[2000] = 21
    entries = [{**content["annotations"][0], "segmentation": [p]} for p in (polygon, other)]
    content["annotations"] = [{**entry, "id": i} for i, entry in enumerate(entries, start=1)]
    assert load(change(folder, content)).notes == ()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"ignore": 1}, "ignore"),
        ({"difficult": True}, "difficult"),
        ({"isbbox": True}, "isbbox"),
        ({"is_crowd": 1}, "is_crowd"),
        ({"isCrowd": "1"}, "isCrowd"),
        ({"attributes": {"occluded": True}}, "attributes.occluded"),
    ],
)
def test_marks_without_effect_are_named(
    folder: Path, content: Any, changes: dict[str, Any], key: str
) -> None:
    for annotation in content["annotations"][:2]:
        annotation |= changes
    file = change(folder, content)
    sentence = f"2 annotations are marked with {key}, which has no effect"
    assert sentence in said(check(folder), "warning")
    assert [note.startswith(sentence) for note in load(file).notes] == [True]


@pytest.mark.parametrize("value", [0, False, None, "0", "false", "No"])
def test_marks_that_are_not_set_are_no_warning(folder: Path, content: Any, value: Any) -> None:
    for annotation in content["annotations"]:
        annotation |= {"ignore": value, "attributes": {"occluded": value}, "color": "red"}
    file = change(folder, content)
    assert "marked" not in check(folder).render()
    assert "keys of annotations without effect: attributes (5), color (5)" in check(folder).render()
    assert load(file).notes == ()


def test_files_without_an_entry_are_counted_over_all_splits(
    tmp_path: Path, content: Any, write: Write
) -> None:
    other = copy.deepcopy(content)
    for image in other["images"]:
        image["file_name"] = f"val{image['file_name']}"
    write(content, tmp_path / "annotations/instances_train.json", tmp_path / "images")
    write(other, tmp_path / "annotations/instances_val.json", tmp_path / "images")
    assert "no entry" not in check(tmp_path).render()
    for number in range(6):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"images/x{number}.png")
    (tmp_path / "images/notes.txt").write_text("no image")
    notes = said(check(tmp_path), "note")
    assert f"6 image files have no entry, such as {tmp_path / 'images/x0.png'}" in notes
    assert notes.count("no entry") == 1


def test_images_twice_in_a_split_are_counted_by_content(folder: Path, content: Any) -> None:
    shutil.copy(folder / "train/1.png", folder / "train/2.png")
    shutil.copy(folder / "train/1.png", folder / "train/3.png")
    warnings = said(check(folder), "warning")
    assert (
        f"2 image files have the content of another, such as {folder / 'train/2.png'}" in warnings
    )


@pytest.mark.parametrize("number", [1, 3])
def test_validation_images_that_are_training_images_are_counted(
    folder: Path, content: Any, number: int
) -> None:
    for i in range(1, number + 1):
        shutil.copy(folder / f"train/{i}.png", folder / f"val/{5 - i}.png")
    are = "is a training image" if number == 1 else "are training images"
    sentence = f"{number} of 4 val images {are} too, such as "
    assert sentence in said(check(folder), "warning")
    train, val = (load_dataset(folder, s, CONFIG, train=False) for s in ("train", "val"))
    (note,) = shared_notes(train.paths, val.paths)
    assert note.startswith(f"{number} of 4 validation images {are} too")
    assert shared_notes(train.paths[number:], val.paths[: 4 - number]) == []


def test_one_file_for_both_splits_is_said(tmp_path: Path, content: Any, write: Write) -> None:
    file = write(content, tmp_path / "coins.json", tmp_path / "images")
    sets = [load_dataset(file, split, CONFIG, train=False) for split in ("train", "val")]  # type: ignore[arg-type]
    (note,) = shared_notes(sets[0].paths, sets[1].paths)
    assert note.startswith("4 of 4 validation images are training images too")
    assert "the same file" in note


def test_only_equal_bytes_are_the_same_content(tmp_path: Path) -> None:
    end = bytes(END)
    contents = [b"a" + end, b"b" + end, b"a" + end, b"", b"", b"a", b"b"]
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, text in zip(paths, contents, strict=True):
        path.write_bytes(text)
    groups = same_content([*paths, tmp_path / "not there"])
    assert sorted(groups) == [[paths[0], paths[2]], [paths[3], paths[4]]]
