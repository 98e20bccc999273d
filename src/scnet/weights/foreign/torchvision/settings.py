"""Settings of torchvision's Mask R-CNN that no parameter shows, as its functions build it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scnet.config import Config

# Laid over our recipe `mask_rcnn`, by our paths. What is not here is the same in both.
USUAL: dict[str, Any] = {
    "model.rpn.anchor_grid": "torchvision",
    "model.roi_align": "legacy",
    # Training:
    "model.rpn.box_loss_beta": 1 / 9,
    "model.rpn.after_nms_train": 2000,
    "model.box.box_loss_beta": 1 / 9,
    "model.box.low_quality": False,
}


def assumed(config: Config) -> Iterator[str]:
    """Yield what a file does not say."""
    rpn, box, backbone = config.model.rpn, config.model.box, config.model.backbone
    assert backbone.mean is backbone.std is None
    yield f"data.size {list(config.data.size)}, images RGB with ImageNet's mean and std"
    yield f"model.rpn.anchor_scale {rpn.anchor_scale}, anchor_ratios {list(rpn.anchor_ratios)}"
    yield f"model.rpn.before_nms {rpn.before_nms}, after_nms {rpn.after_nms}, nms_iou {rpn.nms_iou}"
    yield (
        f"model.box.score_threshold {box.score_threshold}, nms_iou {box.nms_iou}, "
        f"max_detections {box.max_detections}"
    )
    yield f"box deltas with standard deviations {list(box.stages[0].delta_std)}"
    yield "RoIAlign with 2 x 2 samples in each bin, not aligned (model.roi_align legacy)"
