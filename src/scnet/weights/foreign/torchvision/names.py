"""torchvision's parameter names and ours, old and new.

Its Mask R-CNN on a ResNet with FPN has the same parameters as ours, but for the background, which
is its first class and our last (`class_rows.py`). Up to torchvision 0.12, and so in the published
file of its first Mask R-CNN, single convolutions were not numbered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

BODY = "backbone.body."  # begins the names of its ResNet
FC1 = "roi_heads.stages.0.fc1.weight"
_MASKS = "roi_heads.masks.heads.0."
# torchvision's name and ours; the first entry that matches counts.
_NAMES = tuple(
    (re.compile(theirs), ours)
    for theirs, ours in (
        (r"backbone\.body\.", "backbone.net."),
        (r"backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?(?=weight|bias)", r"fpn.lateral.\1."),
        (r"backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?(?=weight|bias)", r"fpn.output.\1."),
        (r"rpn\.head\.conv\.(?:0\.0\.)?(?=weight|bias)", "rpn.conv."),
        (r"rpn\.head\.cls_logits\.", "rpn.cls."),
        (r"rpn\.head\.bbox_pred\.", "rpn.reg."),
        (r"roi_heads\.box_head\.fc6\.", "roi_heads.stages.0.fc1."),
        (r"roi_heads\.box_head\.fc7\.", "roi_heads.stages.0.fc2."),
        (r"roi_heads\.box_predictor\.cls_score\.", "roi_heads.stages.0.cls."),
        (r"roi_heads\.box_predictor\.bbox_pred\.", "roi_heads.stages.0.reg."),
        (r"roi_heads\.mask_head\.(\d+)\.0\.", rf"{_MASKS}convs.\1.conv."),
        *(
            (rf"roi_heads\.mask_head\.mask_fcn{n}\.", rf"{_MASKS}convs.{n - 1}.conv.")
            for n in range(1, 5)
        ),
        (r"roi_heads\.mask_predictor\.conv5_mask\.", rf"{_MASKS}upsample."),
        (r"roi_heads\.mask_predictor\.mask_fcn_logits\.", rf"{_MASKS}classifier."),
    )
)


def our_name(key: str) -> str | None:
    """Return our name of a parameter of torchvision; None where we have no such parameter.

    >>> our_name("rpn.head.conv.0.0.weight"), our_name("rpn.head.conv.weight")
    ('rpn.conv.weight', 'rpn.conv.weight')
    """
    for theirs, ours in _NAMES:
        found = theirs.match(key)
        if found is not None:
            return found.expand(ours) + key[found.end() :]
    return None


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters of torchvision by our names; those that we do not have are left out.

    A layer over a whole RoI is a convolution here.
    """
    named = {our_name(key): value for key, value in state.items()}
    ours = {name: value for name, value in named.items() if name is not None}
    first, pyramid = ours.get(FC1), ours.get("fpn.output.0.weight")
    if first is None or first.ndim != 2 or pyramid is None or pyramid.ndim != 4:
        return ours
    channels = max(1, len(pyramid))
    side = math.isqrt(first.shape[1] // channels)
    if side and first.shape[1] == channels * side**2:
        ours[FC1] = first.view(len(first), channels, side, side)
    return ours
