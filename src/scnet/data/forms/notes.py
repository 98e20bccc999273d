"""What was taken for what, counted."""

from __future__ import annotations

from collections import Counter


class RefusedError(ValueError):
    """A form that is not read: says which, and what to do."""


class Notes:
    """Sentences with the number of entries that each is true of."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, noun: str, sentence: str, number: int = 1) -> None:
        """Count entries of a kind that a sentence is true of."""
        if number:
            self._counts[noun, sentence] += number

    def sentences(self) -> list[str]:
        """Return the sentences, in the order in which they were first true."""
        return [f"{counted(n, noun)}: {text}" for (noun, text), n in self._counts.items()]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1200, "category")
    '1,200 categories'
    """
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"
