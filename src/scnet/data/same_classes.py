"""Classes of a file that are a model's under other names, as an evaluation may take them.

A training takes none: its splits have to call a class the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scnet.data.categories import ClassError, listed, near, respell, roots
from scnet.data.classes import seen_name

Json = dict[str, Any]
OF_MODEL = "the model"  # where a class is from
WAY_OUT = (
    "if some are the same under other names, name them with --same-class DATA=MODEL; else use data "
    "with the same classes, or train a model on these"
)


def take_same(content: Json, wanted: Sequence[str], same: Mapping[str, str]) -> dict[str, str]:
    """Give classes of a file the names that they have in a model; return which got which.

    Args:
        content: of the file, its categories sound; changed in place.
        wanted: classes of the model.
        same: their names by those in the file. With none, the only class of the file is taken for
            the only one of the model.

    Raises:
        ClassError: the file lacks a class of `same`, or the model does; or they have no class in
            common.
    """
    categories = content["categories"]
    respell(categories, wanted)
    taken = _named(categories, wanted, same) if same else only_class(content, wanted)
    for category in categories:
        category["name"] = taken.get(category["name"], category["name"])
    names = [category["name"] for category in categories]
    if not set(wanted) & set(names):
        raise ClassError(
            f"none of its classes ({listed(names)}) is one of the model's ({listed(wanted)})"
            f"{near(wanted, names)}; {WAY_OUT}"
        )
    return taken


def only_class(content: Json, wanted: Sequence[str]) -> dict[str, str]:
    """Return the model's only class by the file's only one, which has another name; else nothing.

    Supercategories and backgrounds without objects do not count, so that a supercategory of the
    model's name does not hide the class below it.
    """
    own = {category["name"] for category in content["categories"]} - roots(content)
    if len(wanted) > 1 or len(own) > 1 or own == set(wanted):
        return {}
    return {own.pop(): wanted[0]}


def said_of(taken: Mapping[str, str]) -> str:
    """Return which classes of a file were taken for which of a model, as a part of a sentence."""
    return ", ".join(f"{name} of the data is taken for {own}" for name, own in taken.items())


def note_of(taken: Mapping[str, str], source: str) -> str:
    """Return what to say of an only class that was taken for the only one of a source."""
    return (
        f"class {said_of(taken)} of {source}, as neither has another; nothing else says that they "
        "are the same"
    )


def _named(
    categories: Sequence[Json], wanted: Sequence[str], same: Mapping[str, str]
) -> dict[str, str]:
    """Return `same` in the spelling of the file and the model.

    Raises:
        ClassError: one of them has no such class, or both have it by one name.
    """
    names = {seen_name(category["name"]): category["name"] for category in categories}
    own = {seen_name(name): name for name in wanted}
    taken = {}
    for one, other in same.items():
        for name, known, whose in ((one, names, "the file"), (other, own, "the model")):
            if seen_name(name) not in known:
                has = list(known.values())
                hint = near([name], has)
                raise ClassError(
                    f"{one}={other}: {whose} has no class {name}{hint}; it has {listed(has)}"
                )
        if seen_name(one) == seen_name(other):
            raise ClassError(f"{one}={other}: has no effect, as both names are the same")
        taken[names[seen_name(one)]] = own[seen_name(other)]
    return taken
