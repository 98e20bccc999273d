"""Checkpoints of MMDetection 2.x and 3.x, turned into ours.

>>> from scnet.weights.foreign.mmdet import convert
>>> convert.convert("scnet_r50.pth", "scnet_r50.safetensors")  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from scnet.config import Config, from_dict, to_dict
from scnet.data.classes import coco_category_ids
from scnet.model.detector import Detector
from scnet.settings import ConfigError
from scnet.weights.checkpoint import CheckpointError, assemble, write_weights
from scnet.weights.foreign import strangers, unwrap
from scnet.weights.foreign.mmdet import config_text, settings
from scnet.weights.foreign.mmdet.names import in_our_shape, our_name
from scnet.weights.foreign.mmdet.reading import read_file
from scnet.weights.foreign.mmdet.recognise import Shapes, recognise, require_anchors

__all__ = ["Conversion", "convert", "our_name", "read"]

# Keys that a right file may carry in its model, with the reason why they are left.
_LEFT = {
    "roi_head.mask_head.0.conv_res.": "no input ever reaches it",
    "ema_": "averaged copies; the plain weights of the file are the ones to use",
}


class Known(NamedTuple):
    """What is known beside a file; `convert` says what it means."""

    classes: tuple[str, ...]
    config: str | os.PathLike[str] | None
    prefix: str | None
    leave: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A model read from a file of MMDetection."""

    detector: Detector  # in inference mode, on the CPU
    used: int  # keys of the file that became parameters
    left: dict[str, str]  # keys that were left, and why
    settings: tuple[str, ...]  # what its config sets otherwise than the recipe
    unread: tuple[str, ...]  # what its config says and is not looked at
    assumed: tuple[str, ...]  # what nothing says
    where: str  # where in the file the model was found; empty where that is usual
    names: str  # where the class names come from; empty where nothing says them

    @property
    def named(self) -> bool:
        """Whether the class names are known."""
        return bool(self.names)

    def remarks(self) -> list[str]:
        """Return the lines that say what may be otherwise than where the file comes from."""
        lines = [f"not read: {line}" for line in self.unread]
        if self.assumed:
            lines.append("assumed, as no config says it (--config FILE.py of convert gives one):")
        return lines + [f"  {line}" for line in self.assumed]

    def __str__(self) -> str:
        config, classes = self.detector.config, self.detector.classes
        semantic = config.model.semantic
        names = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        lines = [
            f"architecture     {config.recipe}, {config.model.backbone.name}",
            f"classes          {len(classes)}"
            + (f": {names} ({self.names})" if self.named else ", names unknown"),
        ]
        if semantic is not None:
            lines.append(f"semantic classes {config.model.semantic_classes}")
        if self.where:
            lines.append(f"found            {self.where}")
        lines.append(f"keys             {self.used} used, {len(self.left)} left")
        lines += [f"  left: {key} ({why})" for key, why in list(self.left.items())[:5]]
        lines += [f"  set by its own config: {line}" for line in self.settings]
        return "\n".join(lines + [f"  {line}" for line in self.remarks()])


