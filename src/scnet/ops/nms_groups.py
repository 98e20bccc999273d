"""Non-maximum suppression within groups: torchvision's, which knows of none, for all of them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import nms

AT_ONCE = (
    50_000  # boxes that a GPU compares in one call; the table of who suppresses whom is 0.3 GB
)


def group_nms(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, "N"], group: Int[Tensor, "N"], iou: float
) -> Int[Tensor, "n"]:
    """Return the rows that survive NMS within their group, best first, equal ones as they came."""
    if boxes.device.type == "cpu" or boxes.shape[0] > AT_ONCE:
        kept = _group_by_group(boxes, scores, group, iou)
    else:
        kept = _all_groups(boxes, scores, group, iou)
    kept = kept.sort().values
    return kept[scores[kept].argsort(descending=True, stable=True)]


def _group_by_group(boxes: Tensor, scores: Tensor, group: Tensor, iou: float) -> Tensor:
    """Compare the boxes of each group alone: least work, and a wait for each on a GPU."""
    order = group.argsort(stable=True)
    groups = torch.split(order, group.bincount().tolist())
    parts = [rows[nms(boxes[rows], scores[rows], iou)] for rows in groups if rows.shape[0]]
    return torch.cat([*parts, order[:0]])


def _all_groups(boxes: Tensor, scores: Tensor, group: Tensor, iou: float) -> Tensor:
    """Compare all boxes in one call, each group moved where it meets no other."""
    # In float32 places far out would be some pixels apart.
    exact = boxes.double()
    reach = torch.cat([exact, exact.new_zeros(1, 4)])  # there may be no boxes at all
    span = reach.amax() - reach.amin() + 1
    kept: Tensor = nms(exact + (group * span)[:, None], scores.double(), iou)
    return kept
