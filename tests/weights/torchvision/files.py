"""Small checkpoint files of torchvision, made up from the weights of a small Mask R-CNN."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from tests.mmdet_files import mask_rcnn
from torch import Tensor

from scnet.config import override
from scnet.model.detector import Detector

State = dict[str, Tensor]
NORM = "backbone.body.bn1"

_THEIRS = {
    r"^backbone\.net\.": "backbone.body.",
    r"^fpn\.lateral\.(\d)\.": r"backbone.fpn.inner_blocks.\1.0.",
    r"^fpn\.output\.(\d)\.": r"backbone.fpn.layer_blocks.\1.0.",
    r"^rpn\.conv\.": "rpn.head.conv.0.0.",
    r"^rpn\.cls\.": "rpn.head.cls_logits.",
    r"^rpn\.reg\.": "rpn.head.bbox_pred.",
    r"^roi_heads\.stages\.0\.fc1\.": "roi_heads.box_head.fc6.",
    r"^roi_heads\.stages\.0\.fc2\.": "roi_heads.box_head.fc7.",
    r"^roi_heads\.stages\.0\.cls\.": "roi_heads.box_predictor.cls_score.",
    r"^roi_heads\.stages\.0\.reg\.": "roi_heads.box_predictor.bbox_pred.",
    r"^roi_heads\.masks\.heads\.0\.convs\.(\d)\.conv\.": r"roi_heads.mask_head.\1.0.",
    r"^roi_heads\.masks\.heads\.0\.upsample\.": "roi_heads.mask_predictor.conv5_mask.",
    r"^roi_heads\.masks\.heads\.0\.classifier\.": "roi_heads.mask_predictor.mask_fcn_logits.",
}
# What the second version has instead.
_DEEP = {
    r"^fpn\.lateral_norm\.(\d)\.norm\.": r"backbone.fpn.inner_blocks.\1.1.",
    r"^fpn\.output_norm\.(\d)\.norm\.": r"backbone.fpn.layer_blocks.\1.1.",
    r"^rpn\.convs\.0\.conv\.": "rpn.head.conv.0.0.",
    r"^rpn\.conv\.": "rpn.head.conv.1.0.",
    r"^roi_heads\.stages\.0\.convs\.(\d)\.conv\.": r"roi_heads.box_head.\1.0.",
    r"^roi_heads\.stages\.0\.convs\.(\d)\.norm\.norm\.": r"roi_heads.box_head.\1.1.",
    r"^roi_heads\.stages\.0\.fc1\.": "roi_heads.box_head.5.",
    r"^roi_heads\.masks\.heads\.0\.convs\.(\d)\.norm\.norm\.": r"roi_heads.mask_head.\1.1.",
}
# How torchvision before 0.13 named them.
_OLD = {
    r"_blocks\.(\d)\.0\.": r"_blocks.\1.",
    r"^rpn\.head\.conv\.0\.0\.": "rpn.head.conv.",
    **{
        rf"^roi_heads\.mask_head\.{n}\.0\.": f"roi_heads.mask_head.mask_fcn{n + 1}."
        for n in range(4)
    },
}


def detector(classes: int = 6, *, deep: bool = False) -> Detector:
    """Return a small Mask R-CNN, of torchvision's second version if it is deep."""
    plain = mask_rcnn(classes)
    if not deep:
        return plain
    more = {"norm": "batch", "rpn": {"convs": 2}, "box": {"convs": 4, "layers": 1}}
    return Detector(override(plain.config, {"model": more}))


def their_name(name: str, *, deep: bool = False) -> str:
    """Return torchvision's name of one of our parameters."""
    for ours, theirs in (_THEIRS | _DEEP if deep else _THEIRS).items():
        if re.match(ours, name):
            return re.sub(ours, theirs, name)
    raise KeyError(name)


def state(classes: int = 6, *, frozen: bool = True, deep: bool = False) -> State:
    """Return the weights of a small Mask R-CNN by torchvision's names, background first.

    Args:
        frozen: whether its norms never learnt, so that they have no step counter.
        deep: whether it is of the second version.
    """
    found = {}
    for name, x in detector(classes, deep=deep).state_dict().items():
        if frozen and name.endswith("num_batches_tracked"):
            continue
        x = x.detach().clone()
        if ".stages.0.cls." in name:
            x = x.roll(1, 0)
        elif ".stages.0.reg." in name or ".classifier." in name:
            rows = 4 if ".reg." in name else 1
            x = torch.cat([torch.full_like(x[:rows], 7), x])
        elif name.endswith("fc1.weight"):
            x = x.flatten(1)
        found[their_name(name, deep=deep)] = x
    return found


def old_names(weights: State) -> State:
    """Return weights by the names that torchvision had before 0.13."""
    renamed = {}
    for name, x in weights.items():
        for new, old in _OLD.items():
            name = re.sub(new, old, name)
        renamed[name] = x
    return renamed


def save(file: Path, weights: State, **beside: Any) -> Path:
    """Write a checkpoint as torchvision's training script does."""
    torch.save({"model": weights, "optimizer": {"state": {}, "param_groups": []}, **beside}, file)
    return file
