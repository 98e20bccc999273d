"""The classes of an annotation file, matched by name with those that are wanted."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from scnet.data.classes import folded_name, seen_name
from scnet.data.screening import Sheet
from scnet.data.wording import counted, of_all

Json = dict[str, Any]

LACKING = "add examples to train on, or remove it: evaluation leaves it out"
BACKGROUND = {"background", "bg"}  # what tools write for what is no object, plain
FEW = 2  # crowd regions that say nothing about a class
CROWD_ACTION = "take them as objects with --data.crowd objects, or ignore them with ignore"
ROOT = "a supercategory or background without objects"
SHOWN = 5  # names that are written out


class ClassError(ValueError):
    """Classes that do not fit together."""


def look_alikes(names: Iterable[str]) -> list[str]:
    """Return which classes differ in case, blanks, hyphens and underscores alone."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        alike[folded_name(name)].append(name)
    found = [" and ".join(group) for plain, group in alike.items() if plain and len(group) > 1]
    return [f"classes differ in spelling alone: {listed(found)}"] if found else []


def keep_classes(
    content: Json, wanted: Sequence[str] | None, chosen: Sequence[str] = ()
) -> list[str]:
    """Let a file have the classes that are wanted, in their order; return what was done.

    Categories of one name become one. Annotations of classes that are not wanted go.

    Args:
        content: of the file, its categories sound; changed in place.
        wanted: classes of a trained model. Those that the file lacks are added without objects.
        chosen: where there is no model yet: the classes to learn, in this order; none takes all but
            a supercategory without objects.

    Raises:
        ClassError: the file has none of the classes of the model, or lacks one that is chosen.
    """
    if wanted is not None:
        respell(content["categories"], wanted)
    notes = _join(content)
    chosen = [seen_name(name) for name in chosen]
    names = [category["name"] for category in content["categories"]]
    if wanted is None:
        missing = [name for name in chosen if name not in names]
        if missing:
            raise ClassError(
                f"data.classes: there is no class {listed(missing)}{near(missing, names)}; the "
                f"file has {listed(names)}"
            )
        above = roots(content)
        wanted = tuple(dict.fromkeys(chosen)) or [n for n in names if n not in above]
        why = "not in data.classes" if chosen else ROOT
        notes += look_alikes(wanted)
    else:
        why = "not a class of the model"
    if not set(wanted) & set(names):
        raise ClassError(
            f"none of its classes ({listed(names)}) is one of the model's ({listed(wanted)})"
            f"{near(wanted, names)}; use data with the same classes, or train a model on these"
        )
    return notes + _select(content, wanted, why)


def roots(content: Json) -> set[str]:
    """Return classes without objects: the supercategory of others, and the background.

    A training leaves them out, unless it would have no class then.
    """
    categories = content["categories"]
    above = {
        seen_name(c["supercategory"])
        for c in categories
        if isinstance(c.get("supercategory"), str) and seen_name(c["supercategory"]) != c["name"]
    }
    above |= {c["name"] for c in categories if _plain(c["name"]) in BACKGROUND}
    found = {c["id"]: c["name"] for c in categories if c["name"] in above}
    if len(found) == len(categories):
        return set()
    used = _counts(content)
    return {name for number, name in found.items() if not used[number]}


def respell(categories: Iterable[Json], wanted: Sequence[str]) -> None:
    """Give categories a model's own spelling of names that look the same."""
    own = {seen_name(name): name for name in wanted}
    for category in categories:
        name = category["name"]
        category["name"] = name if name in wanted else own.get(seen_name(name), name)


def differences(
    first: Mapping[str, int], other: Mapping[str, int], split: str
) -> Iterator[tuple[str, str]]:
    """Yield how the classes of a file differ from those of the training split, and what to do.

    Args:
        first: objects of each class to train on.
        other: objects of each class of the other file.
        split: what the training split is called.
    """
    for name in [name for name in other if name not in first]:
        said = f"class {name} ({counted(other[name], 'object')}) is not in the {split} split"
        match = closest(name, [n for n in first if n not in other])
        hint = f"; did you mean {match}?" if match else ""
        yield said + hint, "give it the same name in all files" if match else LACKING
    missing = [n for n in first if n not in other and not closest(n, set(other) - set(first))]
    if missing:
        number = counted(len(missing), "class")
        said = f"{number} of the {split} split not listed here: {listed(missing)}"
        yield said, "nothing to do if there are no such objects here: their AP is not defined"


