"""Splits are found in the usual layouts, and what is missing is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scnet.data.images import DataError
from scnet.data.layout import (
    NoSplitError,
    annotation_files,
    find_split,
    is_of_any_split,
    locate_images,
)

Write = Callable[..., Path]


def root_of(path: Path, split: Any) -> Path:
    found = find_split(path, split)
    names = [entry["file_name"] for entry in json.loads(found.annotations.read_text())["images"]]
    return locate_images(found, names).root


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("annotations/instances_train.json", "train"),
        ("annotations/instances_train.json", "train2017"),
        ("annotations/instances_train.json", "images"),
        ("annotations/instances_train.json", "."),
        ("annotations/train.json", "train/images"),
        ("annotations/instances_default.json", "images"),
        ("train/_annotations.coco.json", "train"),
        ("training/_annotations.coco.json", "training"),
        ("instances_train.json", "images"),
        ("train.json", "train"),
        ("annotations.json", "."),
        ("labels.json", "data"),
    ],
)
def test_usual_layouts_are_found(
    tmp_path: Path, content: Any, write: Write, annotations: str, images: str
) -> None:
    file = write(content, tmp_path / annotations, tmp_path / images)
    assert find_split(tmp_path, "train").annotations == file
    assert root_of(tmp_path, "train") == tmp_path / images
    assert root_of(file, "train") == tmp_path / images


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_val2017.json", "val2017"),
        ("valid/_annotations.coco.json", "valid"),
        ("annotations/instances_validation.json", "validation"),
    ],
)
def test_validation_is_found_beside_training(
    tmp_path: Path, content: Any, write: Write, annotations: str, images: str
) -> None:
    train = write(
        content, tmp_path / "annotations/instances_train2017.json", tmp_path / "train2017"
    )
    val = write(content, tmp_path / annotations, tmp_path / images)
    assert find_split(tmp_path, "train").annotations == train
    assert find_split(tmp_path, "val").annotations == val
    assert root_of(tmp_path, "val") == tmp_path / images
    assert annotation_files(tmp_path) == [train, val]


def test_other_annotations_of_coco_are_passed_over(coco_folder: Path) -> None:
    for name in ("captions_train2017", "person_keypoints_train2017", "stuff_train2017"):
        (coco_folder / f"annotations/{name}.json").write_text("{}")
    file = find_split(coco_folder, "train").annotations
    assert file == coco_folder / "annotations/instances_train.json"


def test_of_several_files_the_plain_or_the_whole_one_is_taken(
    tmp_path: Path, content: Any, write: Write
) -> None:
    folder = tmp_path / "annotations"
    for name in ("instances_train_one", "instances_train_two"):
        write(content, folder / f"{name}.json", tmp_path / "train")
    with pytest.raises(DataError, match=r"several files .*train_one.json, .*train_two.json.* give"):
        find_split(tmp_path, "train")
    whole = write(content, folder / "instances_train_all.json", tmp_path / "train")
    assert find_split(tmp_path, "train").annotations == whole
    plain = write(content, folder / "instances_train.json", tmp_path / "train")
    assert find_split(tmp_path, "train").annotations == plain


def test_a_file_of_another_split_stands_for_its_sibling(
    tmp_path: Path, content: Any, write: Write
) -> None:
    train = write(content, tmp_path / "annotations/instances_train_a.json", tmp_path / "train")
    with pytest.raises(DataError, match=r"no val split beside it; looked for instances_val_a.json"):
        find_split(train, "val")
    val = write(content, tmp_path / "annotations/instances_val_a.json", tmp_path / "val")
    assert find_split(train, "val").annotations == val
    assert find_split(val, "train").annotations == val  # training takes what it is given


def test_a_file_without_a_split_in_its_name_serves_every_split(
    tmp_path: Path, content: Any, write: Write
) -> None:
    file = write(content, tmp_path / "coins.json", tmp_path / "images")
    assert find_split(file, "train").annotations == find_split(file, "val").annotations == file


def test_what_is_missing_is_said(tmp_path: Path, coco_folder: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        find_split(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match=r"no test split; expected annotations/instances_test.json"):
        find_split(coco_folder, "test")
    for image in (coco_folder / "val").iterdir():
        image.unlink()
    for image in (coco_folder / "train").iterdir():
        image.unlink()
    with pytest.raises(DataError, match=r"none of its images found, such as 1.png"):
        root_of(coco_folder, "val")


def test_the_real_data_sets_are_found(data_dir: Path) -> None:
    found = find_split(data_dir / "coco600_400px", "val").annotations
    assert found.name == "instances_val_all.json"
    assert root_of(data_dir / "coco600_400px", "train").name == "train2017"
    for name in ("dsb2018_le360", "balloon_1024px", "coco_oneperson_400px"):
        assert root_of(data_dir / name, "val").name == "val"


def test_a_part_of_the_training_images_has_the_rest_and_the_test_split_beside_it(
    tmp_path: Path, content: Any, write: Write
) -> None:
    folder = tmp_path / "annotations"
    for name, images in (
        ("fit3", "train"),
        ("val1", "train"),
        ("train", "train"),
        ("test", "test"),
    ):
        write(content, folder / f"instances_{name}.json", tmp_path / images)
    fit = folder / "instances_fit3.json"
    assert not is_of_any_split(fit)
    for split, name in (("train", "fit3"), ("val", "val1"), ("test", "test")):
        assert find_split(fit, split).annotations == folder / f"instances_{name}.json"
    assert root_of(fit, "train") == root_of(fit, "val") == tmp_path / "train"
    assert root_of(fit, "test") == tmp_path / "test"
    assert find_split(tmp_path, "train").annotations == folder / "instances_train.json"
    fit.rename(folder / "instances_train3.json")
    numbered = folder / "instances_train3.json"
    assert find_split(numbered, "val").annotations == folder / "instances_val1.json"
    write(content, folder / "instances_val2.json", tmp_path / "train")
    with pytest.raises(DataError, match=r"several files for the val split: instances_val1.json, i"):
        find_split(numbered, "val")
    for number in (1, 2):
        (folder / f"instances_val{number}.json").unlink()
    with pytest.raises(
        NoSplitError, match=r"no val split beside it; looked for instances_val.json"
    ):
        find_split(numbered, "val")
