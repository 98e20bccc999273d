"""Two processes train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scnet.settings import merge

RECIPES = ("mask_rcnn", "cascade_mask_rcnn", "htc", "scnet")
STEPS = 20


def run(processes: int, data: Path, output: Path, settings: dict[str, Any]) -> Path:
    """Train every recipe, in one launch."""
    output.mkdir()
    config = output / "settings.yaml"
    config.write_text(yaml.safe_dump(settings))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start = [*launcher, f"--nproc-per-node={processes}"] if processes > 1 else [sys.executable]
    command = [Path(__file__).with_name("several.py"), data, config, output, *RECIPES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*start, *map(str, command)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"wrote {output}") == 1  # by one of the processes
    return output


def losses(folder: Path) -> list[dict[str, float]]:
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [record["losses"] for record in records if record["kind"] == "train"]


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several sizes, two in three of them without objects."""
    from scnet.data.synthetic.scene import generate

    data = generate(tmp_path_factory.mktemp("sparse") / "data", train=12, val=2, size=(96, 128))
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] % 3 == 0]
    file.write_text(json.dumps(content))
    return data


def test_two_processes_have_the_losses_of_one(
    sparse: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    # Few candidates, as two that are equal but for rounding may change places.
    change = {
        "model": {"rpn": {"before_nms_train": 50, "after_nms_train": 30}},
        "optim": {"max_steps": STEPS, "batch_size": 2, "accumulate": 1, "lr": 1e-3},
        "data": {"scales": [64, 96]},
        "eval": {"pictures": 0, "every": 0},
        "run": {"trackers": []},
    }
    settings = merge(quick, change)
    folders = [run(n, sparse, tmp_path / str(n), settings) for n in (1, 2)]
    for recipe in RECIPES:
        one, two = (losses(folder / recipe) for folder in folders)
        assert len(one) == len(two) == STEPS
        assert any(step.get("mask", step.get("mask1")) == 0 for step in one)  # no objects at all
        for step, (a, b) in enumerate(zip(one, two, strict=True)):
            assert b == pytest.approx(a, rel=1e-5, abs=1e-7), f"{recipe}, step {step}"
