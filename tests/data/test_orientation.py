"""Marks of photographs that EXIF turns are read in the space that they fit."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from scnet.cli.main import main
from scnet.config import DataConfig
from scnet.data.check import check
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import DataError
from scnet.ops.rle import decode, encode, to_rle

Coco = dict[str, Any]

WIDTH, HEIGHT = 48, 80  # upright
# What EXIF says to do with the stored image, undone.
STORED = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


def upright(packed: bool, low: bool = True) -> Coco:
    """Return two objects in each of three upright images; one is `low` down, or none is."""
    annotations = []
    for i in range(3):
        bottom = (6, 60, 20, 14) if low else (6, 30, 20, 14)
        for box in ((4 + i, 8, 30, 20), bottom):
            x, y, w, h = box
            mask: Any = [[x, y, x + w, y, x + w, y + h / 2, x, y + h]]
            if packed:
                mask = to_rle(mask, (HEIGHT, WIDTH))
            found = {"id": len(annotations) + 1, "image_id": i, "category_id": 1, "iscrowd": 0}
            annotations.append(found | {"bbox": list(box), "segmentation": mask})
    images = [
        {"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(3)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cell"}],
    }


def mask_of(entry: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(decode(entry["segmentation"], (HEIGHT, WIDTH)))


def as_stored(content: Coco, tag: int) -> Coco:
    """Return a file whose marks, drawn as run lengths, lie on the images as stored."""
    found = copy.deepcopy(content)
    for entry in found["annotations"]:
        mask = np.asarray(STORED[tag](Image.fromarray(mask_of(entry))))
        ys, xs = np.nonzero(mask)
        entry["bbox"] = [int(v) for v in (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)]
        entry["segmentation"] = encode(torch.from_numpy(mask.copy()))
    return found


def exchange(content: Coco) -> Coco:
    for image in content["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    return content


def write(folder: Path, content: Coco, tag: int, split: str = "train") -> Path:
    """Write a file with its images, stored as `tag` says."""
    random = np.random.default_rng(0)
    (folder / split).mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        picture = Image.fromarray(random.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = tag
        STORED[tag](picture).save(folder / split / image["file_name"], exif=exif)
        assert ImageOps.exif_transpose(Image.open(folder / split / image["file_name"])).size == (
            WIDTH,
            HEIGHT,
        )
    file = folder / f"annotations/instances_{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def load(file: Path, **how: Any) -> CocoDataset:
    config = DataConfig(size=(HEIGHT, HEIGHT), flip=0.0, workers=0, **how)
    return load_dataset(file, "train", config, train=True)


def drawn(dataset: CocoDataset) -> list[Any]:
    """Return sizes and masks, as pixels, of all objects, and sizes and masks for the evaluation."""
    masks = [
        (record.size, np.asarray(decode(a.segmentation, record.size)).tolist())
        for record in dataset.images
        for a in record.annotations
    ]
    sizes = {i["id"]: (i["height"], i["width"]) for i in dataset.ground_truth["images"]}
    truth = [
        (sizes[a["image_id"]], np.asarray(decode(a["segmentation"], sizes[a["image_id"]])).tolist())
        for a in dataset.ground_truth["annotations"]
    ]
    assert masks == truth
    return masks


def expected(content: Coco) -> list[Any]:
    return [((HEIGHT, WIDTH), mask_of(entry).tolist()) for entry in content["annotations"]]


@pytest.mark.parametrize("tag", [1, 3, 6, 8])
def test_sizes_before_the_turn_and_marks_upright_are_read_as_meant(
    tag: int, tmp_path: Path
) -> None:
    content = upright(packed=False)
    right = expected(content)
    dataset = load(write(tmp_path, content if tag == 3 else exchange(content), tag))
    assert drawn(dataset) == right
    assert dataset[0].image.shape[1:] == (HEIGHT, WIDTH)
    said = [note for note in dataset.notes if "width and height" in note]
    assert len(said) == (tag != 3)


@pytest.mark.parametrize("tag", [5, 6, 7, 8])
@pytest.mark.parametrize("sizes", ["stored", "upright"])
def test_marks_on_the_image_as_stored_are_turned_with_it(
    tag: int, sizes: str, tmp_path: Path
) -> None:
    content = upright(packed=True)
    stored = as_stored(content, tag)
    file = write(tmp_path, exchange(stored) if sizes == "stored" else stored, tag)
    dataset = load(file)
    assert drawn(dataset) == expected(content)
    assert dataset[0].image.shape[1:] == (HEIGHT, WIDTH)
    assert any("3 images turned upright" in note for note in dataset.notes)
    boxes = [a.box for record in dataset.images for a in record.annotations]
    assert boxes[0] == (4, 8, 34, 28)


@pytest.mark.parametrize("tag", [2, 3, 4])
def test_marks_on_a_mirrored_image_as_stored_are_turned_where_the_setting_says_so(
    tag: int, tmp_path: Path
) -> None:
    content = upright(packed=True)
    file = write(tmp_path, as_stored(content, tag), tag)
    assert drawn(load(file, orientation="stored")) == expected(content)


def test_polygons_turn_as_run_lengths_do(tmp_path: Path) -> None:
    content = upright(packed=False)
    for entry in content["annotations"]:  # stored with a quarter turn to the left: (y, W - x)
        points = np.reshape(entry["segmentation"][0], (-1, 2))
        turned = np.stack([points[:, 1], WIDTH - points[:, 0]], 1)
        (x, y), (right, bottom) = turned.min(0), turned.max(0)
        entry["segmentation"] = [turned.ravel().tolist()]
        entry["bbox"] = [x, y, right - x, bottom - y]
    dataset = load(write(tmp_path, exchange(content), 6))
    found = [list(a.segmentation[0]) for r in dataset.images for a in r.annotations]
    assert found == [a["segmentation"][0] for a in upright(packed=False)["annotations"]]


def test_what_nothing_shows_is_asked_and_both_answers_are_taken(tmp_path: Path) -> None:
    content = upright(packed=False, low=False)
    right = expected(content)
    file = write(tmp_path, exchange(content), 6)
    with pytest.raises(DataError) as caught:
        load(file)
    for part in ("3 images are turned by EXIF", "orientation upright if", "or stored if"):
        assert part in str(caught.value)
    assert "without that tag" not in str(caught.value)
    assert [str(p) for p in check(file).errors] == [f"error: {caught.value}"]
    assert drawn(load(file, orientation="upright")) == right
    stored = load(file, orientation="stored")
    assert stored.images[0].size == (HEIGHT, WIDTH)
    assert stored.images[0].annotations[0].box == (
        20,
        4,
        40,
        34,
    )  # 48 - bottom, left, ...


def test_another_split_shows_how_the_tool_draws(tmp_path: Path) -> None:
    write(tmp_path, exchange(upright(packed=False)), 6, "val")
    content = upright(packed=False, low=False)
    right = expected(content)
    dataset = load(write(tmp_path, exchange(content), 6))
    assert drawn(dataset) == right
    assert any("as those of instances_val.json do" in note for note in dataset.notes)


def test_photographs_that_are_annotated_upright_are_nothing_to_speak_of(tmp_path: Path) -> None:
    content = upright(packed=False)
    dataset = load(write(tmp_path, content, 6))
    assert drawn(dataset) == expected(content)
    assert not dataset.notes


def test_an_image_turned_after_it_was_annotated_is_refused(tmp_path: Path) -> None:
    content = exchange(as_stored(upright(packed=True), 6))
    file = write(tmp_path, content, 1)
    with pytest.raises(DataError, match="use the images that the annotations were made on"):
        load(file)


def test_a_mended_copy_has_the_sizes_that_were_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = upright(packed=True)
    file = write(tmp_path / "data", exchange(as_stored(content, 8)), 8)
    main(["check-data", str(tmp_path / "data"), "--quiet", "--fix", "fixed"])
    file.write_bytes((tmp_path / "fixed/annotations/instances_train.json").read_bytes())
    dataset = load(file)
    assert drawn(dataset) == expected(content)
    assert not dataset.notes


@pytest.mark.parametrize("folder", ["images\\", "C:\\photos\\", "a/"])
def test_images_under_other_spellings_are_looked_at_too(folder: str, tmp_path: Path) -> None:
    content = upright(packed=True)
    right = expected(content)
    file = write(tmp_path, content, 6)
    content = exchange(as_stored(content, 6))
    for image in content["images"]:
        image["file_name"] = folder + image["file_name"]
    file.write_text(json.dumps(content))
    dataset = load(file)
    assert drawn(dataset) == right
    assert "3 images turned upright with all marks, as EXIF says" in dataset.notes
