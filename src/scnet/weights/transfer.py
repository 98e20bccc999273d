"""A detector goes on from another: what fits is taken, all else starts anew, and both are said.

`transfer` is pure: the weights and configs of two detectors give new weights and a report. Which
layer feeds which, and what speaks against it, stands in `parts`; rows of classes in `class_rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from scnet.config import Config
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.class_rows import Rows, rows
from scnet.weights.parts import Pair, counterpart, is_read_on, objection, part_of, read_parts

State = Mapping[str, Tensor]
Layer = dict[str, Tensor]  # its tensors, by the last part of their names

ABSENT, ANEW, CLASSES = "not in the weights", "it reads what starts anew", "no class in common"


class Outcome(NamedTuple):
    """What becomes of a layer."""

    layer: str
    source: str  # the layer that it would be taken from
    numbers: int
    taken: int  # of these numbers
    why: str | None  # why none is taken


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """New weights, and where they come from."""

    state: dict[str, Tensor]
    outcomes: tuple[Outcome, ...]  # of every layer, in the order of the state
    left: tuple[str, ...]  # tensors of the source that nothing is taken of


def transfer(own: State, to: Config, given: State, of: Config) -> Transfer:
    """Return the weights of a detector, with all that another has for it.

    Args:
        own: the weights as the recipe has them at the start.
        to: config of that detector, with the names of its classes.
        given: the weights to go on from.
        of: their config.

    Raises:
        CheckpointError: the backbone is not the same network.
    """
    layers, theirs = _layers(own), _layers(given)
    state, outcomes, broken = dict(own), list[Outcome](), set[str]()
    for name, tensors in layers.items():
        pair = Pair(name, counterpart(name, to.model, of.model), to.model, of.model)
        matched, source = rows(name, to, of), theirs.get(pair.source)
        why = _why_not(pair, tensors, source, matched, broken)
        if why is None:
            assert source is not None
            state |= {
                f"{name}.{key}": _filled(x, source[key], matched) for key, x in tensors.items()
            }
        elif is_read_on(name):
            broken.add(part_of(name)[0])
        outcomes.append(_outcome(pair, tensors, matched, why))
    _require_backbone(outcomes)
    used = {outcome.source for outcome in outcomes if outcome.why is None}
    left = tuple(key for key in given if key.rpartition(".")[0] not in used)
    return Transfer(state=state, outcomes=tuple(outcomes), left=left)


def _layers(state: State) -> dict[str, Layer]:
    layers: dict[str, Layer] = {}
    for name, tensor in state.items():
        layer, _, key = name.rpartition(".")
        layers.setdefault(layer, {})[key] = tensor
    return layers


def _why_not(
    pair: Pair, own: Layer, source: Layer | None, matched: Rows | None, broken: set[str]
) -> str | None:
    """Return why a layer starts anew, if it does."""
    part, _ = part_of(pair.layer)
    if why := objection(pair):
        return why
    if source is None:
        return ABSENT
    if broken & {part, *read_parts(part, pair.to)}:
        return ANEW
    if own.keys() != source.keys():
        return f"{' and '.join(own)} instead of {' and '.join(source)}"
    if matched is not None and not matched.pairs:
        return CLASSES
    return next((why for key in own if (why := _other_shape(own[key], source[key], matched))), None)


def _other_shape(own: Tensor, theirs: Tensor, matched: Rows | None) -> str | None:
    fits = matched.fit(own, theirs) if matched else own.shape == theirs.shape
    return None if fits else f"shape {tuple(own.shape)} instead of {tuple(theirs.shape)}"


def _filled(own: Tensor, theirs: Tensor, matched: Rows | None) -> Tensor:
    return matched.fill(own, theirs) if matched else theirs.clone()


def _outcome(pair: Pair, own: Layer, matched: Rows | None, why: str | None) -> Outcome:
    numbers = sum(x.numel() for x in own.values())
    share = 1.0 if matched is None else len(matched.pairs) / matched.number
    return Outcome(pair.layer, pair.source, numbers, 0 if why else round(numbers * share), why)


def _require_backbone(outcomes: list[Outcome]) -> None:
    in_backbone = (o for o in outcomes if part_of(o.layer)[0] == "backbone")
    bad = [o for o in in_backbone if o.why and is_read_on(o.layer)]
    if bad:
        raise CheckpointError(
            f"its backbone is another network: {len(bad)} layers do not fit, first {bad[0].layer} "
            f"({bad[0].why})"
        )
