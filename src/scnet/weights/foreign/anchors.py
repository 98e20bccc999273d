"""Anchors of other libraries, as settings of ours."""

from __future__ import annotations

from typing import Any, NamedTuple

from scnet.model.rpn import STRIDES


class Anchors(NamedTuple):
    """Anchors of all levels."""

    sizes: tuple[tuple[float, ...], ...]  # in pixels, of each level from P2 to P6
    ratios: tuple[float, ...]  # height / width

    def changes(self) -> dict[str, Any]:
        """Return our settings by their paths."""
        scales = {
            s / stride for sides, stride in zip(self.sizes, STRIDES, strict=True) for s in sides
        }
        ratios = {"model.rpn.anchor_ratios": self.ratios}
        if len(scales) == 1 and all(len(sides) == 1 for sides in self.sizes):
            return {"model.rpn.anchor_scale": scales.pop(), **ratios}
        return {"model.rpn.anchor_sizes": self.sizes, **ratios}
