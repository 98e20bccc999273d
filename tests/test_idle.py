"""A setting that was asked for has an effect, or stops with the reason why it has none."""

from __future__ import annotations

from typing import Any

import pytest

from scnet import idle, recipes
from scnet.cli import demo
from scnet.config import Config, override, replace_at, to_dict
from scnet.experiments import EXPERIMENTS, command
from scnet.experiments.plan import SIZES, Plan
from scnet.idle import Facts
from scnet.settings import ConfigError, leaves, merge, nested

# recipe, settings, the one of them that is idle, part of the reason
IDLE: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("scnet", {"data.path": "there"}, "data.path", "beside the settings"),
    ("scnet", {"start": "weights"}, "start", "beside the settings"),
    ("scnet", {"assumed": ["anchors"]}, "assumed", "converted"),
    ("scnet_lite", {"optim.momentum": 0.8}, "optim.momentum", "optimizer is adamw"),
    ("scnet_lite", {"optim.milestones": [3]}, "optim.milestones", "schedule is cosine"),
    ("scnet_lite", {"optim.gamma": 0.5}, "optim.gamma", "schedule is cosine"),
    ("scnet", {"optim.gamma": 0.5, "optim.milestones": []}, "optim.gamma", "is empty"),
    ("scnet", {"optim.epochs": 10, "optim.milestones": [8, 10]}, "optim.milestones", "last epoch"),
    ("scnet", {"optim.warmup_steps": 0, "optim.warmup_factor": 0.1}, "optim.warmup_factor", "is 0"),
    ("scnet_lite", {"optim.max_steps": 9, "optim.epochs": 2}, "optim.epochs", "max_steps"),
    ("scnet", {"run.keep_epochs": 50}, "run.keep_epochs", "fewer epochs"),
    ("scnet", {"data.flip": 0, "data.flip_swaps": "auto"}, "data.flip_swaps", "mirrored"),
    ("scnet", {"data.flip": 0, "data.flip_swaps": [["a", "b"]]}, "data.flip_swaps", "mirrored"),
    ("mask_rcnn", {"data.stuff_maps": "maps"}, "data.stuff_maps", "no semantic branch"),
    ("scnet", {"model.mask.flow": True}, "model.mask.flow", "one mask branch"),
    *(
        ("scnet", {"model.rpn.anchor_sizes": [[32]] * 5, path: value}, path, "gives all sizes")
        for path, value in (
            ("model.rpn.anchor_scale", 4.0),
            ("model.rpn.anchor_multiples", [1.0]),
        )
    ),
    (
        "mask_rcnn",
        {"model.box.average": "probabilities"},
        "model.box.average",
        "one box stage",
    ),
    ("htc", {"model.mask.convs": 0, "model.mask.residual": True}, "model.mask.residual", "is 0"),
    ("htc", {"model.mask.convs": 0, "model.mask.norm": "group"}, "model.mask.norm", "is 0"),
    ("scnet", {"model.box.norm": "batch"}, "model.box.norm", "box.convs is 0"),
    (
        "scnet",
        {"model.box.soft_nms.method": "gaussian", "model.box.nms_iou": 0.4},
        "model.box.nms_iou",
        "gaussian",
    ),
    ("scnet", {"model.box.soft_nms.sigma": 0.4}, "model.box.soft_nms.sigma", "linear"),
    (
        "scnet",
        {"model.backbone.frozen_stages": 4, "model.backbone.frozen_norm": False},
        "model.backbone.frozen_norm",
        "every norm",
    ),
)

# The same settings where they have an effect, or ask for what happens anyway.
USED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("scnet", {"optim.momentum": 0.8, "optim.gamma": 0.5, "optim.milestones": [3]}),
    ("scnet", {"optim.max_steps": 9, "optim.epochs": 20}),  # a step schedule counts epochs
    ("scnet_lite", {"optim.max_minutes": 3, "optim.epochs": 2}),
    ("htc", {"model.mask.flow": True, "data.stuff_maps": "none"}),
    ("scnet", {"model.mask.flow": False}),
    ("scnet", {"model.box.average": "probabilities", "model.rpn.anchor_sizes": [[32]] * 5}),
    ("scnet", {"model.rpn.anchor_sizes": None, "model.rpn.anchor_scale": 4.0}),
    ("mask_rcnn", {"model.box.average": "logits"}),
    ("mask_rcnn", {"data.stuff_maps": "none"}),
    ("scnet", {"data.flip_swaps": [["a", "b"]]}),
    ("scnet", {"data.flip": 0, "data.vertical_flip": 0.5, "data.flip_swaps": "auto"}),
    ("scnet", {"data.flip": 0, "data.flip_swaps": []}),
    ("mask_rcnn", {"model.box.norm": "batch", "model.box.convs": 4, "model.mask.norm": None}),
    ("scnet", {"model.box.soft_nms": True, "model.box.nms_iou": 0.4}),
)


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for path, value in flat.items():
        settings = merge(settings, nested(path, value))
    return settings


