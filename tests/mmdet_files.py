"""Small checkpoint files in MMDetection's layout."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch
from tests.model_cases import small

from scnet.config import BackboneConfig, replace_at
from scnet.model.detector import Detector

# Of models with norms, and with two convolutions in their RPN.
_DEEPER = {
    r"^fpn\.lateral_norm\.(\d)\.norm\.": r"neck.lateral_convs.\1.bn.",
    r"^fpn\.lateral_norm\.(\d)\.": r"neck.lateral_convs.\1.gn.",
    r"^fpn\.output_norm\.(\d)\.norm\.": r"neck.fpn_convs.\1.bn.",
    r"^fpn\.output_norm\.(\d)\.": r"neck.fpn_convs.\1.gn.",
    r"^rpn\.convs\.0\.conv": "rpn_head.rpn_conv.0.conv",
    r"^rpn\.conv\.": "rpn_head.rpn_conv.1.conv.",
    r"^roi_heads\.stages\.0\.convs\.(\d)\.": r"roi_head.bbox_head.shared_convs.\1.",
}
_THEIRS = {
    r"^backbone\.net\.": "backbone.",
    r"^fpn\.lateral\.(\d)": r"neck.lateral_convs.\1.conv",
    r"^fpn\.output\.(\d)": r"neck.fpn_convs.\1.conv",
    r"^fpn\.down\.(\d)": r"neck.downsample_convs.\1.conv",
    r"^fpn\.last\.(\d)": r"neck.pafpn_convs.\1.conv",
    r"^rpn\.": "rpn_head.rpn_",
    r"^roi_heads\.stages\.0\.fc1": "roi_head.bbox_head.shared_fcs.0",
    r"^roi_heads\.stages\.0\.fc2": "roi_head.bbox_head.shared_fcs.1",
    r"^roi_heads\.stages\.0\.": "roi_head.bbox_head.fc_",
    r"^roi_heads\.masks\.heads\.0\.classifier": "roi_head.mask_head.conv_logits",
    r"^roi_heads\.masks\.heads\.0\.": "roi_head.mask_head.",
    r"^roi_heads\.masks\.scoring\.iou": "roi_head.mask_iou_head.fc_mask_iou",
    r"^roi_heads\.masks\.scoring\.": "roi_head.mask_iou_head.",
}


def mask_rcnn(num_classes: int = 80, **changes: object) -> Detector:
    """A narrow Mask R-CNN of a kind that MMDetection has too (`__` stands for a dot)."""
    torch.manual_seed(0)
    backbone = BackboneConfig(name="resnet50", widths=(8, 16, 32, 64), weights="none")
    config = replace_at(small("mask_rcnn", backbone), "model.num_classes", num_classes)
    for path, value in changes.items():
        config = replace_at(config, path.replace("__", "."), value)
    return Detector(replace(config, recipe="mask_rcnn"))


def write(file: Path, detector: Detector) -> Path:
    """Write the weights of a Mask R-CNN as MMDetection would, without class names."""
    state = {}
    names = (_DEEPER if detector.config.model.rpn.convs == 2 else {}) | _THEIRS
    for name, value in detector.state_dict().items():
        for ours, theirs in names.items():
            if re.match(ours, name):
                flat = value.flatten(1) if name.endswith("fc1.weight") else value
                renamed = re.sub(ours, theirs, name)
                state[re.sub(r"\.norm\.", ".gn.", re.sub(r"\.norm\.norm", ".bn", renamed))] = flat
                break
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, "meta": {"epoch": 12}}, file)
    return file
