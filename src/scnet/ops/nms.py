"""Non-maximum suppression within groups (pyramid levels, classes) of all images of a batch at once.

Results have a fixed size: the same number of places for each image, those behind the last box
empty. So what reads them neither waits for the device nor loops over images.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scnet.ops import suppress
from scnet.ops.nms_groups import group_nms


def top_proposals(
    boxes: Float[Tensor, "B N 4"],
    scores: Float[Tensor, "B N"],
    group: Int[Tensor, "N"],
    iou: float,
    keep: int,
) -> tuple[Float[Tensor, "B P 4"], Bool[Tensor, "B P"], Float[Tensor, "B P"]]:
    """Return the `keep` best boxes of each image that survive NMS within their group, best first.

    Boxes without width or height are dropped. Fewer survivors are padded; the second value is False
    there. The third is their scores. P is `keep`, or N where there are not as many.
    """
    if torch.compiler.is_compiling():
        return suppress.top_proposals(boxes, scores, group, iou, keep)
    images, number = scores.shape
    image = torch.arange(images, device=boxes.device)[:, None].expand(images, number).flatten()
    flat, score = boxes.flatten(0, 1), scores.flatten()
    real = (flat[:, 2:] > flat[:, :2]).all(1)
    # A box without area overlaps no other, so it needs not go before.
    kept = group_nms(flat, score, group.expand(images, number).flatten() * images + image, iou)
    best, scored, valid = _laid_out(
        image[kept], real[kept], images, min(keep, number), flat[kept], score[kept]
    )
    return best, valid, scored


def class_nms(
    boxes: Float[Tensor, "R #C 4"],
    scores: Float[Tensor, "R C"],
    image: Int[Tensor, "R"],
    images: int,
    *,
    threshold: float,
    iou: float,
    keep: int,
    across: bool = False,
) -> tuple[
    Float[Tensor, "B {keep} 4"],
    Float[Tensor, "B {keep}"],
    Int[Tensor, "B {keep}"],
    Bool[Tensor, "B {keep}"],
]:
    """Return the `keep` best survivors of NMS per class in each image, best first.

    That is boxes, scores, labels, and which places hold one. A score counts from `threshold` on.
    With `across`, a box suppresses those of other classes too.
    """
    if torch.compiler.is_compiling():
        boxes, scores = (x.view(images, -1, *x.shape[1:]) for x in (boxes, scores))
        return suppress.class_nms(
            boxes, scores, threshold=threshold, iou=iou, keep=keep, across=across
        )
    classes = scores.shape[1]
    row, label = (scores >= threshold).nonzero(as_tuple=True)
    box = boxes.expand(-1, classes, 4)[row, label]
    score, of = scores[row, label], image[row]
    kept = group_nms(box, score, of if across else label * images + of, iou)
    there = torch.ones_like(kept, dtype=torch.bool)
    best, found, labels, valid = _laid_out(
        of[kept], there, images, keep, box[kept], score[kept], label[kept]
    )
    return best, found, labels, valid


def _laid_out(
    image: Int[Tensor, "n"], wanted: Bool[Tensor, "n"], images: int, keep: int, *values: Tensor
) -> list[Tensor]:
    """Return the first `keep` wanted values of each image, 0 where there are no more.

    The last of what is returned says which places hold one.
    """
    of = (image[:, None] == torch.arange(images, device=image.device)) & wanted[:, None]
    rank = of.cumsum(0).gather(1, image[:, None])[:, 0] - 1
    # What is not wanted, or one too many, goes behind the last place.
    place = torch.where(wanted & (rank < keep), image * keep + rank, images * keep)
    out = []
    for value in (*values, wanted):
        room = value.new_zeros(images * keep + 1, *value.shape[1:])
        room[place] = value
        out.append(room[:-1].view(images, keep, *value.shape[1:]))
    return out
