"""What was taken for what, counted."""

from __future__ import annotations

from collections import Counter

from scnet.data.wording import counted


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
