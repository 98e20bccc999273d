"""`scnet demo`: what it writes and says, with small models and images in the places of its own."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from scnet import recipes
from scnet.cli import demo
from scnet.cli.arguments import make_parser
from scnet.cli.main import main
from scnet.config import Config, replace_at
from scnet.inference.detections import Detections
from scnet.model.detector import Detector
from scnet.ops.rle import encode
from scnet.weights import checkpoint, zoo
from scnet.weights.checkpoint import CheckpointError

QUICK = {"SIDE": 96, "TRAIN": 2, "VAL": 1}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of nuclei, narrower than its recipe, that takes everything for one."""
    return save(tmp_path_factory.mktemp("weights") / "model", ("nucleus",), [6.0, 0.0])


@pytest.fixture(autouse=True)
def small_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the demo find images in packages that cannot be imported, and generate few."""
    for constant, package in (("NUCLEI", "with_nuclei"), ("COINS", "with_coins")):
        folder = tmp_path / "site" / package
        (folder / "data").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')")
        Image.effect_noise((80, 64), 50).save(folder / "data" / "image.png")
        monkeypatch.setattr(demo, constant, (package, "data/image.png"))
    for constant, value in QUICK.items():
        monkeypatch.setattr(demo, constant, value)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.chdir(tmp_path)


def narrow(classes: tuple[str, ...]) -> Config:
    config = recipes.find("mask_rcnn_lite")
    changes: dict[str, Any] = {
        "model.num_classes": len(classes),
        "model.channels": 16,
        "model.box.hidden": 16,
        "model.rpn.after_nms": 20,
        "data.size": (96, 128),
        "data.range": "percentile",
        "classes": classes,
        "category_ids": tuple(range(1, len(classes) + 1)),
    }
    for path, value in changes.items():
        config = replace_at(config, path, value)
    return config


def save(folder: Path, classes: tuple[str, ...], scores: list[float]) -> Path:
    """Write a detector that scores all it sees alike; `scores` are logits, background last."""
    torch.manual_seed(0)
    detector = Detector(narrow(classes))
    cls = detector.roi_heads.stages[0].cls
    torch.nn.init.zeros_(cls.weight)
    cls.bias.data = torch.tensor(scores)
    checkpoint.save(folder, detector)
    return folder


def found(labels: list[int], classes: tuple[str, ...] = ("nucleus",), **fields: Any) -> Detections:
    """Return detections of these labels in an image of 60 x 40 pixels, each larger than the last.

    Number n has n x 10 pixels and a score of n / 10, n from 1 on.
    """
    masks = torch.zeros(len(labels), 40, 60, dtype=torch.bool)
    for number, mask in enumerate(masks, 1):
        mask[:number, :10] = True
    sides = [[0.0, 0.0, 10.0, float(number)] for number in range(1, len(labels) + 1)]
    values: dict[str, Any] = {"image": Image.new("RGB", (60, 40)), "path": "cells.png", **fields}
    return Detections(
        boxes=torch.tensor(sides).reshape(-1, 4),
        scores=torch.arange(1, len(labels) + 1) / 10,
        labels=torch.tensor(labels, dtype=torch.long),
        rle=[encode(mask) for mask in masks],
        size=(40, 60),
        classes=classes,
        category_ids=tuple(range(1, len(classes) + 1)),
        **values,
    )


def predicting(detections: Detections) -> Any:
    """Stand in for a model that finds these."""
    config = recipes.find("mask_rcnn_lite")
    return SimpleNamespace(predict=lambda image: detections, config=config, classes=("nucleus",))


def test_it_outlines_nuclei_and_goes_on_from_the_same_model(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The slowest part, and not the demo's own.
    monkeypatch.setattr("scnet.pictures.curves.curves", lambda records, path: path)
    pictures = demo.run(steps=2, model=weights)
    assert pictures == [Path("demo/nuclei_masks.png"), Path("demo/coins_before_after.png")]
    for picture in pictures:
        Image.open(picture).load()
    said = capsys.readouterr()
    results = json.loads(Path("demo/nuclei.json").read_text())
    assert {entry["category_id"] for entry in results} == {1}
    assert f"found     {len(results)} objects of class nucleus in 80 x 64 pixels" in said.out
    run = yaml.safe_load(Path("demo/run/config.yaml").read_text())
    assert run["start"] == str(weights)
    assert run["optim"]["max_steps"] == 2
    assert (run["model"]["channels"], run["data"]["range"]) == (16, "percentile")  # of the weights
    assert "box stage 1 (fc1, fc2)" in said.err  # is taken from them, and so is all below
    coins = json.loads(Path("demo/coins.json").read_text())
    assert f'after     {len(coins)} taken for "disc"' in said.out
    lines = [line.partition("#")[0] for line in said.out.splitlines()]
    commands = [line.split() for line in lines if line.startswith("  scnet ")]
    assert commands == [
        ["scnet", "predict", str(weights), "IMAGES"],
        ["scnet", "check-data", "DATA"],
        ["scnet", "train", "mask_rcnn_lite", "--data", "DATA", "--from", str(weights)],
    ]


def test_only_discs_count_as_coins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    after = found([0, 1, 0, 0], ("disc", "other"))
    monkeypatch.setattr("scnet.training.run.train", lambda *given, output, **more: output)
    monkeypatch.setattr("scnet.inference.model.load", lambda run: predicting(after))
    image = tmp_path / "coins.png"
    demo.teach_discs(predicting(found([0, 0])), "nuclei", image, 7, demo.Clock(quiet=True))
    said = capsys.readouterr()
    assert 'before    2 taken for "nucleus" in a photograph of 24 coins\n' in said.out
    assert 'after     3 taken for "disc"' in said.out
    results = json.loads((tmp_path / "cells.json").read_text())
    assert [round(entry["score"], 2) for entry in results] == [0.1, 0.3, 0.4]
    assert said.err == ""


def test_dim_nuclei_are_brightened_in_the_picture_alone(tmp_path: Path) -> None:
    pixels = np.full((40, 60, 3), 10, np.uint8)
    pixels[20:30, 20:40] = 40  # a dim one, not found
    pixels[35:37, 50:55] = 255  # a bright one: less than one in a hundred pixels
    model = predicting(found([0], image=Image.fromarray(pixels)))
    picture = np.asarray(Image.open(demo.outline_nuclei(model, tmp_path / "cells.png")))
    enlarged = (picture.shape[1]) // 60
    middle = picture[25 * enlarged, 30 * enlarged]
    ground = picture[15 * enlarged, 5 * enlarged]
    assert middle.min() > 200
    assert ground.max() < 20
    assert model.predict(None).image.getpixel((30, 25)) == (40, 40, 40)


def test_the_table_has_number_areas_scores_and_time() -> None:
    assert demo.table(found([0, 0, 0, 0]), 1.26) == [
        "found     4 objects of class nucleus in 60 x 40 pixels, in 1.3 s",
        "area, px  median 25, smallest 10, largest 40",
        "score     median 0.25, lowest 0.10, highest 0.40",
    ]
    assert demo.table(found([]), 1.26) == [
        "found     0 objects of class nucleus in 60 x 40 pixels, in 1.3 s"
    ]


def test_before_and_after_stand_beside_each_other() -> None:
    before = found([0], image=Image.new("RGB", (60, 40), (200, 0, 0)))
    after = found([], ("disc", "other"), image=Image.new("RGB", (60, 40), (0, 0, 200)))
    sheet = np.asarray(demo.beside(before, after)).astype(int)
    half = sheet.shape[1] // 2
    red, blue = ((sheet - colour).__abs__().sum(2) < 30 for colour in ((200, 0, 0), (0, 0, 200)))
    assert red[:, :half].mean() > 0.5
    assert blue[:, half:].mean() > 0.5
    assert not red[:, half:].any()
    assert not blue[:, :half].any()


def hide(package: str, constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a package not be installed that carries an image of the demo."""
    monkeypatch.setattr(demo, constant, (package, "data/image.png"))
    monkeypatch.setattr(demo, "find_spec", lambda p: None if p == package else find_spec(p))


