"""What a checkpoint of another library became, and what is known beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from scnet.config import Config, FPNConfig, ModelConfig, from_dict, to_dict
from scnet.data.classes import coco_category_ids
from scnet.model.detector import Detector
from scnet.weights.checkpoint import CheckpointError, assemble
from scnet.weights.foreign.faults import some


class Known(NamedTuple):
    """What is known beside a file; `convert` says what it means."""

    classes: tuple[str, ...] = ()
    config: str | os.PathLike[str] | None = None
    prefix: str | None = None
    leave: tuple[str, ...] = ()
    folder: str | os.PathLike[str] | None = None  # where the file lies, with what is beside it
    # a config's values that need not be read; of MMDetection those of a file that holds none
    settings: Mapping[str, Any] | None = None
    norm_eps: float | None = None  # of torchvision's frozen norms, which no file of it holds


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A model read from a file of another library."""

    detector: Detector  # in inference mode, on the CPU
    source: str  # which library wrote the file, and what more it says of itself
    used: int  # keys of the file that became parameters
    left: dict[str, str]  # keys that were left, and why
    settings: tuple[str, ...]  # what is set otherwise than the recipe
    unread: tuple[str, ...]  # what its config says and is not looked at
    assumed: tuple[str, ...]  # what nothing says
    where: str  # where in the file the model was found; empty where that is usual
    names: str  # where the class names come from; empty where nothing says them
    gives: str  # what would say what is assumed

    @property
    def named(self) -> bool:
        """Whether the class names are known."""
        return bool(self.names)

    def remarks(self) -> list[str]:
        """Return the lines that say what may be otherwise than where the file comes from."""
        lines = [f"not read: {line}" for line in self.unread]
        if self.assumed:
            lines.append(f"assumed, as no config says it ({self.gives}):")
        return lines + [f"  {line}" for line in self.assumed]

    def __str__(self) -> str:
        config = self.detector.config
        lines = [
            f"read             {self.source}",
            f"architecture     {config.recipe}, {_body(config.model)}",
            f"classes          {self._classes()}",
        ]
        if config.model.semantic is not None:
            lines.append(f"semantic classes {config.model.semantic_classes}")
        if heads := _heads(config.model):
            lines.append(f"heads            {heads}")
        lines += [f"images           {_images(config)}", f"answers          {_answers(config)}"]
        if self.where:
            lines.append(f"found            {self.where}")
        lines.append(f"keys             {self.used} used, {len(self.left)} left")
        lines += [f"  left: {key} ({why})" for key, why in list(self.left.items())[:5]]
        lines += [f"  otherwise than the recipe: {line}" for line in self.settings]
        return "\n".join(lines + [f"  {line}" for line in self.remarks()])

    def _classes(self) -> str:
        classes = self.detector.classes
        names = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        told = f": {names} ({self.names})" if self.named else ", names unknown"
        return f"{len(classes)}{told}"


def _heads(model: ModelConfig) -> str:
    """Return what pyramid and heads have that most do not: more convolutions, and norms."""
    box, parts = model.box, []
    if model.rpn.convs > 1:
        parts.append(f"RPN of {model.rpn.convs} convolutions")
    if (box.convs, box.layers) != (0, 2):
        parts.append(f"boxes by {box.convs} convolutions and {box.layers} fully connected")
    if (scoring := model.mask.scoring) is not None:
        parts.append(
            f"masks scored by {scoring.convs} convolutions and {scoring.layers + 1} layers"
        )
    convs = {"pyramid": 1, "box": box.convs, "mask": model.mask.convs}
    norms = {k: v for k, v in model.norms._asdict().items() if v != "none" and convs[k]}
    if norms:
        parts.append("norms: " + ", ".join(f"{name} {norm}" for name, norm in norms.items()))
    return "; ".join(parts)


def _images(config: Config) -> str:
    low, high = config.data.size
    if config.data.scale_factor is not None:
        return f"enlarged {config.data.scale_factor:g} times"
    if not config.data.keep_ratio:
        return f"resized to {low} x {high}"
    return f"short side {low}, long side at most {high}"


def _answers(config: Config) -> str:
    box = config.model.box
    least = config.model.mask.least_visible
    return (
        f"score over {box.score_threshold:g}, NMS {box.nms_iou:g}, at most {box.max_detections}"
        + (f", at least {least:.0%} visible" if least else "")
    )


def _body(model: ModelConfig) -> str:
    """Return the backbone, and what of it and of the pyramid most models have not."""
    deformable = ", deformable convolutions" * (model.backbone.deformable is not None)
    pyramid = "" if isinstance(model.pyramid, FPNConfig) else f", {model.pyramid.kind}"
    return f"{model.backbone.name}{deformable}{pyramid}"


def with_classes(
    config: Config, stored: Sequence[tuple[str, ...]], wanted: Sequence[str], source: str = ""
) -> tuple[Config, str]:
    """Return the config with class names, and where they come from; those that are wanted win.

    Args:
        stored: names in the file, the surest first.
        source: where those stand.

    Raises:
        CheckpointError: there are names for another number of classes.
    """
    count = config.model.num_classes
    if wanted:
        if len(wanted) != count:
            raise CheckpointError(
                f"it predicts {count} classes, but {len(wanted)} names are given with --classes"
            )
        differ = bool(stored) and tuple(wanted) not in stored
        names = "given; the file has others" if differ else "given"
        return _named(config, tuple(wanted)), f"{names}: {some(stored[0], 5)}" if differ else names
    fitting = [names for names in stored if len(names) == count]
    if stored and not fitting:
        raise CheckpointError(
            f"it predicts {count} classes, but names {len(stored[0])} ({some(stored[0], 5)}); "
            f"give all {count} with --classes"
        )
    return (_named(config, fitting[0]), source or "from the file") if fitting else (config, "")


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Check that weights are numbers.

    Raises:
        CheckpointError: names those that are not.
    """
    damaged = [k for k, x in tensors.items() if x.is_floating_point() and not x.isfinite().all()]
    if damaged:
        raise CheckpointError(f"not all numbers are finite in {some(damaged)}")


def require_readable(
    tensors: Mapping[str, Tensor], change: Callable[[Collection[str]], str | None]
) -> None:
    """Check that weights are numbers, of a model that was not changed to one that is not read here.

    Args:
        change: what was changed in a model of its library, by its names.

    Raises:
        CheckpointError: says what it is.
    """
    require_finite(tensors)
    told = change(tensors)
    if told is not None:
        raise CheckpointError(told)


def require_known(unknown: Iterable[str]) -> None:
    """Check that no parameter was met that has no name here.

    Raises:
        CheckpointError: names some.
    """
    keys = list(unknown)
    if keys:
        raise CheckpointError(f"{len(keys)} keys have no counterpart: {some(keys)}")


def _named(config: Config, classes: tuple[str, ...]) -> Config:
    return replace(config, classes=classes, category_ids=coco_category_ids(classes))


def assembled(config: Config, ours: Mapping[str, Tensor], original: Mapping[str, str]) -> Detector:
    """Return the detector of a config with parameters from elsewhere.

    Args:
        original: what a file calls each of them.

    Raises:
        CheckpointError: they do not fit.
    """
    try:
        return assemble(from_dict(to_dict(config)), ours, original)
    except CheckpointError as error:
        text = str(error).replace("weights do not fit their config", "weights do not fit the model")
        raise CheckpointError(text) from error
