"""NMS whose shapes do not depend on the values, as one operator that a captured graph keeps.

What does not survive keeps its place and has no score, so that nothing has to be counted: a graph
has the same shapes for any image of a size. Exporters translate the operator to what the target
format has; called as it is, it is the NMS of `nms.py`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scnet.ops.nms_groups import group_nms

NEVER = -math.inf  # score of what is no candidate
LEVELS = 5  # of a pyramid, at most


@torch.library.custom_op(
    "scnet::suppress",
    mutates_args=(),
    schema="(Tensor boxes, Tensor scores, float iou) -> Tensor",
)
def suppress(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Return the scores (G, K, N) that survive NMS among the N boxes of a group, others `NEVER`.

    Boxes (G, N, 4) are compared within each of K kinds.
    """
    group, kind, place = (scores > NEVER).nonzero(as_tuple=True)
    score = scores[group, kind, place]
    kept = group_nms(boxes[group, place], score, group * scores.shape[1] + kind, iou)
    out = torch.full_like(scores, NEVER)
    out[group[kept], kind[kept], place[kept]] = score[kept]
    return out


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    return torch.empty_like(scores)


def top_proposals(
    boxes: Float[Tensor, "B N 4"],
    scores: Float[Tensor, "B N"],
    group: Int[Tensor, "N"],
    iou: float,
    keep: int,
) -> tuple[Float[Tensor, "B P 4"], Bool[Tensor, "B P"], Float[Tensor, "B P"]]:
    """Return what `nms.top_proposals` does."""
    own = group == torch.arange(LEVELS, device=group.device)[:, None]
    real = (boxes[..., 2:] > boxes[..., :2]).all(2)
    asked = torch.where(own & real[:, None], scores[:, None], NEVER)
    left = suppress(boxes, asked, iou).amax(1)
    number = torch.sym_min(keep, left.shape[1])
    score, place = left.topk(number, dim=1)
    valid = score > NEVER
    best = boxes.gather(1, place[..., None].expand(-1, -1, 4))
    return best * valid[..., None], valid, torch.where(valid, score, 0)


def class_nms(
    boxes: Float[Tensor, "B N #C 4"],
    scores: Float[Tensor, "B N C"],
    *,
    threshold: float,
    iou: float,
    keep: int,
    across: bool = False,
) -> tuple[Float[Tensor, "B P 4"], Float[Tensor, "B P"], Int[Tensor, "B P"], Bool[Tensor, "B P"]]:
    """Return what `nms.class_nms` does; P is `keep`, or N * C where that is less."""
    images, number, classes = scores.shape
    asked = torch.where(scores >= threshold, scores, NEVER)
    every = boxes.expand(-1, -1, classes, -1)
    if across:
        one = asked.reshape(images, 1, number * classes)
        left = suppress(every.reshape(images, number * classes, 4), one, iou)
    elif boxes.shape[2] == 1:
        left = suppress(boxes[:, :, 0], asked.transpose(1, 2).contiguous(), iou).transpose(1, 2)
    else:
        by_class = every.transpose(1, 2).reshape(images * classes, number, 4)
        one = asked.transpose(1, 2).reshape(images * classes, 1, number)
        left = suppress(by_class, one, iou).view(images, classes, number).transpose(1, 2)
    left = left.reshape(images, number * classes)
    score, place = left.topk(torch.sym_min(keep, left.shape[1]), dim=1)
    valid = score > NEVER
    row, label = place // classes, place % classes
    box = boxes[torch.arange(images, device=boxes.device)[:, None], row]
    own = label if boxes.shape[2] > 1 else torch.zeros_like(label)
    best = box.gather(2, own[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
    return best * valid[..., None], torch.where(valid, score, 0), label * valid, valid
