"""Find a model in the content of a checkpoint file, under whatever its keys are wrapped in.

Trainers put a model into an attribute (`model.`, `detector.`), a data-parallel or compiled wrapper
(`module.`, `_orig_mod.`), a dictionary in a dictionary, and averaged copies beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scnet.weights.checkpoint import CheckpointError

_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))_(?:orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\."
)
_AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|averaged?|shadow)(?:[._]|$)")
_USUAL = ("", "state_dict.", "module.", "state_dict.module.")
_TRAINED = ("under model", "under model.module")  # where detectron2 and torchvision put it
_DEEPEST = 8


class Entry(NamedTuple):
    """A tensor of a file."""

    name: str  # whole, from the top of the file, without wrappers that may stand anywhere
    folder: str  # the dictionary that it lies in
    value: Tensor


class Wrapped(NamedTuple):
    """A model that was found."""

    tensors: dict[str, Tensor]  # by its own names
    left: dict[str, str]  # other keys, and why they stay behind
    where: str  # what to tell of the place; empty where it is a usual one

    @property
    def where_unless_trained(self) -> str:
        """What to tell of the place, where a training of detectron2 or torchvision has another."""
        return "" if self.where in _TRAINED else self.where


def entries(content: Any, folder: str = "", depth: int = 0) -> Iterator[Entry]:
    """Yield all tensors of a file."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    for key, value in content.items():
        name = f"{folder}{key}"
        if isinstance(value, Tensor):
            yield Entry(_WRAPPERS.sub("", name), folder, value)
        else:
            yield from entries(value, f"{name}.", depth + 1)


def has(found: list[Entry], parts: tuple[str, ...]) -> bool:
    """Whether there is a model that has all of these parts."""
    return bool(_models(found, parts))


def find(found: list[Entry], parts: tuple[str, ...], prefix: str | None = None) -> Wrapped | None:
    """Return the model with RPN and RoI heads; None where there is none.

    Args:
        found: what `entries` yields.
        parts: names of the parts that it must have, beside a backbone and a neck.
        prefix: which model, where a file holds several.

    Raises:
        CheckpointError: several models and no prefix, or none under it.
    """
    models = _models(found, parts)
    if not models and prefix is None:
        return None
    start = _chosen(models, prefix)
    folders = {entry.folder for entry in models[start]}
    tensors = {
        entry.name.removeprefix(start): entry.value
        for entry in found
        if entry.folder in folders and entry.name.startswith(start)
    }
    others = tuple(other for other in models if other != start)
    left = {
        entry.name: "beside the model"
        for entry in found
        if entry.folder in folders and not entry.name.startswith((start, *others))
    }
    for other in others:
        averaged = _AVERAGED.search(other) is not None
        left[f"{other}*"] = "an averaged copy" if averaged else "another model"
    return Wrapped(tensors, left, _told(start))


def found(entries: list[Entry], parts: tuple[str, ...], prefix: str | None = None) -> Wrapped:
    """Return the model that is there, as `has` has told; arguments and errors are those of `find`.

    Raises:
        CheckpointError: several models and no prefix, or none under it.
    """
    wrapped = find(entries, parts, prefix)
    assert wrapped is not None
    return wrapped


def _models(found: list[Entry], parts: tuple[str, ...]) -> dict[str, list[Entry]]:
    """Return the entries of each model by what its names begin with."""
    names = "|".join(map(re.escape, ("backbone", "neck", *parts)))
    begins = re.compile(rf"(?:^|(?<=\.))(?:{names})\.")
    groups: dict[str, list[Entry]] = {}
    for entry in found:
        match = begins.search(entry.name)
        if match is not None:
            groups.setdefault(entry.name[: match.start()], []).append(entry)
    return {
        start: group
        for start, group in groups.items()
        if all(any(e.name.startswith(f"{start}{part}.") for e in group) for part in parts)
    }


def _chosen(models: Mapping[str, list[Entry]], prefix: str | None) -> str:
    names = ", ".join(start.rstrip(".") or "(no prefix)" for start in models)
    if prefix is not None:
        wanted = prefix.rstrip(".")
        fits = [s for s in models if f".{s}".rstrip(".").endswith(f".{wanted}")]
        if len(fits) != 1:
            raise CheckpointError(f"--prefix {prefix}: it has models under {names or 'none'}")
        return fits[0]
    plain = [start for start in models if not _AVERAGED.search(start)] or list(models)
    if any(not _same(models, plain[0], other) for other in plain[1:]):
        raise CheckpointError(f"it holds several models: {names}; choose one with --prefix NAME")
    return plain[0]


def _same(models: Mapping[str, list[Entry]], first: str, second: str) -> bool:
    one, other = (
        {e.name.removeprefix(start): e.value for e in models[start]} for start in (first, second)
    )
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def _told(start: str) -> str:
    if start in _USUAL:
        return ""
    averaged = ", an averaged copy" * (_AVERAGED.search(start) is not None)
    return f"under {start.rstrip('.')}{averaged}"
