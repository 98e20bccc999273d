"""What is said of a detector that goes on from another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from scnet.config import Config
from scnet.data.categories import near
from scnet.weights.class_rows import common
from scnet.weights.parts import part_of
from scnet.weights.transfer import Outcome, Transfer

SHOWN = 8  # names that are written out


def report(done: Transfer, name: str, to: Config, of: Config) -> list[str]:
    """Return the lines: what is taken, what starts anew and why, what is left, and the classes.

    Args:
        name: what the weights are called that a detector goes on from.
        to: config of that detector.
        of: config of the weights.
    """
    taken, anew = ", ".join(_taken(done.outcomes)), "; ".join(_anew(done.outcomes))
    lines = [
        f"taken from {name} ({of.recipe}): {_share(done.outcomes)}: {taken}",
        f"starts anew: {anew or 'nothing'}",
        f"left of the weights: {', '.join(_left(done.left)) or 'nothing'}",
        f"classes: {_classes(to, of)}",
    ]
    return lines + _assumed(to, of)


def _share(outcomes: Iterable[Outcome]) -> str:
    outcomes = list(outcomes)
    taken, all_ = (sum(getattr(o, name) for o in outcomes) for name in ("taken", "numbers"))
    # Rounded down: 100 % are all of them.
    return f"{math.floor(1000 * taken / all_) / 10} % of the model's {all_ / 1e6:.1f} M numbers"


def _taken(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield the parts of which something is taken."""
    for part, layers in _by_part(outcomes).items():
        taken = [o for o in layers if o.why is None]
        if not taken:
            continue
        source, _ = part_of(taken[0].source)
        beside = "" if source == part else f" from {source}"
        whole = "" if len(taken) == len(layers) else f" ({_short(taken)})"
        yield f"{part}{beside}{whole}"


def _anew(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield the parts of which something starts anew, with the reasons; like parts together."""
    alike: dict[tuple[str, str], list[str]] = {}  # parts, by their layers and the reason
    for part, layers in _by_part(outcomes).items():
        reasons: dict[str, list[Outcome]] = {}
        for outcome in layers:
            if outcome.why is not None:
                reasons.setdefault(outcome.why, []).append(outcome)
        for why, anew in reasons.items():
            which = "" if len(anew) == len(layers) else f": {_short(anew)}"
            alike.setdefault((which, why), []).append(part)
    for (which, why), parts in alike.items():
        yield f"{', '.join(parts)}{which} ({why})"


def _left(names: Iterable[str]) -> Iterator[str]:
    """Yield the parts of the source of which tensors are left, with their number."""
    counts: dict[str, int] = {}
    for name in names:
        part, _ = part_of(name.rpartition(".")[0])
        counts[part] = counts.get(part, 0) + 1
    for part, count in counts.items():
        yield f"{part} ({count} tensor{'s' if count > 1 else ''})"


def _classes(to: Config, of: Config) -> str:
    count = f"{of.model.num_classes} class{'es' if of.model.num_classes > 1 else ''}"
    if not of.classes:
        return (
            f"the weights do not name their {count}, so none is known; "
            "`scnet convert --classes` names those of a file of MMDetection"
        )
    known = common(to, of)
    new = [name for name in to.classes if name not in known]
    hint = near(new, [name for name in of.classes if name not in known.values()])
    if not known:
        return f"none of {_listed(new)} is among the {count} of the weights{hint}"
    lines = [f"{len(known)} of {len(to.classes)} known to the weights: {_listed(list(known))}"]
    if respelt := [f"{own} is {theirs} there" for own, theirs in known.items() if own != theirs]:
        lines.append(f"spelt otherwise: {_listed(respelt)}")
    if new:
        lines.append(f"new: {_listed(new)}{hint}")
    if others := len(of.classes) - len(known):
        lines.append(f"{others} of the weights left")
    return "; ".join(lines)


def _assumed(to: Config, of: Config) -> list[str]:
    own, theirs = to.model.semantic, of.model.semantic
    if own is None or theirs is None or own.num_classes is None:
        return []
    if own.num_classes != theirs.num_classes:
        return []
    return [f"assumed: the {own.num_classes} classes of the stuff maps are those of the weights"]


def _by_part(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    parts: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        parts.setdefault(part_of(outcome.layer)[0], []).append(outcome)
    return parts


def _short(outcomes: Iterable[Outcome]) -> str:
    """Return the layers of a part by the first word of their names, each once.

    Offsets of deformable convolutions by the last: they are in many layers, and missing in all.
    """
    names = (part_of(o.layer)[1].removeprefix("net.") for o in outcomes)
    shown = (
        name.rpartition(".")[2] if name.endswith(".conv_offset") else name.partition(".")[0]
        for name in names
    )
    return ", ".join(dict.fromkeys(shown))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" * (len(names) > SHOWN))
