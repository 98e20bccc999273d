"""What may be changed in a Mask R-CNN of torchvision, told by its names."""

from __future__ import annotations

from collections.abc import Collection

from scnet.weights.foreign.strangers import OTHER, TRAIN, Stranger, first

_LIKE = (
    "of torchvision scnet reads maskrcnn_resnet50_fpn, its second version and their like on deeper "
    "ResNets"
)

_CHANGES = (
    Stranger("keypoints", (r"^roi_heads\.keypoint_",), OTHER),
    Stranger(
        "a ResNet-18 or -34 as backbone",
        (r"^backbone\.body\.layer1\.0\.conv2\.",),
        f"of torchvision's ResNets scnet reads those of depth 50, 101 and 152; {TRAIN}",
        r"^backbone\.body\.layer1\.0\.conv3\.",
    ),
    Stranger(
        "another backbone than a ResNet with FPN",
        (r"^backbone\.",),
        f"{_LIKE}; {TRAIN}",
        r"^backbone\.fpn\.|^backbone\.body\.layer1\.",
    ),
    Stranger(
        "another backbone than a ResNet",
        (r"^backbone\.",),
        f"{_LIKE}; {TRAIN}",
        r"^backbone\.body\.layer1\.",
    ),
    Stranger(
        "a backbone without a pyramid", (r"^backbone\.",), f"{_LIKE}; {TRAIN}", r"^backbone\.fpn\."
    ),
    Stranger("another pyramid than FPN", (r"^backbone\.fpn\.extra_blocks\.",), f"{_LIKE}; {TRAIN}"),
    Stranger(
        "another norm than batch norm in its backbone",
        (r"^backbone\.body\.bn1\.weight",),
        f"{_LIKE}; {TRAIN}",
        r"^backbone\.body\.bn1\.running_var",
    ),
    Stranger(
        "group norm in its pyramid or heads",
        (r"^(backbone\.fpn|roi_heads)\..*\.\d\.1\.weight",),
        f"in how many groups shows in no file; {_LIKE}",
        r"^(backbone\.fpn|roi_heads)\..*\.\d\.1\.running_var",
    ),
    Stranger(
        "another box head",
        (r"^roi_heads\.box_head\.",),
        f"{_LIKE}; {TRAIN}",
        r"^roi_heads\.box_head\.(fc6|\d+\.0)\.",
    ),
)


def change(names: Collection[str]) -> str | None:
    """Return what was changed in a model and what to do, by its own names; None if not known.

    >>> change(["roi_heads.keypoint_head.0.weight"])[:52]
    'this is a Mask R-CNN of torchvision with keypoints ('
    """
    found = first(_CHANGES, names)
    return None if found is None else f"this is a Mask R-CNN of torchvision with {found}"
