"""What may be changed in a model of detectron2 with RPN and RoI heads, told by its names."""

from __future__ import annotations

from collections.abc import Collection

from scnet.weights.foreign.strangers import OTHER, TRAIN, Stranger, first

_LIKE = "of detectron2's zoo scnet reads the FPN baselines with masks (`scnet zoo` lists them)"
_FPN = f"scnet has a pyramid; {_LIKE}"
_BOX = r"^roi_heads\.box_(head|predictor)\."

_CHANGES = (
    Stranger("ViTDet, a plain ViT as backbone", (r"^backbone\.(net|simfp_\d)\.",), OTHER),
    Stranger(
        "MViT, Swin or another transformer as backbone",
        (r"^backbone\.bottom_up\.(blocks|layers|stages|patch_embed|pos_embed|cls_token)",),
        OTHER,
    ),
    Stranger("keypoints (keypoint_head)", (r"^roi_heads\.keypoint_head\.",), OTHER),
    Stranger("DensePose", (r"^roi_heads\.densepose_",), OTHER),
    Stranger(
        "PointRend",
        (r"^roi_heads\.(mask_(point|coarse)_head|mask_head\.(point|coarse)_head)",),
        OTHER,
    ),
    Stranger("Mask Scoring (maskiou_head)", (r"^roi_heads\.maskiou_head\.",), OTHER),
    Stranger("C4: RoI heads on res4, without a pyramid", (r"^roi_heads\.res5\.",), _FPN),
    Stranger(
        "DC5: RoI heads on a dilated res5, without a pyramid",
        (r"^backbone\.res5\.",),
        _FPN,
        r"^backbone\.(bottom_up|fpn_)",
    ),
    Stranger("another pyramid than FPN", (r"^backbone\.(top_block|bifpn|fpn_lateral[67])",), OTHER),
    Stranger("a deep stem", (r"^backbone\.bottom_up\.stem\.(conv1_1|conv2|fc)",), OTHER),
    Stranger(
        "a ResNet-18 or -34 as backbone",
        (r"^backbone\.bottom_up\.res2\.0\.conv2\.",),
        f"of detectron2's ResNets scnet reads those of depth 50, 101 and 152; {TRAIN}",
        r"^backbone\.bottom_up\.res2\.0\.conv3\.",
    ),
    Stranger(
        "boxes alone (Faster R-CNN)",
        (_BOX,),
        f"scnet outlines objects, so it needs masks; take the Mask R-CNN of that name, or {TRAIN}",
        r"^roi_heads\.mask_head\.",
    ),
)


def change(names: Collection[str]) -> str | None:
    """Return what was changed in a model and what to do, by its own names; None if not known.

    >>> change(["roi_heads.keypoint_head.conv_fcn1.weight"])[:55]
    'this is a model of detectron2 with keypoints (keypoint_'
    """
    found = first(_CHANGES, names)
    return None if found is None else f"this is a model of detectron2 with {found}"
