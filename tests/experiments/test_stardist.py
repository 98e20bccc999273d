"""StarDist's table: thresholds are chosen on validation images, and test images are met once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.experiments.conftest import TINY, MakePlan

from scnet.cli.main import main
from scnet.data.images import DataError
from scnet.data.synthetic.scene import generate
from scnet.experiments import command, runs, stardist, stardist_page, stardist_splits
from scnet.experiments.plan import PAPER, Plan, Run
from scnet.experiments.runs import ExperimentError
from scnet.experiments.stardist_page import MODELS
from scnet.settings import merge

Say = Callable[[str], None]


def silent(said: str) -> None:
    pass


def annotations(data: Path, name: str) -> dict:
    return json.loads((data / "annotations" / f"instances_{name}.json").read_text())


def write(data: Path, name: str, content: dict) -> None:
    (data / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))


def part(of: dict, images: list[dict]) -> dict:
    ids = {image["id"] for image in images}
    own = [a for a in of["annotations"] if a["image_id"] in ids]
    return {**of, "images": images, "annotations": own}


def split(data: Path) -> None:
    """Split the training images as StarDist does, with other numbers; val becomes test."""
    whole = annotations(data, "train")
    write(data, "train4", part(whole, whole["images"][:4]))
    write(data, "val2", part(whole, whole["images"][4:]))
    (data / "annotations/instances_val.json").rename(data / "annotations/instances_test.json")
    (data / "val").rename(data / "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = generate(tmp_path_factory.mktemp("data") / "nuclei", train=6, val=3, size=(96, 128))
    split(data)
    return data


@pytest.fixture
def nuclei(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "nuclei"))


@pytest.fixture
def plan(make_plan: MakePlan, made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plan:
    """Two models at a size of seconds, whose trainings run in this process."""

    def here(arguments: list[str], processes: int) -> None:
        assert main([*arguments]) == 0

    few = {name: MODELS[name] for name in ("mask_rcnn", "scnet")}
    for module in (stardist, stardist_page):
        monkeypatch.setattr(module, "MODELS", few)
    monkeypatch.setattr("scnet.evaluation.report.score_curves", lambda *given: None)  # slow
    monkeypatch.setattr(stardist, "finish", partial(runs.finish, launch=here))
    # Threshold 0, as networks of two steps are sure of nothing.
    without_pictures = {**TINY.settings, "eval": {"every": 0}}
    model = {"box": {"score_threshold": 0.0, "max_detections": 20}}
    settings = merge(without_pictures, {"model": model, "optim": {"schedule": "cosine"}})
    monkeypatch.setattr(stardist, "SETTINGS", settings)
    return replace(make_plan("stardist"), data=(made,), root=tmp_path / "out", steps=2)


@pytest.mark.filterwarnings("ignore:no prediction is an object")
@pytest.mark.filterwarnings("ignore:.*the most predictions that may be")
def test_the_whole_way_and_the_test_once(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(stardist, "_show_mistakes", lambda *given: None)
        text = command.run(plan, said.append).read_text()
    found = json.loads((plan.folder / "results.json").read_text())
    assert {m["split"] for m in found["data"][0]["measured"]} == {"val"}
    assert len(command.runs(plan)) == 2
    assert "The test images were not looked at" in text
    assert "4 to train and 2 to choose with, and 3 test images" in said[0]
    assert not (plan.root / "tiny/runs/nuclei_final").exists()

    tested = replace(plan, test=True)
    text = command.run(tested, said.append).read_text()
    found = json.loads((plan.folder / "results.json").read_text())
    measured = found["data"][0]["measured"]
    assert [(m["split"], m["images"]) for m in measured] == [("val", 2)] * 2 + [("test", 3)] * 2
    for chosen, once in zip(measured[:2], measured[2:], strict=True):
        assert chosen["model"] == once["model"]
        assert chosen["score"] == once["score"]
        assert once["score_from"] == "given"
        assert once["seconds_per_image"] > 0
    for words in (
        "scnet experiment stardist --size tiny --seeds 1",
        "--steps 2 --test",
        "| StarDist, published | 86.4 |",
        "### AP of the 3 test images, mean over images",
        "### Each seed on the 3 test images",
        "(stardist_nuclei.png)",
        "SCNet against Mask R-CNN, mean AP: ",
        "(mistakes_nuclei_scnet/index.html)",
        "s an image",
    ):
        assert words in text, words
    for name in stardist.pictures(tested):
        assert (plan.folder / name).exists(), name
    for training in stardist.final_runs(tested, plan.data[0]):
        log = (training.folder / "log.jsonl").read_text()
        assert '"kind": "eval"' not in log  # nothing is looked at in the training that is tested

    def never(*given: object) -> None:
        raise AssertionError("measured twice")

    monkeypatch.setattr(stardist, "_measure", never)
    for slow in ("_show_mistakes", "_draw"):
        monkeypatch.setattr(stardist, slow, lambda *given: None)
    assert command.run(tested, silent).read_text() == text

    for training in stardist.final_runs(tested, plan.data[0]):  # a record has the figures alone
        (training.folder / "results_test.json").unlink()
    for name in MODELS:
        shutil.rmtree(plan.folder / f"mistakes_nuclei_{name}", ignore_errors=True)
    monkeypatch.setattr(stardist, "_show_mistakes", never)
    figures, _ = text.split("### What was missed")
    shorter = command.run(tested, silent).read_text()
    assert "What was missed" not in shorter
    assert shorter.startswith(figures)
    file = stardist.tuning_runs(plan, plan.data[0])[0].folder / "matching_val.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"score": 0.123}))
    with pytest.raises(
        ExperimentError, match=r"was tested at score .*, and 0\.123 has been chosen"
    ):
        command.run(tested, silent)


def test_the_threshold_of_the_validation_images_is_that_of_the_test(
    make_plan: MakePlan, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def measure(run: Run, data: Path, split: str, score: float | str) -> dict:
        asked.append((run.recipe, run.seed, data.name, split, score))
        best = 0.125 * len(asked)
        return {"score": best if score == "best" else score}

    monkeypatch.setattr(stardist, "_measure", measure)
    plan = replace(make_plan("stardist", seeds=2), data=(made,), root=tmp_path, test=True, steps=2)
    monkeypatch.setattr(stardist, "finish", lambda runs, **given: [])
    for other in ("_draw", "_show_mistakes"):
        monkeypatch.setattr(stardist, other, lambda *given: None)
    pages: list[dict] = []
    monkeypatch.setattr(stardist, "whole_page", lambda plan, found, outcomes: pages.append(found))
    monkeypatch.setattr("scnet.experiments.page.write", lambda plan, page: plan.folder)
    stardist.run(plan, silent)
    measured = pages[0]["nuclei"]
    scores = {"mask_rcnn": 0.125, "cascade_mask_rcnn_semantic": 0.25, "htc": 0.375, "scnet": 0.5}
    assert [(m.name, m.score) for m in measured] == [*scores.items()] * 3
    assert len(asked) == (1 + 2) * len(MODELS)
    assert ("scnet_dense", 0, "nuclei_tuning", "val", "best") in asked
    assert asked[-1] == ("scnet_dense", 1, "nuclei", "test", 0.5)


def test_settings_suit_nuclei_and_are_one_value(make_plan: MakePlan, made: Path) -> None:
    plan = replace(make_plan("stardist", seeds=2), data=(made,), steps=7, test=True)
    planned = command.runs(plan)
    assert len(planned) == (1 + 2) * len(MODELS)  # one of each model chooses the threshold
    assert len(command.runs(replace(plan, test=False))) == 2 * len(MODELS)
    for one in planned:
        config = one.config
        assert config.recipe.endswith("_dense")
        assert config.optim.max_steps == 7
        assert config.model.box.max_detections >= 400
        assert config.model.rpn.after_nms >= 400
        assert config.model.rpn.anchor_scale * 4 == 8  # px on the finest level
        assert config.data.vertical_flip == 0.5
        assert (config.data.scale_factor, config.data.size) == (1.75, (448, 448))
        assert config.data.repeat_large
        assert config.model.mask.least_visible == 0.5
        assert one.folder.parent.name == ("nuclei_tuning" if one.validated else "nuclei_final")


def test_full_recipes_are_set_for_crowds_too(make_plan: MakePlan, made: Path) -> None:
    plan = replace(make_plan("stardist"), size=PAPER, data=(made,))
    for one in command.runs(plan):
        model = one.config.model
        assert model.backbone.name.startswith("resnet50")
        assert model.box.max_detections >= 400
        assert model.box.score_threshold == 0.05
        assert model.rpn.anchor_scale * 4 == 8
        assert model.rpn.after_nms >= 1000
        assert one.config.optim.schedule == "cosine"
        assert (one.config.data.scale_factor, one.config.data.size) == (2.0, (512, 512))
        assert one.config.optim.max_steps == 8000


def test_a_training_image_among_the_test_images_is_refused(nuclei: Path) -> None:
    stardist_splits.check(nuclei)
    copied = nuclei / "train" / annotations(nuclei, "train")["images"][0]["file_name"]
    shutil.copy(copied, nuclei / "test" / annotations(nuclei, "test")["images"][1]["file_name"])
    with pytest.raises(DataError, match="is the same file as the training image"):
        stardist_splits.check(nuclei)


def test_images_to_choose_with_are_training_images_that_are_not_trained_on(nuclei: Path) -> None:
    whole = annotations(nuclei, "train")
    write(nuclei, "val2", part(whole, whole["images"][3:]))
    with pytest.raises(DataError, match="is in instances_train4"):
        stardist_splits.check(nuclei)
    write(nuclei, "val2", part(whole, whole["images"][4:]))
    write(nuclei, "train", part(whole, whole["images"][:5]))
    with pytest.raises(DataError, match="is no image of instances_train"):
        stardist_splits.check(nuclei)


def test_a_data_set_without_these_parts_is_refused(nuclei: Path) -> None:
    write(nuclei, "train5", annotations(nuclei, "train4"))
    with pytest.raises(DataError, match=r"expected one instances_trainN\.json, found .*train4.*5"):
        stardist_splits.find(nuclei)
    with pytest.raises(DataError, match="found no JSON file"):
        stardist_splits.find(nuclei / "nowhere")


def test_data_sets_are_laid_out_anew_where_the_data_moved(nuclei: Path, tmp_path: Path) -> None:
    folders = tmp_path / "tuning", tmp_path / "final"
    stardist_splits.lay_out(nuclei, *folders)
    moved = nuclei.rename(tmp_path / "moved")
    stardist_splits.lay_out(moved, *folders)
    assert (folders[0] / "images").resolve() == (moved / "train").resolve()
    names = [sorted(p.name for p in (f / "annotations").iterdir()) for f in folders]
    assert names == [["instances_train.json", "instances_val.json"], ["instances_train.json"]]


def test_dry_run_says_what_is_needed(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["experiment", "stardist", "--dry-run", "--seeds", "1", "--data", str(made)]
    assert main([*words, "-o", str(tmp_path / "out"), "--steps", "9"]) == 0
    out = capsys.readouterr().out
    assert out.count("scnet train") == 4
    assert "--optim.max_steps 9" in out
    for text in ("instances_trainN.json", "4 to train and 2 to choose with", "mistakes_nuclei_htc"):
        assert text in out
    assert main([*words, "-o", str(tmp_path / "out"), "--test"]) == 0
    assert capsys.readouterr().out.count("scnet train") == 8
    assert not (tmp_path / "out").exists()


def test_the_usual_data_set_is_stardists(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCNET_DATA", raising=False)
    assert main(["experiment", "stardist", "--dry-run"]) == 1
    said = capsys.readouterr()
    assert "$SCNET_DATA/dsb2018_stardist/annotations/instances_test.json" in said.out
    assert "SCNET_DATA is not set" in said.err
