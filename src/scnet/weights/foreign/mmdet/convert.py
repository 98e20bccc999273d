"""Checkpoints of MMDetection 2.x and 3.x, turned into ours.

>>> from scnet.weights.foreign.mmdet import convert
>>> convert.convert("scnet_r50.pth", "scnet_r50.safetensors")  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from scnet.config import Config, from_dict, to_dict
from scnet.data.classes import coco_category_ids
from scnet.model.detector import Detector
from scnet.settings import ConfigError
from scnet.weights.checkpoint import CheckpointError, assemble, write_weights
from scnet.weights.foreign.mmdet import config_text
from scnet.weights.foreign.mmdet.names import in_our_shape, our_name
from scnet.weights.foreign.mmdet.reading import read_file
from scnet.weights.foreign.mmdet.recognise import Shapes, recognise

__all__ = ["Conversion", "convert", "our_name", "read"]

# Keys that a right file may carry beside its model, with the reason why they are left.
_LEFT = {
    "roi_head.mask_head.0.conv_res.": "no input ever reaches it",
    "ema_": "averaged copies; the plain weights of the file are the ones to use",
}


class Conversion(NamedTuple):
    """A model read from a file of MMDetection."""

    detector: Detector  # in inference mode, on the CPU
    used: int  # keys of the file that became parameters
    left: dict[str, str]  # keys that were left, and why
    settings: tuple[str, ...]  # what the file's own config sets otherwise than the recipe
    named: bool  # whether the class names are known

    def __str__(self) -> str:
        config, classes = self.detector.config, self.detector.classes
        semantic = config.model.semantic
        names = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        lines = [
            f"architecture     {config.recipe}, {config.model.backbone.name}",
            f"classes          {len(classes)}"
            + (f": {names}" if self.named else ", names unknown"),
        ]
        if semantic is not None:
            lines.append(f"semantic classes {config.model.semantic_classes}")
        lines.append(f"keys             {self.used} used, {len(self.left)} left")
        lines += [f"  left: {key} ({why})" for key, why in list(self.left.items())[:5]]
        lines += [f"  set by its own config: {line}" for line in self.settings]
        return "\n".join(lines)


def convert(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    overwrite: bool = False,
) -> Conversion:
    """Convert a `.pth` file of MMDetection 2.x or 3.x to a `.safetensors` file.

    Args:
        path: checkpoint of Mask R-CNN, Cascade Mask R-CNN, HTC or SCNet.
        output: file to write, whole or not at all; it carries config and class names.
        classes: class names where the file has none.
        overwrite: whether `output` may exist.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, or does not become a whole model.
        FileExistsError: `output` exists.
    """
    output = Path(output)
    if output.suffix != ".safetensors":
        raise CheckpointError(f"{output}: the name must end in .safetensors")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; give another name, or allow to overwrite it")
    conversion = read(path, classes=classes)
    write_weights(output, conversion.detector)
    return conversion


def read(path: str | os.PathLike[str], *, classes: Sequence[str] = ()) -> Conversion:
    """Read a file of MMDetection into memory; arguments and errors are those of `convert`."""
    file = Path(path)
    content = read_file(file)
    try:
        return _build(content, tuple(classes))
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def _build(content: Mapping[str, Any], given_classes: tuple[str, ...]) -> Conversion:
    theirs = _weights(content)
    ours, left, unknown = _rename(theirs)
    config = recognise(Shapes({name: tuple(x.shape) for name, x in ours.items()}))
    if unknown:
        raise CheckpointError(f"{len(unknown)} keys have no counterpart: {_some(unknown)}")
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    text = meta.get("cfg", meta.get("config"))
    text = text if isinstance(text, str) else ""
    config, notes = config_text.apply(config, config_text.parse(text))
    classes = _class_names(meta) or given_classes
    config = _with_classes(config, classes)
    original = {name: key for key in theirs if (name := our_name(key))}
    detector = assemble(from_dict(to_dict(config)), ours, original)
    return Conversion(detector, len(ours), left, notes, bool(classes))


def _weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by MMDetection's names, without wrappers and prefixes."""
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"its state_dict is a {type(state).__name__}, not a dictionary")
    tensors = {
        str(key).removeprefix("module."): x for key, x in state.items() if isinstance(x, Tensor)
    }
    if not tensors:
        holds = ", ".join(sorted(map(str, content)))[:200] or "nothing"
        raise CheckpointError(f"there are no weights in it; it holds {holds}")
    damaged = [k for k, x in tensors.items() if x.is_floating_point() and not x.isfinite().all()]
    if damaged:
        raise CheckpointError(f"not all numbers are finite in {_some(damaged)}")
    return tensors


def _rename(
    theirs: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Return the tensors by our names, the keys that are left with the reason, and the unknown."""
    ours: dict[str, Tensor] = {}
    left: dict[str, str] = {}
    unknown: list[str] = []
    for key, value in theirs.items():
        why = next((why for start, why in _LEFT.items() if key.startswith(start)), None)
        name = our_name(key)
        if why is not None:
            left[key] = why
        elif name is None:
            unknown.append(key)
        else:
            ours[name] = in_our_shape(name, value.float() if value.is_floating_point() else value)
    return ours, left, unknown


def _class_names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names of a file: `CLASSES` in 2.x, in `dataset_meta` in 3.x."""
    about = meta.get("dataset_meta")
    about = about if isinstance(about, Mapping) else {}
    for names in (meta.get("CLASSES"), about.get("classes"), about.get("CLASSES")):
        if isinstance(names, str):
            return (names,)
        if isinstance(names, Sequence) and all(isinstance(name, str) for name in names):
            return tuple(names)
    return ()


def _with_classes(config: Config, classes: tuple[str, ...]) -> Config:
    count = config.model.num_classes
    if not classes:
        return config
    if len(classes) != count:
        raise CheckpointError(f"it predicts {count} classes, but {len(classes)} names are given")
    return replace(config, classes=classes, category_ids=coco_category_ids(classes))


def _some(keys: Sequence[str], most: int = 20) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more
