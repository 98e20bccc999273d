"""detectron2's parameter names and ours.

Its Mask R-CNN and Cascade Mask R-CNN on a ResNet with FPN have the same parameters as ours, but for
the order of colours that their first convolution expects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from scnet.weights.foreign.tensors import in_our_shape

_BLOCK = r"backbone\.bottom_up\.res(?P<level>\d)\.(\d+)\."
_HEAD = r"roi_heads\.box_(?:head|predictor)\.(\d)\."
# detectron2's name and ours; the first entry that matches counts. It counts stages and levels by
# their stride: the finest are res2 and fpn_output2. "<1>" and "<2>" are that level less 1 or 2.
_NAMES = tuple(
    (re.compile(theirs), ours)
    for theirs, ours in (
        (r"backbone\.bottom_up\.stem\.conv1\.norm\.", r"backbone.net.bn1."),
        (r"backbone\.bottom_up\.stem\.conv1\.", r"backbone.net.conv1."),
        (_BLOCK + r"shortcut\.norm\.", r"backbone.net.layer<1>.\2.downsample.1."),
        (_BLOCK + r"shortcut\.", r"backbone.net.layer<1>.\2.downsample.0."),
        (_BLOCK + r"conv(\d)\.norm\.", r"backbone.net.layer<1>.\2.bn\3."),
        (_BLOCK + r"(conv\d)\.", r"backbone.net.layer<1>.\2.\3."),
        (r"backbone\.fpn_(?P<way>lateral|output)(?P<level>\d)\.", r"fpn.\g<way>.<2>."),
        (r"proposal_generator\.rpn_head\.conv\.", r"rpn.conv."),
        (r"proposal_generator\.rpn_head\.objectness_logits\.", r"rpn.cls."),
        (r"proposal_generator\.rpn_head\.anchor_deltas\.", r"rpn.reg."),
        (_HEAD + r"(fc[12])\.", r"roi_heads.stages.\1.\2."),
        (_HEAD + r"cls_score\.", r"roi_heads.stages.\1.cls."),
        (_HEAD + r"bbox_pred\.", r"roi_heads.stages.\1.reg."),
        (r"roi_heads\.mask_head\.mask_fcn1\.", r"roi_heads.masks.heads.0.convs.0.conv."),
        (r"roi_heads\.mask_head\.mask_fcn2\.", r"roi_heads.masks.heads.0.convs.1.conv."),
        (r"roi_heads\.mask_head\.mask_fcn3\.", r"roi_heads.masks.heads.0.convs.2.conv."),
        (r"roi_heads\.mask_head\.mask_fcn4\.", r"roi_heads.masks.heads.0.convs.3.conv."),
        (r"roi_heads\.mask_head\.deconv\.", r"roi_heads.masks.heads.0.upsample."),
        (r"roi_heads\.mask_head\.predictor\.", r"roi_heads.masks.heads.0.classifier."),
    )
)


def our_name(key: str) -> str | None:
    """Return our name of a parameter of detectron2; None where we have no such parameter.

    >>> our_name("backbone.bottom_up.res4.0.conv2.norm.weight")
    'backbone.net.layer3.0.bn2.weight'
    """
    # A model with a single box head does not number it; ours always do.
    key = re.sub(r"^(roi_heads\.box_(?:head|predictor)\.)(?!\d)", r"\g<1>0.", key)
    for theirs, ours in _NAMES:
        found = theirs.match(key)
        if found is None:
            continue
        if "level" in theirs.groupindex:
            level = int(found["level"])
            ours = ours.replace("<1>", str(level - 1)).replace("<2>", str(level - 2))
        return found.expand(ours) + key[found.end() :]
    return None


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters of detectron2 by our names; those that we do not have are left out."""
    named = {our_name(key): value for key, value in state.items()}
    return {name: in_our_shape(name, value) for name, value in named.items() if name is not None}