def crowded(sheet: Sheet, sound: Bool[np.ndarray, "n"], names: Sequence[str]) -> Iterator[str]:
    """Yield classes whose annotations are mostly crowd regions, which no class of COCO's is."""
    usable = sound & (sheet.label >= 0)
    crowds = np.bincount(sheet.label[usable & sheet.crowd], minlength=len(names))
    objects = np.bincount(sheet.label[usable & ~sheet.crowd], minlength=len(names))
    for name, crowd, single in zip(names, crowds.tolist(), objects.tolist(), strict=True):
        if mostly_crowd(crowd, single):
            yield f"{crowd_message(name, crowd, single)}; {CROWD_ACTION}"


def mostly_crowd(crowd: int, objects: int) -> bool:
    """Return whether so many crowd regions beside so many objects are hardly meant."""
    return crowd > max(objects, FEW)


def crowd_message(name: str, crowd: int, objects: int) -> str:
    """Return what is wrong with a class of crowd regions."""
    return (
        f"{of_all(crowd, crowd + objects, 'annotation')} of class {name} are crowd regions "
        "(iscrowd 1), which nothing is learnt from; some tools write that for every brushed mask"
    )


def near(missing: Iterable[str], names: Sequence[str]) -> str:
    """Return a hint at names that differ from missing ones in spelling alone; empty without."""
    found = [f"{match} for {name}" for name in missing if (match := closest(name, names))]
    return f" (did you mean {listed(found)}?)" if found else ""


def closest(name: str, names: Iterable[str]) -> str | None:
    """Return another name that may be meant: the same but for case, blanks, signs or a letter."""
    plain = {_plain(other): other for other in names if other != name}
    match = difflib.get_close_matches(_plain(name), plain, 1, 0.85)
    return plain[match[0]] if match else None


def listed(names: Sequence[str]) -> str:
    """Return names as a list, shortened."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).casefold()


def _join(content: Json) -> list[str]:
    """Let categories of one name be one, that of the first id."""
    first: dict[str, int] = {}
    other: dict[int, int] = {}
    for category in content["categories"]:
        kept = first.setdefault(category["name"], category["id"])
        if kept != category["id"]:
            other[category["id"]] = kept
    if not other:
        return []
    for annotation in content["annotations"]:
        number = annotation.get("category_id")
        if isinstance(number, int):
            annotation["category_id"] = other.get(number, number)
    content["categories"] = [c for c in content["categories"] if c["id"] not in other]
    joined = {c["name"] for c in content["categories"] if c["id"] in other.values()}
    return [f"categories of one name are one class: {listed(sorted(joined))}"]


def _counts(content: Json) -> Counter[Any]:
    numbers = (annotation.get("category_id") for annotation in content["annotations"])
    return Counter(number for number in numbers if isinstance(number, int))


def _select(content: Json, wanted: Sequence[str], why: str) -> list[str]:
    by_name = {category["name"]: category for category in content["categories"]}
    if list(by_name) == list(wanted):
        return []
    notes = []
    unknown = {c["id"]: n for n, c in by_name.items() if n not in wanted}
    if unknown:
        notes.append(_left_out(content, unknown, wanted, why))
        content["annotations"] = [
            a for a in content["annotations"] if not _is_of(a.get("category_id"), unknown)
        ]
    missing = [name for name in wanted if name not in by_name]
    if missing:
        notes.append(f"{counted(len(missing), 'class')} without objects here: {listed(missing)}")
    unused = max(category["id"] for category in by_name.values()) + 1
    added = {name: {"id": unused + i, "name": name} for i, name in enumerate(missing)}
    content["categories"] = [(by_name | added)[name] for name in wanted]
    return notes


def _left_out(content: Json, unknown: dict[int, str], wanted: Sequence[str], why: str) -> str:
    used = _counts(content)
    named = listed(
        [f"{name} ({counted(used[number], 'annotation')})" for number, name in unknown.items()]
    )
    hint = near(unknown.values(), wanted)
    return f"{counted(len(unknown), 'class')} left out ({why}): {named}{hint}"


def _is_of(number: Any, ids: dict[int, str]) -> bool:
    return isinstance(number, int) and number in ids
