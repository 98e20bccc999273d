"""Which layer of one detector goes on in which of another, and what speaks against it.

A layer is taken where it does there what it did here: reads the same maps, in the same shape, and
means the same by what it says. The rules:

    backbone, pyramid, RPN      by name. An RPN's last layers speak of its anchors. Offsets of
                                deformable convolutions may be missing: they begin with 0
    semantic branch, context    by name, where both have them
    box stages                  one by one where both have as many; else each from that of its
                                place or, behind those, from the last: all of them read the same
                                RoI features and name the same classes, of ever better boxes.
                                Their deltas are taken where they have the same scale
                                None goes on with other numbers of convolutions or layers
    mask branches               one by one where both have as many; else from that which is fed by
                                the same stage, or the last, which learnt from the best boxes.
                                Plain convolutions are no blocks with a skip, nor the other way
                                round, and what reads 12 convolutions cannot read 4
    feature relays              as their mask branch
    mask scoring                by name, where both have it with as many convolutions and layers

What joins by a sum (semantic map, context, relay, flow) may be there or not: the others remain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

from scnet.config import ModelConfig, Norm, RPNConfig

Why = str | None  # what speaks against a layer

_NUMBERED = re.compile(r"roi_heads\.(stages|masks\.heads|masks\.relays)\.(\d+)\.(.+)")
_NAMES = (
    ("backbone.", "backbone"),
    ("fpn.", "pyramid"),
    ("rpn.", "RPN"),
    ("branches.semantic.", "semantic branch"),
    ("branches.context.", "global context"),
    ("roi_heads.masks.scoring.", "mask scoring"),
)
_NUMBERED_NAMES = {
    "stages": "box stage",
    "masks.heads": "mask branch",
    "masks.relays": "feature relay",
}
# What no other layer of its part reads, or reads as if it were not there before it has learnt.
_ENDS = re.compile(r"(cls|reg|classifier|scoring\.iou|flow\.conv|embedding\.conv|conv_offset)$")
ANCHORS = tuple(f.name for f in fields(RPNConfig) if f.name.startswith("anchor_"))


class Pair(NamedTuple):
    """A layer, and the one that it would go on from."""

    layer: str
    source: str
    to: ModelConfig
    of: ModelConfig


def part_of(layer: str) -> tuple[str, str]:
    """Return what people call the part that a layer belongs to, and the layer's name in it."""
    if match := _NUMBERED.fullmatch(layer):
        kind, number, rest = match.groups()
        return f"{_NUMBERED_NAMES[kind]} {int(number) + 1}", rest
    for start, name in _NAMES:
        if layer.startswith(start):
            return name, layer.removeprefix(start)
    part, _, rest = layer.partition(".")
    return part, rest


def counterpart(layer: str, to: ModelConfig, of: ModelConfig) -> str:
    """Return the name of the layer that goes on in a layer; there may be none of that name."""
    match = _NUMBERED.fullmatch(layer)
    if match is None:
        return layer
    kind, number, rest = match[1], int(match[2]), match[3]
    return f"roi_heads.{kind}.{_place(kind, number, to, of)}.{rest}"


def _place(kind: str, number: int, to: ModelConfig, of: ModelConfig) -> int:
    if kind == "stages":
        return min(number, len(of.box.stages) - 1)
    if len(to.mask.fed_by) == len(of.mask.fed_by):
        return number
    alike = [i for i, stage in enumerate(of.mask.fed_by) if stage == to.mask.fed_by[number]]
    return alike[0] if alike else len(of.mask.fed_by) - 1


def objection(pair: Pair) -> Why:
    """Return why a layer cannot go on in the other, whatever their shapes, if anything does."""
    found = (rule(pair) for pattern, rule in _OBJECTIONS if re.fullmatch(pattern, pair.layer))
    return next((why for why in found if why), None)


def is_read_on(layer: str) -> bool:
    """Return whether other layers of its part read what a layer gives."""
    return not _ENDS.search(layer)


def read_parts(part: str, to: ModelConfig) -> Sequence[str]:
    """Return the parts without which another means nothing: what they give is all that it reads."""
    kind, _, number = part.rpartition(" ")
    if kind == _NUMBERED_NAMES["masks.relays"]:
        return (f"box stage {to.mask.fed_by[int(number) - 1] + 1}",)
    return () if part in ("backbone", "pyramid") else ("pyramid",)


def _numbers(pair: Pair) -> tuple[int, int]:
    first, second = _NUMBERED.fullmatch(pair.layer), _NUMBERED.fullmatch(pair.source)
    assert first is not None
    assert second is not None
    return int(first[2]), int(second[2])


