"""Pictures: objects are marked where they are, told apart, and never hidden by their labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from scnet.ops.rle import RLE, encode
from scnet.pictures.colours import PALETTE
from scnet.pictures.curves import curves
from scnet.pictures.labels import Shape, choose_labels
from scnet.pictures.overlay import grid, overlay, samples_picture

GREY = 90


def disc_masks(size: tuple[int, int], centres: Sequence[tuple[int, int]], radius: int) -> list[RLE]:
    y, x = np.mgrid[: size[0], : size[1]]
    discs = [(x - cx) ** 2 + (y - cy) ** 2 <= radius**2 for cx, cy in centres]
    return [encode(torch.from_numpy(disc)) for disc in discs]


def plain(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size[::-1], (GREY, GREY, GREY))


def changed(picture: Image.Image, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    scaled = plain(size).resize((picture.width, picture.width * size[0] // size[1]))
    difference = ImageChops.difference(picture.crop((0, 0, *scaled.size)), scaled)
    return np.asarray(difference).any(2)


def test_only_the_mask_is_painted_when_labels_are_off() -> None:
    size = (900, 1000)
    rle = disc_masks(size, [(300, 400)], 80)
    painted = changed(overlay(plain(size), rle, names=["cat"], scores=[0.9], labels=False), size)
    y, x = np.mgrid[:900, :1000]
    assert (painted == ((x - 300) ** 2 + (y - 400) ** 2 <= 80**2)).all()


def test_the_edge_is_stronger_than_the_inside() -> None:
    size = (900, 1000)
    pixels = np.asarray(overlay(plain(size), disc_masks(size, [(300, 400)], 80)))
    edge, inside = pixels[400, 220].tolist(), pixels[400, 300].tolist()
    assert tuple(edge) in PALETTE
    expected = [0.55 * GREY + 0.45 * e for e in edge]
    assert inside == pytest.approx(expected, abs=1.01)


def test_the_image_given_is_not_changed() -> None:
    pixels = np.full((900, 1000, 3), GREY, np.uint8)
    overlay(pixels, disc_masks((900, 1000), [(300, 400)], 80))
    assert (pixels == GREY).all()


def test_neighbours_differ_in_colour() -> None:
    size = (900, 900)
    centres = [(45 + 90 * i, 45 + 90 * j) for i in range(10) for j in range(10)]
    pixels = np.asarray(overlay(plain(size), disc_masks(size, centres, 44)))
    colour = {(x, y): tuple(pixels[y, x]) for x, y in centres}
    for x, y in centres:
        for dx, dy in ((90, 0), (0, 90), (90, 90), (-90, 90)):
            assert colour[x, y] != colour.get((x + dx, y + dy))


@pytest.mark.parametrize("side", [200, 256, 400])
def test_small_images_come_back_enlarged(side: int) -> None:
    picture = overlay(plain((side, side)), disc_masks((side, side), [(99, 99)], 30))
    assert picture.width >= 768
    assert picture.width % side == 0


def test_nothing_found_leaves_the_image_as_it_is() -> None:
    size = (850, 900)
    for one_class in (False, True):
        picture = overlay(plain(size), [], names=[], scores=[], one_class=one_class, boxes=[])
        assert ImageChops.difference(picture, plain(size)).getbbox() is None


def test_an_empty_mask_is_no_error() -> None:
    rle = encode(torch.zeros(900, 900, dtype=torch.bool))
    assert not changed(overlay(plain((900, 900)), [rle], names=["cat"]), (900, 900)).any()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_every_kind_of_image_is_drawn_on(mode: str) -> None:
    rle = disc_masks((60, 80), [(30, 30)], 9)
    assert overlay(plain((60, 80)).convert(mode), rle).mode == "RGB"
    assert overlay(np.zeros((60, 80), np.uint8), rle).mode == "RGB"


def test_one_class_is_named_below_the_picture() -> None:
    size = (900, 900)
    rle = disc_masks(size, [(300, 300)], 50)
    assert overlay(plain(size), rle, names=["cell"], scores=[0.5], one_class=True).height > 900
    assert overlay(plain(size), rle, names=["cell"], scores=[0.5]).height == 900


def test_labels_overlap_neither_each_other_nor_much_of_any_object() -> None:
    rng = np.random.default_rng(0)
    disc = np.hypot(*np.mgrid[-15:16, -15:16]) <= 15
    shapes = [Shape(disc, *rng.integers(0, 770, 2).tolist()) for _ in range(100)]
    found = choose_labels([("a long name 0.95", "0.95")] * 100, shapes, (800, 800), measure)
    assert len(found) > 70
    taken = np.zeros((800, 800), bool)
    objects = np.zeros((800, 800), bool)
    for shape in shapes:
        objects[shape.window] |= shape.mask
    for label in found:
        x1, y1, x2, y2 = label.box
        assert 0 <= x1 < x2 <= 800
        assert 0 <= y1 < y2 <= 800
        assert not taken[y1:y2, x1:x2].any()
        assert objects[y1:y2, x1:x2].mean() < 0.45
        taken[y1:y2, x1:x2] = True


def measure(text: str) -> tuple[int, int]:
    return 8 * len(text), 16


def test_a_lonely_object_has_its_label_next_to_it() -> None:
    shape = Shape(np.ones((40, 60), bool), 300, 200)
    (label,) = choose_labels([("cat 0.95",)], [shape], (800, 800), measure)
    assert label.box[3] == 200
    assert label.box[0] < 330 < label.box[2]


def test_an_object_as_large_as_the_picture_carries_its_label_itself() -> None:
    shape = Shape(np.ones((800, 800), bool), 0, 0)
    (label,) = choose_labels([("cat 0.95",)], [shape], (800, 800), measure)
    assert min(label.box) >= 0


def test_grid_shows_every_picture_whole() -> None:
    reds = [
        Image.new("RGB", size, (255, 0, 0)) for size in ((50, 30), (30, 80), (500, 400), (9, 9))
    ]
    sheet = grid(reds, ["a", "b" * 300, "c", ""], columns=3, width=200)
    assert sheet.width == 3 * 212 + 12
    red = (np.asarray(sheet) == (255, 0, 0)).all(2).sum()
    assert red == pytest.approx(200 * 120 + 60 * 160 + 200 * 160 + 160 * 160, rel=0.02)


def test_samples_of_real_data_fit_one_picture(data_dir: Path) -> None:
    folder = data_dir / "dsb2018_le360"
    values = json.loads((folder / "annotations/instances_val.json").read_text())
    samples = []
    for entry in values["images"][:7]:
        rows = [a for a in values["annotations"] if a["image_id"] == entry["id"]]
        with Image.open(folder / "val" / entry["file_name"]) as image:
            image.load()
        rle = [a["segmentation"] for a in rows]
        samples.append((image, rle, ["nucleus"] * len(rle), entry["file_name"]))
    assert samples_picture(samples).width == 3 * 732 + 12


def records() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"kind": "start"}]
    for step in range(20):
        losses = {"rpn.cls": 0.3, "stage1.cls": 0.5 / (step + 1), "mask": 0.4, "context": 0.0}
        total = sum(losses.values())
        row = {"kind": "train", "step": step, "epoch": step / 10, "lr": 0.02, "loss": total}
        rows.append(row | {"losses": losses})
    rows[5]["loss"] = float("nan")
    return [
        *rows,
        {"kind": "eval", "step": 19, "epoch": 2, "bbox": {"AP": 0.3}, "segm": {"AP": -1}},
    ]


@pytest.mark.parametrize("rows", [[], records()[:2], records(), records()[-1:]])
def test_curves_are_drawn_from_any_part_of_a_log(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = curves(rows, tmp_path / "curves.png")
    with Image.open(path) as image:
        assert min(image.size) > 500
