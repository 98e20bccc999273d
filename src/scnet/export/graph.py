"""A detector as one graph, from images to masks, that can be captured.

The parts are the detector's own. What differs from `Detector.detect` is how many boxes go on: here
shapes may not depend on values, but for two cuts, behind the proposals and behind the final
suppression, which spare the work on places that are empty. Without them every place is computed.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from scnet.export.padding import with_constant_padding
from scnet.model.detector import Detector
from scnet.model.features import RoIFeatures
from scnet.types import Proposals, RoIs


class Graph(nn.Module):
    """What a detector finds in images of one size, in their pixels.

    With `padded` it returns, for each image, `max_detections` places, the best first and zeros
    behind the last, and how many are taken:

        boxes (B, N, 4), scores (B, N), labels (B, N), masks (B, N, S, S), count (B)

    Otherwise it takes a single image and returns what is in it: boxes (N, 4), scores (N),
    labels (N), masks (N, S, S). Where the model scores masks, their IoUs stand behind the masks.
    """

    def __init__(self, detector: Detector, *, padded: bool) -> None:
        super().__init__()
        self.detector = with_constant_padding(detector)
        self.padded = padded

    def forward(
        self, images: Num[Tensor, "B D H W"], sizes: Int[Tensor, "B 2"]
    ) -> tuple[Tensor, ...]:
        """Read images whose sides are multiples of 32, and what of them is no padding."""
        detector, head = self.detector, self.detector.head
        dense = detector.dense(images, sizes)
        features = RoIFeatures(dense.scene.scene, detector.config.model)
        proposals = head.rpn.proposals(dense.rpn, sizes, training=False)
        if not self.padded:
            # Not even one would be no input for what comes, in some runtimes.
            number = _number(proposals.valid.sum(), 1, proposals.boxes.shape[1])
            proposals = Proposals(proposals.boxes[:, :number], proposals.valid[:, :number])
        candidates = head.roi_heads.find(features, proposals, sizes)
        boxes, scores, labels, valid = detector.suppressed(candidates, images.shape[0])
        if self.padded:
            return self._places(features, boxes, scores, labels, valid)
        return self._found(features, boxes[0], scores[0], labels[0], valid[0].sum())

    def _places(
        self, features: RoIFeatures, boxes: Tensor, scores: Tensor, labels: Tensor, valid: Tensor
    ) -> tuple[Tensor, ...]:
        image = torch.arange(boxes.shape[0], device=boxes.device)[:, None].expand(boxes.shape[:2])
        rois = RoIs(boxes.flatten(0, 1), image.flatten())
        masks, ious = self.detector.head.masks(features, rois, labels.flatten())
        scored = [] if ious is None else [ious.view(scores.shape) * valid]
        placed = masks.view(*scores.shape, *masks.shape[1:]) * valid[..., None, None]
        return boxes, scores, labels, placed, *scored, valid.sum(1)

    def _found(
        self,
        features: RoIFeatures,
        boxes: Float[Tensor, "N 4"],
        scores: Float[Tensor, "N"],
        labels: Int[Tensor, "N"],
        count: Int[Tensor, ""],
    ) -> tuple[Tensor, ...]:
        some, number = (_number(count, least, boxes.shape[0]) for least in (1, 0))
        torch._check(number <= some)
        rois = RoIs(boxes[:some], torch.zeros_like(labels[:some]))
        found = self.detector.head.masks(features, rois, labels[:some])
        masks = [x[:number] for x in found if x is not None]
        return boxes[:number], scores[:number], labels[:number], *masks


def _number(count: Int[Tensor, ""], least: int, most: int) -> int:
    """Return a number that a captured graph computes, and knows the limits of."""
    number = cast(int, count.clamp(min=least).item())
    torch._check(number >= least)
    torch._check(number <= most)
    return number