def refuse(recipe: str, flat: dict[str, Any], **facts: bool) -> None:
    settings = nest(flat)
    idle.refuse(settings, Facts(override(recipes.find(recipe), settings), **facts))


@pytest.mark.parametrize(("recipe", "settings", "path", "why"), IDLE)
def test_an_idle_setting_stops_with_the_reason(
    recipe: str, settings: dict[str, Any], path: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{path}: has no effect, as .*{why}.*; leave it out"):
        refuse(recipe, settings)


def test_every_rule_is_tried() -> None:
    tried = {path for _, _, path, _ in IDLE} | {"eval.batch_size", "model.backbone.sync_norm"}
    tried.add("model.backbone.weights")
    assert all(any(rule.speaks_of(path, "given") for path in tried) for rule in idle.RULES)


@pytest.mark.parametrize(("recipe", "settings"), USED)
def test_a_setting_with_an_effect_passes(recipe: str, settings: dict[str, Any]) -> None:
    refuse(recipe, settings)


def test_settings_of_the_evaluation_need_images_to_evaluate_on() -> None:
    refuse("scnet", {"eval.batch_size": 2})
    refuse("scnet", {"eval.every": 0, "eval.pictures": 0}, evaluates=False)
    for name in ("every", "batch_size", "pictures"):
        with pytest.raises(ConfigError, match=rf"eval\.{name}: has no effect.* no val split"):
            refuse("scnet", {f"eval.{name}": 2}, evaluates=False)


def test_weights_to_go_on_from_have_a_backbone() -> None:
    settings = nest({"model.backbone.weights": "none"})
    config = override(recipes.find("scnet"), settings)
    idle.refuse(settings, Facts(config))
    with pytest.raises(ConfigError, match="weights: has no effect, as the training goes on from"):
        idle.refuse(settings, Facts(replace_at(config, "start", "runs/a")))


def test_settings_of_batch_norm_need_some() -> None:
    refuse("scnet", {"model.backbone.frozen_norm": True}, batch_norm=False)
    with pytest.raises(ConfigError, match="frozen_norm: has no effect, as that backbone has no"):
        refuse("scnet", {"model.backbone.frozen_norm": False}, batch_norm=False)


@pytest.mark.parametrize("name", ["scnet", "scnet_lite", "mask_rcnn", "scnet_modern"])
def test_a_file_with_all_settings_of_a_recipe_is_not_remarked_upon(name: str) -> None:
    config = recipes.find(name)
    assert idle.remarks(to_dict(config), config, Facts(config)) == []


def test_what_a_file_changes_without_effect_is_remarked_upon() -> None:
    config = recipes.find("scnet_lite")
    base = nest({"optim.momentum": 0.8, "optim.gamma": config.optim.gamma, "optim.lr": 1e-3})
    (remark,) = idle.remarks(base, config, Facts(override(config, base)))
    assert remark.startswith("optim.momentum: has no effect, as optim.optimizer is adamw")


def test_milestones_of_the_recipe_that_are_never_reached_are_warned_of() -> None:
    def warned(settings: dict[str, Any]) -> list[str]:
        return idle.warnings(settings, override(recipes.find("scnet"), settings))

    (never,) = warned(nest({"optim.epochs": 12}))
    assert never.startswith("the learning rate never falls: optim.milestones [16, 19]")
    (less,) = warned(nest({"optim.epochs": 18}))
    assert less.startswith("the learning rate falls less often")
    assert warned(nest({"optim.epochs": 24})) == []
    assert warned(nest({"optim.epochs": 12, "optim.schedule": "cosine"})) == []


@pytest.mark.parametrize("size", SIZES.values(), ids=lambda size: size.name)
def test_experiments_give_no_idle_settings(size: Any, tmp_path: Any) -> None:
    for name in EXPERIMENTS:
        plan = Plan(name=name, size=size, data=(tmp_path / "coco",), seeds=1, root=tmp_path)
        for run in command.runs(plan):
            idle.refuse(run._settings, Facts(run.config))
            assert idle.warnings(run._settings, run.config) == []


@pytest.mark.parametrize("recipe", ["mask_rcnn_lite", "mask_rcnn_dense", "scnet_dense"])
def test_the_demo_gives_no_idle_settings(recipe: str) -> None:
    settings = merge(demo.SETTINGS, nested("optim.max_steps", demo.STEPS))
    idle.refuse(settings, Facts(override(recipes.find(recipe), settings)))


def test_leaves_name_every_setting_once() -> None:
    paths = [path for path, _ in leaves(to_dict(Config()))]
    assert len(paths) == len(set(paths)) > 80
