"""Settings that have no effect beside others, and the refusal of those that were asked for.

`RULES` is the whole list: what is idle, when, and why. A setting in it that somebody gave, on the
command line or in Python, is an error. A file of settings may hold it, as the `config.yaml` of a
run lists every setting there is: then a note says so, unless the recipe itself has that value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from scnet.config import Config, to_dict
from scnet.settings import ConfigError, leaves

Given = Mapping[str, Any]  # nested settings, as `scnet.config.override` takes them


class Facts(NamedTuple):
    """What decides whether a setting has an effect."""

    config: Config
    evaluates: bool = True  # there are images to evaluate on
    batch_norm: bool = True  # the backbone has some


class Rule(NamedTuple):
    """When settings are idle."""

    settings: tuple[str, ...]  # dotted paths; a group stands for all that is in it
    when: Callable[[Facts], bool]
    why: str
    instead: str  # what gives them an effect, or does what is meant
    granted: Given = MappingProxyType({})  # values that ask for what happens anyway, by path

    def speaks_of(self, path: str, value: Any) -> bool:
        """Return whether it is about that value of the setting at a dotted path."""
        inside = any(path == own or path.startswith(f"{own}.") for own in self.settings)
        return inside and not (path in self.granted and self.granted[path] == value)

    def sentence(self, path: str) -> str:
        """Return what is wrong with giving that setting, and what to do."""
        return f"{path}: has no effect, as {self.why}; leave it out, or {self.instead}"


def _always(facts: Facts) -> bool:
    return True


def _soft_nms(facts: Facts) -> str | None:
    soft = facts.config.model.box.soft_nms
    return None if soft is None else soft.method


def _nothing_mirrored(facts: Facts) -> bool:
    """Return whether classes would change places in mirrored images, and there are none."""
    data = facts.config.data
    return data.flip_swaps != () and data.flip == data.vertical_flip == 0


def _never_reached(config: Config) -> list[int]:
    """Return the milestones of the learning rate that lie behind the end of the training."""
    optim = config.optim
    return [m for m in optim.milestones if optim.schedule == "step" and m >= optim.epochs]


# Settings that cannot be given at all, as something else says what they would.
_DERIVED = (
    Rule(
        ("data.path",),
        _always,
        "the data set is named beside the settings",
        "name it there (--data PATH)",
    ),
    Rule(
        ("start",),
        _always,
        "the weights to go on from are named beside the settings",
        "name them there (--from WEIGHTS)",
    ),
    Rule(
        ("assumed",),
        _always,
        "it tells of weights that were converted",
        "set what it speaks of",
    ),
)

_BESIDE_OTHERS = (
    Rule(
        ("model.backbone.weights",),
        lambda facts: bool(facts.config.start),
        "the training goes on from other weights (--from), and their backbone with them",
        "leave out --from",
    ),
    Rule(
        ("model.backbone.frozen_norm", "model.backbone.sync_norm"),
        lambda facts: not facts.batch_norm,
        "that backbone has no batch norm",
        "take another (model.backbone.name)",
        granted={"model.backbone.frozen_norm": True, "model.backbone.sync_norm": False},
    ),
    Rule(
        ("model.backbone.frozen_norm", "model.backbone.sync_norm"),
        lambda facts: facts.config.model.backbone.frozen_stages == 4,
        "model.backbone.frozen_stages 4 freezes every norm",
        "freeze fewer stages",
        granted={"model.backbone.frozen_norm": True, "model.backbone.sync_norm": False},
    ),
    Rule(
        ("model.rpn.anchor_scale", "model.rpn.anchor_multiples"),
        lambda facts: facts.config.model.rpn.anchor_sizes is not None,
        "model.rpn.anchor_sizes gives all sizes",
        "set model.rpn.anchor_sizes null",
    ),
    Rule(
        ("model.box.average",),
        lambda facts: len(facts.config.model.box.stages) == 1,
        "there is one box stage, and nothing to average",
        "set model.box.stages for several",
        granted={"model.box.average": "logits"},
    ),
    Rule(
        ("model.box.nms_iou",),
        lambda facts: _soft_nms(facts) == "gaussian",
        "model.box.soft_nms.method is gaussian, which has no threshold",
        "set model.box.soft_nms.method linear",
    ),
    Rule(
        ("model.box.soft_nms.sigma",),
        lambda facts: _soft_nms(facts) == "linear",
        "model.box.soft_nms.method is linear",
        "set model.box.soft_nms.method gaussian",
    ),
    Rule(
        ("model.box.norm",),
        lambda facts: facts.config.model.box.convs == 0,
        "model.box.convs is 0, and no norm stands behind fully connected layers",
        "set model.box.convs",
        granted={"model.box.norm": None},
    ),
    Rule(
        ("model.mask.norm",),
        lambda facts: facts.config.model.mask.convs == 0,
        "model.mask.convs is 0",
        "set model.mask.convs",
        granted={"model.mask.norm": None},
    ),
    Rule(
        ("model.mask.residual",),
        lambda facts: facts.config.model.mask.convs == 0,
        "model.mask.convs is 0",
        "set model.mask.convs",
        granted={"model.mask.residual": False},
    ),
    Rule(
        ("model.mask.flow",),
        lambda facts: len(facts.config.model.mask.fed_by) == 1,
        "there is one mask branch, and information flows from one to the next",
        "set model.mask.fed_by and model.mask.loss_weights for several",
        granted={"model.mask.flow": False},
    ),
    Rule(
        ("data.flip_swaps",),
        _nothing_mirrored,
        "no image is mirrored (data.flip 0, data.vertical_flip 0)",
        "set data.flip",
    ),
    Rule(
        ("data.stuff_maps",),
        lambda facts: facts.config.model.semantic is None,
        "the model has no semantic branch to learn from them",
        "set model.semantic on",
        granted={"data.stuff_maps": "none"},
    ),
    Rule(
        ("optim.momentum",),
        lambda facts: facts.config.optim.optimizer == "adamw",
        "optim.optimizer is adamw",
        "set optim.optimizer sgd",
    ),
    Rule(
        ("optim.warmup_factor",),
        lambda facts: facts.config.optim.warmup_steps == 0,
        "optim.warmup_steps is 0",
        "set optim.warmup_steps",
    ),
    Rule(
        ("optim.milestones", "optim.gamma"),
        lambda facts: facts.config.optim.schedule == "cosine",
        "optim.schedule is cosine",
        "set optim.schedule step",
    ),
    Rule(
        ("optim.gamma",),
        lambda facts: facts.config.optim.schedule == "step" and not facts.config.optim.milestones,
        "optim.milestones is empty",
        "set optim.milestones",
    ),
    Rule(
        ("optim.milestones",),
        lambda facts: bool(_never_reached(facts.config)),
        "not all of them are before the last epoch (optim.epochs)",
        "name epochs that are",
    ),
    Rule(
        ("optim.epochs",),
        lambda facts: facts.config.optim.schedule == "cosine" and facts.config.optim.max_steps > 0,
        "optim.max_steps is the length of the training",
        "set optim.max_steps 0",
    ),
    Rule(
        ("run.keep_epochs",),
        lambda facts: (
            not facts.config.optim.max_steps
            and facts.config.run.keep_epochs > facts.config.optim.epochs
        ),
        "the training has fewer epochs (optim.epochs)",
        "set fewer",
    ),
    Rule(
        ("eval",),
        lambda facts: not facts.evaluates,
        "the data set has no val split to evaluate on",
        "add one",
        granted={"eval.every": 0, "eval.pictures": 0},
    ),
)

RULES = (*_DERIVED, *_BESIDE_OTHERS)


def refuse(given: Given, facts: Facts) -> None:
    """Stop where a setting that was asked for has no effect.

    Args:
        given: what was asked for; the config holds it already.

    Raises:
        ConfigError: names the setting, why it is idle, and what to do.
    """
    for path, value in leaves(given):
        for rule in RULES:
            if rule.speaks_of(path, value) and rule.when(facts):
                raise ConfigError(rule.sentence(path))


def remarks(base: Given, recipe: Config, facts: Facts) -> list[str]:
    """Return what to say of a file's settings that are idle, but for those of the recipe itself."""
    usual = dict(leaves(to_dict(recipe)))
    return [
        rule.sentence(path)
        for path, value in leaves(base)
        if value != usual.get(path)
        for rule in _BESIDE_OTHERS
        if rule.speaks_of(path, value) and rule.when(facts)
    ]


def warnings(given: Given, config: Config) -> list[str]:
    """Return what to say of settings that nobody gave and that those given have made idle."""
    late = _never_reached(config)
    if not late or any(path == "optim.milestones" for path, _ in leaves(given)):
        return []
    falls = "falls less often" if len(late) < len(config.optim.milestones) else "never falls"
    return [
        f"the learning rate {falls}: optim.milestones {list(config.optim.milestones)}, but "
        f"optim.epochs {config.optim.epochs}; set optim.milestones, or optim.schedule cosine"
    ]
