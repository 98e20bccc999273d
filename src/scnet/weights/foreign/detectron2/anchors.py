"""Anchors of detectron2: their sizes and shapes, from a config or from those that a file stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from scnet.model.rpn import STRIDES
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign.anchors import Anchors

SIZES, RATIOS = "MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"
STORED = "proposal_generator.anchor_generator.cell_anchors."


USUAL = Anchors(tuple((8.0 * stride,) for stride in STRIDES), (0.5, 1.0, 2.0))


def of_config(values: Mapping[str, Any]) -> Anchors:
    """Return the anchors of a config; what it does not say is as usual.

    Raises:
        CheckpointError: they have no counterpart here.
    """
    sizes = _levels(SIZES, values[SIZES]) if SIZES in values else USUAL.sizes
    ratios = _levels(RATIOS, values[RATIOS]) if RATIOS in values else (USUAL.ratios,)
    if len(set(ratios)) > 1:
        raise CheckpointError(
            f"its config has {RATIOS} = {values[RATIOS]}; scnet has the same on all levels"
        )
    return Anchors(sizes, ratios[0])


def of_file(tensors: Mapping[str, Tensor]) -> Anchors | None:
    """Return the anchors that files before May 2021 store by detectron2's names; None without any.

    Raises:
        CheckpointError: they are not all shapes of all sizes.
    """
    boxes = [tensors[key].double() for key in sorted(tensors) if key.startswith(STORED)]
    if not boxes:
        return None
    if len(boxes) != len(STRIDES) or any(x.ndim != 2 or x.shape[1:] != (4,) for x in boxes):
        raise CheckpointError(f"it stores anchors of {len(boxes)} levels; scnet has {len(STRIDES)}")
    sides = [x[:, 2:] - x[:, :2] for x in boxes]  # width, height
    sizes = [_rounded(side.prod(1).sqrt()) for side in sides]
    ratios = [_rounded(side[:, 1] / side[:, 0]) for side in sides]
    own = tuple(tuple(dict.fromkeys(level)) for level in sizes)
    shapes = tuple(dict.fromkeys(ratios[0]))
    for level, found, ratio in zip(own, sizes, ratios, strict=True):
        if found != [s for s in level for _ in shapes] or ratio != [*shapes] * len(level):
            raise CheckpointError("it stores anchors that are not all shapes of all sizes")
    return Anchors(own, shapes)


def _rounded(values: Tensor) -> list[float]:
    """Return numbers without what float32 added to them."""
    return [float(f"{value:.5g}") for value in values.tolist()]


def _levels(name: str, value: Any) -> tuple[tuple[float, ...], ...]:
    """Return the numbers of each level; one list stands for all, and one of lists for each."""
    levels = value if isinstance(value, list) else []
    if levels and not any(isinstance(level, list) for level in levels):
        levels = [[level] for level in levels] if name == SIZES else [levels]
    right = all(
        isinstance(level, list) and level and all(type(n) in (int, float) for n in level)
        for level in levels
    )
    if not right or len(levels) not in (1, len(STRIDES)):
        raise CheckpointError(
            f"its config has {name} = {value}; expected one list, or one for each of "
            f"{len(STRIDES)} levels"
        )
    numbers = tuple(tuple(float(n) for n in level) for level in levels)
    return numbers * len(STRIDES) if len(numbers) == 1 else numbers
