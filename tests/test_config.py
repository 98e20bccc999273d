"""Properties of the configuration."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
import yaml

from scnet import recipes
from scnet.config import (
    Config,
    MaskConfig,
    ModelConfig,
    from_dict,
    override,
    replace_at,
    to_dict,
)
from scnet.settings import ConfigError, NotEmpty, Range, merge, nested


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, r'modle: unknown setting; did you mean "model"'),
        ({"model": {"mask": {"rely": True}}}, r'model\.mask\.rely: unknown .*"relay"'),
        ({"optim": {"lr": "fast"}}, r"optim\.lr: expected float, got 'fast'"),
        ({"optim": {"epochs": 1.5}}, r"optim\.epochs: expected int, got 1\.5"),
        ({"optim": {"epochs": True}}, r"optim\.epochs: expected int, got True"),
        (
            {"optim": {"optimizer": "adam"}},
            r"optim\.optimizer: 'adam' is not one of 'sgd', 'adamw'",
        ),
        ({"optim": {"batch_size": 0}}, r"optim\.batch_size: 0; must be at least 1"),
        ({"data": {"size": [800]}}, r"data\.size: expected 2 values, got 1"),
        ({"data": {"size": "big"}}, r"data\.size: expected a list, got 'big'"),
        ({"data": {"size": [800, "x"]}}, r"data\.size\[1\]: expected int, got 'x'"),
        ({"model": 3}, r"model: expected a group of settings, got 3"),
        ({"model": {"mask": {"convs": 3}}}, r"model\.mask\.convs: 3 is odd"),
        ({"model": {"mask": {"fed_by": [0, 1]}}}, r"2 branches .* but 1 loss_weights"),
        (
            {"model": {"mask": {"fed_by": [3]}}},
            r"fed_by: \(3,\) names a box stage that is not there",
        ),
    ],
)
def test_a_mistake_is_named_with_its_path(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(values)


def test_yaml_keeps_every_value() -> None:
    config = replace_at(recipes.scnet(num_classes=7), "optim.lr", 1e-4)
    assert from_dict(yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    assert yaml.safe_load("1e-4") == "1e-4"
    assert from_dict({"optim": {"lr": "1e-4"}}).optim.lr == 1e-4


@pytest.mark.parametrize("off", [None, False])
def test_an_optional_part_has_one_switch(off: bool | None) -> None:
    without = override(recipes.scnet(), nested("model.semantic", off))
    assert without.model.semantic is None
    assert override(without, nested("model.semantic", True)).model.semantic is not None
    weighted = override(without, nested("model.semantic.loss-weight", 1))
    assert weighted.model.semantic is not None
    assert weighted.model.semantic.loss_weight == 1.0


@pytest.mark.parametrize("part", ["pyramid", "box", "mask"])
def test_a_part_has_the_norm_of_the_model_unless_it_has_its_own(part: str) -> None:
    config = override(recipes.scnet(), nested("model.norm", "group"))
    assert set(config.model.norms) == {"group"}
    own = override(config, nested(f"model.{part}.norm", "batch")).model.norms
    assert own == config.model.norms._replace(**{part: "batch"})
    assert override(config, nested(f"model.{part}.norm", None)) == config
    with pytest.raises(ConfigError, match=rf"model\.{part}\.norm: 'gn' is not one of 'none', "):
        override(config, nested(f"model.{part}.norm", "gn"))


def test_statistics_are_not_taken_twice_of_different_boxes() -> None:
    given = {"model": {"norm": "batch", "box": {"convs": 4}}}
    assert override(recipes.scnet(), given).model.norms.box == "batch"
    with pytest.raises(
        ConfigError, match=r"model\.box\.norm: batch would take .* take frozen, .* or group"
    ):
        override(recipes.find("scnet_leaving"), given)


def test_a_stage_of_a_kind_that_does_not_exist_is_refused() -> None:
    stages = [{"iou": 0.4}, {"kind": "two_fcs"}]
    with pytest.raises(ConfigError, match=r'box\.stages\[1\]\.kind: there is no .* "two_fc"\?'):
        override(recipes.scnet(), nested("model.box.stages", stages))


def test_what_is_not_given_keeps_its_value() -> None:
    config = override(recipes.htc(), {"model": {"mask": {"size": 56}}})
    assert config == replace_at(recipes.htc(), "model.mask.size", 56)


def test_merge_prefers_the_second_and_keeps_the_rest() -> None:
    assert merge({"a": {"b": 1}, "c": 2}, {"a": {"d": 3}, "c": 4}) == {
        "a": {"b": 1, "d": 3},
        "c": 4,
    }


def test_semantic_classes_are_things_and_background_unless_given() -> None:
    assert recipes.scnet(num_classes=5).model.semantic_classes == 6
    assert (
        replace_at(recipes.scnet(5), "model.semantic.num_classes", 183).model.semantic_classes
        == 183
    )


def test_defaults_are_those_of_scnet() -> None:
    assert ModelConfig().mask == MaskConfig()
    assert Config().optim == recipes.scnet().optim


def test_recipes_are_the_rows_of_the_table() -> None:
    def mask(name: str) -> tuple[Any, ...]:
        m = recipes.find(name).model.mask
        return m.fed_by, m.trained_on, m.convs, m.residual, m.flow, m.relay, m.loss_weights

    three = (1.0, 0.5, 0.25)
    assert mask("mask_rcnn") == ((0,), "entering", 4, False, False, False, (1.0,))
    assert mask("mask_rcnn_relay") == ((0,), "entering", 4, False, False, True, (1.0,))
    assert mask("cascade_mask_rcnn") == ((0, 1, 2), "entering", 4, False, False, False, three)
    assert mask("cascade_mask_rcnn_relay") == ((0, 1, 2), "entering", 4, False, False, True, three)
    d2 = recipes.find("cascade_mask_rcnn_d2").model
    assert d2.mask == recipes.mask_rcnn().model.mask
    assert [stage.iou for stage in d2.box.stages] == [0.5, 0.6, 0.7]
    assert d2.box.stages[2].delta_std == (1 / 30, 1 / 30, 1 / 15, 1 / 15)
    assert (d2.box.average, d2.box.low_quality) == ("probabilities", False)
    assert mask("htc") == ((0, 1, 2), "leaving", 4, False, True, False, three)
    assert mask("naive_sample_consistency") == (
        (2, 2, 2),
        "entering",
        4,
        False,
        False,
        False,
        three,
    )
    assert mask("sample_consistency") == ((2,), "entering", 12, True, False, False, (1.75,))
    assert mask("scnet") == ((2,), "entering", 12, True, False, True, (1.75,))


def test_an_unknown_recipe_names_near_ones() -> None:
    with pytest.raises(ConfigError, match=r'no recipe is named "scent".*"scnet"'):
        recipes.find("scent")


# For each number: values that are refused. Lists are marked [], parts that may be off are on.
REFUSED: dict[str, tuple[float, ...]] = {
    "model.num_classes": (0, -1),
    "model.channels": (0,),
    "model.backbone.frozen_stages": (-1, 5),
    "model.backbone.widths[]": (0,),
    "model.backbone.mean[]": (-0.1, 1.1),
    "model.backbone.std[]": (0.0, -1.0),
    "model.rpn.anchor_scale": (0.0, -8.0),
    "model.rpn.anchor_ratios[]": (0.0, -1.0),
    "model.rpn.anchor_multiples[]": (0.0, -1.0),
    "model.rpn.anchor_sizes[][]": (0.0, -1.0),
    "model.rpn.convs": (0, -1),
    "model.rpn.positive_iou": (-0.1, 1.1),
    "model.rpn.negative_iou": (-0.1, 1.1),
    "model.rpn.samples": (0,),
    "model.rpn.box_loss_beta": (-0.1,),
    "model.rpn.nms_iou": (-0.1, 7.0),
    "model.rpn.before_nms": (0,),
    "model.rpn.before_nms_train": (0,),
    "model.rpn.after_nms": (0,),
    "model.rpn.after_nms_train": (0,),
    "model.semantic.num_classes": (0,),
    "model.semantic.loss_weight": (-0.1,),
    "model.context.loss_weight": (-0.1,),
    "model.box.stages[].iou": (-0.1, 1.1),
    "model.box.stages[].delta_std[]": (0.0,),
    "model.box.stages[].side": (0,),
    "model.box.stages[].loss_weight": (-0.1,),
    "model.box.convs": (-1,),
    "model.box.layers": (0,),
    "model.box.hidden": (0,),
    "model.box.box_loss_beta": (-0.1,),
    "model.box.samples": (0,),
    "model.box.positive_fraction": (-0.1, 1.1),
    "model.box.score_threshold": (-0.1, 1.1),
    "model.box.nms_iou": (-0.1, 7.0),
    "model.box.soft_nms.sigma": (0.0, -1.0),
    "model.box.soft_nms.min_score": (-0.1, 1.1),
    "model.box.max_detections": (0,),
    "model.mask.fed_by[]": (-1,),
    "model.mask.convs": (-2,),
    "model.mask.loss_weights[]": (-0.1,),
    "model.mask.size": (0, -28),
    "model.mask.least_visible": (-0.1, 1.1),
    "model.mask.scoring.convs": (0,),
    "model.mask.scoring.layers": (0,),
    "model.mask.scoring.hidden": (0,),
    "model.mask.scoring.loss_weight": (-0.1,),
    "data.size[]": (0, -800),
    "data.scales[]": (0, -5),
    "data.flip": (-0.1, 3.0),
    "data.vertical_flip": (-0.1, 1.1),
    "data.repeat_rare": (-0.1, 1.1),
    "data.scale_factor": (0.0, -1.0),
    "data.jitter[]": (0.0, -1.0),
    "data.copy_paste": (-0.1, 1.1),
    "data.color_jitter[]": (-0.1, 1.1),
    "data.range[]": (float("nan"), float("inf")),
    "data.scale_marks[]": (0.0, -1.0),
    "data.bands[]": (0,),
    "model.backbone.bands": (0,),
    "data.workers": (-2,),
    "optim.epochs": (0,),
    "optim.batch_size": (0,),
    "optim.accumulate": (0,),
    "optim.lr": (0.0, -1.0, float("nan"), float("inf")),
    "optim.lr_batch": (0,),
    "optim.momentum": (-0.1, 1.0),
    "optim.weight_decay": (-0.1,),
    "optim.warmup_steps": (-1,),
    "optim.warmup_factor": (-0.1, 1.1),
    "optim.milestones[]": (0,),
    "optim.gamma": (-0.1, 1.1),
    "optim.clip_norm": (-0.1,),
    "optim.ema": (-0.1, 1.0),
    "optim.max_steps": (-3,),
    "optim.max_minutes": (-0.1,),
    "optim.log_every": (0,),
    "optim.seed": (-1, 2**31),
    "eval.every": (-1,),
    "eval.batch_size": (0,),
    "eval.pictures": (-1,),
    "run.checkpoint_minutes": (-0.1,),
    "run.checkpoint_steps": (-1,),
    "run.keep_epochs": (-1,),
    "model.backbone.deformable.stages[]": (0, 5),
    "model.backbone.deformable.groups": (0,),
    "category_ids[]": (),  # whatever the annotation file says
}
FIRST = r"(\[0\])?"
FILLED = (
    "model.backbone.deformable.stages",
    "model.backbone.widths",
    "model.backbone.mean",
    "model.backbone.std",
    "model.rpn.anchor_ratios",
    "model.rpn.anchor_multiples",
    "model.rpn.anchor_sizes",
    "model.rpn.anchor_sizes[]",
    "model.box.stages",
    "model.mask.fed_by",
    "data.bands",
)


def leaves(kind: Any, path: str = "", rules: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the path of every number in the config with its range, and of lists with theirs."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        for name, inner in typing.get_type_hints(kind, include_extras=True).items():
            yield from leaves(inner, f"{path}.{name}".lstrip("."))
    elif origin is Annotated:
        yield from leaves(args[0], path, args[1:])
    elif origin is tuple:
        yield path, [rule for rule in rules if isinstance(rule, NotEmpty)]
        for inner in dict.fromkeys(args):
            if inner is not Ellipsis:
                yield from leaves(inner, f"{path}[]")
    elif kind in (int, float):
        yield path, next((rule for rule in rules if isinstance(rule, Range)), None)
    elif args and origin is not typing.Literal:
        for inner in args:
            yield from leaves(inner, path, rules)


def with_value(config: Any, path: str, value: Any) -> Any:
    """Return the config with `value` at a path, in every place of a list, built in Python."""
    head, _, rest = path.partition(".")
    name = head.replace("[]", "")
    new = in_lists(
        getattr(config, name),
        head.count("[]"),
        lambda now: with_value(now, rest, value) if rest else value,
    )
    return dataclasses.replace(config, **{name: new})


def in_lists(value: Any, depth: int, change: Callable[[Any], Any]) -> Any:
    """Return a value changed, or what lies so deep in lists."""
    if depth == 0:
        return change(value)
    return type(value)(in_lists(item, depth - 1, change) for item in value)


def everything_on() -> Config:
    data = {"jitter": [0.5, 2.0], "range": [0, 1], "bands": [1], "scale_marks": [0.5, 0.5]}
    config = override(recipes.scnet(), {"data": data})
    given = {"widths": (64, 256, 512, 1024), "mean": (0.5,) * 3, "std": (0.2,) * 3}
    given |= {"deformable": True}
    config = replace_at(config, "model.rpn.anchor_sizes", ((32.0,),) * 5)
    optional = {"box": {"soft_nms": True}, "mask": {"scoring": True}}
    return override(config, {"model": {"backbone": given, **optional}})


@pytest.mark.parametrize("sizes", [[[32], [64], [128], [256]], [[32], [64], [128], [256], [1, 2]]])
def test_anchor_sizes_are_as_many_on_each_of_five_levels(sizes: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match=r"anchor_sizes: \d levels .* expected 5 levels"):
        override(recipes.scnet(), nested("model.rpn.anchor_sizes", sizes))


def test_every_number_has_a_range_and_a_row() -> None:
    numbers = {path: rule for path, rule in leaves(Config) if not isinstance(rule, list)}
    assert [path for path, rule in numbers.items() if rule is None] == []
    assert set(numbers) == set(REFUSED)


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, values in REFUSED.items() for value in values]
)
def test_a_number_out_of_its_range_is_refused_however_it_comes(path: str, value: float) -> None:
    config = everything_on()
    if path == "data.scales[]":
        config = override(config, {"data": {"jitter": None, "scales": [640, 800]}})
    where = path.replace("[]", FIRST)
    message = rf"^{where}: {value}; must be (at least|above|in) "
    with pytest.raises(ConfigError, match=message):
        with_value(config, path, value)
    broken = to_dict(config)
    with pytest.raises(ConfigError, match=message):
        override(config, put(broken, path.split("."), value))


def put(values: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Return nested settings with `value` at a path, in every place of a list."""
    head, rest = path[0], path[1:]
    name = head.replace("[]", "")
    new = in_lists(
        values[name], head.count("[]"), lambda now: put(now, rest, value) if rest else value
    )
    return {**values, name: new}


@pytest.mark.parametrize("path", FILLED)
def test_a_list_that_must_hold_something_is_not_empty(path: str) -> None:
    where = path.replace("[]", FIRST)
    with pytest.raises(ConfigError, match=rf"^{where}: \(\); must hold at least one value"):
        override(everything_on(), put(to_dict(everything_on()), path.split("."), []))
    assert {p for p, rule in leaves(Config) if isinstance(rule, list) and rule} == set(FILLED)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_is_allowed(name: str) -> None:
    assert from_dict(to_dict(recipes.find(name))) == recipes.find(name)


def test_a_semantic_branch_needs_a_mask_side_that_boxes_divide() -> None:
    with pytest.raises(ConfigError, match=r"model\.mask\.size: 32; .* multiple of 28"):
        override(recipes.scnet(), {"model": {"mask": {"size": 32}}})
    override(recipes.scnet(), {"model": {"mask": {"size": 56}}})
    override(recipes.mask_rcnn(), {"model": {"mask": {"size": 32}}})
