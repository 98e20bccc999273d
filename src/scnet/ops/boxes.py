"""Boxes: overlap, and the deltas by which a network moves one box onto another.

Deltas are those of R-CNN (Girshick et al. 2014, app. C): shift of the centre in box sizes and log
of the size ratio.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

# A box may grow or shrink by this factor in one step, so that exp() cannot overflow.
MAX_LOG_RATIO = math.log(1000 / 16)


def encode(
    boxes: Float[Tensor, "*n 4"],
    goals: Float[Tensor, "*n 4"],
    std: Float[Tensor, "4"] | None = None,
) -> Float[Tensor, "*n 4"]:
    """Return the deltas (dx, dy, dw, dh), in units of `std`, that move `boxes` onto their goals."""
    center, size = _center_size(boxes)
    goal_center, goal_size = _center_size(goals)
    deltas = torch.cat([(goal_center - center) / size, torch.log(goal_size / size)], dim=-1)
    return deltas if std is None else deltas / std


def decode(
    boxes: Float[Tensor, "*n 4"],
    deltas: Float[Tensor, "*n 4"],
    std: Float[Tensor, "4"] | None = None,
) -> Float[Tensor, "*n 4"]:
    """Move each of `boxes` by its deltas; the inverse of `encode`."""
    deltas = deltas if std is None else deltas * std
    center, size = _center_size(boxes)
    center = center + deltas[..., :2] * size
    size = size * deltas[..., 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    return torch.cat([center - size / 2, center + size / 2], dim=-1)


def clip(boxes: Float[Tensor, "*n 4"], sizes: Int[Tensor, "*#n 2"]) -> Float[Tensor, "*n 4"]:
    """Cut boxes at their image's border; `sizes`, (height, width), broadcast against the boxes."""
    limit = sizes.flip(-1).to(boxes.dtype)
    return boxes.clamp(min=0).minimum(torch.cat([limit, limit], dim=-1))


def seen_back(boxes: Float[Tensor, "N 4"], inverse: Float[Tensor, "N 4 2"]) -> Float[Tensor, "N 4"]:
    """Return boxes of a view in the pixels of the original; `inverse` as in `types.Inverse`."""
    sign, shift, scale, _ = inverse.unbind(1)
    corners = (sign[:, None] * boxes.view(-1, 2, 2) + shift[:, None]) / scale[:, None]
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


def iou(a: Float[Tensor, "*#b n 4"], b: Float[Tensor, "*#b m 4"]) -> Float[Tensor, "*b n m"]:
    """Return the overlap of every box of `a` with every box of `b`; 0 where both are empty."""
    a, b = a.unsqueeze(-2), b.unsqueeze(-3)
    # In place, as matching all anchors with all objects is what takes the most memory.
    width = torch.minimum(a[..., 2], b[..., 2]).sub_(torch.maximum(a[..., 0], b[..., 0]))
    height = torch.minimum(a[..., 3], b[..., 3]).sub_(torch.maximum(a[..., 1], b[..., 1]))
    shared = width.clamp_(min=0).mul_(height.clamp_(min=0))
    del height
    union = (area(a) + area(b)).sub_(shared).clamp_(min=1e-6)
    return shared.div_(union)


def area(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Return the area of each box in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _center_size(
    boxes: Float[Tensor, "*n 4"],
) -> tuple[Float[Tensor, "*n 2"], Float[Tensor, "*n 2"]]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
