"""The measurement of what trained weights are worth keeps its folders, and compares like seeds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import yaml
from benchmarks.from_weights import Run, Task, done, planned, require_same_plan, results, tuned

from scnet.config import to_dict

TASK = Task("balloon", Path("data"), {})
SOURCE = Path("source")


def arguments(output: Path, *, finetune: bool) -> argparse.Namespace:
    return argparse.Namespace(
        recipe="mask_rcnn_lite",
        size=None,
        source_steps=1000,
        steps=[100],
        seeds=2,
        rates=[1.0, 0.3],
        finetune=finetune,
        output=output,
    )


def fake(output: Path, run: Run, ap: float) -> None:
    """Write the folder of a training that is done."""
    folder = output / "runs" / run.name
    folder.mkdir(parents=True)
    figures = {kind: {"AP": ap} for kind in ("bbox", "segm")}
    (folder / "log.jsonl").write_text(json.dumps({"kind": "eval", "step": 100, **figures}) + "\n")
    _, config = tuned("mask_rcnn_lite", 100)
    (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(config)))


def test_folders_are_named_as_they_were() -> None:
    assert Run(TASK, None, 100, 0, 1.0).name == "balloon_imagenet_x1_100_seed0"
    assert Run(TASK, SOURCE, 300, 2, 0.3).name == "balloon_source_x0.3_300_seed2"
    fine = Run(TASK, SOURCE, 300, 2, 1.0, finetune=True)
    assert fine.name == "balloon_source_x1_300_seed2_finetune"


def test_the_plan_of_a_folder_is_that_of_trainings_without_fine_tuning(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(
        '{"recipe": "mask_rcnn_lite", "size": null, "source_steps": 1000}'
    )
    require_same_plan(arguments(tmp_path, finetune=True))


def test_a_fine_tuning_is_one_more_kind_of_each_seed(tmp_path: Path) -> None:
    without, beside = (
        [*planned((TASK,), SOURCE, arguments(tmp_path, finetune=finetune))]
        for finetune in (False, True)
    )
    assert [run for run in beside if not run.finetune] == without
    assert [run.seed for run in beside if run.finetune] == [0, 1]


def test_the_table_compares_it_with_imagenet(tmp_path: Path) -> None:
    args = arguments(tmp_path, finetune=True)
    for run in planned((TASK,), SOURCE, args):
        fake(tmp_path, run, 0.2 + 0.1 * run.finetune + 0.01 * run.seed)
    table = results((TASK,), SOURCE, args)
    assert "| balloon | 100 | source, --finetune | 2 | 30.5 ± 0.7 | 30.5 ± 0.7 | 10.0" in table
    assert "--finetune: optim.lr 0.0005 -> 0.00015, optim.warmup_steps 100 -> 30" in table
    assert "--finetune" not in results((TASK,), SOURCE, arguments(tmp_path, finetune=False))


def test_fine_tunings_with_other_settings_are_not_taken_for_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(TASK, SOURCE, 100, 0, 1.0, finetune=True)
    fake(tmp_path, run, 0.2)
    assert done(run, "mask_rcnn_lite", tmp_path) == tmp_path / "runs" / run.name
    monkeypatch.setattr("scnet.training.finetune.RATE", 0.1)
    with pytest.raises(SystemExit, match=r"had other settings then: optim\.lr 0\.00015 -> 5e-05"):
        done(run, "mask_rcnn_lite", tmp_path)
