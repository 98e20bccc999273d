"""A training goes on where it is, with data that may have moved, and as it began."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from scnet.cli.main import main
from scnet.config import Config, from_dict, replace_at
from scnet.data.synthetic.scene import generate
from scnet.settings import ConfigError, leaves, merge
from scnet.training.resuming import MAY_CHANGE, changed, stored_config
from scnet.training.run import resume, train
from scnet.weights import checkpoint
from scnet.weights.checkpoint import CheckpointError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return generate(tmp_path / "here" / "data", train=4, val=1, size=(96, 96))


@pytest.fixture
def run(data: Path, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run whose data were named relative to the working folder."""
    monkeypatch.chdir(data.parent)
    settings = merge(quick, {"optim": {"max_steps": 2}, "eval": {"every": 0, "pictures": 0}})
    settings = merge(settings, {"run": {"trackers": []}})
    return train("mask_rcnn", "data", output=data.parent / "run", settings=settings, quiet=True)


def test_a_run_goes_on_from_any_working_folder(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert stored_config(run).data.path == str(data)
    assert resume(run, quiet=True) == run


def test_an_older_run_keeps_left_and_right_as_it_began(
    data: Path, quick: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (data / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        for side, category in zip(("left", "right"), content["categories"], strict=True):
            category["name"] = f"{side} shape"
        file.write_text(json.dumps(content))
    settings = merge(quick, {"optim": {"max_steps": 2}, "eval": {"every": 0, "pictures": 0}})
    settings = merge(settings, {"run": {"trackers": []}})
    run = train("mask_rcnn", data, output=data.parent / "run", settings=settings)
    said = " ".join(capsys.readouterr().err.split())
    assert "note: in mirrored images left shape and right shape change places" in said
    stored = yaml.safe_load((run / "config.yaml").read_text())
    assert stored["data"].pop("flip_swaps") == "auto"
    (run / "config.yaml").write_text(yaml.safe_dump(stored))
    with pytest.raises(ConfigError, match=r"data\.flip_swaps: cannot change to auto"):
        resume(run, settings={"data": {"flip_swaps": "auto"}}, quiet=True)
    resume(run)
    said = " ".join(capsys.readouterr().err.split())
    assert "note: in mirrored images left shape and right shape stay what they are" in said
    assert checkpoint.load(run / "last").config.data.flip_swaps == "auto"  # written before


def test_a_finished_run_is_said_to_be_at_its_end(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume(run, quiet=False)
    said = capsys.readouterr()
    assert f"at its end; to train further, start one with --from {run}" in said.err + said.out
    assert "resuming" not in said.err + said.out


def test_data_that_have_moved_are_named_and_remembered(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "elsewhere"
    shutil.move(data, new)
    assert main(["train", "--resume", str(run), "--quiet"]) == 1
    assert f"its data are not at {data}; say where they are" in capsys.readouterr().err
    assert f"scnet train --resume {run} --data PATH" not in new.name
    assert main(["train", "--resume", str(run), "--data", str(new), "--quiet"]) == 0
    assert stored_config(run).data.path == str(new)
    resume(run, quiet=True)


def test_a_relative_place_of_an_older_run_is_used_where_it_fits(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace(f"path: {data}", "path: data"))
    assert stored_config(run).data.path == "data"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=f"not at data, seen from {tmp_path}; say where"):
        resume(run, quiet=True)
    monkeypatch.chdir(data.parent)
    resume(run, quiet=True)
    assert stored_config(run).data.path == str(data)


def test_other_data_are_refused_and_not_remembered(run: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(data, other)
    for file in (other / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        content["categories"][0]["name"] = "thing"
        file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"began with 2 classes .* now has .*thing"):
        resume(run, data=other, quiet=True)
    assert stored_config(run).data.path == str(data)


def test_what_may_change_does_and_reaches_the_training(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Config] = []
    monkeypatch.setattr("scnet.training.run.Trainer.run", lambda self: seen.append(self.config))
    settings = {"data": {"workers": 1}, "run": {"checkpoint_steps": 7}, "eval": {"batch_size": 2}}
    resume(run, settings=settings, quiet=True)
    (config,) = seen
    assert (config.data.workers, config.run.checkpoint_steps, config.eval.batch_size) == (1, 7, 2)
    assert stored_config(run) == config


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--optim.lr", "0.5"],
            "optim.lr: cannot change to 0.5, as the training in RUN began with 0.001",
        ),
        (
            ["--data.flip", "0.1"],
            "data.flip: cannot change to 0.1, as the training in RUN began with 0.5",
        ),
        (["--model.semantic"], "model.semantic.residual: cannot change to False"),
        (["--optim.lrr", "1"], 'did you mean "lr"'),
        (["scnet"], "RECIPE scnet: has no effect"),
    ],
)
def test_what_may_not_change_is_named(
    run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", str(run), *words, "--quiet"]) == 2
    assert message.replace("RUN", str(run)) in capsys.readouterr().err


def test_settings_that_the_run_has_already_pass(run: Path) -> None:
    lr = stored_config(run).optim.lr
    resume(run, settings={"optim": {"lr": lr}}, quiet=True)


def test_every_setting_that_may_change_exists() -> None:
    from scnet.config import to_dict

    paths = [path for path, _ in leaves(to_dict(Config()))]
    for name in MAY_CHANGE:
        assert any(path == name or path.startswith(f"{name}.") for path in paths)


def test_a_place_is_never_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    stored = replace_at(Config(), "data.path", "gone")
    config = changed(stored, tmp_path, "data", {"data": {"stuff_maps": "maps"}})
    assert config.data.path == str(tmp_path / "data")
    assert config.data.stuff_maps == str(tmp_path / "maps")
    assert config.model.backbone.weights == "imagenet"


def test_the_config_of_a_run_can_be_given_to_another_training(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    shutil.copytree(data, new)
    words = ["train", "mask_rcnn", "--data", str(new), "--config", str(run / "config.yaml")]
    assert main([*words, "-o", str(tmp_path / "again")]) == 0
    said = "".join(capsys.readouterr().err.split())
    assert f"note: data.path {data}: not used".replace(" ", "") in said
    again = stored_config(tmp_path / "again")
    assert again.data.path == str(new)
    assert replace_at(again, "data.path", str(data)) == stored_config(run)


def test_one_number_of_epochs_is_given(data: Path, quick: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"epochs: 5, but settings have optim\.epochs 2"):
        train("mask_rcnn", data, epochs=5, settings=quick)


def test_a_config_that_was_edited_is_what_the_training_follows(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint has a copy of its own, which must not win without a word."""
    stored = yaml.safe_load((run / "config.yaml").read_text())
    stored["optim"]["log_every"] = 3
    (run / "config.yaml").write_text(yaml.safe_dump(stored))
    seen: list[Config] = []
    monkeypatch.setattr("scnet.training.run.Trainer.run", lambda self: seen.append(self.config))
    resume(run, quiet=True)
    assert seen == [from_dict(stored)]
    assert os.path.isabs(seen[0].data.path)
    assert checkpoint.load(run / "last").config.optim.log_every == 1
