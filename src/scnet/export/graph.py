"""A detector as one graph, from images to masks, that can be captured."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn

from scnet.model.detector import Detector
from scnet.model.features import RoIFeatures
from scnet.ops.nms import class_nms
from scnet.types import Proposals, RoIs


class Outputs(NamedTuple):
    """What is in the images, in network pixels, the best first; behind the last one zeros."""

    boxes: Float[Tensor, "B N 4"]
    scores: Float[Tensor, "B N"]
    labels: Int[Tensor, "B N"]
    masks: Float[Tensor, "B N S S"]
    count: Int[Tensor, "B"]  # of what is found in each image


class Graph(nn.Module):
    """The path of a detector whose shapes follow from those of the images alone."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Num[Tensor, "B D H W"], sizes: Int[Tensor, "B 2"]) -> Outputs:
        detector, box = self.detector, self.detector.config.model.box
        head, number = detector.head, images.shape[0]
        dense = detector.dense(images, sizes)
        features = RoIFeatures(dense.scene.scene, detector.config.model)
        proposals = head.rpn.proposals(dense.rpn, sizes, training=False)
        if number == 1:
            n = torch.clamp(proposals.valid.sum(), min=1).item()
            torch._check(n >= 1)
            torch._check(n <= proposals.boxes.shape[1])
            proposals = Proposals(proposals.boxes[:, :n], proposals.valid[:, :n])
        candidates = head.roi_heads.find(features, proposals, sizes)
        boxes, scores, labels, valid = class_nms(
            *candidates,
            number,
            threshold=box.score_threshold,
            iou=box.nms_iou,
            keep=box.max_detections,
            across=box.nms_across_classes,
        )
        count = valid.sum(1)
        if number == 1:
            n = torch.clamp(count[0], min=1).item()
            torch._check(n >= 1)
            torch._check(n <= boxes.shape[1])
            boxes, scores, labels = boxes[:, :n], scores[:, :n], labels[:, :n]
        image = torch.arange(number, device=boxes.device)[:, None].expand(boxes.shape[:2])
        rois = RoIs(boxes.flatten(0, 1), image.flatten())
        masks, ious = head.masks(features, rois, labels.flatten())
        masks = masks.view(*boxes.shape[:2], *masks.shape[1:])
        return boxes, scores, labels, masks, count
