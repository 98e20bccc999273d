"""What a resumed training goes on with: the config of its run, but for what may change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from scnet.config import Config, from_dict, override, replace_at, to_dict
from scnet.data.coco import CocoDataset
from scnet.settings import ConfigError, leaves, merge
from scnet.training.asked import with_absolute_places
from scnet.training.log import counted_classes
from scnet.weights.checkpoint import CheckpointError

CONFIG = "config.yaml"

# Settings that a training may go on without, or with others: where and how it reads, evaluates and
# writes. All others would make it another training.
MAY_CHANGE = (
    "data.workers",
    "data.stuff_maps",  # their place
    "data.unreadable",
    "optim.accumulate",  # the batches stay what they are
    "optim.log_every",
    "eval",
    "run",
)

# What runs did that are older than a setting, where its default does something else.
BEFORE: dict[str, Any] = {"data": {"flip_swaps": []}}


def require_run(folder: Path) -> None:
    """Refuse what is no run folder.

    Raises:
        CheckpointError: there is no such folder, or it holds no config.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; give the run folder of a training")
    if not (folder / CONFIG).is_file():
        inside = (folder.parent / CONFIG).is_file()
        hint = f"; the run folder is {folder.parent}" if inside else "; give that of a training"
        raise CheckpointError(f"{folder}: is no run folder, which holds {CONFIG}{hint}")


def stored_config(folder: Path) -> Config:
    """Return the config of a run folder; an older run keeps what it began with."""
    return from_dict(merge(BEFORE, yaml.safe_load((folder / CONFIG).read_text())))


def changed(
    stored: Config,
    folder: Path,
    data: str | os.PathLike[str] | None,
    settings: Mapping[str, Any],
) -> Config:
    """Return the config to go on with.

    Args:
        data: where the data are now; None means where they were.
        settings: nested dict laid over the stored ones.

    Raises:
        ConfigError: a setting that cannot change, or does not exist.
        CheckpointError: the data are not where they were.
    """
    config = override(stored, settings)
    _require_same_settings(folder, dict(leaves(to_dict(stored))), dict(leaves(to_dict(config))))
    if data is not None:
        config = replace_at(config, "data.path", str(data))
    elif not Path(config.data.path).expanduser().exists():
        raise CheckpointError(
            f"{folder}: its data are not at {config.data.path}{_seen_from(config.data.path)}; say "
            f"where they are: scnet train --resume {folder} --data PATH"
        )
    return with_absolute_places(config)


def require_same_data(
    folder: Path, dataset: CocoDataset, config: Config, state: Mapping[str, Any]
) -> None:
    """Refuse data that a training cannot have begun with.

    Raises:
        CheckpointError: says what it began with and what there is.
    """
    facts = [
        (counted_classes(config.classes), counted_classes(dataset.classes)),
        (_bands(config.model.backbone.bands), _bands(dataset.bands)),
        (_images(state["images"]), _images(len(dataset))),
    ]
    if config.model.semantic is not None:
        there = dataset.semantic_classes or len(dataset.classes) + 1  # no maps: things and rest
        facts.append((_semantic(config.model.semantic_classes), _semantic(there)))
    for began, now in facts:
        if began != now:
            raise CheckpointError(
                f"{folder} began with {began}, but {config.data.path} now has {now}; bring the "
                "data back, say where they are (--data PATH), or start a new training"
            )


def _require_same_settings(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for path in {**before, **now}:
        if now.get(path) != before.get(path) and not _may_change(path):
            raise ConfigError(
                f"{path}: cannot change to {now.get(path, 'nothing')}, as the training in {folder} "
                f"began with {before.get(path, 'nothing')}; leave it out, or start a new training "
                f"without --resume. What may change: --data PATH, {', '.join(MAY_CHANGE)}"
            )


def _may_change(path: str) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in MAY_CHANGE)


def _seen_from(path: str) -> str:
    return "" if Path(path).is_absolute() else f", seen from {Path.cwd()}"


def _bands(number: int) -> str:
    return f"images of {number} bands"


def _images(number: int) -> str:
    return f"{number} training image{'s' * (number != 1)}"


def _semantic(number: int) -> str:
    return f"{number} semantic classes (data.stuff_maps)"
