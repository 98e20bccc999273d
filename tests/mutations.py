"""Random changes of an annotation file, for tests and benchmarks/mutations.py."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

NUMBERS = [0, 1, -1, 3, 1.5, 1e12, -1e300, float("nan"), float("inf"), 10**30, 10**400]
OTHERS = [None, True, False, "", "2", "x", "\u00e9", {}, {"a": 1}, [], [1], ["1"], [[]], [1, "2"]]
MASKS = [
    {"size": [30, 40]},
    {"size": [40, 30], "counts": [1200]},
    {"size": [30, 40], "counts": 5},
    {"size": 5, "counts": "2"},
    {"size": [30, 40], "counts": "\u00e9"},
    {"size": [30, 40], "counts": [600, "300", 300]},
    {"size": [30, 40], "counts": [[1200]]},
    {"size": {"a": 1}, "counts": [1200]},
    {"size": [30, 40], "counts": "b'hb0\\\\9\\\\9'"},
    [1, 1, 9, 1, 9, 9],
    [[1, 1], [9, 1], [9, 9]],
    [[[1, 1, 9, 1, 9, 9]]],
]


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


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inner if isinstance(value, dict | list) else ():
        yield (*above, key)
        if isinstance(part, dict | list):
            yield from places(part, (*above, key))
