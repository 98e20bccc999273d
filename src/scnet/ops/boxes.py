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
    size, goal_size = boxes[..., 2:] - boxes[..., :2], goals[..., 2:] - goals[..., :2]
    shift = (goals[..., :2] + goals[..., 2:]) / 2 - (boxes[..., :2] + boxes[..., 2:]) / 2
    deltas = torch.cat([shift / size, torch.log(goal_size / size)], dim=-1)
    return deltas if std is None else deltas / std


def decode(
    boxes: Float[Tensor, "*n 4"],
    deltas: Float[Tensor, "*n 4"],
    std: Float[Tensor, "4"] | None = None,
    sizes: Int[Tensor, "*#n 2"] | None = None,
) -> Float[Tensor, "*n 4"]:
    """Move each of `boxes` by its deltas; the inverse of `encode`.

    Given `sizes`, (height, width) of each box's image, they are cut at its border.
    """
    deltas = deltas if std is None else deltas * std
    size = boxes[..., 2:] - boxes[..., :2]
    center = (boxes[..., :2] + boxes[..., 2:]) / 2 + deltas[..., :2] * size
    size = size * deltas[..., 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    moved = torch.cat([center - size / 2, center + size / 2], dim=-1)
    if sizes is None:
        return moved
    limit = sizes.flip(-1).to(moved.dtype)
    return moved.clamp(min=0).minimum(torch.cat([limit, limit], dim=-1))


def seen_back(boxes: Float[Tensor, "N 4"], inverse: Float[Tensor, "N 4 2"]) -> Float[Tensor, "N 4"]:
    """Return boxes of a view in the pixels of the original; `inverse` as in `types.Inverse`."""
    sign, shift, scale, _ = inverse.unbind(1)
    corners = (sign[:, None] * boxes.view(-1, 2, 2) + shift[:, None]) / scale[:, None]
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


def iou(a: Float[Tensor, "*#b n 4"], b: Float[Tensor, "*#b m 4"]) -> Float[Tensor, "*b n m"]:
    """Return the overlap of every box of `a` with every box of `b`; 0 where both are empty."""
    left, top, right, bottom = a.unsqueeze(-2).unbind(-1)
    left_b, top_b, right_b, bottom_b = b.unsqueeze(-3).unbind(-1)
    # In place, as matching all anchors with all objects is what takes the most memory.
    width = torch.minimum(right, right_b).sub_(torch.maximum(left, left_b)).clamp_(min=0)
    height = torch.minimum(bottom, bottom_b).sub_(torch.maximum(top, top_b)).clamp_(min=0)
    shared = width.mul_(height)
    del height
    areas = (right - left) * (bottom - top) + (right_b - left_b) * (bottom_b - top_b)
    return shared.div_(areas.sub_(shared).clamp_(min=1e-6))
