"""What is recommended follows the figures of the data, and what the user sets wins."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from scnet.config import Config, from_dict, override, replace_at
from scnet.data.advice import Advice, Figures, advise
from scnet.data.images import DataError
from scnet.recipes import find
from scnet.settings import merge, nested
from scnet.training.auto import command, recommend
from scnet.training.run import train


def figures(
    side: float = 60, objects: int = 5, images: int = 1000, shorter: float = 480, **others: Any
) -> Figures:
    values: dict[str, Any] = {"ratio": 4 / 3, "per_class": {"cell": objects * images}, **others}
    sides = np.full(objects * images, side)
    return Figures(sides, np.full(images, objects), shorter, **values)


def value(found: list[Advice], setting: str) -> Any:
    values = [advice.value for advice in found if advice.setting == setting]
    return values[0] if values else None


def advice(of: Figures) -> list[Advice]:
    return advise(of, find("scnet_lite"), gpu=False)


def test_small_objects_get_larger_images_up_to_a_limit() -> None:
    sizes = [value(advice(figures(side)), "data.size")[0] for side in (4, 8, 12, 16, 60)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 640
    assert sizes[-1] == 320
    assert "cut the images into parts" in advice(figures(2))[0].reason
    assert all(side % 32 == 0 for side in sizes)


@pytest.mark.parametrize(("side", "scale"), [(8, 2.0), (30, 4.0), (450, 8.0)])
def test_anchors_follow_the_objects(side: float, scale: float) -> None:
    found = advice(figures(side, shorter=640))
    assert value(found, "model.rpn.anchor_scale") == scale


def test_anchors_follow_a_fixed_scale_and_the_window_stays() -> None:
    config = replace_at(find("scnet_lite"), "data.scale_factor", 0.3)
    found = advise(figures(60, shorter=640), config, gpu=False)
    assert value(found, "data.size") is None
    assert value(found, "model.rpn.anchor_scale") == 4.0


def test_anchors_whose_sizes_are_set_stay() -> None:
    config = replace_at(find("scnet_lite"), "model.rpn.anchor_sizes", ((32.0,),) * 5)
    assert value(advise(figures(8), config, gpu=False), "model.rpn.anchor_scale") is None


def test_crowded_images_get_more_detections_proposals_and_samples() -> None:
    found = advice(figures(objects=400, images=20))
    assert value(found, "model.box.max_detections") == 500
    assert value(found, "model.rpn.after_nms") == 1500
    assert value(found, "model.box.samples") == 512
    assert value(advice(figures(objects=5)), "model.box.max_detections") is None


def test_few_images_are_seen_more_often() -> None:
    epochs = [value(advice(figures(images=n)), "optim.epochs") for n in (10, 100, 1000, 100_000)]
    assert epochs == [200, 120, 12, 12]


def test_rare_classes_are_named() -> None:
    found = advice(figures(per_class={"cell": 5000, "debris": 3, "never": 0}))
    assert value(found, "data.copy_paste") == 0.5
    assert "debris (3)" in found[-1].reason
    assert "never" not in found[-1].reason


def test_a_full_recipe_gets_a_schedule_that_fits_its_epochs() -> None:
    found = advise(figures(), find("scnet"), gpu=True)
    assert value(found, "optim.schedule") == "cosine"


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """Two images of 60 x 80 with 150 objects of 4 px each, and nothing else."""
    annotations = []
    for image in (1, 2):
        for k in range(150):
            x, y = 5 * (k % 15) + 1, 5 * (k // 15) + 1
            polygon = [x, y, x + 4, y, x + 4, y + 4, x, y + 4]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "iscrowd": 0}
                | {"bbox": [x, y, 4, 4], "segmentation": [polygon], "area": 16}
            )
    images = [{"id": i, "file_name": f"{i}.png", "width": 80, "height": 60} for i in (1, 2)]
    categories = [{"id": 1, "name": "cell"}]
    (tmp_path / "train").mkdir()
    for image in images:
        Image.new("RGB", (80, 60)).save(tmp_path / "train" / image["file_name"])
    (tmp_path / "annotations").mkdir()
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (tmp_path / "annotations/instances_train.json").write_text(text)
    return tmp_path


def test_what_is_set_stays_and_the_command_says_the_rest(dense: Path) -> None:
    config, found = recommend(dense, {"data": {"size": [64, 96]}, "optim": {"epochs": 3}})
    assert config.data.size == (64, 96)
    assert config.optim.epochs == 3
    assert config.model.box.max_detections == math.ceil(150 * 1.2 / 50) * 50
    assert {a.setting for a in found}.isdisjoint({"data.size", "optim.epochs"})
    text = command("scnet", dense, [(a.setting, a.value) for a in found[1:]])
    assert text.startswith(f"scnet train scnet --data {dense} ")
    assert "--model.box.max-detections 200" in text


def test_the_command_means_what_was_recommended(dense: Path) -> None:
    config, found = recommend(dense)
    advised = [(a.setting, a.value) for a in found[1:]]
    words = shlex.split(command(found[0].value, dense, advised))
    settings: dict[str, Any] = nested("data.path", str(dense))
    for name, text in zip(words[5::2], words[6::2], strict=True):
        settings = merge(settings, nested(name.removeprefix("--"), yaml.safe_load(text)))
    assert override(find(words[2]), settings) == config


def test_auto_trains_what_is_recommended(
    dense: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    del quick["eval"]  # there is no val split
    run = train("auto", dense, output=tmp_path / "run", settings=quick, quiet=True)
    config: Config = from_dict(yaml.safe_load((run / "config.yaml").read_text()))
    assert config.recipe == recommend(dense)[1][0].value
    assert config.model.box.max_detections == 200
    assert config.data.size == tuple(quick["data"]["size"])


def test_nothing_is_recommended_for_nothing(dense: Path) -> None:
    file = dense / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"] = []
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no object to learn from"):
        recommend(dense)
