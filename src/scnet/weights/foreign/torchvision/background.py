"""The background, which is torchvision's first class and our last, and which other rows are kept.

Its COCO models have a row for each of COCO's category ids, 1 to 90, of which ten belong to no
class. Those rows stay behind. Nothing ever taught them anything but "not this", so their share of
the scores should be next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from scnet.data.classes import coco_category_ids, coco_classes
from scnet.weights.checkpoint import CheckpointError

_CLS, _REG = "roi_heads.stages.0.cls", "roi_heads.stages.0.reg"
_MASK = "roi_heads.masks.heads.0.classifier"
_COCO_ROWS = 91


class Kept(NamedTuple):
    """Which rows of torchvision's become our classes."""

    rows: tuple[int, ...]  # by our label
    names: tuple[str, ...]  # of these classes, where their number tells them
    unread: tuple[str, ...]  # what to say of rows that stay behind
    assumed: tuple[str, ...]


def choose(number: int, wanted: Sequence[str]) -> Kept:
    """Return the rows to take of so many.

    Args:
        number: of rows, with that of the background.
        wanted: class names that are given.
    """
    names = coco_classes()
    if number != _COCO_ROWS or len(wanted) == number - 1:
        return Kept(tuple(range(1, number)), (), (), ())
    ids = coco_category_ids(names)
    left = ", ".join(str(row) for row in range(1, number) if row not in ids)
    unread = f"class rows {left}: COCO has no class of these ids, and torchvision names them N/A"
    told = f"its {number} class rows are COCO's category ids; else give all {number - 1} names"
    return Kept(ids, names, (unread,), () if wanted else (told,))


def number(ours: Mapping[str, Tensor]) -> int:
    """Return how many class rows there are, with that of the background.

    Raises:
        CheckpointError: a layer is missing or has other rows than the others.
    """
    found = {}
    for layer in (_CLS, _REG, _MASK):
        for name in (f"{layer}.weight", f"{layer}.bias"):
            if name not in ours or not ours[name].ndim:
                raise CheckpointError(f"the parameter that scnet calls {name} is missing")
            found[name] = len(ours[name])
    rows = found[f"{_CLS}.weight"]
    told = {name: n for name, n in found.items() if n != (4 * rows if _REG in name else rows)}
    if told or rows < 2:
        text = ", ".join(f"{n} in {name}" for name, n in found.items())
        raise CheckpointError(
            "it has not a row in each of its last layers, four for boxes, for the background and "
            f"each of its classes: {text}"
        )
    return rows


def take(ours: Mapping[str, Tensor], kept: Sequence[int]) -> dict[str, Tensor]:
    """Return parameters with the rows of our classes, and the background behind them."""
    rows = torch.tensor(kept)
    changed = dict(ours)
    for kind in ("weight", "bias"):
        scores, boxes, masks = (f"{layer}.{kind}" for layer in (_CLS, _REG, _MASK))
        changed[scores] = ours[scores][[*kept, 0]]
        changed[boxes] = ours[boxes].view(-1, 4, *ours[boxes].shape[1:])[rows].flatten(0, 1)
        changed[masks] = ours[masks][rows]
    return changed
