"""A model reads images as its training did, whatever their numbers and bands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from tests.model_cases import make_detector

from scnet.config import DataConfig
from scnet.data.coco import load_dataset
from scnet.data.images import DataError
from scnet.inference.model import Model
from scnet.inference.sources import to_pixels
from scnet.weights import checkpoint

GREY = np.random.default_rng(0).integers(200, 4096, (60, 80)).astype(np.uint16)
FIVE = np.stack([GREY // (n + 1) for n in range(5)], axis=2)
VALUES = {"grey": GREY, "five": FIVE, "float": (GREY / 7).astype(np.float32), "8 bit": FIVE >> 4}
CASES = [
    ("grey", {"range": "full"}, 3),
    ("grey", {"range": "percentile"}, 3),
    ("float", {"range": "minmax"}, 3),
    ("five", {"range": "percentile", "bands": "all"}, 5),
    ("five", {"range": (100.0, 4095.0), "bands": (5, 1, 2)}, 3),
    ("five", {"range": "full", "bands": (4,)}, 1),
    ("8 bit", {"bands": "all"}, 5),
]


def model_of(data: dict[str, Any], bands: int) -> Model:
    detector = make_detector(
        "scnet_lite", model__box__score_threshold=0.0, model__backbone__bands=bands
    )
    settings = replace(detector.config.data, size=(64, 96), **data)
    detector.config = replace(detector.config, data=settings)
    return Model(detector, "cpu")


def written(folder: Path, name: str) -> tuple[Path, np.ndarray[Any, Any]]:
    values = VALUES[name].astype(np.uint8) if name == "8 bit" else VALUES[name]
    (folder / "val").mkdir()
    path = folder / "val" / "1.tif"
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")
    content = {
        "images": [{"id": 1, "file_name": "1.tif", "width": 80, "height": 60}],
        "annotations": [],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (folder / "val.json").write_text(json.dumps(content))
    return path, values


@pytest.mark.filterwarnings("ignore:an image loses something")
@pytest.mark.parametrize(("name", "data", "bands"), CASES)
def test_training_and_prediction_read_alike(
    name: str, data: dict[str, Any], bands: int, tmp_path: Path
) -> None:
    path, values = written(tmp_path, name)
    model = model_of(data, bands)
    config = replace(model.config.data, flip=0.0)
    sets = [
        load_dataset(tmp_path / "val.json", "val", config, train=train, image_root=path.parent)
        for train in (False, True)
    ]
    expected = sets[0][0].image
    assert torch.equal(sets[1][0].image, expected)
    sources: list[Any] = [path, str(path)]
    if config.range != "full" or values.dtype == np.uint8:
        sources.append(values)
        if values.ndim == 3:
            sources.append(torch.from_numpy(values.astype(np.float64)).permute(2, 0, 1))
    for source in sources:
        pictures, batch = model.read([source])
        height, width = batch.sizes[0].tolist()
        assert torch.equal(batch.images[0, :, :height, :width], expected)
        assert (pictures[0].mode, pictures[0].size) == ("RGB", (80, 60))
    found = model.predict(path, score=0.0)
    assert found.size == (60, 80)
    assert found.plot().size[0] >= 80


def test_a_picture_of_many_bands_shows_the_first_three(tmp_path: Path) -> None:
    path, values = written(tmp_path, "8 bit")
    found = model_of({"bands": "all"}, 5).predict(path)
    assert found.image is not None
    assert np.array_equal(np.asarray(found.image), values[..., :3])


def test_lost_contrast_is_said_once(tmp_path: Path) -> None:
    path, _ = written(tmp_path, "grey")
    model = model_of({}, 3)
    with pytest.warns(UserWarning, match=r"use 5.9% of the range .* --data.range percentile"):
        model.predict([path, path])
    model.predict(path)  # a warning would be an error


REFUSED: list[tuple[dict[str, Any], int, Any, str]] = [
    ({}, 3, GREY, "must be uint8, not uint16; .*--data.range percentile"),
    ({"bands": "all"}, 5, FIVE, "must be uint8, not uint16"),
    ({"bands": "all"}, 5, FIVE[..., :4].astype(np.uint8), "has 4 bands, but .* trained on .* 5"),
    ({"bands": (1, 2, 6)}, 3, FIVE.astype(np.uint8), r"has 5 bands, but data.bands is \[1,2,6\]"),
    ({"range": "minmax"}, 3, FIVE, "has 5 bands; without a choice"),
    ({"range": "minmax"}, 3, np.zeros((2, 3, 4, 5)), r"must be \(H, W\) or \(H, W, bands\)"),
    ({"range": "minmax"}, 3, GREY > 9, "must hold numbers, not bool"),
    ({"bands": "all"}, 5, torch.rand(5, 8, 9), "from .* to .*; expected 0..255"),
]


@pytest.mark.parametrize(("data", "bands", "source", "message"), REFUSED)
def test_arrays_that_the_settings_do_not_cover_are_refused(
    data: dict[str, Any], bands: int, source: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        model_of(data, bands).predict(source)


def test_pixels_that_are_read_are_not_scaled_again() -> None:
    config = model_of({"range": "percentile"}, 3).config
    once = to_pixels(GREY, config)
    assert to_pixels(once, config) is once
    rgb = Image.fromarray(np.zeros((4, 5, 3), np.uint8))
    plain = to_pixels(rgb, replace(config, data=DataConfig())).values
    assert np.array_equal(np.asarray(plain), np.asarray(rgb))


def test_a_checkpoint_of_five_bands_builds_without_its_data(tmp_path: Path) -> None:
    model = model_of({"bands": "all", "range": "minmax"}, 5)
    checkpoint.save(tmp_path / "saved", model.detector)
    again = Model(checkpoint.load(tmp_path / "saved"), "cpu")
    expected, found = (m.predict(FIVE, score=0.0) for m in (model, again))
    assert torch.equal(found.boxes, expected.boxes)
    with pytest.raises(ValueError, match="the images have 3 bands, but the model takes 5"):
        model.detector.predict([torch.zeros(3, 64, 64)])
