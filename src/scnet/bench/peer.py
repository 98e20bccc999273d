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

from scnet.inference.model import AUTOCAST, Precision
from scnet.model.detector import Detector


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
        ValueError: ours is not a Mask R-CNN with ResNet-50.
    """
    config = ours.config.model
    resnet50 = config.backbone.name.split(".")[0] == "resnet50"
    if not resnet50 or len(config.box.stages) > 1 or config.box.class_agnostic:
        raise ValueError("torchvision is compared with mask_rcnn with a resnet50 backbone")
    short, long = ours.config.data.size
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    model = MaskRCNN(
        backbone,
        config.num_classes + 1,
        min_size=short,
        max_size=long,
        image_mean=list(ours.backbone.mean),
        image_std=list(ours.backbone.std),
        rpn_pre_nms_top_n_train=config.rpn.before_nms_train,
        rpn_post_nms_top_n_train=config.rpn.after_nms_train,
        rpn_pre_nms_top_n_test=config.rpn.before_nms,
        rpn_post_nms_top_n_test=config.rpn.after_nms,
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
            (heads.box_head, nn.ModuleList([stage.fc1, stage.fc2])),
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
