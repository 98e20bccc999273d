"""Non-maximum suppression, within groups (pyramid levels, classes) and images."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import batched_nms


def top_proposals(
    boxes: Float[Tensor, "B N 4"],
    scores: Float[Tensor, "B N"],
    group: Int[Tensor, "N"],
    iou: float,
    keep: int,
) -> tuple[Float[Tensor, "B {keep} 4"], Bool[Tensor, "B {keep}"]]:
    """Return the `keep` best boxes of each image that survive NMS within their group, best first.

    Boxes without width or height are dropped. Fewer survivors are padded;
    the second value is False there.
    """
    count, device = len(boxes), boxes.device
    best = boxes.new_zeros(count, keep, 4)
    valid = torch.zeros(count, keep, dtype=torch.bool, device=device)
    for i in range(count):
        real = ((boxes[i, :, 2:] - boxes[i, :, :2]) > 0).all(1)
        here, score, groups = boxes[i, real], scores[i, real], group[real]
        kept = group_nms(here, score, groups, iou)[:keep]
        best[i, : len(kept)] = here[kept]
        valid[i, : len(kept)] = True
    return best, valid


def class_nms(
    boxes: Float[Tensor, "N #C 4"],
    scores: Float[Tensor, "N C"],
    threshold: float,
    iou: float,
    keep: int,
) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n"], Int[Tensor, "n"]]:
    """Return boxes, scores, labels of the `keep` best survivors of NMS per class, best first."""
    row, label = (scores > threshold).nonzero(as_tuple=True)
    boxes = boxes.expand(-1, scores.shape[1], 4)[row, label]
    found = scores[row, label]
    kept = group_nms(boxes, found, label, iou)[:keep]
    return boxes[kept], found[kept], label[kept]


def group_nms(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, "N"], group: Int[Tensor, "N"], iou: float
) -> Int[Tensor, "n"]:
    """Return the rows that survive NMS within their group, best first, equal ones as they came."""
    kept: Tensor = batched_nms(boxes, scores, group, iou).sort().values
    # torchvision leaves the order of equal scores open where it goes group by group.
    return kept[scores[kept].argsort(descending=True, stable=True)]