def test_a_missing_package_is_named_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide("skimage", "COINS", monkeypatch)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == (
        "error: the demo needs scikit-image, which carries its image image.png: "
        "pip install scikit-image\n"
    )
    assert not Path("demo").exists()


@pytest.mark.parametrize("quiet", [False, True])
def test_without_an_image_of_nuclei_it_says_so_and_goes_on(
    quiet: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide("mahotas", "NUCLEI", monkeypatch)
    monkeypatch.setattr("scnet.inference.model.load", lambda *a, **b: predicting(found([0])))
    monkeypatch.setattr(demo, "teach_discs", lambda model, name, image, *more: image)
    assert demo.run(quiet=quiet) == [Path("demo/coins.png")]
    assert not Path("demo/nuclei.png").exists()
    assert (
        "note: the demo needs mahotas, which carries its image image.png: pip install mahotas; "
        "without it no nuclei are outlined\n"
    ) in capsys.readouterr().err


def test_a_package_without_the_image_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo.INSTALLED_AS, "with_coins", "coins")
    with pytest.raises(ImportError, match=r"needs coins, which carries its image other\.png"):
        demo.carried("with_coins", "data/other.png")


@pytest.mark.parametrize(("place", "size"), [("NUCLEI", (1344, 1024)), ("COINS", (384, 303))])
def test_the_packages_carry_the_images(
    place: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    package, file = getattr(demo, place)
    if find_spec(package) is None:
        pytest.skip(f"{demo.INSTALLED_AS[package]} is not installed")
    with Image.open(demo.carried(package, file)) as image:
        assert image.size == size


def test_a_folder_that_is_taken_is_refused_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("scnet.inference.model.load")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").touch()
    assert main(["demo", "-o", "mine"]) == 1
    assert "mine: exists and is not empty" in capsys.readouterr().err


def test_a_folder_that_would_hide_the_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("scnet.inference.model.load")
    assert main(["demo", "-o", "nuclei"]) == 1
    assert "nuclei: would hide the model of that name" in capsys.readouterr().err
    assert not Path("nuclei").exists()


def test_a_model_that_cannot_be_had_leaves_no_folder() -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        demo.run(model="runs/missing")
    assert not Path("demo").exists()


def test_the_model_comes_with_the_package() -> None:
    assert zoo.find(demo.MODEL).package == "scnet.weights"


def test_steps_of_the_command_line_are_those_of_the_demo() -> None:
    assert make_parser().parse_args(["demo"]).steps == demo.STEPS
