"""Annotation files become samples in which everything fits together; broken ones are explained."""

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
from torch import Tensor

from scnet.config import DataConfig
from scnet.data.coco import CocoDataset, DataError, load_dataset
from scnet.data.transforms import Sample
from scnet.ops.masks import Crop
from scnet.ops.rle import area
from scnet.types import IGNORE

PLAIN = DataConfig(size=(30, 40), flip=0.0, workers=0)


def uncrop(piece: Crop, height: int, width: int) -> Tensor:
    mask = torch.zeros(height + 2, width + 2, dtype=torch.bool)
    x, y = piece.origin[0] + 1, piece.origin[1] + 1
    mask[y : y + piece.pixels.shape[0], x : x + piece.pixels.shape[1]] = piece.pixels.bool()
    return mask[1:-1, 1:-1]


def masks_of(sample: Sample) -> list[Tensor]:
    assert sample.objects is not None
    return [uncrop(crop, *sample.image.shape[1:]) for crop in sample.objects.masks]


def load(path: Path, config: DataConfig = PLAIN, **options: Any) -> CocoDataset:
    return load_dataset(path, "train", config, **{"train": True, **options})


def test_classes_come_from_the_file_in_its_order(coco_folder: Path) -> None:
    dataset = load(coco_folder)
    assert dataset.classes == ("coin", "ring")
    assert dataset.category_ids == (9, 7)
    objects = dataset[0].objects
    assert objects is not None
    assert objects.labels.tolist() == [1, 0]
    assert objects.boxes.tolist() == [[2, 3, 22, 13], [10, 5, 18, 11]]


def test_masks_fill_their_boxes(coco_folder: Path) -> None:
    sample = load(coco_folder, replace(PLAIN, size=(60, 80)))[0]
    assert sample.objects is not None
    for mask, box in zip(masks_of(sample), sample.objects.boxes.int().tolist(), strict=True):
        expected = torch.zeros(60, 80, dtype=torch.bool)
        expected[box[1] : box[3], box[0] : box[2]] = True
        assert torch.equal(mask, expected)


def test_crowd_regions_are_no_targets(coco_folder: Path) -> None:
    objects = load(coco_folder)[2].objects
    assert objects is not None
    assert objects.labels.tolist() == [1]


def test_images_without_objects_stay_or_go(coco_folder: Path) -> None:
    assert len(load(coco_folder)) == 4
    empty = load(coco_folder)[3].objects
    assert empty is not None
    assert empty.boxes.shape == (0, 4)
    assert len(load(coco_folder, replace(PLAIN, keep_empty=False))) == 3
    assert len(load(coco_folder, replace(PLAIN, keep_empty=False), train=False)) == 4


def test_semantic_map_without_stuff_holds_the_masks(coco_folder: Path) -> None:
    dataset = load(coco_folder, semantic=True)
    assert dataset.semantic_classes is None
    first, third = dataset[0].semantic, dataset[2].semantic
    assert first is not None
    assert third is not None
    assert first[4, 3] == 1  # ring
    assert first[8, 12] == 0  # coin, smaller, lies over it
    assert first[20, 30] == 2  # background
    assert third[29, 20:30].eq(IGNORE).all()  # crowd
    assert third[5, 5] == 1


