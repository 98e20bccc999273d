"""Tables of how names of parameters begin in another library, and how they do here."""

from __future__ import annotations

import re

Table = tuple[tuple[re.Pattern[str], str], ...]

_SHIFTED = re.compile(r"<(\w+)([+-]\d+)>")


def table(*entries: tuple[str, str]) -> Table:
    """Return a table: a pattern of how theirs begin and what ours is, with its groups in it.

    Where libraries count from different numbers, `<2+1>` is group 2 and one more; groups may have
    names.
    """
    return tuple((re.compile(theirs), ours) for theirs, ours in entries)


def translated(names: Table, key: str) -> str | None:
    r"""Return a name with its beginning replaced by the first entry that fits; None for none.

    >>> translated(table((r"res(\d)\.", "layer<1-1>.")), "res4.0.bias")
    'layer3.0.bias'
    """
    for theirs, ours in names:
        found = theirs.match(key)
        if found is not None:
            return _begun(found, ours) + key[found.end() :]
    return None


def _begun(found: re.Match[str], ours: str) -> str:
    """Return how a name begins here."""

    def shifted(place: re.Match[str]) -> str:
        group = int(place[1]) if place[1].isdigit() else place[1]
        return str(int(found[group]) + int(place[2]))

    return _SHIFTED.sub(shifted, found.expand(ours))
