"""torchvision's Mask R-CNN with the weights and settings of ours, from a file to COCO results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as coco_mask
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.transforms.functional import pil_to_tensor

from scnet import recipes
from scnet.config import Config, to_dict
from scnet.inference.model import AUTOCAST, Precision
from scnet.model.detector import Detector
from scnet.settings import leaves

# Settings that `from_ours` passes on, or that say nothing about what a network computes.
_HONOURED = (
    *(f"model.rpn.{name}" for name in ("positive_iou", "negative_iou", "samples", "nms_iou")),
    *(f"model.rpn.{name}{of}" for name in ("before_nms", "after_nms") for of in ("", "_train")),
    *(f"model.box.{name}" for name in ("samples", "positive_fraction", "score_threshold")),
    *(f"model.box.{name}" for name in ("nms_iou", "max_detections")),
    *(f"model.backbone.{name}" for name in ("name", "weights", "mean", "std", "frozen_stages")),
    "model.num_classes",
    # Ours may have torchvision's own, or what comes near and costs the same.
    *("model.rpn.anchor_grid", "model.roi_align"),
    # Of the training alone.
    *("model.rpn.box_loss_beta", "model.box.box_loss_beta", "model.box.low_quality"),
)
# Of an image, as it is computed with.
_READING = ("data.keep_ratio", "data.scale_factor", "data.range", "data.bands")


class Peer:
    """What a user of torchvision writes to get COCO results from image files."""

    def __init__(self, ours: Detector, device: torch.device, precision: Precision) -> None:
        self.device, self.precision = device, precision
        self.model = from_ours(ours).eval().to(device)
        self.category_ids = ours.category_ids

    @torch.inference_mode()
    def __call__(self, files: Sequence[Path]) -> list[list[dict[str, Any]]]:
        """Return the COCO results of each image."""
        images = [pil_to_tensor(Image.open(f).convert("RGB")).to(self.device) / 255 for f in files]
        dtype = AUTOCAST[self.precision]
        with torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32"):
            found = self.model(images)
        return [self._to_coco(one) for one in found]

    def _to_coco(self, found: dict[str, Tensor]) -> list[dict[str, Any]]:
        masks = (found["masks"][:, 0] >= 0.5).cpu().numpy().astype(np.uint8)
        encoded = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
        boxes = found["boxes"].cpu()
        boxes[:, 2:] -= boxes[:, :2]
        rows = zip(
            found["labels"].tolist(), found["scores"].tolist(), boxes.tolist(), encoded, strict=True
        )
        return [
            {
                "image_id": 0,
                "category_id": self.category_ids[label - 1],
                "score": score,
                "bbox": box,
                "segmentation": {**rle, "counts": rle["counts"].decode()},
            }
            for label, score, box, rle in rows
        ]


def from_ours(ours: Detector) -> MaskRCNN:
    """Return torchvision's Mask R-CNN with the weights and settings of our `mask_rcnn`.

    Raises:
        ValueError: ours is not a Mask R-CNN with ResNet-50, or has a setting that theirs has not.
    """
    config = ours.config.model
    _require_honoured(ours.config)
    short, long = ours.config.data.size
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    model = MaskRCNN(
        backbone,
        config.num_classes + 1,
        min_size=short,
        max_size=long,
        image_mean=list(ours.backbone.mean),
        image_std=list(ours.backbone.std),
        rpn_fg_iou_thresh=config.rpn.positive_iou,
        rpn_bg_iou_thresh=config.rpn.negative_iou,
        rpn_batch_size_per_image=config.rpn.samples,
        rpn_nms_thresh=config.rpn.nms_iou,
        rpn_pre_nms_top_n_train=config.rpn.before_nms_train,
        rpn_post_nms_top_n_train=config.rpn.after_nms_train,
        rpn_pre_nms_top_n_test=config.rpn.before_nms,
        rpn_post_nms_top_n_test=config.rpn.after_nms,
        box_batch_size_per_image=config.box.samples,
        box_positive_fraction=config.box.positive_fraction,
        box_score_thresh=config.box.score_threshold,
        box_nms_thresh=config.box.nms_iou,
        box_detections_per_img=config.box.max_detections,
    )
    own = ours.backbone.net.state_dict()
    backbone.body.load_state_dict({n: own[n] for n in backbone.body.state_dict()})
    stage, heads = ours.head.roi_heads.stages[0], model.roi_heads
    mask = ours.head.roi_heads.masks.heads[0]
    # Their box head reads the feature channel by channel, and their class 0 is the background.
    with torch.no_grad():
        for theirs, mine in (
            (backbone.fpn.inner_blocks, ours.fpn.lateral),
            (backbone.fpn.layer_blocks, ours.fpn.output),
            (model.rpn.head, ours.head.rpn),
            (heads.box_head, nn.ModuleList([stage.fc1, stage.get_submodule("fc2")])),
            (nn.ModuleList([heads.mask_head]), mask.convs),
            (heads.mask_predictor.conv5_mask, mask.upsample),
        ):
            for to, given in zip(theirs.parameters(), mine.parameters(), strict=True):
                to.copy_(given.reshape(to.shape))
        box, chosen = heads.box_predictor, heads.mask_predictor.mask_fcn_logits
        for name in ("weight", "bias"):
            getattr(box.cls_score, name).copy_(getattr(stage.cls, name).roll(1, 0))
            getattr(box.bbox_pred, name)[4:].copy_(getattr(stage.reg, name))
            getattr(chosen, name)[1:].copy_(getattr(mask.classifier, name))
    return model


def _require_honoured(config: Config) -> None:
    """Refuse what torchvision's model cannot be set to, so that both do the same work."""
    usual = dict(leaves(to_dict(recipes.mask_rcnn())))
    if config.model.backbone.name.split(".")[0] != "resnet50":
        raise ValueError("torchvision is compared with mask_rcnn with a resnet50 backbone")
    for path, value in leaves(to_dict(config)):
        matters = path.startswith("model.") or path in _READING
        if matters and path not in _HONOURED and value != usual.get(path):
            raise ValueError(
                f"{path}: {value}, which torchvision's Mask R-CNN cannot be set to; compare a "
                f"mask_rcnn with {usual.get(path, 'no such part')}, or leave torchvision out"
            )
