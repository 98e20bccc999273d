"""What the value of an option may be; each function reads one from its text."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    return _number(int, text, lambda value: value >= 1, "a whole number, at least 1")


def count(text: str) -> int:
    """Read a whole number from 0 on."""
    return _number(int, text, lambda value: value >= 0, "a whole number, 0 or more")


def factor(text: str) -> float:
    """Read a number above 0."""
    return _number(float, text, lambda value: 0 < value < math.inf, "a number above 0")


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    return _number(float, text, lambda value: 0 <= value <= 1, "between 0 and 1")


def iou(text: str) -> float:
    """Read an IoU; at 0 everything would overlap."""
    return _number(float, text, lambda value: 0 < value <= 1, "above 0 and up to 1")


def share_or_best(text: str) -> float | str:
    """Read a number from 0 to 1, or the word "best"."""
    if text == "best":
        return text
    return _number(float, text, lambda value: 0 <= value <= 1, "between 0 and 1, or 'best'")


def name_pair(text: str) -> tuple[str, str]:
    """Read two names, such as cell=nucleus."""
    first, _, second = map(str.strip, text.partition("="))
    if not first or not second:
        raise argparse.ArgumentTypeError(f"{text!r}; must be two names, such as cell=nucleus")
    return first, second


def size(text: str) -> tuple[int, int]:
    """Read height and width in pixels, such as 800x1333."""
    height, _, width = text.partition("x")
    try:
        return positive(height), positive(width)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r}; must be height x width, such as 800x1333"
        ) from None


def _number(kind: type[Number], text: str, allowed: Callable[[Number], bool], what: str) -> Number:
    try:
        value = kind(text)
        if allowed(value):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}; must be {what}")
