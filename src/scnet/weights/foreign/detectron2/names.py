"""detectron2's parameter names and ours.

Its Mask R-CNN and Cascade Mask R-CNN on a ResNet with FPN have the same parameters as ours, but for
the order of colours that their first convolution expects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from scnet.weights.foreign.naming import table, translated
from scnet.weights.foreign.places import in_place
from scnet.weights.foreign.tensors import in_our_shape

_BLOCK = r"backbone\.bottom_up\.res(?P<level>\d)\.(\d+)\."
_HEAD = r"roi_heads\.box_(?:head|predictor)\.(\d)\."
_LEVEL = r"backbone\.fpn_(?P<way>lateral|output)(?P<level>\d)\."
_MASK = r"roi_heads\.mask_head\.mask_fcn(?P<level>\d)\."
# detectron2's name and ours; the first entry that matches counts. It counts stages and levels by
# their stride: the finest are res2 and fpn_output2; convolutions of heads from 1.
_NAMES = table(
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.", r"backbone.net.bn1."),
    (r"backbone\.bottom_up\.stem\.conv1\.", r"backbone.net.conv1."),
    (_BLOCK + r"shortcut\.norm\.", r"backbone.net.layer<level-1>.\2.downsample.1."),
    (_BLOCK + r"shortcut\.", r"backbone.net.layer<level-1>.\2.downsample.0."),
    (_BLOCK + r"conv(\d)\.norm\.", r"backbone.net.layer<level-1>.\2.bn\3."),
    (_BLOCK + r"conv2_offset\.", r"backbone.net.layer<level-1>.\2.conv2.conv_offset."),
    (_BLOCK + r"(conv\d)\.", r"backbone.net.layer<level-1>.\2.\3."),
    (_LEVEL + r"norm\.", r"fpn.\g<way>_norm.<level-2>."),
    (_LEVEL, r"fpn.\g<way>.<level-2>."),
    (r"proposal_generator\.rpn_head\.conv\.conv(\d)\.", r"rpn.convs.\1.conv."),
    (r"proposal_generator\.rpn_head\.conv\.", r"rpn.conv."),
    (r"proposal_generator\.rpn_head\.objectness_logits\.", r"rpn.cls."),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.", r"rpn.reg."),
    (_HEAD + r"conv(?P<level>\d)\.norm\.", r"roi_heads.stages.\1.convs.<level-1>.norm."),
    (_HEAD + r"conv(?P<level>\d)\.", r"roi_heads.stages.\1.convs.<level-1>.conv."),
    (_HEAD + r"(fc\d)\.", r"roi_heads.stages.\1.\2."),
    (_HEAD + r"cls_score\.", r"roi_heads.stages.\1.cls."),
    (_HEAD + r"bbox_pred\.", r"roi_heads.stages.\1.reg."),
    (_MASK + r"norm\.", r"roi_heads.masks.heads.0.convs.<level-1>.norm."),
    (_MASK, r"roi_heads.masks.heads.0.convs.<level-1>.conv."),
    (r"roi_heads\.mask_head\.deconv\.", r"roi_heads.masks.heads.0.upsample."),
    (r"roi_heads\.mask_head\.predictor\.", r"roi_heads.masks.heads.0.classifier."),
)


def our_name(key: str) -> str | None:
    """Return our name of a parameter of detectron2; None where we have no such parameter.

    Norms and the RPN's convolutions find their places by `places.in_place`.

    >>> our_name("backbone.bottom_up.res4.0.conv2.norm.weight")
    'backbone.net.layer3.0.bn2.weight'
    """
    # A model with a single box head does not number it; ours always do.
    key = re.sub(r"^(roi_heads\.box_(?:head|predictor)\.)(?!\d)", r"\g<1>0.", key)
    return translated(_NAMES, key)


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters of detectron2 by our names; those that we do not have are left out."""
    named = {name: value for key, value in state.items() if (name := our_name(key)) is not None}
    return {name: in_our_shape(name, value) for name, value in in_place(named).items()}
