"""A fine-tuning goes on gently from a trained detector, but for what somebody set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.training.test_start import begin, of_weights, save_detector

from scnet import recipes
from scnet.cli.main import main
from scnet.config import Config, DeformableConfig, override, replace_at
from scnet.recipes import RECIPES
from scnet.settings import ConfigError, merge
from scnet.training.asked import ask
from scnet.training.finetune import SETTINGS, changes
from scnet.training.loop import Trainer
from scnet.training.resuming import stored_config
from scnet.training.run import train

Settings = dict[str, Any]
COCO = 118_287  # training images


def changed(
    config: Config, given: Settings | None = None, images: int = COCO, theirs: Config | None = None
) -> Settings:
    """What a fine-tuning changes of a config with these settings, which were given."""
    given = given or {}
    return changes(override(config, given), theirs or config, given, images)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_trained_at_a_lower_rate_and_shorter(name: str) -> None:
    recipe = recipes.find(name)
    new, optim = changed(recipe), recipe.optim
    assert new["optim.lr"] == pytest.approx(0.3 * optim.lr)
    assert new["optim.warmup_steps"] == round(0.3 * optim.warmup_steps)
    assert new["model.backbone.frozen_stages"] == 2
    assert new["optim.epochs"] == optim.epochs / 2
    assert ("optim.milestones" in new) == (optim.schedule == "step")
    for before, after in zip(optim.milestones, new.get("optim.milestones", ()), strict=False):
        assert after == before // 2 < new["optim.epochs"]


def test_a_shorter_training_has_as_many_falls_of_the_rate() -> None:
    recipe = recipes.find("scnet")
    new = changed(recipe)
    assert (new["optim.epochs"], new["optim.milestones"]) == (10, [8, 9])
    for epochs in range(4, 40):
        step = {"optim": {"epochs": epochs, "milestones": [epochs - 3, epochs - 1]}}
        new = changes(override(recipe, step), recipe, {}, COCO)
        assert len(new["optim.milestones"]) == 2
        assert all(1 <= m < new["optim.epochs"] for m in new["optim.milestones"])


@pytest.mark.parametrize(
    ("images", "epochs"), [(61, 20), (200, 20), (300, 14), (400, 10), (401, 10), (COCO, 10)]
)
def test_few_images_are_seen_as_often_as_in_the_recipe(images: int, epochs: int) -> None:
    """A half of 20 epochs of 61 images would be 160 steps."""
    assert changed(recipes.find("scnet_lite"), images=images).get("optim.epochs", 20) == epochs


@pytest.mark.parametrize(
    ("given", "stay"),
    [
        ({"optim": {"lr": 0.02}}, {"optim.lr"}),
        ({"optim": {"warmup_steps": 500}}, {"optim.warmup_steps"}),
        ({"model": {"backbone": {"frozen_stages": 1}}}, {"model.backbone.frozen_stages"}),
        ({"optim": {"epochs": 20}}, {"optim.epochs", "optim.milestones"}),
        ({"optim": {"milestones": [16, 19]}}, {"optim.epochs", "optim.milestones"}),
        ({"optim": {"max_steps": 9}}, {"optim.epochs", "optim.milestones"}),
        ({"optim": {"max_minutes": 9}}, {"optim.epochs", "optim.milestones"}),
        ({"optim": {"schedule": "cosine"}}, {"optim.milestones"}),
        ({"optim": {"batch_size": 8}}, set()),
    ],
)
def test_what_is_given_stays_and_nothing_else(given: Settings, stay: set[str]) -> None:
    assert {*changed(recipes.find("scnet"), given)} == {*SETTINGS} - stay


def test_where_all_is_given_there_is_nothing_to_do() -> None:
    optim = {"lr": 0.1, "warmup_steps": 9}
    given = {"optim": optim, "model": {"backbone": {"frozen_stages": 0}}}
    recipe = recipes.find("scnet")
    assert {*changed(recipe, given)} == {"optim.epochs", "optim.milestones"}
    given = merge(given, {"optim": {"max_steps": 7}})
    message = (
        "--finetune: has no effect, as all that it would change is set: optim.lr, "
        "optim.warmup_steps, model.backbone.frozen_stages; leave it out"
    )
    with pytest.raises(ConfigError, match=message):
        changed(recipe, given)


def test_no_fewer_stages_are_frozen_than_in_the_recipe() -> None:
    frozen = replace_at(recipes.find("scnet"), "model.backbone.frozen_stages", 3)
    assert "model.backbone.frozen_stages" not in changed(frozen)


@pytest.mark.parametrize(("stages", "frozen"), [((2, 3, 4), 1), ((3, 4), 2), ((1, 4), 1)])
def test_new_layers_in_the_backbone_are_not_frozen(stages: tuple[int, ...], frozen: int) -> None:
    usual = recipes.find("scnet")
    own = replace_at(usual, "model.backbone.deformable", DeformableConfig(stages=stages))
    assert changed(own, theirs=usual).get("model.backbone.frozen_stages", 1) == frozen
    assert changed(own, theirs=own)["model.backbone.frozen_stages"] == 2


def test_frozen_stages_are_the_recipes_and_not_those_of_the_weights() -> None:
    start = of_weights(model__backbone__frozen_stages=4)
    asked = ask("mask_rcnn", "data", start=start).fine_tuned(start.config, COCO)
    assert asked.config.model.backbone.frozen_stages == 2


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A narrow Mask R-CNN."""
    return save_detector(tmp_path / "weights")


