"""Ids of images, categories and annotations that are no whole numbers.

Ids that mean whole numbers, each another, become these numbers. Where that cannot be, such as with
names, all that are text are numbered, in the order of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scnet.data.forms.notes import Notes
from scnet.data.forms.survey import Survey
from scnet.data.forms.values import Entry, column, types, whole

ORIGINAL = "original_id"  # the key under which a numbered image keeps the id that it had
Key = tuple[bool, Any]  # whether an id is text, and the id

_AS_NUMBER = "the id is text or has a decimal point, taken as the whole number that it means"


def take_ids(
    images: Sequence[Entry],
    annotations: Sequence[Entry],
    categories: Sequence[Entry],
    seen: Survey,
    notes: Notes,
) -> None:
    """Give images, categories and annotations whole numbers for ids, and what refers to them."""
    for found, noun, reference in (
        (images, "image", "image_id"),
        (categories, "category", "category_id"),
    ):
        own, given = types(column(found, "id")), seen.kinds[reference]
        if not {str, float}.isdisjoint(own | given):
            table = _numbered(found, noun, notes)
            _refer(annotations, reference, table, notes)
    if not {str, float}.isdisjoint(seen.kinds["id"]):
        _numbered(annotations, "annotation", notes)


def _numbered(found: Sequence[Entry], noun: str, notes: Notes) -> Mapping[Key, int]:
    """Make ids whole numbers where that is possible; return the number of each id there was."""
    olds = {key: None for entry in found if (key := _key(entry.get("id")))}
    meant = {key: number for key in olds if (number := whole(key[1])) is not None}
    texts = [key for key in olds if key[0]]
    clash = len(set(meant.values())) < len(meant)
    if any(key not in meant for key in texts) or (clash and len(texts) == len(olds)):
        taken = [number for key, number in meant.items() if not key[0]]
        first = max([0, *taken]) + 1
        meant = {key: n for key, n in meant.items() if not key[0]}
        meant |= {key: first + place for place, key in enumerate(texts)}
        said = (
            f'the id is text, numbered from {first} in the order of the file ("{texts[0][1]:.40}"'
        )
        said += f" is {first})"
    else:
        said = _AS_NUMBER
    _renumber(found, noun, meant, said, notes)
    return meant


def _renumber(
    found: Sequence[Entry], noun: str, meant: Mapping[Key, int], said: str, notes: Notes
) -> None:
    for entry in found:
        old = entry.get("id")
        key = _key(old)
        if key is not None and key in meant and type(old) is not int:
            entry["id"] = meant[key]
            if said != _AS_NUMBER:
                entry[ORIGINAL] = old
            notes.add(noun, said if type(old) is str else _AS_NUMBER)


def _refer(
    annotations: Sequence[Entry], reference: str, table: Mapping[Key, int], notes: Notes
) -> None:
    """Let annotations refer to the numbers; an id that is not there becomes what it means."""
    means = [(whole(key[1]), new) for key, new in table.items()]
    meant = dict(pair for pair, n in Counter(means).items() if n == 1)
    given = set(table.values())
    said = f"{reference} is text or has a decimal point, taken as the id that it means"
    for annotation in annotations:
        old = annotation.get(reference)
        key, number = _key(old), whole(old)
        new = table.get(key) if key else None
        if new is None and number is not None and number not in meant and number in given:
            # The number of no image may be one that another image was given.
            annotation[reference] = f"{number}"
            continue
        if new is None:
            new = meant.get(number, number)
        if new is not None and (type(old) is not int or new != old):
            annotation[reference] = new
            notes.add("annotation", said)


def _key(value: Any) -> Key | None:
    """Return what an id is known by, None where it is neither text nor a number."""
    return (type(value) is str, value) if type(value) in (str, int, float) else None
