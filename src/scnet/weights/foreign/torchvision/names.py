"""torchvision's parameter names and ours, old and new.

Its Mask R-CNNs on a ResNet with FPN have the same parameters as ours, but for the background, which
is its first class and our last (`background.py`). Up to torchvision 0.12, and so in the published
file of its first Mask R-CNN, single convolutions were not numbered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign.naming import table, translated
from scnet.weights.foreign.places import in_place

BODY = "backbone.body."  # begins the names of its ResNet
FC1 = "roi_heads.stages.0.fc1.weight"
_BOX, _MASKS = "roi_heads.stages.0.", "roi_heads.masks.heads.0."
_LAYER = re.compile(r"roi_heads\.stages\.0\.layers\.(\d+)\.")
# torchvision's name and ours; the first entry that matches counts.
_NAMES = table(
    (r"backbone\.body\.", "backbone.net."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.1\.", r"fpn.lateral_norm.\1."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.1\.", r"fpn.output_norm.\1."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?(?=weight|bias)", r"fpn.lateral.\1."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?(?=weight|bias)", r"fpn.output.\1."),
    (r"rpn\.head\.conv\.(?=weight|bias)", "rpn.conv."),
    (r"rpn\.head\.conv\.(\d)\.0\.", r"rpn.convs.\1.conv."),
    (r"rpn\.head\.cls_logits\.", "rpn.cls."),
    (r"rpn\.head\.bbox_pred\.", "rpn.reg."),
    (r"roi_heads\.box_head\.fc6\.", "roi_heads.stages.0.fc1."),
    (r"roi_heads\.box_head\.fc7\.", "roi_heads.stages.0.fc2."),
    (r"roi_heads\.box_head\.(\d+)\.0\.", r"roi_heads.stages.0.convs.\1.conv."),
    (r"roi_heads\.box_head\.(\d+)\.1\.", r"roi_heads.stages.0.convs.\1.norm."),
    (r"roi_heads\.box_head\.(\d+)\.(?=weight|bias)", r"roi_heads.stages.0.layers.\1."),
    (r"roi_heads\.box_predictor\.cls_score\.", "roi_heads.stages.0.cls."),
    (r"roi_heads\.box_predictor\.bbox_pred\.", "roi_heads.stages.0.reg."),
    (r"roi_heads\.mask_head\.(\d+)\.0\.", rf"{_MASKS}convs.\1.conv."),
    (r"roi_heads\.mask_head\.(\d+)\.1\.", rf"{_MASKS}convs.\1.norm."),
    (r"roi_heads\.mask_head\.mask_fcn([1-9])\.", rf"{_MASKS}convs.<1-1>.conv."),
    (r"roi_heads\.mask_predictor\.conv5_mask\.", rf"{_MASKS}upsample."),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.", rf"{_MASKS}classifier."),
)


def our_names(keys: Iterable[str]) -> dict[str, str]:
    """Return our names of torchvision's parameters by theirs, without those that we do not have.

    Raises:
        CheckpointError: two of them are the same.

    >>> our_names(["rpn.head.conv.0.0.bias", "rpn.head.conv.1.0.bias"])
    {'rpn.head.conv.0.0.bias': 'rpn.convs.0.conv.bias', 'rpn.head.conv.1.0.bias': 'rpn.conv.bias'}
    """
    theirs: dict[str, str] = {}
    for key in keys:
        name = translated(_NAMES, key)
        if name in theirs:
            raise CheckpointError(f"{key} and {theirs[name]} are the same parameter")
        if name is not None:
            theirs[name] = key
    return {key: name for name, key in in_place(_numbered(theirs)).items()}


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters of torchvision by our names; those that we do not have are left out.

    A layer over a whole RoI is a convolution here.
    """
    ours = {name: state[key] for key, name in our_names(state).items()}
    first, pyramid = ours.get(FC1), ours.get("fpn.output.0.weight")
    if first is None or first.ndim != 2 or pyramid is None or pyramid.ndim != 4:
        return ours
    channels = max(1, len(pyramid))
    side = math.isqrt(first.shape[1] // channels)
    if side and first.shape[1] == channels * side**2:
        ours[FC1] = first.view(len(first), channels, side, side)
    return ours


def _numbered(theirs: Mapping[str, str]) -> dict[str, str]:
    """Return names with fully connected layers counted from 1, wherever among others they stand."""
    places = sorted({int(found[1]) for name in theirs if (found := _LAYER.match(name))})

    def named(name: str) -> str:
        found = _LAYER.match(name)
        if found is None:
            return name
        return f"{_BOX}fc{places.index(int(found[1])) + 1}.{name[found.end() :]}"

    return {named(name): key for name, key in theirs.items()}
