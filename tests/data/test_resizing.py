"""Marks of images that were resized since are scaled as a setting says, or the data set stops."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scnet.cli.main import main
from scnet.config import Config, ConfigError, DataConfig, override
from scnet.data.check import check
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import DataError
from scnet.evaluation.reading import reading_of
from scnet.ops.rle import decode, encode

Coco = dict[str, Any]


def load(file: Path, **how: Any) -> CocoDataset:
    config = override(Config(), {"data": {"workers": 0, **how}}).data
    return load_dataset(file, "train", config, train=True)


def pixels(size: tuple[int, int], box: tuple[int, int, int, int]) -> Any:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


@pytest.fixture
def resized(coco_folder: Path, content: Coco) -> Callable[..., Path]:
    """Return a function that resizes the training images of 40 x 30 on the disk alone."""
    packed = encode(pixels((30, 40), (10, 5, 18, 11)))
    content["annotations"][1]["segmentation"] = packed

    def resize(*size: int) -> Path:
        for file in (coco_folder / "train").iterdir():
            Image.open(file).resize(size).save(file)
        file = coco_folder / "annotations/instances_train.json"
        file.write_text(json.dumps(content))
        return file

    return resize


def test_marks_are_scaled_to_the_files(resized: Callable[..., Path]) -> None:
    file = resized(20, 15)
    with pytest.raises(DataError, match=r"is 20 x 15, but .* says 40 x 30.*--data\.scale-marks"):
        load(file)[0]
    dataset = load(file, scale_marks="files")
    assert dataset.notes[0] == (
        "4 images resized since, such as 1.png from 40 x 30 to 20 x 15: marks are scaled likewise "
        "(data.scale_marks)"
    )
    first = dataset.images[0]
    assert first.size == (15, 20)
    drawn, packed = first.annotations
    assert drawn.box == (1, 1.5, 11, 6.5)
    assert np.asarray(drawn.segmentation[0]).tolist() == [1, 1.5, 11, 1.5, 11, 6.5, 1, 6.5]
    assert packed.box == (5, 2.5, 9, 5.5)
    # The middle of a pixel of the small image decides: rows 5, 7, 9 of 5 to 10 are 2, 3 and 4.
    assert (decode(packed.segmentation, (15, 20)) == pixels((15, 20), (5, 2, 9, 5))).all()
    crowd = dataset.images[2].annotations[1]
    assert (decode(crowd.segmentation, (15, 20)) == pixels((15, 20), (10, 0, 15, 15))).all()
    assert dataset[0].objects is not None
    truth = dataset.ground_truth
    assert [(i["width"], i["height"]) for i in truth["images"]] == [(20, 15)] * 4
    assert [a["area"] for a in truth["annotations"][:2]] == [50, 12]


def test_the_advice_of_the_check_is_a_setting_that_works(
    resized: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = resized(20, 15)
    (first, *others) = check(file).errors
    assert len(others) == 3
    assert first.reason == "file is 20 x 15, the annotations say 40 x 30"
    (switch,) = re.findall(r"--data\.scale-marks \w+", first.action)
    assert main(["check-data", str(file), "--quiet", *shlex.split(switch), "--fix", "fixed"]) == 0
    assert "--data.scale-marks files" in capsys.readouterr().out.splitlines()[-1]
    file.write_bytes((tmp_path / "fixed/instances_train.json").read_bytes())
    assert load(file)[0].objects is not None
    assert load(file).images[0].annotations[0].box == (1, 1.5, 11, 6.5)


def test_stretched_images_are_spoken_of(resized: Callable[..., Path]) -> None:
    dataset = load(resized(80, 30), scale_marks="files")
    assert "4 images have another shape than the annotations were made for" in dataset.notes[1]
    assert dataset.images[0].annotations[0].box == (4, 3, 44, 13)


def test_exchanged_sides_are_no_other_size(resized: Callable[..., Path]) -> None:
    dataset = load(resized(30, 40), scale_marks="files", orientation="stored")
    assert "changes nothing" in dataset.notes[0]
    with pytest.raises(DataError, match=r"are exchanged; set --data\.orientation"):
        dataset[0]


def test_images_under_another_name_are_measured_too(
    resized: Callable[..., Path], content: Coco
) -> None:
    for image in content["images"]:
        image["file_name"] = f"D:\\{image['file_name']}"
    assert load(resized(20, 15), scale_marks="files").images[0].size == (15, 20)


def test_marks_are_multiplied_where_sizes_are_right(coco_folder: Path, content: Coco) -> None:
    file = coco_folder / "annotations/instances_train.json"
    plain = load(file)
    for entry in content["annotations"]:
        entry["bbox"] = [2 * v for v in entry["bbox"]]
        mask = entry["segmentation"]
        if isinstance(mask, dict):
            mask = encode(pixels((60, 80), (40, 0, 60, 60)))
        else:
            mask = [[2 * v for v in polygon] for polygon in mask]
        entry["segmentation"] = mask
    file.write_text(json.dumps(content))
    with pytest.raises(DataError):
        load(file)
    dataset = load(file, scale_marks=[0.5, 0.5])
    assert "5 annotations scaled by 0.5 (x) and 0.5 (y) (data.scale_marks)" in dataset.notes
    for one, other in zip(plain.images, dataset.images, strict=True):
        for a, b in zip(one.annotations, other.annotations, strict=True):
            assert a.box == b.box
            assert (decode(a.segmentation, (30, 40)) == decode(b.segmentation, (30, 40))).all()


def test_run_lengths_of_neither_size_are_no_masks(
    resized: Callable[..., Path], content: Coco
) -> None:
    content["annotations"][1]["segmentation"] = encode(pixels((10, 10), (1, 1, 5, 5)))
    with pytest.raises(DataError, match=r"annotation 2 .*height and width \[10, 10\]"):
        load(resized(20, 15), scale_marks="files")


def test_factors_are_of_pixels() -> None:
    with pytest.raises(ConfigError, match=r"data\.scale_marks.*they are normalised"):
        DataConfig(scale_marks=(0.5, 0.5), coordinates="normalised")


@pytest.mark.parametrize("way", ["rows", "swapped_size"])
def test_factors_are_of_run_lengths_down_the_columns(way: Any) -> None:
    with pytest.raises(ConfigError, match=rf"data\.scale_marks.*they are {way}"):
        DataConfig(scale_marks=(0.5, 0.5), run_lengths=way)
    assert DataConfig(scale_marks="files", run_lengths=way).run_lengths == way


def test_an_evaluation_may_scale_marks(coco_folder: Path) -> None:
    data, _ = reading_of(DataConfig(), coco_folder, {"data": {"scale_marks": "files"}})
    assert data.scale_marks == "files"
    kept = DataConfig(path="elsewhere", scale_marks=(0.5, 0.5))
    data, notes = reading_of(kept, coco_folder, None)
    assert data.scale_marks == "never"
    assert "data.scale_marks (0.5, 0.5)" in notes[0]
