"""Trainings are carried out once, and go on where they were interrupted."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from scnet import recipes
from scnet.config import override, to_dict
from scnet.experiments.plan import Run
from scnet.experiments.runs import RECORD, ExperimentError, finish, launch, parameters, read
from scnet.settings import nested

EVALUATION = {"kind": "eval", "step": 5, "bbox": {"AP": 0.4}, "segm": {"AP": 0.3}}
TRAIN = {"kind": "train", "step": 5, "memory_gb": 1.5}


class FakeTraining:
    """Writes what a training writes, without training; may be interrupted."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.commands: list[Sequence[str]] = []
        self.interrupt = False
        self.log = [TRAIN, EVALUATION]

    def __call__(self, arguments: Sequence[str], processes: int) -> None:
        self.commands.append(arguments)
        folder = self.run.folder
        (folder / "last").mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(self.run.config)))
        if self.interrupt:
            raise KeyboardInterrupt
        torch.save({"seconds": 12.3}, folder / "last" / "state.pt")
        (folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in self.log))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = {"model": {"backbone": {"name": "resnet18", "weights": "none"}}}
    return Run(
        recipe="scnet_lite", data=Path("shapes"), seed=1, settings=settings, root=tmp_path / "runs"
    )


def test_a_finished_run_is_not_repeated(run: Run) -> None:
    training = FakeTraining(run)
    first = finish([run], training)
    assert finish([run, run], training) == [*first, *first]
    assert training.commands == [run.arguments()]
    assert read(run.folder) == first[0]
    assert (first[0].figure("AP"), first[0].figure("box AP")) == (30, 40)
    assert (first[0].seed, first[0].seconds, first[0].memory_gb) == (1, 12.3, 1.5)
    assert first[0].parameters == parameters(run.config)


def test_an_interrupted_run_is_resumed(run: Run) -> None:
    training = FakeTraining(run)
    training.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        finish([run], training)
    assert not (run.folder / RECORD).is_file()
    training.interrupt = False
    finish([run], training)
    assert training.commands == [run.arguments(), run.resuming()]


def test_a_run_that_ended_before_its_first_checkpoint_starts_over(run: Run) -> None:
    run.folder.mkdir(parents=True)
    (run.folder / "config.yaml").write_text(yaml.safe_dump(to_dict(run.config)))
    training = FakeTraining(run)
    finish([run], training)
    assert training.commands == [run.arguments()]


def test_a_folder_with_other_settings_is_refused(run: Run) -> None:
    training = FakeTraining(run)
    finish([run], training)
    longer = replace(run, settings={**run.settings, "optim": {"max_steps": 7}})
    with pytest.raises(ExperimentError, match="other settings"):
        finish([longer], training)
    moved = replace(run, data=Path("elsewhere/shapes"))
    assert finish([moved], training) == finish([run], training)


def test_what_comes_from_the_data_is_no_other_setting(run: Run) -> None:
    training = FakeTraining(run)
    finish([run], training)
    config = override(run.config, {"classes": ["disc"], "category_ids": [7]})
    config = override(config, nested("model.num_classes", 1))
    config = override(config, nested("model.semantic.num_classes", 3))
    (run.folder / "config.yaml").write_text(yaml.safe_dump(to_dict(config)))
    assert len(finish([run], training)) == 1


def test_a_run_without_evaluation_says_what_is_missing(run: Run) -> None:
    training = FakeTraining(run)
    training.log = [TRAIN]
    with pytest.raises(ExperimentError, match="val split"):
        finish([run], training)


def test_a_training_is_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    launch(["recipes"], processes=1)
    assert capfd.readouterr().out.split()[0] == next(iter(recipes.RECIPES))
    with pytest.raises(ExperimentError, match="status 2"):
        launch(["recipes", "scent"], processes=1)
    assert "scent" in capfd.readouterr().err
    assert sys.executable


def test_a_run_that_is_not_to_be_evaluated_has_no_figures(run: Run) -> None:
    final = replace(run, validated=False)
    training = FakeTraining(final)
    training.log = [TRAIN]
    (outcome,) = finish([final], training)
    assert (outcome.box, outcome.mask) == ({}, {})
    assert outcome.seconds == 12.3