# Of a training with these weights.
NARROW = (
    "--model.backbone.name resnet18 --model.backbone.widths [8,16,32,64] --model.channels 16 "
    "--model.box.hidden 32 --data.size [96,128] --data.workers 0 --run.trackers []"
)


def test_the_command_line_has_it_and_says_what_it_changed(
    weights: Path,
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun: list[Trainer] = []

    def run(trainer: Trainer) -> None:
        begun.append(trainer)

    monkeypatch.setattr("scnet.training.run.Trainer.run", run)
    words = ["train", "mask_rcnn", "--data", str(shapes), "--from", str(weights), *NARROW.split()]
    assert main([*words, "-o", str(tmp_path / "usual")]) == 0
    assert "fine-tuning" not in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "fine"), "--finetune"]) == 0
    line = (
        "fine-tuning: optim.lr 0.02 -> 0.006, optim.warmup_steps 500 -> 150, "
        "model.backbone.frozen_stages 1 -> 2\n"  # six images are one step an epoch
    )
    assert line in capsys.readouterr().err
    usual, fine = (stored_config(tmp_path / name) for name in ("usual", "fine"))
    optim = {"lr": 0.006, "warmup_steps": 150}
    changes = {"optim": optim, "model": {"backbone": {"frozen_stages": 2}}}
    assert fine == override(usual, changes)
    trainer = begun[1]
    assert trainer.rate == pytest.approx(0.006)
    frozen = {n for n, p in trainer.detector.named_parameters() if not p.requires_grad}
    assert any("layer2" in name for name in frozen)
    assert not any("layer3" in name for name in frozen)


def test_settings_of_a_file_and_in_python_win(
    weights: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: Settings
) -> None:
    begin(monkeypatch)
    backbone = {**quick["model"]["backbone"], "frozen_stages": 0}
    del backbone["weights"]
    base = merge(quick, {"start": str(weights)}) | {"model": {**quick["model"], "backbone": {}}}
    del base["optim"]["lr"]
    own = {"model": {"backbone": backbone}}
    run = train(
        "mask_rcnn_lite",
        shapes,
        finetune=True,
        output=tmp_path / "run",
        base=base,
        settings=own,
        quiet=True,
    )
    config = stored_config(run)
    usual = recipes.find("mask_rcnn_lite").optim
    assert (config.optim.epochs, config.optim.warmup_steps) == (2, 2)
    assert config.model.backbone.frozen_stages == 0
    assert config.optim.lr == pytest.approx(0.3 * usual.lr)


def test_auto_is_tuned_once(
    weights: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: Settings
) -> None:
    begin(monkeypatch)
    backbone = {"name": "resnet18", "widths": [8, 16, 32, 64]}
    settings = {"model": {**quick["model"], "backbone": backbone}, "run": {"trackers": []}}
    done = [
        train(
            "auto",
            shapes,
            start=weights,
            finetune=finetune,
            output=tmp_path / str(finetune),
            settings=settings,
            quiet=True,
        )
        for finetune in (False, True)
    ]
    usual, fine = (stored_config(run).optim for run in done)
    assert fine.lr == pytest.approx(0.3 * usual.lr)
    assert fine.epochs == usual.epochs == 200  # of 6 images


def test_without_weights_it_has_no_effect(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "scnet_lite", "--data", "nowhere", "--finetune"]) == 2
    said = capsys.readouterr().err
    assert "--finetune: has no effect, as no trained detector is named to go on from" in said
    assert "--from WEIGHTS" in said
    with pytest.raises(ConfigError, match="no trained detector is named"):
        train("scnet_lite", "nowhere", finetune=True, base={"start": ""})


def test_nothing_is_begun_where_it_has_no_effect(
    weights: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["train", "mask_rcnn", "--data", str(shapes), "--from", str(weights), *NARROW.split()]
    own = "--optim.lr 0.1 --optim.warmup-steps 9 --model.backbone.frozen-stages 0"
    assert main([*words, "-o", str(run), "--finetune", *own.split()]) == 2
    assert "all that it would change is set: optim.lr" in capsys.readouterr().err
    assert not run.exists()
