"""Settings of another library's config laid over a recipe, and what of them is refused."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from scnet.config import Config, override
from scnet.settings import nested
from scnet.weights.checkpoint import CheckpointError


class Applied(NamedTuple):
    """A recipe with what a config says."""

    config: Config  # which carries `assumed`
    changed: tuple[str, ...]  # settings that differ from the recipe
    unread: tuple[str, ...]  # what the config says and nothing here looks at
    assumed: tuple[str, ...]  # what the config does not say
    bgr: bool = False  # whether the network reads blue before green and red


def lay(config: Config, changes: Mapping[str, Any]) -> tuple[Config, tuple[str, ...]]:
    """Return a config with new values by their paths, and those that differ from before."""
    notes = []
    for path, value in changes.items():
        changed = override(config, nested(path, value))
        if changed != config:
            notes.append(f"{path} {value}")
        config = changed
    return config, tuple(notes)


def require_allowed(refused: Mapping[str, str], leave: tuple[str, ...]) -> None:
    """Stop where settings are refused, but for those to leave.

    Args:
        refused: why, by the name of the setting.

    Raises:
        CheckpointError: some are, or one to leave is not refused.
    """
    unused = [name for name in leave if name not in refused]
    if unused:
        can = ", ".join(refused) or "nothing"
        raise CheckpointError(f"--leave {', '.join(unused)}: not refused; what is: {can}")
    left = {path: why for path, why in refused.items() if path not in leave}
    if left:
        raise CheckpointError(
            f"{'; '.join(left.values())}. Its answers would be others; to convert it nevertheless: "
            f"--leave {','.join(left)}"
        )


def told_left(refused: Mapping[str, str]) -> list[str]:
    """Return the lines for what was refused and left."""
    return [f"{why} (left, as --leave says)" for why in refused.values()]


def unit(values: list[float], usual: tuple[float, ...]) -> tuple[float, ...] | None:
    """Bring statistics of pixels 0..255 to images of 0..1; None where they are the usual ones."""
    scaled = tuple(float(v) / 255 for v in values)
    return None if np.allclose(scaled, usual, atol=1e-6) else scaled


def find(table: Mapping[str, tuple[Any, ...]], path: str) -> tuple[Any, ...] | None:
    """Return what a table says of a path, in which a star stands for anything; None for nothing."""
    if path in table:
        return table[path]
    return next((values for key, values in table.items() if fnmatchcase(path, key)), None)


def within(patterns: tuple[str, ...], path: str) -> bool:
    """Whether a path is one of those in a list."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)