def write_stuff(folder: Path, stem: str, values: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(folder / f"{stem}.png")


def test_stuff_maps_beside_the_images_are_used(coco_folder: Path) -> None:
    values = np.full((30, 40), 5)
    values[:10], values[10:20, :20] = 255, 11
    write_stuff(coco_folder / "semantic_train", "1", values)
    dataset = load(coco_folder, semantic=True)
    assert dataset.semantic_classes == 12
    first, second = dataset[0].semantic, dataset[1].semantic
    assert first is not None
    assert second is not None
    assert first[:10].eq(IGNORE).all()
    assert first[15, 5] == 11
    assert first[25, 30] == 5
    assert second.eq(IGNORE).all()  # has no map
    assert load(coco_folder, replace(PLAIN, stuff_maps="none"), semantic=True).stuff is None


def test_stuff_maps_of_a_named_folder_are_used_or_missed(coco_folder: Path) -> None:
    write_stuff(coco_folder / "elsewhere", "1", np.full((30, 40), 3))
    named = replace(PLAIN, stuff_maps=str(coco_folder / "elsewhere"))
    assert load(coco_folder, named, semantic=True).semantic_classes == 4
    (coco_folder / "elsewhere/categories.json").write_text(json.dumps([{}] * 7))
    assert load(coco_folder, named, semantic=True).semantic_classes == 7
    wrong = replace(PLAIN, stuff_maps=str(coco_folder / "train_"))
    with pytest.raises(DataError, match=r"data.stuff_maps: no PNG files in .*train_"):
        load(coco_folder, wrong, semantic=True)


@pytest.mark.parametrize("horizontal", [0.0, 1.0])
@pytest.mark.parametrize("vertical", [0.0, 1.0])
def test_image_boxes_masks_and_semantic_map_turn_together(
    coco_folder: Path, horizontal: float, vertical: float
) -> None:
    axes = [axis for axis, chance in ((-2, vertical), (-1, horizontal)) if chance]
    config = replace(PLAIN, size=(60, 80), flip=horizontal, vertical_flip=vertical)
    straight = load(coco_folder, replace(config, flip=0.0, vertical_flip=0.0), semantic=True)
    turned = load(coco_folder, config, semantic=True)
    for i in range(4):
        a, b = straight[i], turned[i]
        assert a.semantic is not None
        assert b.semantic is not None
        assert b.objects is not None
        assert torch.equal(b.image, a.image.flip(axes))
        assert torch.equal(b.semantic, a.semantic.flip(axes))
        for before, after, box in zip(masks_of(a), masks_of(b), b.objects.boxes, strict=True):
            assert torch.equal(after, before.flip(axes))
            rows, columns = torch.nonzero(after.any(1)), torch.nonzero(after.any(0))
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == [float(v) for v in tight]


def test_random_views_depend_on_seed_epoch_and_image_alone(coco_folder: Path) -> None:
    config = replace(PLAIN, flip=0.5, vertical_flip=0.5, scales=(20, 30, 40), size=(30, 200))
    a, b = load(coco_folder, config), load(coco_folder, config)

    def shapes(dataset: CocoDataset) -> list[Any]:
        return [(s.image.shape, s.image.float().mean(0)[0, 0].item()) for s in dataset]

    seen = set()
    for epoch in range(8):
        a.set_epoch(epoch)
        b.set_epoch(epoch)
        assert shapes(a) == shapes(b)
        seen.add(tuple(shapes(a)))
    assert len(seen) == 8
    b.seed = 1
    assert shapes(a) != shapes(b)


def test_inference_gives_no_targets_and_no_chance(coco_folder: Path) -> None:
    dataset = load(coco_folder, replace(PLAIN, flip=1.0, size=(60, 80)), train=False, semantic=True)
    sample = dataset[0]
    assert sample.objects is None
    assert sample.semantic is None
    assert sample.info.view.inverse.scale == (2, 2)
    assert sample.info.size == (30, 40)
    image = Image.open(coco_folder / "train/1.png").resize((80, 60), Image.Resampling.BILINEAR)
    assert np.array_equal(sample.image.permute(1, 2, 0).numpy(), np.asarray(image))


Change = Callable[[Any], None]


def set_annotation(**fields: Any) -> Change:
    return lambda content: content["annotations"][1].update(fields)


def set_image(**fields: Any) -> Change:
    return lambda content: content["images"][1].update(fields)


BROKEN: dict[str, tuple[Change, str]] = {
    "no width": (set_annotation(bbox=[1, 1, 0, 4]), "box has zero width"),
    "negative height": (set_annotation(bbox=[1, 1, 4, -4]), "box has negative height"),
    "outside": (set_annotation(bbox=[50, 1, 4, 4]), "box lies outside the image of 40 x 30"),
    "nan": (set_annotation(bbox=[1, float("nan"), 4, 4]), "not finite"),
    "text": (set_annotation(bbox=[1, "two", 4, 4]), "not a number"),
    "three numbers": (set_annotation(bbox=[1, 2, 3]), "not four numbers"),
    "no box": (set_annotation(bbox={}), "bbox is missing"),
    "two points": (set_annotation(segmentation=[[1, 1, 2, 2]]), "polygon has 4 numbers"),
    "text in a polygon": (
        set_annotation(segmentation=[[1, 1, "nine", 1, 9, 9]]),
        r"\[1, 1, 'nine', 1, 9, 9\] holds something that is not a number",
    ),
    "text in run lengths": (
        set_annotation(segmentation={"size": [30, 40], "counts": [600, "many", 300]}),
        "holds something that is not a number",
    ),
    "line": (set_annotation(segmentation=[[1, 1, 2, 1, 9, 1]]), "mask is empty"),
    "sliver": (
        set_annotation(segmentation=[[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]]),
        "mask is empty",
    ),
    "mask outside": (set_annotation(segmentation=[[50, 1, 60, 1, 60, 9]]), "mask lies outside"),
    "malformed": (set_annotation(segmentation={"size": [30, 40], "counts": "!"}), "cut off"),
    "other size": (set_annotation(segmentation={"size": [3, 4], "counts": [12]}), "height and"),
    "empty": (set_annotation(segmentation={"size": [30, 40], "counts": [1200]}), "mask is empty"),
    "unknown image": (set_annotation(image_id=99), "belongs to image 99, which is not in the file"),
    "unhashable image": (set_annotation(image_id=[1]), "not in the file"),
    "unknown class": (set_annotation(category_id=1), "has category 1, which is not in the file"),
    "crowd as text": (
        set_annotation(iscrowd="no"),
        "iscrowd is 'no'; expected 0, or 1 for a crowd",
    ),
    "crowd of two": (set_annotation(iscrowd=2), "iscrowd is 2; expected 0, or 1 for a crowd"),
    "crowd in a list": (set_annotation(iscrowd=[1]), r"iscrowd is \[1\]; expected 0, or 1"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_annotation_stops_or_is_dropped(
    case: str, tmp_path: Path, content: Any, write: Callable[..., Path]
) -> None:
    change, reason = BROKEN[case]
    change(content)
    write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    with pytest.raises(DataError, match=reason) as caught:
        load(tmp_path)
    assert "instances_train.json: annotation 2 (image " in str(caught.value)
    assert "remove it or run with --data.drop-invalid" in str(caught.value)
    dropping = load(tmp_path, replace(PLAIN, drop_invalid=True))
    assert list(dropping.dropped) == [1]
    left = [a.crowd for record in dropping.images for a in record.annotations]
    # Where the broken object lies is no background, unless nothing says where that is.
    known = not case.endswith("image")
    assert sum(left) == 1 + known
    assert len(left) == 4 + known
    assert len(dropping.ground_truth["annotations"]) == 4 + (known and case != "unknown class")
    assert dropping.contents.crowd == 1
    assert len(dropping.contents.faults) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_image(file_name="../secret.png"), r"image 2 .*leaves the image folder"),
        (set_image(file_name="/etc/passwd"), r"image 2 .*leaves the image folder"),
        (set_image(file_name="a/../../secret.png"), r"image 2 .*leaves the image folder"),
        (set_image(file_name="a\\..\\..\\b.png"), r"image 2 .*leaves the image folder"),
        (set_image(file_name="\\\\server\\b.png"), r"image 2 .*leaves the image folder"),
        (set_image(file_name="C:\\secret.png"), r"image 2 .*leaves the image folder"),
        (set_image(file_name=None), "file_name is missing"),
        (set_image(width=0), "width is missing or not a positive"),
        (set_image(height="tall"), "height is missing or not a positive"),
        (set_image(id=1), "another image has the same id"),
        (set_image(id=None), "id is missing or not a whole number"),
        (lambda c: c.pop("categories"), "no list of categories"),
        (lambda c: c["categories"].clear(), "no categories"),
        (lambda c: c["images"].append(3), "images holds an entry that is not an object"),
        (lambda c: c["categories"].append({"id": 9, "name": "x"}), "categories have the same id"),
        (lambda c: (c["images"].clear(), c["annotations"].clear()), "no images"),
    ],
)
def test_broken_files_are_explained(
    change: Change, reason: str, tmp_path: Path, content: Any, write: Callable[..., Path]
) -> None:
    write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    change(content)
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=reason):
        load(tmp_path)


