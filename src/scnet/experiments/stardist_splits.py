"""The parts of StarDist's data set: what is trained on, chosen on and tested on, kept apart.

A folder holds in `annotations` `instances_train.json` and `instances_test.json`, and one file each
`instances_trainN.json` and `instances_valN.json` that split the training images, N being a number.
From them two data sets are laid out in the usual way: one to choose with, and one for the trainings
that are tested, which has no images to evaluate on.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scnet.config import DataConfig
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import DataError
from scnet.runtime.files import whole_file

TUNING, FINAL = "tuning", "final"  # what is added to the name of a data set


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The annotation files of a data set."""

    train: Path  # all images that may be trained on
    fit: Path  # of these, those that are trained on to choose
    judge: Path  # and those that are chosen on
    test: Path


def find(data: Path) -> Splits:
    """Return the annotation files of a data set.

    Raises:
        DataError: one is missing, or several may be meant.
    """
    folder = data / "annotations"
    return Splits(
        train=_only(folder, r"instances_train\.json"),
        fit=_only(folder, r"instances_train\d+\.json"),
        judge=_only(folder, r"instances_val\d+\.json"),
        test=_only(folder, r"instances_test\.json"),
    )


def check(data: Path) -> str:
    """Return what is in a data set.

    Raises:
        DataError: it is not there or broken, or an image is in two parts that must be apart.
    """
    train, fit, judge, test = _load(find(data), data)
    _refuse_shared(fit, judge)
    for part in (fit, judge):
        if other := _names(part) - _names(train):
            raise DataError(
                f"{part.annotation_file}: {min(other)} is no image of "
                f"{train.annotation_file.name}; what is "
                "chosen with must be a part of what is trained on"
            )
    _refuse_copies(train, test)
    return (
        f"{data}: {len(train)} train images, of which {len(fit)} to train and {len(judge)} to "
        f"choose with, and {len(test)} test images"
    )


def layout(data: Path) -> list[str]:
    """Return what is looked for in a data set, in lines."""
    return [
        f"data: {data}/annotations/instances_train.json, and N of its images to train and to",
        "      choose with in instances_trainN.json and instances_valN.json; images in train/",
        f"      {data}/annotations/instances_test.json, images in test/",
        "      the folders that the trainings name are laid out from these",
    ]


def lay_out(data: Path, tuning: Path, final: Path) -> None:
    """Make the two data sets that are trained on; what is there of them is made anew.

    Raises:
        DataError: see `find`.
    """
    splits = find(data)
    images = load_dataset(splits.train, "train", DataConfig(), train=False).image_root
    _make(tuning, {"train": splits.fit, "val": splits.judge}, images)
    _make(final, {"train": splits.train}, images)


def _make(folder: Path, parts: Mapping[str, Path], images: Path) -> None:
    for name, file in parts.items():
        with whole_file(folder / "annotations" / f"instances_{name}.json") as new:
            shutil.copyfile(file, new)
    link = folder / "images"
    if link.is_symlink():
        link.unlink()
    os.symlink(images.resolve(), link, target_is_directory=True)


def _only(folder: Path, pattern: str) -> Path:
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    found = [file for file in files if re.fullmatch(pattern, file.name)]
    if len(found) == 1:
        return found[0]
    shown = pattern.replace("\\d+", "N").replace("\\", "")
    there = ", ".join(file.name for file in found or files) or "no JSON file"
    raise DataError(
        f"{folder}: expected one {shown}, found {there}; the experiment needs instances_train.json "
        "and instances_test.json, and one instances_trainN.json and one instances_valN.json that "
        "split the training images"
    )


def _load(splits: Splits, data: Path) -> tuple[CocoDataset, ...]:
    config = DataConfig()
    files = (splits.train, splits.fit, splits.judge)
    parts = [load_dataset(file, "train", config, train=False) for file in files]
    return *parts, load_dataset(data, "test", config, train=False)


def _names(dataset: CocoDataset) -> set[str]:
    return {record.file_name for record in dataset.images}


def _refuse_shared(fit: CocoDataset, judge: CocoDataset) -> None:
    if shared := _names(fit) & _names(judge):
        raise DataError(
            f"{judge.annotation_file}: {min(shared)} is in {fit.annotation_file.name}, too; "
            "images to choose with must not be trained on"
        )


def _refuse_copies(train: CocoDataset, test: CocoDataset) -> None:
    seen = _digests(train.paths)
    for digest, path in _digests(test.paths).items():
        if digest not in seen:
            continue
        raise DataError(
            f"{test.annotation_file}: {path} is the same file as the training image "
            f"{seen[digest]}; images to test with must not be trained on"
        )


def _digests(paths: Iterable[Path]) -> dict[str, Path]:
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in paths}
