"""What a data set holds to learn from, and what is left out of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from scnet.data.wording import counted, of_all

COMMONEST = 3  # reasons that are named
MANY = 0.1  # part of the annotations that is not learnt from, from which on that is worth a warning


class Contents(NamedTuple):
    """How many annotations of a data set are learnt from, and how many are not."""

    objects: int
    crowd: int  # regions, which are neither objects nor background
    faults: tuple[str, ...]  # of each annotation that is left out as broken

    @property
    def warnings(self) -> list[str]:
        """Return what looks as if it were not meant."""
        number, found = self.objects + self.crowd + len(self.faults), []
        if len(self.faults) >= MANY * max(1, number):
            broken = of_all(len(self.faults), number, "annotation", "is")
            found.append(f"{broken} left out as broken")
        if self.crowd >= MANY * max(1, number):
            crowds = of_all(self.crowd, number, "annotation", "is a crowd region")
            found.append(
                f"{crowds} (iscrowd 1), which nothing is learnt from; some tools write that for "
                "every brushed mask: --data.crowd objects takes them as objects"
            )
        return found

    def __str__(self) -> str:
        parts = [counted(self.objects, "object")]
        if self.crowd:
            parts.append(f"{counted(self.crowd, 'crowd region')} (iscrowd 1), not learnt from")
        if self.faults:
            parts.append(f"{len(self.faults):,} left out as broken ({commonest(self.faults)})")
        return "; ".join(parts)


def commonest(reasons: Iterable[str]) -> str:
    """Return the commonest reasons with their numbers; what differs in figures alone is one."""
    counts = Counter(map(alike, reasons))
    named = [f"{count:,} x {reason}" for reason, count in counts.most_common(COMMONEST)]
    left = len(counts) - COMMONEST
    more = f" and {counted(left, 'more reason')}" * (left > 0)
    return "; ".join(named) + more


def alike(reason: str) -> str:
    """Return a reason without its figures, in which those of one kind differ."""
    return re.sub(r"-?\d[\d.,]*", "..", reason)
