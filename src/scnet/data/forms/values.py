"""Values that stand in a file as text, or in another type than COCO's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from scnet.data.forms.notes import RefusedError

Entry = dict[str, Any]

NUMBERS = {int, float}
EXACT = 2**53  # the largest float up to which whole numbers are not rounded to others
DIGITS = 18  # of a whole number that surely fits into 64 bit, as evaluators hold ids
_WHOLE = re.compile(rf"[+-]?[0-9]{{1,{DIGITS}}}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,300}\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")


def entries(content: Any, key: str) -> list[Entry]:
    """Return what is an object in a list of the file; none where there is no such list."""
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list):
        return []
    # The list itself where it can be: a copy of a million entries takes time.
    return found if types(found) <= {dict} else [e for e in found if isinstance(e, dict)]


def types(values: Iterable[Any]) -> set[type]:
    """Return the types of values."""
    return set(map(type, values))


def are_numbers(rows: Iterable[Any]) -> bool:
    """Return whether rows, such as boxes and polygons, hold numbers alone.

    Adding them up fails for all else but empty rows, and takes a third of the time of their types.
    """
    try:
        sum(map(sum, rows))
    except OverflowError:  # a whole number beyond a float is a number
        return True
    except TypeError:
        return False
    return True


def column(found: Sequence[Entry], key: str) -> list[Any]:
    """Return what stands under a key of each entry, None where there is no such key."""
    try:  # half the time of a loop
        return list(map(itemgetter(key), found))
    except KeyError:
        return [entry.get(key) for entry in found]


def whole(value: Any) -> int | None:
    """Return the whole number that a value means, as a number or as text; None if it means none."""
    if type(value) is int:
        return value
    if type(value) is float:
        return int(value) if value.is_integer() and abs(value) <= EXACT else None
    if type(value) is str and _WHOLE.fullmatch(text := value.strip()):
        return int(text)
    return None


def number(value: Any) -> int | float | None:
    """Return the number that text means, None if the value is no such text.

    Raises:
        RefusedError: it has a decimal comma, which may as well stand between two numbers.
    """
    if type(value) is not str:
        return None
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return int(text) if _WHOLE.fullmatch(text) else float(text)
    if _COMMA.fullmatch(text):
        raise RefusedError(
            f'a number is written as "{text:.20}", with a decimal comma; write numbers with a point'
        )
    return None
