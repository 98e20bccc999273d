"""Properties of a training: what it learns from, what it writes, how it goes on."""

from __future__ import annotations

import gc
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

import scnet
from scnet.data.images import DataError
from scnet.model.detector import Detector
from scnet.runtime import memory
from scnet.settings import merge
from scnet.training import loop, statistics
from scnet.training.log import Log
from scnet.training.loop import Trainer
from scnet.training.run import resume, train


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["kind"] == kind]


@pytest.mark.usefixtures("drawn_curves")
def test_a_run_folder_holds_what_it_should(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    folder = train("scnet_lite", shapes, output=tmp_path / "run", settings=quick, quiet=True)
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml",
        "log.jsonl",
        "curves.png",
        "samples",
        "trackers",
        "last",
        "best",
        "eval.json",
    }
    assert len(records(folder, "train")) == 2 * 3
    assert [r["epoch"] for r in records(folder, "eval")] == [1, 2]
    assert len(list((folder / "samples").iterdir())) == 2
    model = scnet.load(folder, device="cpu")
    assert model.classes == ("disc", "other")
    result = scnet.evaluate(model, shapes)
    assert set(result) == {"bbox", "segm", "per_class", "images", "skipped", "seconds"}
    last = records(folder, "eval")[-1]
    best = max(r["segm"]["AP"] for r in records(folder, "eval"))
    assert result["segm"]["AP"] == pytest.approx(best)
    assert last["step"] == 6


def figures(folder: Path) -> dict[str, Any]:
    """Return what the run folder says of its last evaluation."""
    return dict(json.loads((folder / "eval.json").read_text()))


