"""Classes that change places when an image is mirrored: left and right parts of things.

A left door in a mirrored image looks as a right door does, and shall be learnt as one. One
reflection does this, left to right or upside down; both together turn the image by 180 degrees, and
a left door stays one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from scnet.config_data import require_pairs
from scnet.data.categories import ClassError, near
from scnet.data.classes import seen_name
from scnet.data.semantic import StuffMaps
from scnet.data.wording import counted
from scnet.types import IGNORE

Pair = tuple[str, str]  # of the names of classes
Setting = Literal["auto"] | tuple[Pair, ...]  # data.flip_swaps

SIDES = ("left", "right")


class ByName(NamedTuple):
    """Classes whose names speak of left or right."""

    pairs: tuple[Pair, ...]  # that differ in this word alone
    alone: tuple[str, ...]  # without a counterpart, or with several


class Swaps(NamedTuple):
    """What changes in an image that is mirrored once."""

    labels: Int[Tensor, "n"]  # label that an object of each class has then
    stuff: Int[Tensor, "m"] | None  # likewise of the values of stuff maps; None = they stay
    notes: tuple[str, ...]  # what changes and what does not, a sentence each

    def of_map(self, semantic: Int[Tensor, "H W"]) -> Int[Tensor, "H W"]:
        """Return a stuff map with the classes that its mirrored image has."""
        if self.stuff is None:
            return semantic
        known = self.stuff[semantic.clamp(min=0).long()].to(semantic.dtype)
        return torch.where(semantic == IGNORE, semantic, known)


def find_swaps(
    setting: Setting, classes: Sequence[str], stuff: StuffMaps | None, *, mirrors: bool
) -> Swaps:
    """Return which classes change places in mirrored images.

    Args:
        setting: pairs of names, or "auto": those that differ only in the word left or right.
        stuff: the maps that the semantic branch learns from; None where it learns from masks.
        mirrors: images are mirrored; else there is nothing to say.

    Raises:
        ClassError: the setting names a class that there is not.
        ConfigError: it names one twice.
    """
    found = by_name(classes)
    pairs = found.pairs if setting == "auto" else tuple(_known(setting, classes))
    require_pairs(pairs)  # two spellings in the setting may be one class
    places = {name: label for label, name in enumerate(classes)}
    labels = torch.tensor(_exchanged(len(classes), places, pairs), dtype=torch.int64)
    notes = tuple(_notes(setting, found, pairs)) if mirrors else ()
    table = None
    if stuff is not None:
        table, said = _of_stuff(setting, pairs, stuff)
        notes += said if mirrors else ()
    return Swaps(labels, table, notes)


def by_name(names: Iterable[str]) -> ByName:
    """Find pairs of names that differ only in the word left or right, in any case.

    Words are parted by blanks, hyphens and underscores. A name that speaks of both sides, or has
    several counterparts, has no pair.

    >>> by_name(["Left_arm", "right arm", "copyright", "left shoe"])
    ByName(pairs=(('Left_arm', 'right arm'),), alone=('left shoe',))
    """
    groups: dict[tuple[str | None, ...], dict[str, list[str]]] = {}
    alone = []
    for name in names:
        words = [word for word in re.split(r"[\s_-]+", seen_name(name).casefold()) if word]
        sides = [word for word in words if word in SIDES]
        if len(sides) == 1:
            key = tuple(None if word in SIDES else word for word in words)
            groups.setdefault(key, defaultdict(list))[sides[0]].append(name)
        elif sides:
            alone.append(name)
    pairs = []
    for group in groups.values():
        left, right = (group[side] for side in SIDES)
        if len(left) == len(right) == 1:
            pairs.append((left[0], right[0]))
        else:
            alone += left + right
    return ByName(tuple(pairs), tuple(alone))


def _known(pairs: Iterable[Pair], classes: Sequence[str]) -> Iterator[Pair]:
    """Yield pairs as the classes are spelt.

    Raises:
        ClassError: there is no such class.
    """
    own = {seen_name(name): name for name in classes}
    for left, right in pairs:
        missing = [name for name in (left, right) if seen_name(name) not in own]
        if missing:
            raise ClassError(
                f"data.flip_swaps: there is no class {' or '.join(missing)}"
                f"{near(missing, classes)}; the classes are {', '.join(classes)}. Name pairs of "
                "these, or leave it to names (auto)"
            )
        yield own[seen_name(left)], own[seen_name(right)]


def _exchanged(number: int, places: Mapping[str, int], pairs: Iterable[Pair]) -> list[int]:
    """Return 0, 1, ..., each number of a pair in the place of the other."""
    table = list(range(number))
    for left, right in pairs:
        table[places[left]], table[places[right]] = places[right], places[left]
    return table


def _notes(setting: Setting, found: ByName, pairs: Sequence[Pair]) -> Iterator[str]:
    used = {name for pair in pairs for name in pair}
    how = "auto, by their names" if setting == "auto" else "as given"
    if pairs:
        yield f"in mirrored images {_listed(pairs)} change places (data.flip_swaps: {how})"
    kept = [pair for pair in found.pairs if not used & {*pair}]
    if kept:
        yield f"in mirrored images {_listed(kept)} stay what they are (data.flip_swaps)"
    halves = [name for pair in found.pairs if used & {*pair} for name in pair]
    alone = [name for name in (*found.alone, *halves) if name not in used]
    if alone:
        yield (
            f"{counted(len(alone), 'class')} without one clear counterpart on the other side, "
            f"the same in mirrored images: {', '.join(alone)}; name pairs with data.flip_swaps, or "
            "mirror nothing (data.flip 0)"
        )


def _of_stuff(
    setting: Setting, pairs: Sequence[Pair], stuff: StuffMaps
) -> tuple[Int[Tensor, "m"] | None, tuple[str, ...]]:
    """Return the values of stuff maps in mirrored images, and what is to be said of them."""
    if not stuff.names:
        said = f"the stuff maps in {stuff.folder} have no list of names (*categories.json): their "
        return None, (said + "values are the same in mirrored images",) * bool(pairs)
    places = {seen_name(name): value for value, name in stuff.names.items()}
    if setting == "auto":
        found = by_name(places)
        own, alone = found.pairs, found.alone
    else:
        given = [(seen_name(left), seen_name(right)) for left, right in pairs]
        own = tuple(pair for pair in given if {*pair} <= places.keys())
        alone = tuple(n for pair in given if pair not in own for n in pair if n in places)
    notes = []
    if own:
        notes.append(f"so do {_listed(own)} of the stuff maps in {stuff.folder}")
    if alone:
        notes.append(
            f"{counted(len(alone), 'class')} of the stuff maps in {stuff.folder} without one clear "
            f"counterpart there, the same in mirrored images: {', '.join(alone)}"
        )
    if not own:
        return None, tuple(notes)
    table = _exchanged(stuff.num_classes, places, own)
    return torch.tensor(table, dtype=torch.int64), tuple(notes)


def _listed(pairs: Iterable[Pair]) -> str:
    return ", ".join(f"{left} and {right}" for left, right in pairs)
