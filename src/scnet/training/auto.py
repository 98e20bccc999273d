"""A recipe and its settings chosen by the data."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from scnet import recipes
from scnet.config import Config, override
from scnet.data.advice import Advice, Figures, advise, recipe_for
from scnet.data.coco import load_dataset
from scnet.data.images import DataError
from scnet.settings import merge, nested

AUTO = "auto"  # the name that stands for it where a recipe is asked for


def recommend(
    data: str | os.PathLike[str],
    settings: Mapping[str, Any] | None = None,
    below: Callable[[Config], Mapping[str, Any]] | None = None,
) -> tuple[Config, list[Advice]]:
    """Return the config that suits a data set, and what speaks for each of its settings.

    Args:
        data: folder in a usual layout, or an annotation file.
        settings: what is set already, and stays so.
        below: gives, for the recipe that is chosen, what is set where `settings` are silent.

    Raises:
        DataError: something wrong with the data, or no object to learn from.
    """
    gpu = torch.accelerator.is_available()
    first = recipe_for(gpu)
    recipe = recipes.find(first.value)
    given = merge(nested("data.path", str(data)), below(recipe) if below else {})
    given = merge(given, settings or {})
    config = override(recipe, given)
    dataset = load_dataset(Path(data), "train", config.data, train=False)
    if not dataset.contents.objects:
        raise DataError(f"{dataset.annotation_file}: no object to learn from")
    found = advise(Figures.of(dataset.images, dataset.classes), config, gpu)
    found = [advice for advice in found if not _is_set(given, advice.setting)]
    chosen: dict[str, Any] = {}
    for advice in found:
        chosen = merge(chosen, nested(advice.setting, advice.value))
    return override(config, chosen), [first, *found]


def command(
    recipe: str, data: str | os.PathLike[str], settings: Iterable[tuple[str, Any]] = ()
) -> str:
    """Return the command that trains a recipe with settings, given by their dotted paths."""
    words = ["scnet", "train", recipe, "--data", str(data)]
    for path, value in settings:
        text = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n")
        words += [f"--{path.replace('_', '-')}", text.strip()]
    return shlex.join(words)


def _is_set(settings: Mapping[str, Any], path: str) -> bool:
    """Return whether nested settings hold a value at a dotted path."""
    value: Any = settings
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return False
        value = value[name]
    return True
