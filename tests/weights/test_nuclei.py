"""The model of nuclei that comes with the package, used as its card says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from tests.quick import no_curves

import scnet
from scnet.cli.main import main
from scnet.weights import zoo

pytestmark = pytest.mark.usefixtures("no_network")

SIDE, RADIUS = 160, 9
CENTRES = tuple((x, y) for x in (30, 80, 130) for y in (30, 80, 130))


def discs() -> Iterator[np.ndarray[Any, Any]]:
    """Masks of bright discs that do not touch."""
    y, x = np.mgrid[:SIDE, :SIDE]
    for cx, cy in CENTRES:
        yield (x - cx) ** 2 + (y - cy) ** 2 <= RADIUS**2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of one image of drawn nuclei on a dark ground, the same in each split."""
    folder = tmp_path_factory.mktemp("nuclei")
    light = gaussian_filter(120.0 * sum(discs()), 1.0)
    noise = np.random.default_rng(0).normal(12, 2, light.shape)
    pixels = (light + noise).clip(0, 255).astype(np.uint8)
    objects = []
    for i, (mask, (x, y)) in enumerate(zip(discs(), CENTRES, strict=True)):
        edges = np.diff(np.concatenate([[0], mask.T.reshape(-1), [0]]))
        runs = np.diff([0, *np.flatnonzero(edges), mask.size])
        box = [x - RADIUS, y - RADIUS, 2 * RADIUS + 1, 2 * RADIUS + 1]
        about = {"id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": box}
        rle = {"size": [SIDE, SIDE], "counts": runs.tolist()}
        objects.append(about | {"area": int(mask.sum()), "segmentation": rle})
    for split in ("train", "val", "test"):
        (folder / split).mkdir()
        Image.fromarray(pixels).save(folder / split / f"{split}.png")
        content = {
            "images": [{"id": 1, "file_name": f"{split}.png", "width": SIDE, "height": SIDE}],
            "annotations": objects,
            "categories": [{"id": 1, "name": "nucleus"}],
        }
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def test_it_is_in_the_list_first() -> None:
    assert next(iter(zoo.PUBLISHED)) == "nuclei"
    assert scnet.load("nuclei", device="cpu").classes == ("nucleus",)


def test_it_finds_bright_nuclei_on_a_dark_ground(data: Path, tmp_path: Path) -> None:
    image = data / "test" / "test.png"
    assert main(["predict", "nuclei", str(image), "-o", str(tmp_path / "a"), "--quiet"]) == 0
    assert (tmp_path / "a" / "test_masks.png").is_file()
    found = scnet.load("nuclei", device="cpu").predict(image)
    masks = found.masks().numpy()
    hit = sum(any((m & d).sum() > 0.5 * (m | d).sum() for m in masks) for d in discs())
    assert hit >= 7


def test_it_is_evaluated_by_name(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    words = ["--data", str(data), "--split", "test", "--metric", "matching", "--json", str(file)]
    assert main(["eval", "nuclei", *words]) == 0
    assert json.loads(file.read_text())["images"] == 1


def test_a_training_goes_on_from_all_of_it(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("scnet.pictures.curves.curves", no_curves)
    recipe = scnet.load("nuclei", device="cpu").config.recipe
    words = ["--data", str(data), "--from", "nuclei", "-o", str(tmp_path / "run")]
    quick = ["--optim.max-steps", "1", "--optim.batch-size", "1", "--data.size", "[128,192]"]
    quick += ["--data.workers", "0", "--eval.every", "0", "--eval.pictures", "0"]
    assert main(["train", recipe, *words, *quick]) == 0
    told = capsys.readouterr().err
    (share,) = re.findall(rf"taken from nuclei \({recipe}\): ([\d.]+) % of", told)
    assert float(share) == 100.0
    assert "start: nuclei\n" in (tmp_path / "run" / "config.yaml").read_text()
