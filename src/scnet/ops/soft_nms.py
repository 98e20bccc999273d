"""Soft non-maximum suppression: boxes that overlap a better one lose score (Bodla et al. 2017).

Boxes are taken in the order of what is left of their scores, so the first `keep` of an image are
its best: no more rounds are needed than detections are kept.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scnet.config import SoftNMSConfig
from scnet.ops import boxes as box_ops


def soft_class_nms(
    boxes: Float[Tensor, "R #C 4"],
    scores: Float[Tensor, "R C"],
    image: Int[Tensor, "R"],
    images: int,
    *,
    threshold: float,
    iou: float,
    keep: int,
    across: bool,
    decay: SoftNMSConfig,
    lowest: float,
) -> tuple[
    Float[Tensor, "B {keep} 4"],
    Float[Tensor, "B {keep}"],
    Int[Tensor, "B {keep}"],
    Bool[Tensor, "B {keep}"],
]:
    """Return what `class_nms` does, with scores that have fallen.

    Args:
        threshold: that a score has to reach before it falls.
        lowest: that it has to reach afterwards.
    """
    classes = scores.shape[1]
    found = (
        boxes.new_zeros(images, keep, 4),
        scores.new_zeros(images, keep),
        image.new_zeros(images, keep),
        torch.zeros(images, keep, dtype=torch.bool, device=scores.device),
    )
    for i in range(images):
        row, label = ((scores >= threshold) & (image == i)[:, None]).nonzero(as_tuple=True)
        box, score = boxes.expand(-1, classes, 4)[row, label], scores[row, label]
        best, left = soft_nms(box, score, label * (not across), iou, keep, decay)
        stays = left >= lowest
        best, left = best[stays], left[stays]
        there = torch.ones_like(best, dtype=torch.bool)
        for out, values in zip(found, (box[best], left, label[best], there), strict=True):
            out[i, : best.shape[0]] = values
    return found


def soft_nms(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, "N"],
    group: Int[Tensor, "N"],
    iou: float,
    keep: int,
    decay: SoftNMSConfig,
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """Return the rows of the `keep` best boxes, best first, and what is left of their scores.

    Boxes lower the scores of their own group alone. As in mmcv, the very best box stays even where
    it does not reach `decay.min_score`.
    """
    left = scores.clone()
    rows: list[Tensor] = []
    values: list[Tensor] = []
    for _ in range(min(keep, scores.shape[0])):
        best = left.argmax()[None]  # a tensor, so that nothing waits for the device
        rows.append(best)
        values.append(left[best])
        overlap = box_ops.iou(boxes[best], boxes)[0]
        factor = _factor(overlap, iou, decay).where(group == group[best], 1.0)
        left = (left * factor).index_fill(0, best, -1)
        left = left.where(left >= decay.min_score, -1)
    if not rows:
        return group[:0], scores[:0]
    row, value = torch.cat(rows), torch.cat(values)
    return row[value >= 0], value[value >= 0]


def _factor(overlap: Float[Tensor, "N"], iou: float, decay: SoftNMSConfig) -> Float[Tensor, "N"]:
    if decay.method == "gaussian":
        return torch.exp(-(overlap**2) / decay.sigma)
    return torch.where(overlap >= iou, 1 - overlap, 1.0)