def _pyramid(pair: Pair) -> Why:
    own, other = pair.to.pyramid, pair.of.pyramid
    if own.kind != other.kind:
        return f"{own.kind} instead of {other.kind}"
    if replace(own, norm=None) != replace(other, norm=None):
        return "relu behind its convolutions in one of them alone"
    return _other_norm(pair.to.norms.pyramid, pair.of.norms.pyramid)


def _offsets(pair: Pair) -> Why:
    own = pair.to.backbone.deformable
    if own is None or pair.of.backbone.deformable is not None:
        return None
    half = ", and its modulation with half of each plain convolution" if own.modulated else ""
    return f"not in the weights: begins with offsets of 0{half}"


def _norm_of_scene(pair: Pair) -> Why:
    return _other_norm(pair.to.norm, pair.of.norm)


def _norm_of_masks(pair: Pair) -> Why:
    return _other_norm(pair.to.norms.mask, pair.of.norms.mask)


def as_weights(norm: Norm) -> Norm:
    """Return one name for all norms of the same weights, as the kinds of batch norm have."""
    return "batch" if norm in ("batch", "sync", "frozen") else norm


def _other_norm(own: Norm, other: Norm) -> Why:
    alike = as_weights(own) == as_weights(other)
    return None if alike else f"norm {own} instead of {other}"


def _rpn_convs(pair: Pair) -> Why:
    own, other = pair.to.rpn.convs, pair.of.rpn.convs
    return None if own == other else f"convolutions: {own} instead of {other}"


def _box_head(pair: Pair) -> Why:
    own, other = pair.to.box, pair.of.box
    if own.convs != other.convs:
        return f"convolutions: {own.convs} instead of {other.convs}"
    if own.layers != other.layers:
        return f"fully connected layers: {own.layers} instead of {other.layers}"
    return _other_norm(pair.to.norms.box, pair.of.norms.box) if own.convs else None


def _anchors(pair: Pair) -> Why:
    other = [a for a in ANCHORS if getattr(pair.to.rpn, a) != getattr(pair.of.rpn, a)]
    return f"other anchors: {', '.join(f'model.rpn.{name}' for name in other)}" if other else None


def _deltas(pair: Pair) -> Why:
    own, other = _numbers(pair)
    if pair.to.box.stages[own].delta_std != pair.of.box.stages[other].delta_std:
        return "its deltas have another scale"
    if pair.to.box.class_agnostic and not pair.of.box.class_agnostic and pair.of.num_classes > 1:
        return "one box for all classes instead of one for each"
    return None


def _kind_of_convs(pair: Pair) -> Why:
    return _instead(pair) if pair.to.mask.residual != pair.of.mask.residual else None


def _all_convs(pair: Pair) -> Why:
    own, other = pair.to.mask, pair.of.mask
    same = (own.residual, own.convs) == (other.residual, other.convs)
    return None if same else _instead(pair)


def _instead(pair: Pair) -> str:
    own, other = (
        f"{mask.convs} {'with skips' if mask.residual else 'plain'}"
        for mask in (pair.to.mask, pair.of.mask)
    )
    return f"convolutions: {own} instead of {other}"


def _depth_of_scoring(pair: Pair) -> Why:
    own, other = pair.to.mask.scoring, pair.of.mask.scoring
    if own is None or other is None:
        return None
    if own.convs != other.convs:
        return f"convolutions: {own.convs} instead of {other.convs}"
    if own.layers != other.layers:
        return f"fully connected layers: {own.layers} instead of {other.layers}"
    return None


def _semantic_blocks(pair: Pair) -> Why:
    own, other = pair.to.semantic, pair.of.semantic
    if own is None or other is None or own.residual == other.residual:
        return None
    kinds = ("residual blocks", "plain convolutions")
    return " instead of ".join(kinds if own.residual else reversed(kinds))


_OBJECTIONS: tuple[tuple[str, Callable[[Pair], Why]], ...] = (
    (r"backbone\..*\.conv_offset", _offsets),
    (r"fpn\..*", _pyramid),
    (r"branches\.\w+\.convs\..*", _norm_of_scene),
    (r"roi_heads\.masks\.heads\.\d+\.convs\..*", _norm_of_masks),
    (r"rpn\..*", _rpn_convs),
    (r"roi_heads\.stages\.\d+\..*", _box_head),
    (r"rpn\.(cls|reg)", _anchors),
    (r"branches\.semantic\.(convs\..*|embedding\..*|classifier)", _semantic_blocks),
    (r"roi_heads\.stages\.\d+\.reg", _deltas),
    (r"roi_heads\.masks\.heads\.\d+\.convs\..*", _kind_of_convs),
    (r"roi_heads\.masks\.heads\.\d+\.(upsample|classifier)", _all_convs),
    (r"roi_heads\.masks\.scoring\..*", _depth_of_scoring),
)
