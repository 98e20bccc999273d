"""MMDetection's parameter names and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from scnet.weights.foreign.naming import table, translated

# MMDetection's name and ours; the first entry that matches counts. 2.x and 3.x have the same names.
_BOX = r"roi_head\.bbox_head\.(\d+)\."
_HEAD = r"roi_head\.mask_head\.(\d+)\."
_NORM = re.compile(r"(?<=\.)[gb]n(?=\d?\.)")  # of a head; the pyramid and the backbone have others
_SCORING = r"roi_head\.mask_iou_head\."
_SEMANTIC = r"roi_head\.semantic_head\."
_NAMES = table(
    (r"backbone\.(.*\.)?gn(\d)\.", r"backbone.net.\1bn\2."),
    # As deformable convolutions were called before MMDetection 2.0 was released.
    (r"backbone\.(.*\.)?conv2_offset\.", r"backbone.net.\1conv2.conv_offset."),
    (r"backbone\.", r"backbone.net."),
    (r"neck\.lateral_convs\.(\d+)\.conv\.", r"fpn.lateral.\1."),
    (r"neck\.lateral_convs\.(\d+)\.[gb]n\.", r"fpn.lateral_norm.\1."),
    (r"neck\.fpn_convs\.(\d+)\.conv\.", r"fpn.output.\1."),
    (r"neck\.fpn_convs\.(\d+)\.[gb]n\.", r"fpn.output_norm.\1."),
    (r"neck\.downsample_convs\.(\d+)\.conv\.", r"fpn.down.\1."),
    (r"neck\.downsample_convs\.(\d+)\.[gb]n\.", r"fpn.down_norm.\1."),
    (r"neck\.pafpn_convs\.(\d+)\.conv\.", r"fpn.last.\1."),
    (r"neck\.pafpn_convs\.(\d+)\.[gb]n\.", r"fpn.last_norm.\1."),
    (r"rpn_head\.rpn_conv\.(\d+)\.", r"rpn.convs.\1."),
    (r"rpn_head\.rpn_(conv|cls|reg)\.", r"rpn.\1."),
    (_BOX + r"shared_convs\.", r"roi_heads.stages.\1.convs."),
    (_BOX + r"shared_fcs\.(\d)\.", r"roi_heads.stages.\1.fc<2+1>."),
    (_BOX + r"fc_(cls|reg)\.", r"roi_heads.stages.\1.\2."),
    (_HEAD + r"conv_logits\.", r"roi_heads.masks.heads.\1.classifier."),
    (_HEAD + r"conv_res\.", r"roi_heads.masks.heads.\1.flow."),
    (_HEAD + r"(convs|upsample)\.", r"roi_heads.masks.heads.\1.\2."),
    (_SCORING + r"fc_mask_iou\.", r"roi_heads.masks.scoring.iou."),
    (_SCORING + r"(convs|fcs)\.", r"roi_heads.masks.scoring.\1."),
    (r"roi_head\.feat_relay_head\.fc\.", r"roi_heads.masks.relays.0.fc."),
    (_SEMANTIC + r"lateral_convs\.", r"branches.semantic.lateral."),
    (_SEMANTIC + r"conv_embedding\.", r"branches.semantic.embedding."),
    (_SEMANTIC + r"conv_logits\.", r"branches.semantic.classifier."),
    (_SEMANTIC + r"convs\.", r"branches.semantic.convs."),
    (r"roi_head\.glbctx_head\.fc\.", r"branches.context.classifier."),
    (r"roi_head\.glbctx_head\.convs\.", r"branches.context.convs."),
)

# MMDetection names the layers of a RegNet as those of a ResNet, timm does not. It counts blocks
# from 1.
_BLOCK = r"backbone\.layer(\d)\.(\d+)\."
_REGNET = table(
    (r"backbone\.conv1\.", r"backbone.net.stem.conv."),
    (r"backbone\.bn1\.", r"backbone.net.stem.bn."),
    (_BLOCK + r"downsample\.0\.", r"backbone.net.s\1.b<2+1>.downsample.conv."),
    (_BLOCK + r"downsample\.1\.", r"backbone.net.s\1.b<2+1>.downsample.bn."),
    (_BLOCK + r"conv(\d)\.", r"backbone.net.s\1.b<2+1>.conv\3.conv."),
    (_BLOCK + r"bn(\d)\.", r"backbone.net.s\1.b<2+1>.conv\3.bn."),
)


def our_names(theirs: Mapping[str, Tensor]) -> dict[str, str | None]:
    """Return our names of the parameters of a model; None where we have no such parameter."""
    first = theirs.get("backbone.conv1.weight")
    # Only the sizes tell a RegNet: a ResNet's first convolution is 7 cells wide.
    regnet = first is not None and first.ndim == 4 and first.shape[-1] == 3
    return {key: (regnet and translated(_REGNET, key)) or our_name(key) for key in theirs}


def our_name(key: str) -> str | None:
    """Return our name of a parameter of MMDetection; None where we have no such parameter.

    Norms and the RPN's convolutions find their places by `places.in_place`.

    >>> our_name("roi_head.bbox_head.1.shared_convs.3.gn.weight")
    'roi_heads.stages.1.convs.3.norm.weight'
    """
    # Models with a single box or mask head number none; ours always do.
    key = re.sub(r"^(roi_head\.(?:bbox|mask)_head\.)(?!\d)", r"\g<1>0.", key)
    name = translated(_NAMES, key)
    return name if name is None or name.startswith("backbone.") else _NORM.sub("norm", name)