def test_what_is_not_json_is_said(coco_folder: Path) -> None:
    file = coco_folder / "annotations/instances_train.json"
    for text in ("", "{", "\xff", "[]", "[" * 100000):
        file.write_text(text, encoding="latin-1")
        with pytest.raises(DataError, match=r"instances_train.json: not "):
            load(coco_folder)


def test_classes_of_a_model_are_matched_by_name(coco_folder: Path) -> None:
    other_order = load(coco_folder, classes=("ring", "coin"))
    assert other_order.classes == ("ring", "coin")
    assert other_order.category_ids == (7, 9)
    assert other_order.images[0].annotations[0].label == 0
    with pytest.raises(DataError, match=r"none of its classes \(coin, ring\) is one of the mod"):
        load(coco_folder, classes=("bolt", "nail"))


def test_an_image_of_another_size_is_named(coco_folder: Path) -> None:
    Image.new("RGB", (30, 40)).save(coco_folder / "train/1.png")
    Image.new("RGB", (41, 30)).save(coco_folder / "train/2.png")
    dataset = load(coco_folder)
    with pytest.raises(
        DataError, match=r"1.png: is 30 x 40, .* says 40 x 30.*data.orientation upright"
    ):
        dataset[0]
    with pytest.raises(DataError, match=r"2.png: is 41 x 30, .* says 40 x 30"):
        dataset[1]