def convert(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    config: str | os.PathLike[str] | None = None,
    prefix: str | None = None,
    leave: Sequence[str] = (),
    overwrite: bool = False,
) -> Conversion:
    """Convert a `.pth` file of MMDetection 2.x or 3.x to a `.safetensors` file.

    Args:
        path: checkpoint of Mask R-CNN, Cascade Mask R-CNN, HTC or SCNet.
        output: file to write, whole or not at all; it carries config and class names.
        classes: class names; they win over those in the file.
        config: the model's config, a Python file of MMDetection, which wins over the file's own.
        prefix: what the names of the model begin with, where the file holds several models.
        leave: settings and steps of the test pipeline that would be refused and are left out.
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
    conversion = read(path, classes=classes, config=config, prefix=prefix, leave=leave)
    write_weights(output, conversion.detector)
    return conversion


def read(
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    config: str | os.PathLike[str] | None = None,
    prefix: str | None = None,
    leave: Sequence[str] = (),
) -> Conversion:
    """Read a file of MMDetection into memory; arguments and errors are those of `convert`."""
    file = Path(path)
    try:
        content = read_file(file)
    except CheckpointError as error:
        told = strangers.of_file(file) if file.is_file() else None
        if told is None:
            raise
        raise CheckpointError(f"{file}: {told}") from error
    try:
        return _build(content, Known(tuple(classes), config, prefix, tuple(leave)))
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def _build(content: Mapping[str, Any], known: Known) -> Conversion:
    found = _model(content, known.prefix)
    ours, left, unknown = _rename(found.tensors)
    given = _config(content, known)
    try:
        shapes = Shapes({name: tuple(x.shape) for name, x in ours.items()})
        config = recognise(shapes)
        if unknown:
            raise CheckpointError(f"{len(unknown)} keys have no counterpart: {_some(unknown)}")
        applied = settings.apply(config, given, known.leave)
        require_anchors(shapes, applied.config, known=bool(given))
        config, names = _with_classes(applied.config, content, given, known.classes)
        original = {name: key for key in found.tensors if (name := our_name(key))}
        detector = assemble(from_dict(to_dict(config)), ours, original)
    except CheckpointError as error:
        told = strangers.change(found.tensors)
        text = str(error).replace("weights do not fit their config", "weights do not fit the model")
        raise CheckpointError(told or text) from error
    return Conversion(
        detector=detector,
        used=len(ours),
        left=left | found.left,
        settings=applied.changed,
        unread=applied.unread,
        assumed=applied.assumed,
        where=found.where,
        names=names,
    )


def _model(content: Mapping[str, Any], prefix: str | None) -> unwrap.Wrapped:
    """Return the tensors of the model in a checkpoint by MMDetection's names."""
    entries = list(unwrap.entries(content))
    found = unwrap.find(entries, prefix)
    if found is None:
        texts = [*_texts(content), *(entry.name for entry in entries)]
        holds = ", ".join(sorted(map(str, content)))[:200] or "nothing"
        raise CheckpointError(
            strangers.name(texts)
            or (
                f"there is no model of MMDetection in it, such as rpn_head... and roi_head...; "
                f"it holds {holds}"
                if entries
                else f"there are no weights in it; it holds {holds}"
            )
        )
    damaged = [
        k for k, x in found.tensors.items() if x.is_floating_point() and not x.isfinite().all()
    ]
    if damaged:
        raise CheckpointError(f"not all numbers are finite in {_some(damaged)}")
    return found


def _texts(content: Any, folder: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the names of all that a file holds."""
    if isinstance(content, Mapping) and depth < 4:
        for key, value in content.items():
            yield f"{folder}{key}"
            yield from _texts(value, f"{folder}{key}.", depth + 1)


def _config(content: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """Return the parsed config of a checkpoint: the one that is given, else the file's own."""
    if known.config is not None:
        try:
            return config_text.parse(Path(known.config).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"--config {known.config}: cannot be read: {error}") from error
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    text = meta.get("cfg", meta.get("config"))
    if isinstance(text, Mapping):
        return {str(key): value for key, value in text.items()}
    return config_text.parse(text) if isinstance(text, str) else {}


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


def _with_classes(
    config: Config, content: Mapping[str, Any], given: Mapping[str, Any], wanted: Sequence[str]
) -> tuple[Config, str]:
    """Return the config with class names, and where they come from; those that are wanted win."""
    count = config.model.num_classes
    stored = _stored_names(content, given)
    if wanted:
        if len(wanted) != count:
            raise CheckpointError(
                f"it predicts {count} classes, but {len(wanted)} names are given with --classes"
            )
        differ = bool(stored) and tuple(wanted) not in stored
        names = "given; the file has others" if differ else "given"
        return _named(config, tuple(wanted)), f"{names}: {_some(stored[0], 5)}" if differ else names
    fitting = [names for names in stored if len(names) == count]
    if stored and not fitting:
        raise CheckpointError(
            f"it predicts {count} classes, but names {len(stored[0])} ({_some(stored[0], 5)}); "
            f"give all {count} with --classes"
        )
    return (_named(config, fitting[0]), "from the file") if fitting else (config, "")


def _named(config: Config, classes: tuple[str, ...]) -> Config:
    return replace(config, classes=classes, category_ids=coco_category_ids(classes))


def _stored_names(content: Mapping[str, Any], given: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the class names of a file: `CLASSES` in 2.x, in `dataset_meta` in 3.x, or a config's.

    Several places may hold some; the first is the surest.
    """
    at = config_text.one
    places = (
        *(at(content, f"meta.{path}") for path in ("CLASSES", "dataset_meta.classes")),
        at(content, "meta.dataset_meta.CLASSES"),
        *(at(given, f"{path}.metainfo.classes") for path in ("test_dataloader.dataset", "dataset")),
        *(at(given, path) for path in ("metainfo.classes", "data.test.classes", "classes")),
    )
    found: list[tuple[str, ...]] = []
    for names in places:
        if isinstance(names, str):
            found.append((names,))
        elif isinstance(names, Sequence) and names and all(isinstance(x, str) for x in names):
            found.append(tuple(names))
    return found


def _some(keys: Sequence[str], most: int = 20) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more