def test_figures_are_written_at_the_end_alone_and_before_the_log(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed training evaluates again what its log does not know, and writes both."""
    evaluation = Log.evaluation

    def killed(log: Log, record: dict[str, Any]) -> None:
        assert (log.file.parent / "eval.json").exists() == (record["step"] == 6)
        if record["step"] == 6:
            raise KeyboardInterrupt
        evaluation(log, record)

    monkeypatch.setattr(Log, "evaluation", killed)
    with pytest.raises(KeyboardInterrupt):
        train("mask_rcnn_lite", shapes, output=tmp_path, settings=quick, quiet=True)
    assert [record["step"] for record in records(tmp_path, "eval")] == [3]
    monkeypatch.setattr(Log, "evaluation", evaluation)
    (tmp_path / "eval.json").unlink()
    resume(tmp_path, quiet=True)
    found, logged = figures(tmp_path), records(tmp_path, "eval")[-1]
    same = ("step", "bbox", "segm", "skipped", "seconds")
    assert [found[name] for name in same] == [logged[name] for name in same]
    assert found["step"] == 6
    result = scnet.evaluate(scnet.load(tmp_path / "last", device="cpu"), shapes)
    assert found.keys() == {"step", *result}
    assert found["per_class"].keys() == result["per_class"].keys() == {"disc", "other"}
    assert found["images"] == 3


def test_without_images_to_evaluate_on_there_are_no_figures(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shapes, data)
    (data / "annotations" / "instances_val.json").unlink()
    settings = {k: v for k, v in quick.items() if k != "eval"}
    settings = merge(settings, {"optim": {"epochs": 1}})
    folder = train("mask_rcnn_lite", data, output=tmp_path / "run", settings=settings, quiet=True)
    assert not (folder / "eval.json").exists()


def test_no_reading_process_outlives_its_epoch(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = []  # iterators with processes, when an epoch is over

    def look(trainer: Trainer) -> None:
        # A process that starts while one is left inherits it, and complains when it is collected.
        found = (x for x in gc.get_objects() if type(x) is _MultiProcessingDataLoaderIter)
        reading.append(sum(1 for _ in found))

    monkeypatch.setattr(Trainer, "_draw_curves", look)
    settings = {"data": {"workers": 1}, "eval": {"every": 0}}
    train("scnet_lite", shapes, output=tmp_path, settings=merge(quick, settings), quiet=True)
    assert reading == [0, 0]


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    short = merge(quick, {"optim": {"max_steps": 2}, "eval": {"pictures": 0}})
    losses = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        settings = merge(short, {"optim": {"seed": seed}})
        folder = train("mask_rcnn", shapes, output=tmp_path / name, settings=settings, quiet=True)
        losses.append([r["loss"] for r in records(folder, "train")])
    assert losses[0] == losses[1] != losses[2]


def add_stuff_maps(data: Path) -> None:
    """Write maps of four classes beside the images, and none for one image."""
    for split in ("train", "val"):
        maps = data / f"semantic_{split}"
        maps.mkdir()
        for file in sorted((data / split).iterdir())[1:]:
            pixels = np.arange(128 * 128, dtype=np.uint8).reshape(128, 128) % 4
            Image.fromarray(pixels).save(maps / f"{file.stem}.png")
    (data / "annotations" / "semantic_categories.json").write_text(
        json.dumps([{"train_id": i} for i in range(4)])
    )


@pytest.mark.parametrize(("semantic", "classes"), [("maps", 4), ("masks", 3), ("off", None)])
def test_the_semantic_branch_learns_from_maps_from_masks_or_is_off(
    semantic: str, classes: int | None, quick: dict[str, Any], tmp_path: Path
) -> None:
    from scnet.data.synthetic.scene import generate

    data = generate(tmp_path / "shapes", train=4, val=2, size=(128, 128))
    if semantic == "maps":
        add_stuff_maps(data)
    change: dict[str, Any] = {"optim": {"max_steps": 2}, "eval": {"pictures": 0}}
    if semantic == "off":
        change["model"] = {"semantic": False}
    folder = train(
        "scnet", data, output=tmp_path / "run", settings=merge(quick, change), quiet=True
    )
    assert ("semantic" in records(folder, "train")[0]["losses"]) is (semantic != "off")
    model = scnet.load(folder, device="cpu")
    branch = model.detector.branches.semantic
    assert (branch and branch.classifier.out_channels) == classes
    assert scnet.evaluate(model, data)["images"] == 2
    model.predict(next((data / "val").iterdir()))


def changed(shapes: Path, folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    """Return the shapes without validation images, their training annotations changed."""
    content = json.loads((shapes / "annotations" / "instances_train.json").read_text())
    change(content["annotations"])
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    (folder / "train").symlink_to(shapes / "train")
    return folder


def all_crowd(annotations: list[dict[str, Any]]) -> None:
    for annotation in annotations:
        annotation["iscrowd"] = 1


def without_points(annotations: list[dict[str, Any]]) -> None:
    for annotation in annotations:
        annotation["segmentation"] = [[1, 2, 3, 4]]


def test_images_with_crowd_regions_alone_train(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def all_but_one(annotations: list[dict[str, Any]]) -> None:
        all_crowd(annotations)
        annotations[0]["iscrowd"] = 0

    data = changed(shapes, tmp_path / "crowds", all_but_one)
    settings = merge(quick, {"data": {"crowd": "ignore"}, "eval": {"pictures": 0}})
    folder = train("scnet", data, output=tmp_path / "run", settings=settings)
    losses = [r["losses"]["mask"] for r in records(folder, "train")]
    assert np.isfinite(losses).all()
    assert losses.count(0) > len(losses) / 2
    said = " ".join(capsys.readouterr().err.split())
    assert "to learn from: 1 object; " in said
    assert "warning: " in said
    assert "annotations are crowd regions (iscrowd 1)" in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [(all_crowd, r"\d+ crowd regions"), (without_points, r"\d+ left out as broken \(")],
)
def test_a_training_on_nothing_does_not_begin(
    change: Callable[[list[dict[str, Any]]], None],
    reason: str,
    shapes: Path,
    quick: dict[str, Any],
    tmp_path: Path,
) -> None:
    data = changed(shapes, tmp_path / "data", change)
    settings = merge(quick, {"data": {"drop_invalid": True, "crowd": "ignore"}})
    with pytest.raises(DataError, match=rf"train.json: no object to learn from: .*{reason}"):
        train("mask_rcnn", data, output=tmp_path / "run", settings=settings, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_is_not_written_to(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="exists and is not empty"):
        train("scnet", shapes, output=tmp_path, settings=quick, quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("fault", ["box", "json", "images"])
def test_broken_validation_data_stop_a_training_before_its_first_step(
    fault: str,
    shapes: Path,
    quick: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []
    monkeypatch.setattr(Log, "close", lambda log: closed.append(log))
    data = Path(shutil.copytree(shapes, tmp_path / "shapes"))
    file = data / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = 0
    if fault == "images":
        shutil.rmtree(data / "val")
    else:
        file.write_text(json.dumps(content) if fault == "box" else "{")
    reason = {"box": "box has zero width", "json": "not JSON", "images": "none of its images found"}
    with pytest.raises(DataError, match=rf"instances_val.json: .*{reason[fault]}"):
        train("mask_rcnn", data, output=tmp_path / "run", settings=quick, quiet=True)
    assert not (tmp_path / "run").exists()  # so that it can be given again
    assert len(closed) == 1  # else the progress bar would go on and hide the cursor


def test_a_validation_image_that_may_be_skipped_does_not_end_a_training(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    data = Path(shutil.copytree(shapes, tmp_path / "shapes"))
    sorted((data / "val").iterdir())[0].write_bytes(b"broken")
    settings = merge(quick, {"optim": {"max_steps": 1}, "data": {"unreadable": "skip"}})
    with pytest.warns(UserWarning, match=r"1 of 3 images left out of the evaluation: "):
        folder = train("mask_rcnn", data, output=tmp_path / "run", settings=settings, quiet=True)
    assert [r["skipped"] for r in records(folder, "eval")] == [1]
    assert len(list((folder / "samples").iterdir())) == 1


def test_a_data_set_without_a_validation_split_trains_and_says_so(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(shapes, tmp_path / "shapes"))
    (data / "annotations" / "instances_val.json").unlink()
    settings = merge(quick, {"optim": {"max_steps": 1}, "eval": {"pictures": 0}})
    folder = train("mask_rcnn", data, output=tmp_path / "run", settings=settings)
    assert "no evaluation during training: " in (said := capsys.readouterr().err)
    assert "no val split" in said
    assert records(folder, "eval") == []


def test_time_bounds_a_training(shapes: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    settings = merge(quick, {"optim": {"epochs": 10**6, "max_minutes": 0.02}, "eval": {"every": 0}})
    folder = train("mask_rcnn", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    assert len(records(folder, "eval")) == 1
    assert records(folder, "train")[-1]["lr"] < 1e-3


def test_a_training_leaves_warnings_and_memory_of_the_process_as_they_were(
    shapes: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    memory.release_freed()  # another test may have kept it
    filters = list(warnings.filters)
    settings = merge(quick, {"optim": {"max_steps": 1}, "eval": {"every": 0}})
    train("mask_rcnn", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    assert warnings.filters == filters
    assert not memory._whole_process


class ReachedError(Exception):
    """The evaluation begins."""


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[Detector]:
    """What the evaluations of a training were given, each of which ends it."""
    given = []

    def evaluate(finder: Detector, *args: Any, **options: Any) -> None:
        given.append(finder)
        raise ReachedError

    monkeypatch.setattr(loop, "evaluate_dataset", evaluate)
    return given


def test_a_training_in_mixed_precision_evaluates_without_norms_in_the_backbone(
    shapes: Path, quick: dict[str, Any], tmp_path: Path, evaluated: list[Detector]
) -> None:
    settings = merge(quick, {"optim": {"max_steps": 1, "precision": "bf16"}})
    with pytest.raises(ReachedError):
        train("mask_rcnn", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    assert not evaluated[0].backbone.has_batch_norm


@pytest.mark.parametrize("averaged", [False, True])
def test_processes_evaluate_with_the_statistics_of_the_main_one(
    averaged: bool,
    shapes: Path,
    quick: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    evaluated: list[Detector],
) -> None:
    def of_main_process(buffer: Tensor, src: int) -> None:
        assert src == 0
        buffer.fill_(7)

    monkeypatch.setattr(statistics, "world_size", lambda: 2)
    monkeypatch.setattr(statistics.dist, "broadcast", of_main_process)
    monkeypatch.setattr(loop, "for_inference", lambda detector: detector)
    change = {
        "model": {"norm": "batch"},
        "optim": {"max_steps": 1} | ({"ema": 0.9} if averaged else {}),
    }
    settings = merge(quick, change)
    with pytest.raises(ReachedError):
        train("mask_rcnn", shapes, output=tmp_path / "run", settings=settings, quiet=True)
    kept = [b for name, b in evaluated[0].fpn.named_buffers() if "norm" in name]
    assert kept
    assert all((buffer == 7).all() for buffer in kept)
