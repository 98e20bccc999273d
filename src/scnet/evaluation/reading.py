"""How the annotation file of an evaluation is read: by its own settings, not by the training's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from scnet.config import Config, DataConfig, override
from scnet.data.geometry import Reading
from scnet.settings import ConfigError

# What its numbers mean is a matter of a file, of which that of the training says nothing.
OF_A_FILE = (*Reading._fields, "orientation", "scale_marks", "contradictions")
MAY_DIFFER = (*OF_A_FILE, "crowd", "drop_invalid", "unreadable")  # the rest is the model's


def reading_of(
    kept: DataConfig, path: str | os.PathLike[str], settings: Mapping[str, Any] | None
) -> tuple[DataConfig, list[str]]:
    """Return how the annotations of a data set are read, and what of the training's is left out.

    Args:
        kept: settings of the data that the model was trained on.
        path: the data set.
        settings: nested dict, such as `{"data": {"boxes": "corners"}}`.

    Raises:
        ConfigError: a setting that is the model's, or does not exist.
    """
    given = dict(settings or {})
    if other := [name for name in given if name != "data"]:
        raise ConfigError(f"{other[0]}: only settings of the data can differ from the model's")
    asked = given.get("data", {})
    known = {field.name for field in fields(DataConfig)}
    for name in asked if isinstance(asked, Mapping) else ():
        if name in known and name not in MAY_DIFFER:
            raise ConfigError(
                f"data.{name}: is what the model was trained with; an evaluation may set "
                + ", ".join(f"data.{one}" for one in MAY_DIFFER)
            )
    config, notes = kept, list[str]()
    if not _same(kept.path, path):
        config, notes = _forgotten(kept, asked)
    return override(Config(data=config), given).data, notes


def _forgotten(kept: DataConfig, asked: Mapping[str, Any]) -> tuple[DataConfig, list[str]]:
    """Return settings without those that are a matter of the file; say which are not given anew."""
    plain = DataConfig()
    defaults = {name: getattr(plain, name) for name in OF_A_FILE}
    gone = [
        f"data.{name} {getattr(kept, name)}"
        for name, value in defaults.items()
        if getattr(kept, name) != value and name not in asked
    ]
    said = f"{', '.join(gone)} of the training is not used, as these are other data"
    return replace(kept, **defaults), [said] if gone else []


def _same(kept: str, path: str | os.PathLike[str]) -> bool:
    """Return whether data lie where those of the training lay."""
    return bool(kept) and Path(kept).expanduser().resolve() == Path(path).expanduser().resolve()
