"""YOLO segmentation and labelme are read as they are; other folders are known by name."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scnet.config import DataConfig
from scnet.data.check import check
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import DataError
from scnet.data.layout import NoSplitError
from scnet.evaluation.scoring import score
from scnet.ops.rle import area, to_rle

CONFIG = DataConfig(size=(30, 40))
TRIANGLE = "0 0.1 0.1 0.5 0.1 0.5 0.5\n"  # of 40 x 30 pixels: 4 3 20 3 20 15
SQUARE = "1 .5 .5 .75 .5 .75 .8 .5 .8\n"
BOX = "0 0.5 0.5 0.2 0.2\n"
HEAD = "names: [cell, debris]\n"


def write_image(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (90, 80, 70)).save(file)


def yolo(root: Path, labels: dict[str, str], yaml: str, images: str = "images/train") -> Path:
    """Write a YOLO data set; an image for each label file, and one more without."""
    folder = root / images.replace("images", "labels")
    folder.mkdir(parents=True)
    for name, text in labels.items():
        (folder / f"{name}.txt").write_text(text)
        write_image(root / images / f"{name}.png")
    write_image(root / images / "empty.png")
    (root / "data.yaml").write_text(yaml)
    return root


def load(path: Path, split: Any = "train") -> CocoDataset:
    return load_dataset(path, split, CONFIG, train=True)


@pytest.mark.parametrize(
    ("images", "yaml"),
    [
        ("images/train", f"train: images/train\nval: images/train\n{HEAD}"),
        ("train/images", f"train: ../train/images\nval: ../train/images\ntest: ../test\n{HEAD}"),
        ("images", f"train: images\nval: images\n{HEAD}"),
        ("images/train", f"path: /gone/set\ntrain: images/train\n{HEAD}"),
        ("images/train", f"train: /home/me/set/images/train\n{HEAD}"),
        ("images/train", f"train: [images\\train]\nnc: 2\n{HEAD}"),
        ("images/train", "train: images/train\nnames:\n  0: cell\n  1: debris\n"),
    ],
)
@pytest.mark.parametrize("given", ["folder", "file", "labels"])
def test_yolo_segmentation_is_read(images: str, yaml: str, given: str, tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", {"a": TRIANGLE + SQUARE, "b": TRIANGLE}, yaml, images)
    labels = root / images.replace("images", "labels")
    path = {"folder": root, "file": root / "data.yaml", "labels": labels}[given]
    dataset = load(path)
    assert dataset.classes == ("cell", "debris")
    assert [record.file_name for record in dataset.images] == ["a.png", "b.png", "empty.png"]
    triangle, square = dataset.images[0].annotations
    assert triangle.box == pytest.approx((4, 3, 20, 15))
    assert square.label == 1
    assert np.allclose(square.segmentation[0], [20, 15, 30, 15, 30, 24, 20, 24])
    assert "YOLO segmentation, read as it is; polygons: 3" in dataset.notes
    assert "images without a label file, taken as without objects: 1" in dataset.notes
    assert dataset[0].objects is not None
    assert len(dataset.ground_truth["annotations"]) == 3
    score(dataset.ground_truth, [])
    report = check(path)
    assert report.ok
    assert report.summaries[0].per_class == {"cell": 2, "debris": 1}


def test_names_may_stand_in_a_list_of_classes(tmp_path: Path) -> None:
    root = yolo(tmp_path, {"a": TRIANGLE}, HEAD, "images")
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("cell\ndebris\n")
    assert load(root).classes == ("cell", "debris")
    with pytest.raises(NoSplitError, match="no val split"):
        load(root, "val")


# Labels and the start of the YAML file, and what must be said.
WRONG_YOLO: dict[str, tuple[str, str, str]] = {
    "boxes": (BOX * 2, "", "YOLO labels of boxes alone (2), while instance segmentation learns"),
    "scores": ("0 .5 .5 .2 .2 .9\n", "", "x, y, width, height and a score, as predictions have"),
    "odd": (f"{TRIANGLE.strip()} .3\n", "", "has 7 numbers behind the class"),
    "pixels": ("0 4 3 20 3 20 15\n", "", "20 is not a part of the image's size; divide x by"),
    "nan": ("0 nan .1 .5 .1 .5 .5\n", "", "nan is not a part of the image's size"),
    "unknown class": (TRIANGLE + "7" + TRIANGLE[1:], "", "line 2: class 7 has no name"),
    "name": ("cell" + TRIANGLE[1:], "", "is no YOLO label; expected the number of a class"),
    "key points": (TRIANGLE, "kpt_shape: [17, 3]\n", "YOLO labels of key points"),
    "list": (TRIANGLE, "val: [a, b]\n", "val is ['a', 'b'], several folders or a list of images"),
    "gone": (TRIANGLE, "val: images/valid\n", "val: there is no folder images/valid"),
}


@pytest.mark.parametrize("case", WRONG_YOLO)
def test_labels_that_are_no_masks_are_named_once(case: str, tmp_path: Path) -> None:
    labels, yaml, reason = WRONG_YOLO[case]
    root = yolo(tmp_path, {"a": labels}, f"{yaml}train: images/train\n{HEAD}")
    with pytest.raises(DataError) as caught:
        load(root)
    assert reason in str(caught.value)
    [error] = check(root).errors
    assert reason in f"{error.file}: {error.reason}; {error.action}"


def test_boxes_among_masks_and_lone_labels_are_counted(tmp_path: Path) -> None:
    root = yolo(tmp_path, {"a": TRIANGLE + BOX}, f"train: images/train\n{HEAD}")
    (root / "labels/train/lone.txt").write_text(TRIANGLE)
    report = check(root)
    notes = [p.reason for p in report.problems if p.severity == "note"]
    assert "labels that are boxes without a mask: 1 of 2" in notes
    assert "label files without an image, left out: 1" in notes


def shape(points: list[list[float]], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": "cell", "points": points, "shape_type": kind, "group_id": None, **more}


CORNERS = [[4, 3], [20, 3], [20, 15]]


def labelme(folder: Path, drawn: dict[str, list[Any]], **more: Any) -> Path:
    for name, found in drawn.items():
        write_image(folder / f"{name}.png")
        content = {
            "version": "5.4.1",
            "shapes": found,
            "imagePath": f"{name}.png",
            "imageData": "AAAA",
            "imageHeight": 30,
            "imageWidth": 40,
        }
        (folder / f"{name}.json").write_text(json.dumps(content | more))
    return folder


def png(pixels: np.ndarray[Any, Any]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


# A shape, and the pixels that its mask must have.
DRAWN: dict[str, tuple[dict[str, Any], float]] = {
    "polygon": (shape([[4, 3], [20, 3], [20, 15], [4, 15]]), 16 * 12),
    "old polygon": ({"label": "cell", "points": [[4, 3], [20, 3], [20, 15], [4, 15]]}, 16 * 12),
    "rectangle": (shape([[4, 3], [20, 15]], "rectangle"), 16 * 12),
    "rectangle of four": (
        shape([[4, 3], [20, 3], [20, 15], [4, 15]], "rectangle"),
        16 * 12,
    ),
    "circle": (shape([[20, 15], [26, 15]], "circle"), np.pi * 36),
    "mask": (
        shape([[4, 3], [7, 4]], "mask", mask=png(np.array([[1, 0, 1, 1], [0, 1, 1, 1]], bool))),
        6,
    ),
}


@pytest.mark.parametrize("case", DRAWN)
def test_shapes_of_labelme_are_drawn(case: str, tmp_path: Path) -> None:
    drawn, pixels = DRAWN[case]
    dataset = load(labelme(tmp_path / "set", {"a": [drawn]}))
    [annotation] = dataset.images[0].annotations
    assert area(to_rle(annotation.segmentation, (30, 40))) == pytest.approx(pixels, rel=0.05)
    assert dataset.classes == ("cell",)
    assert check(tmp_path / "set").ok


def test_parts_of_a_group_are_one_object_and_points_none(tmp_path: Path) -> None:
    shapes = [
        shape(CORNERS, group_id=1),
        shape([[25, 3], [35, 3], [35, 15]], group_id=1),
        shape(CORNERS, group_id=1, label="debris"),
        shape([[5, 5]], "point", label="mark"),
        shape([[5, 5], [9, 9]], "line"),
    ]
    dataset = load(labelme(tmp_path / "set", {"a": shapes}))
    assert [len(a.segmentation) for a in dataset.images[0].annotations] == [2, 1]
    assert dataset.images[0].annotations[0].box == (4, 3, 35, 15)
    assert dataset.classes == ("cell", "debris")
    notes = ("shapes joined to others of their group_id: 1",)
    notes += ("shapes of the kind point, which have no mask, left out: 1",)
    assert set(notes) <= set(dataset.notes)


def test_folders_of_labelme_are_splits_with_the_same_classes(tmp_path: Path) -> None:
    labelme(tmp_path / "train", {"a": [shape(CORNERS), shape(CORNERS, label="debris")]})
    labelme(tmp_path / "val", {"b": [shape(CORNERS, label="debris")]}, imagePath="..\\x\\b.png")
    assert load(tmp_path, "val").classes == load(tmp_path).classes == ("cell", "debris")
    report = check(tmp_path)
    assert report.ok
    assert [summary.split for summary in report.summaries] == ["train", "val"]


@pytest.mark.parametrize(
    ("points", "reason"),
    [([[1, 2], [3]], "points are no list of x and y"), ("x", "points are no list of x and y")],
)
def test_a_broken_shape_is_named(points: Any, reason: str, tmp_path: Path) -> None:
    folder = labelme(tmp_path / "set", {"a": [shape(points)]})
    with pytest.raises(DataError, match=rf"a\.json: shape 1: {reason}"):
        load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"shapes": [shape(CORNERS, "mask", mask="no image")]},
        {"shapes": [shape(CORNERS, "mask", mask=png(np.ones((30, 40), bool)))]},
        {"imageHeight": 10**6, "imageWidth": 10**6},
        {"imageHeight": None, "imagePath": "broken.png"},
        {"imageHeight": None, "imagePath": "gone.png"},
    ],
)
def test_a_broken_file_of_labelme_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    folder = labelme(tmp_path / "set", {"a": [shape(CORNERS)]}, **change)
    (folder / "broken.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"set/(a\.json|broken\.png): "):
        load(folder)
    assert len(check(folder).errors) == 1


# Files of a folder, and what it must be called.
FOLDERS: dict[str, tuple[list[str], str]] = {
    "VOC": (["Annotations/a.xml", "JPEGImages/a.jpg"], "Pascal VOC, boxes alone"),
    "VOC with masks": (["SegmentationObject/a.png"], "Pascal VOC with object masks as PNG"),
    "CVAT": (["annotations.xml", "images/a.png"], "CVAT's own export"),
    "Cityscapes": (["gtFine/train/x/a_gtFine_polygons.json"], "Cityscapes"),
    "Supervisely": (["meta.json", "ds/ann/a.png.json"], "a project of Supervisely"),
    "TFRecord": (["train/cells.tfrecord"], "TFRecord"),
    "Parquet": (["data/train-00000.parquet"], "a data set in Parquet files"),
    "masks": (["images/a.png", "masks/a.png"], "masks as images"),
    "packed": (["set.zip"], "a packed data set"),
    "packed files": (["annotations/instances_train.json.gz"], "packed annotation files"),
    "darknet": (["obj.names", "obj_train_data/a.txt"], "YOLO 1.1 of CVAT, boxes alone"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_of_other_formats_are_known_by_name(case: str, tmp_path: Path) -> None:
    files, name = FOLDERS[case]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}")
    with pytest.raises(DataError, match=f"no COCO annotations: {name}"):
        load(tmp_path)
    [error] = check(tmp_path).errors
    assert error.action


def test_the_only_coco_file_may_have_any_name(
    tmp_path: Path, content: Any, write: Callable[..., Path]
) -> None:
    write(content, tmp_path / "via_export_coco.json", tmp_path / "train")
    assert len(load(tmp_path)) == 4
    assert check(tmp_path).ok
