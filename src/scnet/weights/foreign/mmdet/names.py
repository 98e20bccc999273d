"""MMDetection's parameter names and ours."""

from __future__ import annotations

import re

from torch import Tensor

from scnet.config import BoxStageConfig

SIDE = BoxStageConfig().side  # of the RoI feature that a box head reads

# MMDetection's name and ours; the first entry that matches counts. 2.x and 3.x have the same names.
_BOX = r"roi_head\.bbox_head\.(\d+)\."
_HEAD = r"roi_head\.mask_head\.(\d+)\."
_NORM = re.compile(r"(?<=\.)[gb]n(?=\d?\.)")  # of a head; the pyramid and the backbone have others
_SEMANTIC = r"roi_head\.semantic_head\."
_NAMES = tuple(
    (re.compile(theirs), ours)
    for theirs, ours in (
        (r"backbone\.(.*\.)?gn(\d)\.", r"backbone.net.\1bn\2."),
        (r"backbone\.", r"backbone.net."),
        (r"neck\.lateral_convs\.(\d+)\.conv\.", r"fpn.lateral.\1."),
        (r"neck\.lateral_convs\.(\d+)\.[gb]n\.", r"fpn.lateral_norm.\1."),
        (r"neck\.fpn_convs\.(\d+)\.conv\.", r"fpn.output.\1."),
        (r"neck\.fpn_convs\.(\d+)\.[gb]n\.", r"fpn.output_norm.\1."),
        (r"rpn_head\.rpn_conv\.(\d+)\.", r"rpn.convs.\1."),
        (r"rpn_head\.rpn_(conv|cls|reg)\.", r"rpn.\1."),
        (_BOX + r"shared_convs\.", r"roi_heads.stages.\1.convs."),
        *((_BOX + rf"shared_fcs\.{i}\.", rf"roi_heads.stages.\1.fc{i + 1}.") for i in range(9)),
        (_BOX + r"fc_(cls|reg)\.", r"roi_heads.stages.\1.\2."),
        (_HEAD + r"conv_logits\.", r"roi_heads.masks.heads.\1.classifier."),
        (_HEAD + r"conv_res\.", r"roi_heads.masks.heads.\1.flow."),
        (_HEAD + r"(convs|upsample)\.", r"roi_heads.masks.heads.\1.\2."),
        (r"roi_head\.feat_relay_head\.fc\.", r"roi_heads.masks.relays.0.fc."),
        (_SEMANTIC + r"lateral_convs\.", r"branches.semantic.lateral."),
        (_SEMANTIC + r"conv_embedding\.", r"branches.semantic.embedding."),
        (_SEMANTIC + r"conv_logits\.", r"branches.semantic.classifier."),
        (_SEMANTIC + r"convs\.", r"branches.semantic.convs."),
        (r"roi_head\.glbctx_head\.fc\.", r"branches.context.classifier."),
        (r"roi_head\.glbctx_head\.convs\.", r"branches.context.convs."),
    )
)


def our_name(key: str) -> str | None:
    """Return our name of a parameter of MMDetection; None where we have no such parameter.

    Norms and the RPN's convolutions find their places by `places.in_place`.

    >>> our_name("roi_head.bbox_head.1.shared_convs.3.gn.weight")
    'roi_heads.stages.1.convs.3.norm.weight'
    """
    # Models with a single box or mask head number none; ours always do.
    key = re.sub(r"^(roi_head\.(?:bbox|mask)_head\.)(?!\d)", r"\g<1>0.", key)
    for theirs, ours in _NAMES:
        if theirs.match(key):
            name = theirs.sub(ours, key, count=1)
            return name if name.startswith("backbone.") else _NORM.sub("norm", name)
    return None


def in_our_shape(name: str, value: Tensor) -> Tensor:
    """Return a parameter in the shape that ours has: a layer over a whole RoI is a convolution."""
    if name.endswith(".fc1.weight") and value.ndim == 2 and value.shape[1] % SIDE**2 == 0:
        return value.view(len(value), -1, SIDE, SIDE)
    return value
