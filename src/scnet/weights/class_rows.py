"""The rows of layers that say something of each class, matched by the names of the classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from scnet.config import Config
from scnet.data.classes import folded_name, seen_name

BACKGROUND = ""  # no class has that name


class Rows(NamedTuple):
    """Which rows of a layer become which of another; a class may have several in a row."""

    number: int  # of classes, background too
    their_number: int
    pairs: tuple[tuple[int, int], ...]  # own and their place; empty where no class is common

    def fit(self, own: Tensor, theirs: Tensor) -> bool:
        """Return whether both have the same shape for each class."""
        per_class = own.shape[0] // self.number, theirs.shape[0] // self.their_number
        return own.shape[1:] == theirs.shape[1:] and per_class[0] == per_class[1]

    def fill(self, own: Tensor, theirs: Tensor) -> Tensor:
        """Return a tensor whose rows are theirs where there are, and else its own."""
        rest = own.shape[1:]
        filled = own.clone().reshape(self.number, -1, *rest)
        given = theirs.reshape(self.their_number, -1, *rest)
        for place, their_place in self.pairs:
            filled[place] = given[their_place]
        return filled.reshape(own.shape)


def rows(layer: str, to: Config, of: Config) -> Rows | None:
    """Return the rows of a layer; None where it says nothing of single classes."""
    if re.fullmatch(r"roi_heads\.stages\.\d+\.cls", layer):
        return _matched((*to.classes, BACKGROUND), (*_names(of), BACKGROUND))
    if re.fullmatch(r"roi_heads\.stages\.\d+\.reg", layer):
        return _boxes(to, of)
    if re.fullmatch(
        r"roi_heads\.masks\.(heads\.\d+\.classifier|scoring\.iou)|branches\.context\.classifier",
        layer,
    ):
        return _matched(to.classes, _names(of))
    if layer == "branches.semantic.classifier":
        return _semantic(to, of)
    return None


def common(to: Config, of: Config) -> dict[str, str]:
    """Return the classes that both have, in the order of the first, with their names in the other.

    Names that differ in spelling alone are those of one class, where no other is spelt like them.
    """
    return _alike(to.classes, _names(of))


def _alike(own: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    found = {name: name for name in own if name in theirs}
    for spelt in (seen_name, folded_name):
        ours = _spelt(spelt, [name for name in own if name not in found])
        others = _spelt(spelt, [name for name in theirs if name not in found.values()])
        found |= {
            names[0]: others[form][0]
            for form, names in ours.items()
            if form and len(names) == len(others.get(form, ())) == 1
        }
    return {name: found[name] for name in own if name in found}


def _spelt(form: Callable[[str], str], names: Sequence[str]) -> dict[str, list[str]]:
    """Return names by a form that several may have."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(form(name), []).append(name)
    return found


def _names(config: Config) -> tuple[str, ...]:
    """Return a name for each class; those that have none are like no others."""
    return config.classes or tuple(f"\0{i}" for i in range(config.model.num_classes))


def _matched(own: Sequence[str], theirs: Sequence[str]) -> Rows:
    alike, place = _alike(own, theirs), {name: i for i, name in enumerate(theirs)}
    pairs = tuple((i, place[alike[name]]) for i, name in enumerate(own) if name in alike)
    only_background = all(own[i] == BACKGROUND for i, _ in pairs)
    return Rows(len(own), len(theirs), () if only_background else pairs)


def _boxes(to: Config, of: Config) -> Rows | None:
    """Return the rows of box deltas: for each class, or one for all that each class begins with."""
    if to.model.box.class_agnostic:
        return None
    if of.model.box.class_agnostic:
        return Rows(len(to.classes), 1, tuple((i, 0) for i in range(len(to.classes))))
    return _matched(to.classes, _names(of))


def _semantic(to: Config, of: Config) -> Rows | None:
    """Return the rows of semantic classes, which have names where they are those of the objects."""
    own, theirs = to.model.semantic, of.model.semantic
    if own is None or theirs is None:
        return None
    if own.num_classes is None and theirs.num_classes is None:
        return _matched((*to.classes, BACKGROUND), (*_names(of), BACKGROUND))
    if own.num_classes == theirs.num_classes:
        return None  # two stuff maps of as many classes; `transfer` says what is assumed
    return Rows(to.model.semantic_classes, of.model.semantic_classes, ())
