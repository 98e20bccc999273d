"""What can be set: one frozen dataclass per component, defaults only here.

A recipe (`recipes.py`) is a `Config`; a variant is the same with a field replaced. YAML files,
checkpoints and the command line all come in through `from_dict` and `override`, so a mistake reads
the same everywhere: the path of the field, what was expected, and the nearest known name. A number
has its range in its type. A config that is built in Python is checked against the ranges too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, cast

from scnet.config_data import DataConfig, require_colours
from scnet.config_model import (
    Align,
    AnchorGrid,
    BackboneConfig,
    BoxConfig,
    BoxStageConfig,
    ContextConfig,
    DeformableConfig,
    FPNConfig,
    MaskConfig,
    ModelConfig,
    Norm,
    PAFPNConfig,
    RPNConfig,
    ScoringConfig,
    SemanticConfig,
    SoftNMSConfig,
)
from scnet.settings import (
    ConfigError,
    Count,
    CountOrNone,
    Positive,
    Range,
    Share,
    Weight,
    check,
    lay_over,
)

__all__ = [
    "Align",
    "AnchorGrid",
    "BackboneConfig",
    "BoxConfig",
    "BoxStageConfig",
    "Config",
    "ConfigError",
    "ContextConfig",
    "DataConfig",
    "DeformableConfig",
    "EvalConfig",
    "FPNConfig",
    "MaskConfig",
    "ModelConfig",
    "Norm",
    "OptimConfig",
    "PAFPNConfig",
    "RPNConfig",
    "RunConfig",
    "ScoringConfig",
    "SemanticConfig",
    "SoftNMSConfig",
    "from_dict",
    "override",
    "replace_at",
    "require_colours",
    "to_dict",
]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    epochs: Count = 20
    batch_size: Count = 16  # images in one step, over all processes
    # pieces of a step's images that pass one after the other, to save memory
    accumulate: Count = 1
    # numbers of the forward pass: bf16 and fp16 save memory and time on GPUs that have them
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    optimizer: Literal["sgd", "adamw"] = "sgd"
    # for `lr_batch` images a step; sgd scales it linearly, adamw by square root
    lr: Positive = 0.02
    lr_batch: Count = 16
    momentum: Annotated[float, Range(0, 1, ends="[)")] = 0.9
    weight_decay: Weight = 1e-4
    warmup_steps: CountOrNone = 500  # linear rise from warmup_factor * lr
    warmup_factor: Share = 0.001
    schedule: Literal["step", "cosine"] = "step"
    # epochs after which the rate is multiplied by gamma
    milestones: tuple[Count, ...] = (16, 19)
    gamma: Share = 0.1
    clip_norm: Weight = 0.0  # largest norm of the gradient; 0 = no clipping
    # decay of the averaged weights, which are then evaluated and kept; 0 = none. 0.999 averages
    # about a thousand steps
    ema: Annotated[float, Range(0, 1, ends="[)")] = 0.0
    # a loss or gradient that is not finite stops the training, or leaves the step out
    nonfinite: Literal["stop", "skip"] = "stop"
    compile: bool = False  # torch.compile backbone and pyramid
    # length of the training in steps instead of epochs; 0 = epochs count
    max_steps: CountOrNone = 0
    # end after so many minutes of steps, with the whole schedule in them; 0 = no limit
    max_minutes: Weight = 0.0
    log_every: Count = 20  # steps between lines of the log
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0

    def __post_init__(self) -> None:
        check(self, "optim")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    every: CountOrNone = 1  # epochs between evaluations; 0 = only at the end
    batch_size: Count = 1
    pictures: CountOrNone = 4  # validation images drawn at each evaluation

    def __post_init__(self) -> None:
        check(self, "eval")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a training writes, beside the checkpoint at the end of each epoch."""

    checkpoint_minutes: Weight = 15.0  # time between checkpoints inside an epoch; 0 = none
    checkpoint_steps: CountOrNone = 0  # likewise, steps; 0 = none
    keep_epochs: CountOrNone = 0  # checkpoints of every so many epochs stay, as epoch012; 0 = none
    # by the names that accelerate knows: tensorboard, wandb, mlflow, ...
    trackers: tuple[str, ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        check(self, "run")


@dataclass(frozen=True, kw_only=True)
class Config:
    recipe: str = ""  # name it came from
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    eval: EvalConfig = EvalConfig()
    run: RunConfig = RunConfig()
    classes: tuple[str, ...] = ()  # class names, from the annotation file
    category_ids: tuple[Annotated[int, Range()], ...] = ()  # their ids in the annotation file
    # weights of a detector that the training began with (`scnet train --from`); empty = none
    start: str = ""
    assumed: tuple[str, ...] = ()  # settings that the file this was converted from did not say

    def __post_init__(self) -> None:
        check(self, "")


def replace_at(config: T, path: str, value: Any) -> T:
    """Return `config` with the field at the dotted `path` set to `value`.

    >>> replace_at(Config(), "model.mask.relay", True).model.mask.relay
    True
    """
    head, _, rest = path.partition(".")
    if rest:
        value = replace_at(getattr(config, head), rest, value)
    return cast(T, dataclasses.replace(cast(Any, config), **{head: value}))


def to_dict(config: Any) -> dict[str, Any]:
    """Return the config as plain dicts and lists, as YAML and JSON want it."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    return cast(dict[str, Any], plain(config))


def from_dict(values: Mapping[str, Any]) -> Config:
    """Build a config from nested dicts; a field that is missing keeps its default.

    Raises:
        ConfigError: unknown key, wrong type or impossible combination; gives path and near matches.
    """
    return override(Config(), values)


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """Return `config` with the values of a nested dict laid over it.

    An optional part (`model.semantic`) is switched off by `None` or `False` and on, with its
    defaults, by `True`.

    Raises:
        ConfigError: as `from_dict`.
    """
    return cast(Config, lay_over(Config, config, values))
