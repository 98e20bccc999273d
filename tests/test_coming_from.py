"""The page for people who come from another library: its commands run, its settings exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml
from PIL import Image
from tests import mmdet_files
from tests.weights.detectron2 import files as detectron2_files

from scnet import recipes
from scnet.cli.main import main
from scnet.config import to_dict
from scnet.data.synthetic.scene import generate

PAGE = Path(__file__).parents[1] / "docs" / "coming_from.md"
# What makes a training of a page one short step; the narrow files need their widths.
QUICK = (
    "--optim.max-steps 1 --optim.batch-size 1 --data.size [64,96] --data.workers 0 --eval.every 0"
)
NARROW = " --model.backbone.widths [8,16,32,64]"


def section(library: str) -> str:
    """Return what the page says to those who come from a library."""
    return PAGE.read_text().split(f"\n## {library}\n")[1].partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def own_data(folder: Path) -> None:
    """Write a small data set with the classes of the page."""
    generate(folder, train=2, val=1, size=(64, 96))
    for file in (folder / "annotations").glob("*.json"):
        text = file.read_text().replace('"disc"', '"nucleus"').replace('"other"', '"debris"')
        file.write_text(text)


def detectron2() -> str:
    file = Path("output/model_final.pth")
    file.parent.mkdir()
    detectron2_files.save(file, detectron2_files.state(2))
    config = {
        "MODEL": {"ROI_HEADS": {"NUM_CLASSES": 2}},
        "INPUT": {"MIN_SIZE_TEST": 96, "MAX_SIZE_TEST": 160},
    }
    (file.parent / "config.yaml").write_text(yaml.safe_dump(config))
    return NARROW


def torchvision_() -> str:
    torch.manual_seed(0)
    made = torchvision.models.detection.maskrcnn_resnet50_fpn
    model = made(weights=None, weights_backbone=None, num_classes=3)
    torch.save(model.state_dict(), "maskrcnn.pth")
    return ""


def mmdetection() -> str:
    file = Path("work_dirs/mask_rcnn/epoch_12.pth")
    mmdet_files.write(file, mmdet_files.mask_rcnn(2))
    return NARROW


LIBRARIES: dict[str, Callable[[], str]] = {
    "detectron2": detectron2,
    "torchvision": torchvision_,
    "MMDetection": mmdetection,
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_snippet_runs_in_order(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((90, 60), 50).convert("RGB").save("photo.jpg")
    own_data(Path("my_data"))
    narrow = LIBRARIES[library]()
    text = section(library)
    commands = [
        shlex.split(line, comments=True)
        for block in blocks(text, "sh")
        for line in block.splitlines()
    ]
    assert {words[0] for words in commands} == {"scnet"}
    for words in commands:
        more = (QUICK + narrow).split() if words[1] == "train" else []
        assert main([*words[1:], *more]) == 0, words
    scope: dict[str, Any] = {}
    for block in blocks(text, "python"):
        exec(block, scope)
    assert len(scope["found"].masks()) == len(scope["found"].boxes)


def test_settings_of_the_page_exist() -> None:
    config = to_dict(recipes.find("htc"))
    named = re.findall(r"`((?:model|data|optim|eval|run)(?:\.\w+)+)`", PAGE.read_text())
    assert len(named) > 50
    for path in named:
        value: Any = config
        for name in path.split("."):
            assert name in value, path
            value = value[name]
