"""Whatever stands in an annotation file, reading it works or says what is wrong."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scnet.config import DataConfig
from scnet.data.check import check
from scnet.data.coco import load_dataset
from scnet.data.images import DataError
from scnet.evaluation.scoring import score

NUMBERS = [0, 1, -1, 3, 1.5, 1e12, -1e300, float("nan"), float("inf"), 10**30, 10**400]
OTHERS = [None, True, False, "", "2", "x", "\u00e9", {}, {"a": 1}, [], [1], ["1"], [[]], [1, "2"]]
MASKS = [
    {"size": [30, 40]},
    {"size": 5, "counts": "2"},
    {"size": [30, 40], "counts": 5},
    {"size": [30, 40], "counts": "\u00e9"},
    {"size": [30, 40], "counts": [600, "300", 300]},
    {"size": [30, 40], "counts": [[1200]]},
    {"size": {"a": 1}, "counts": [1200]},
]
Place = tuple[Any, ...]


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """Yield the way to each value inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inner if isinstance(value, dict | list) else ():
        yield (*above, key)
        if isinstance(part, dict | list):
            yield from places(part, (*above, key))


def mutate(content: Any, draw: random.Random) -> None:
    """Remove, add or replace a value, or make it text."""
    *above, key = draw.choice(list(places(content)))
    for step in above:
        content = content[step]
    junk = copy.deepcopy(draw.choice(NUMBERS + OTHERS + MASKS))
    action = draw.choice(["replace"] * 6 + ["remove", "add", "text"])
    if action == "remove":
        del content[key]
    elif action == "add" and isinstance(content, list):
        content.insert(key, junk)
    else:
        content[key] = str(content[key]) if action == "text" else junk


def fault(file: Path, *, drop_invalid: bool) -> str | None:
    """Return why a file cannot be used, None if everything in it can be."""
    config = DataConfig(size=(30, 40), drop_invalid=drop_invalid)
    try:
        dataset = load_dataset(file, "train", config, train=True, semantic=True)
        for index in range(len(dataset)):
            dataset[index]
    except DataError as error:
        return str(error)
    score(dataset.ground_truth, [])
    return None


@pytest.mark.parametrize("seed", range(4))
def test_any_mutation_is_read_or_explained(
    seed: int, tmp_path: Path, content: Any, write: Callable[..., Path]
) -> None:
    draw = random.Random(seed)
    packed = {"size": [30, 40], "counts": "hb0\\9\\9"}  # the same as the crowd region's
    content["annotations"].append(content["annotations"][4] | {"id": 6, "segmentation": packed})
    file = write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    for _ in range(60):
        changed = copy.deepcopy(content)
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            mutate(changed, draw)
        file.write_text(json.dumps(changed))
        report = check(file)
        assert report.render()
        stopped = fault(file, drop_invalid=False)
        assert bool(stopped) == bool(report.errors)
        for reason in (stopped, fault(file, drop_invalid=True)):
            assert reason is None or str(tmp_path) in reason
