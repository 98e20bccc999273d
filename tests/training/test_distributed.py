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

STEPS = 20


def run(processes: int, recipe: str, data: Path, output: Path, settings: dict[str, Any]) -> Path:
    """Train from the command line, as a user does."""
    config = output.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start = [*launcher, f"--nproc-per-node={processes}"] if processes > 1 else [sys.executable]
    command = ["-m", "scnet", "train", recipe, "--data", data, "--config", config, "-o", output]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*start, *map(str, command)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
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


@pytest.mark.parametrize("recipe", ["mask_rcnn", "cascade_mask_rcnn", "htc", "scnet"])
def test_two_processes_have_the_losses_of_one(
    recipe: str, sparse: Path, quick: dict[str, Any], tmp_path: Path
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
    one = losses(run(1, recipe, sparse, tmp_path / "one", settings))
    two = losses(run(2, recipe, sparse, tmp_path / "two", settings))
    assert len(one) == len(two) == STEPS
    assert any(step.get("mask", step.get("mask1")) == 0 for step in one)  # no objects at all
    for step, (a, b) in enumerate(zip(one, two, strict=True)):
        assert b == pytest.approx(a, rel=1e-5, abs=1e-7), f"step {step}"
