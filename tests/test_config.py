"""Properties of the configuration."""

from __future__ import annotations

from typing import Any

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
from scnet.settings import ConfigError, merge, nested


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
