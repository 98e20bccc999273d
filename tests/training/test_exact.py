"""Pieces, averages, interruptions: a training is the same whatever happens to it."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from tests.model_cases import make_detector

import scnet
from scnet import recipes
from scnet.config import override
from scnet.data.synthetic.scene import generate
from scnet.model.detector import Detector
from scnet.runtime.files import recover
from scnet.settings import ConfigError, merge
from scnet.training import loop, progress
from scnet.training.average import Average
from scnet.training.guards import TrainingError
from scnet.training.log import Log
from scnet.training.loop import Trainer
from scnet.training.run import make_accelerator, resume, train
from scnet.weights import checkpoint
from scnet.weights.checkpoint import CheckpointError

FEW = {
    "model": {"rpn": {"before_nms_train": 50, "after_nms_train": 30}},
    "eval": {"every": 0, "pictures": 0},
    "run": {"trackers": []},
}


def losses(folder: Path) -> list[dict[str, float]]:
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [record["losses"] for record in records if record["kind"] == "train"]


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(folder / name / "model.safetensors")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with so many objects that each gives as many positive samples as are asked for."""
    folder = tmp_path_factory.mktemp("crowded") / "data"
    return generate(folder, train=8, val=1, size=(128, 128))


@pytest.mark.parametrize("recipe", ["mask_rcnn", "scnet"])
def test_a_batch_in_pieces_trains_like_the_whole(
    recipe: str, crowded: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    change = {"model": {"box": {"samples": 8}}, "optim": {"batch_size": 8, "max_steps": 4}}
    settings = merge(merge(quick, FEW), change)
    runs = []
    for pieces in (1, 4):
        settings = merge(settings, {"optim": {"accumulate": pieces}})
        folder = tmp_path / str(pieces)
        runs.append(train(recipe, crowded, output=folder, settings=settings, quiet=True))
    for a, b in zip(*map(losses, runs), strict=True):
        assert b == pytest.approx(a, rel=1e-5)
    whole, pieces = map(weights, runs)
    for name, value in whole.items():
        torch.testing.assert_close(pieces[name], value, rtol=1e-4, atol=1e-6)


def test_averaged_weights_follow_their_definition() -> None:
    detector = make_detector("mask_rcnn")
    average = Average(detector, decay=0.6)
    name = "rpn.conv.weight"
    expected = None
    for update in range(12):
        with torch.no_grad():
            for parameter in detector.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update(detector, torch.tensor(True))
        now = detector.get_parameter(name).detach().clone()
        decay = min(0.6, (1 + update) / (10 + update))
        expected = now if expected is None else decay * expected + (1 - decay) * now
    torch.testing.assert_close(average.module.get_parameter(name), expected)


def test_averaged_weights_stay_at_a_step_that_is_not_finite() -> None:
    detector = make_detector("mask_rcnn")
    average = Average(detector, decay=0.6)
    before = {name: value.clone() for name, value in average.module.named_parameters()}
    with torch.no_grad():
        detector.rpn.conv.weight.add_(1)
    average.update(detector, torch.tensor(False))
    assert all(torch.equal(v, before[n]) for n, v in average.module.named_parameters())
    assert average.updates == 0


def test_averaged_weights_are_kept_and_the_others_for_resuming(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    settings = merge(merge(quick, FEW), {"optim": {"ema": 0.9, "max_steps": 4}})
    folder = train("mask_rcnn", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    state = checkpoint.load_state(folder / "last")
    kept = weights(folder)
    assert state["updates"] == 4
    changed = [n for n, v in state["weights"].items() if not torch.equal(v, kept[n])]
    assert "rpn.cls.weight" in changed
    assert not any("running" in name for name in changed)


@pytest.mark.parametrize(
    "change",
    [
        {},  # evaluated after each epoch, with trackers
        {**FEW, "optim": {"ema": 0.9, "accumulate": 2, "epochs": 3}},
    ],
)
def test_resuming_in_an_epoch_ends_bit_identical(
    shapes: Path,
    quick: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
) -> None:
    settings = merge(merge(quick, {"run": {"checkpoint_steps": 2}}), change)
    whole = train("scnet", shapes, output=tmp_path / "whole", settings=settings, quiet=True)
    step = Trainer.train_step
    # Just after a checkpoint, between epochs, and a step after a checkpoint.
    cuts = [2, 3, 5]

    def killed(self: Trainer, pieces: Any) -> Any:
        if self.progress.step in cuts:
            cuts.remove(self.progress.step)
            raise KeyboardInterrupt
        return step(self, pieces)

    monkeypatch.setattr(Trainer, "train_step", killed)
    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        train("scnet", shapes, output=folder, settings=settings, quiet=True)
    while cuts:
        torch.manual_seed(len(cuts))
        with pytest.raises(KeyboardInterrupt):
            resume(folder, quiet=True)
    torch.manual_seed(0)
    resume(folder, quiet=True)
    a, b = weights(whole), weights(folder)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert losses(whole) == losses(folder)


def test_bf16_trains_on_the_cpu(shapes: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    settings = merge(merge(quick, FEW), {"optim": {"max_steps": 3}})
    runs = []
    for precision in ("fp32", "bf16"):
        settings = merge(settings, {"optim": {"precision": precision}})
        folder = tmp_path / precision
        runs.append(train("scnet", shapes, output=folder, settings=settings, quiet=True))
    full, half = map(losses, runs)
    assert full[0] != half[0]
    # Rounding changes which proposals are kept, and so what the stages learn from.
    everywhere = [name for name in full[0] if not name.startswith(("stage", "mask"))]
    assert {"rpn.cls", "rpn.box"} < set(everywhere)
    for name in everywhere:
        assert half[0][name] == pytest.approx(full[0][name], rel=0.05, abs=0.02)
    assert all(math.isfinite(value) for value in half[-1].values())
    assert weights(runs[1])["rpn.conv.weight"].dtype == torch.float32


def test_fp16_without_a_gpu_is_explained(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    if torch.accelerator.is_available():
        pytest.skip("there is a GPU")
    settings = merge(quick, {"optim": {"precision": "fp16"}})
    with pytest.raises(ConfigError, match=r"optim\.precision: fp16 needs a GPU"):
        train("scnet", shapes, output=tmp_path / "run", settings=settings, quiet=True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"norm": "sync"}, "take group or batch"),
        ({"pyramid": {"norm": "sync"}}, "take group or batch"),
        ({"backbone": {"sync_norm": True, "frozen_norm": False}}, "sync_norm.*set it off"),
        ({"norm": "group"}, None),
    ],
)
def test_norms_over_several_processes_without_gpus_are_explained(
    change: dict[str, Any], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.accelerator.is_available():
        pytest.skip("there is a GPU")
    config = override(recipes.find("scnet"), {"model": change})
    make_accelerator(config)  # a single process computes them on a CPU
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.MULTI_CPU)
    with pytest.raises(ConfigError, match=reason) if reason else nullcontext():
        make_accelerator(config)


def break_loss(monkeypatch: pytest.MonkeyPatch, *images: int) -> None:
    """Let the loss of some images be NaN."""
    loss = Detector.loss

    def broken(self: Detector, batch: Any, choose: Any = None) -> Any:
        values = loss(self, batch, choose)
        if any(info.id in images for info in batch.info):
            values["rpn.cls"] = values["rpn.cls"] * float("nan")
        return values

    monkeypatch.setattr(Detector, "forward", broken)


def test_a_loss_that_is_not_finite_stops_and_names_the_images(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_loss(monkeypatch, 3)
    names = {i["id"]: i["file_name"] for i in _annotations(shapes)["images"]}
    with pytest.raises(FloatingPointError, match=r"not finite at step \d.*rpn\.cls nan") as caught:
        train("scnet", shapes, output=tmp_path / "run", settings=merge(quick, FEW), quiet=True)
    assert names[3] in str(caught.value)
    assert sum(name in str(caught.value) for name in names.values()) <= 2  # those of the step


def test_steps_that_are_not_finite_can_be_left_out_and_are_counted(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_loss(monkeypatch, 3)
    settings = merge(merge(quick, FEW), {"optim": {"nonfinite": "skip", "epochs": 2}})
    folder = train("scnet", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    assert checkpoint.load_state(folder / "last")["skipped"] == 2  # once an epoch
    assert all(value.isfinite().all() for value in weights(folder).values())


def test_a_step_that_is_not_finite_leaves_statistics_of_batch_norm_as_they_were(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    normalise, step = Detector.normalise, Trainer.train_step
    passes, changed = [], []

    def broken(self: Detector, *args: Any) -> torch.Tensor:
        passes.append(args)
        return normalise(self, *args) * (math.nan if len(passes) == 4 else 1)

    def watched(self: Trainer, pieces: Any) -> Any:
        assert self.average is not None
        models = (self.detector, self.average.module)
        before = [[b.clone() for b in model.buffers()] for model in models]
        result = step(self, pieces)
        pairs = [zip(old, m.buffers(), strict=True) for old, m in zip(before, models, strict=True)]
        changed.append([not all(torch.equal(*pair) for pair in of_model) for of_model in pairs])
        return result

    monkeypatch.setattr(Detector, "normalise", broken)
    monkeypatch.setattr(Trainer, "train_step", watched)
    change = {
        "model": {"norm": "batch", "backbone": {"frozen_norm": False}},
        "optim": {"nonfinite": "skip", "ema": 0.9, "accumulate": 2, "max_steps": 3},
    }
    settings = merge(merge(quick, FEW), change)
    folder = train("scnet", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    assert changed == [[True, True], [False, False], [True, True]]
    assert checkpoint.load_state(folder / "last")["skipped"] == 1
    assert all(value.isfinite().all() for value in weights(folder).values())


def test_looking_a_step_late_changes_nothing(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_loss(monkeypatch, 3)
    settings = merge(merge(quick, FEW), {"optim": {"nonfinite": "skip", "ema": 0.9}})
    runs = []
    for late in (False, True):
        monkeypatch.setattr(progress, "runs_ahead", lambda device, late=late: late)
        folder = tmp_path / str(late)
        runs.append(train("mask_rcnn", shapes, output=folder, settings=settings, quiet=True))
    a, b = map(weights, runs)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert losses(runs[0]) == losses(runs[1])
    assert [checkpoint.load_state(run / "last")["skipped"] for run in runs] == [2, 2]


def test_an_evaluation_that_fails_loses_no_epoch(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("broken image")

    monkeypatch.setattr(loop, "evaluate_dataset", fails)
    settings = merge(quick, {"run": {"trackers": []}})
    with pytest.raises(ValueError, match="broken image"):
        train("mask_rcnn", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    assert checkpoint.load_state(tmp_path / "run" / "last")["step"] == 3
    monkeypatch.undo()
    resume(tmp_path / "run", quiet=True)  # makes up for it
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    evaluated = [record["step"] for record in logged if record["kind"] == "eval"]
    assert evaluated[0] == 3
    assert len(evaluated) == len(set(evaluated))


def test_leaving_out_every_step_ends(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "HOPELESS", 3)
    break_loss(monkeypatch, *range(1, 7))
    settings = merge(merge(quick, FEW), {"optim": {"nonfinite": "skip", "epochs": 9}})
    with pytest.raises(FloatingPointError, match="not finite at step 2"):
        train("mask_rcnn", shapes, output=tmp_path / "run", settings=settings, quiet=True)


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = merge(merge(quick, FEW), {"run": {"checkpoint_steps": 2}})
    save = torch.save
    calls = []

    def full(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(*args)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"No space left.*disk full.*The one before it is"):
        train("scnet", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    assert checkpoint.load_state(tmp_path / "run" / "last")["step"] == 2
    assert not list((tmp_path / "run").glob(".last-*"))
    monkeypatch.undo()
    resume(tmp_path / "run", quiet=True)


def test_a_disk_that_fills_up_with_the_log_is_told(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Log, record: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.file))

    monkeypatch.setattr(Log, "_write", full)
    with pytest.raises(TrainingError, match=r"log\.jsonl: the disk is full; make room, then start"):
        train("mask_rcnn", shapes, output=tmp_path / "run", settings=merge(quick, FEW), quiet=True)


def test_a_training_that_diverges_says_so(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    wild = {"optim": {"lr": 1e6, "optimizer": "sgd", "warmup_steps": 0, "epochs": 5}}
    with pytest.raises(FloatingPointError, match=r"not finite at step \d+ .* Lower --optim\.lr"):
        train("scnet", shapes, output=tmp_path / "run", settings=merge(quick, wild), quiet=True)


@pytest.mark.parametrize("moment", ["before the new one", "after it"])
def test_a_kill_while_a_checkpoint_is_replaced_loses_none(tmp_path: Path, moment: str) -> None:
    detector = make_detector("mask_rcnn")
    checkpoint.save(tmp_path / "last", detector, {"step": 1})
    half = tmp_path / ".last-abcd"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    if moment == "before the new one":
        (tmp_path / "last").rename(tmp_path / ".last-old")
    else:
        checkpoint.save(tmp_path / ".last-old", detector, {"step": 0})
    recover(tmp_path / "last")
    assert checkpoint.load_state(tmp_path / "last")["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_trackers_are_closed_when_a_training_fails(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr(TensorBoardTracker, "finish", lambda self: closed.append(self))
    break_loss(monkeypatch, *range(1, 7))
    settings = merge(merge(quick, FEW), {"run": {"trackers": ["tensorboard"]}})
    with pytest.raises(FloatingPointError):
        train("mask_rcnn", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    assert closed


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_and_says_how_to_go_on(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, number: int
) -> None:
    settings = merge(merge(quick, FEW), {"optim": {"epochs": 1000}, "data": {"workers": 1}})
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    folder = tmp_path / "run"
    command = ["train", "mask_rcnn", "--data", shapes, "--config", tmp_path / "settings.yaml"]
    with subprocess.Popen(
        [sys.executable, "-m", "scnet", *map(str, command), "-o", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while process.poll() is None and not (folder / "last").is_dir():
            time.sleep(0.1)
        os.killpg(process.pid, number)  # as a terminal or a scheduler does
        _, said = process.communicate()
    assert process.returncode == 130, said
    assert f"continue with: scnet train --resume {folder}" in said
    assert "Traceback" not in said
    assert checkpoint.load_state(folder / "last")["step"] > 0


def test_resuming_with_other_data_is_explained(quick: dict[str, Any], tmp_path: Path) -> None:
    data = generate(tmp_path / "data", train=4, val=1, size=(96, 96))
    settings = merge(merge(quick, FEW), {"optim": {"max_steps": 2}})
    folder = train("mask_rcnn", data, output=tmp_path / "run", settings=settings, quiet=True)
    content = _annotations(data)
    content["images"].pop()
    known = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in known]
    _write(data, content)
    with pytest.raises(CheckpointError, match=r"began with 4 training images, but .* now has 3"):
        resume(folder)
    content["categories"][0]["name"] = "thing"
    _write(data, content)
    with pytest.raises(CheckpointError, match=r"began with 2 classes .*disc.* now has .*thing"):
        resume(folder)


def test_checkpoints_of_some_epochs_stay(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    settings = merge(merge(quick, FEW), {"run": {"keep_epochs": 2}, "optim": {"epochs": 4}})
    folder = train("mask_rcnn", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    assert sorted(p.name for p in folder.glob("epoch*")) == ["epoch002", "epoch004"]
    assert scnet.load(folder / "epoch002", device="cpu").classes == ("disc", "other")
    # Only `last` is resumed from, so it alone carries the optimiser.
    assert [file.parent.name for file in folder.rglob("state.pt")] == ["last"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"num_classes": 7}, r"model\.num_classes: 7, but .* has 2"),
        ({"semantic": {"num_classes": 50}}, r"model\.semantic\.num_classes: 50, but .* has 3"),
    ],
)
def test_a_number_of_classes_that_the_data_do_not_have_is_refused(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, model: dict[str, Any], message: str
) -> None:
    settings = merge(quick, {"model": model})
    with pytest.raises(ConfigError, match=message):
        train("scnet", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["disc"]}, "classes: disc, but .* choose and order classes with data.classes"),
        ({"category_ids": [5]}, "category_ids: 5, but .* has"),
        ({"recipe": "htc"}, "recipe: htc, but scnet is trained"),
    ],
)
def test_what_the_data_say_cannot_be_set(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(
            "scnet",
            shapes,
            output=tmp_path / "run",
            settings=merge(quick, settings),
            quiet=True,
        )
    assert not (tmp_path / "run").exists()


def test_the_number_of_classes_of_the_data_may_be_given(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    given = {"model": {"num_classes": 2, "semantic": {"num_classes": 3}}}
    settings = merge(merge(quick, given), {"optim": {"max_steps": 1}})
    train("scnet", shapes, output=tmp_path / "run", settings=settings, quiet=True)


def test_an_unknown_tracker_is_explained(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    settings = merge(quick, {"run": {"trackers": ["wandbb"]}})
    with pytest.raises(ConfigError, match=r"run\.trackers: wandbb"):
        train("scnet", shapes, output=tmp_path / "run", settings=settings, quiet=True)


def _annotations(data: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (data / "annotations" / "instances_train.json").read_text()
    )
    return content


def _write(data: Path, content: dict[str, Any]) -> None:
    (data / "annotations" / "instances_train.json").write_text(json.dumps(content))