def test_ground_truth_is_what_evaluators_need(coco_folder: Path) -> None:
    file = coco_folder / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    assert load(coco_folder).ground_truth == content
    for annotation in content["annotations"]:
        annotation["id"] -= 1
        del annotation["area"]
        del annotation["iscrowd"]
    file.write_text(json.dumps(content))
    found = load(coco_folder).ground_truth["annotations"]
    assert [a["id"] for a in found] == [1, 2, 3, 4, 5]
    assert [a["area"] for a in found] == [200, 48, 1200, 144, 300]
    assert [a["iscrowd"] for a in found] == [0] * 5


def test_ground_truth_takes_from_the_mask_what_is_broken_and_does_not_matter(
    coco_folder: Path,
) -> None:
    file = coco_folder / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["area"] = "large"
    content["annotations"][1]["id"] = {}
    content["annotations"][4] |= {"bbox": None, "iscrowd": True}
    file.write_text(json.dumps(content))
    found = load(coco_folder).ground_truth["annotations"]
    assert found[0]["area"] == 200
    assert [a["id"] for a in found] == [1, 2, 3, 4, 5]
    assert (found[4]["bbox"], found[4]["iscrowd"]) == ([20, 0, 10, 30], 1)


def test_real_masks_keep_their_area(data_dir: Path) -> None:
    dataset = load(data_dir / "dsb2018_le360", DataConfig(size=(1, 1), flip=0.0))
    for record in dataset.images[:5]:
        dataset.config = DataConfig(size=(min(record.size), max(record.size)), flip=0.0)
        sample = dataset[dataset.images.index(record)]
        found = [int(mask.sum()) for mask in masks_of(sample)]
        assert found == [area(a.segmentation) for a in record.annotations]


def test_real_stuff_maps_cover_what_they_cover(data_dir: Path) -> None:
    config = DataConfig(size=(400, 400), flip=0.0)
    dataset = load(data_dir / "coco600_400px", config, semantic=True)
    assert dataset.semantic_classes == 133
    known = 0
    for index in range(0, len(dataset), 10):
        semantic = dataset[index].semantic
        assert semantic is not None
        assert semantic.max() < 133
        known += bool((semantic != IGNORE).any())
    assert 0 < known < 31
