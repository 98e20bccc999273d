"""The `config.yaml` that detectron2 writes beside a training, as plain values by their paths.

A config that was written by hand may name another to start from (`_BASE_`); it is read where it
lies on this machine. What stands in none of these files is as in the baselines of the zoo.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from scnet.weights.checkpoint import CheckpointError

_BASE = "_BASE_"
_MOST_BYTES = 1_000_000
_MOST_VALUES = 10_000
_DEEPEST = 20


class Given(NamedTuple):
    """What config files say."""

    values: dict[str, Any]  # by their path, as MODEL.RPN.NMS_THRESH; sequences as lists
    unread: tuple[str, ...] = ()  # what would have to be read beside
    name: str = ""  # of the file; empty where there is none


def read(file: Path) -> Given:
    """Return the settings of a config file and of those on which it builds.

    Raises:
        CheckpointError: not a config of detectron2, or one that cannot be read.
    """
    values, unread = _with_bases(file, 0)
    return Given(values, tuple(unread), str(file))


def beside(folder: Path) -> Path | None:
    """Return the config that lies beside a checkpoint, if there is one of detectron2."""
    for name in ("config.yaml", "config.yml"):
        file = folder / name
        if file.is_file() and file.stat().st_size <= _MOST_BYTES and b"\nMODEL:" in _begin(file):
            return file
    return None


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings by their paths.

    >>> flatten({"MODEL": {"RPN": {"NMS_THRESH": 0.7}}})
    {'MODEL.RPN.NMS_THRESH': 0.7}
    """
    flat: dict[str, Any] = {}
    for path, value in _leaves(values, "", 0):
        flat[path] = value
        if len(flat) > _MOST_VALUES:
            raise CheckpointError(f"it has more than {_MOST_VALUES} settings")
    return flat


def _begin(file: Path) -> bytes:
    return b"\n" + file.read_bytes()


def _with_bases(file: Path, depth: int) -> tuple[dict[str, Any], list[str]]:
    loaded = _load(file)
    base = loaded.pop(_BASE, None)
    try:
        own = flatten(loaded)
    except CheckpointError as error:
        raise CheckpointError(f"--config {file}: {error}") from error
    if base is None:
        return own, []
    place = file.parent / str(base)
    if depth < _DEEPEST and "://" not in str(base) and place.is_file():
        below, unread = _with_bases(place, depth + 1)
        return below | own, unread
    return own, [f"{_BASE} {base}, which is not there; what it says is taken as in the baselines"]


def _load(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise CheckpointError(f"--config {file}: too large for a config; is it another file?")
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        told = " ".join(str(error).split())[:200]
        raise CheckpointError(f"--config {file}: cannot be read as YAML: {told}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"--config {file}: holds no settings of detectron2, such as MODEL")
    if "model" in loaded and "MODEL" not in loaded:
        raise CheckpointError(
            f"--config {file}: is a LazyConfig of detectron2, which scnet does not read; leave "
            "--config out, or write what matters (INPUT, MODEL, TEST) as in its config.yaml"
        )
    if not any(str(key).isupper() for key in loaded):
        raise CheckpointError(f"--config {file}: holds no settings of detectron2, such as MODEL")
    return {str(key): value for key, value in loaded.items()}


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield path, _decoded(value, depth)
        return
    if depth > _DEEPEST:
        raise CheckpointError(f"{path[:60]}... is nested too deep")
    for key, inner in value.items():
        yield from _leaves(inner, f"{path}.{key}" if path else str(key), depth + 1)


def _decoded(value: Any, depth: int = 0) -> Any:
    """Return a value; files written by hand have tuples as texts, `(800, 1333)`."""
    if isinstance(value, str) and len(value) < 10_000:
        try:
            return _lists(ast.literal_eval(value), depth)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return value
    return _lists(value, depth)


def _lists(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise CheckpointError("its lists are nested too deep")
    if isinstance(value, list | tuple):
        return [_lists(item, depth + 1) for item in value]
    return value
