"""The settings of detectron2's published baselines with FPN, whose files hold none."""

from __future__ import annotations

from typing import Any

from scnet.weights.foreign.detectron2.anchors import RATIOS, SIZES
from scnet.weights.foreign.detectron2.style import CAFFE2, GROUP_NORM, RESNEXT

_SHARED: dict[str, Any] = {
    SIZES: [[32], [64], [128], [256], [512]],
    RATIOS: [[0.5, 1.0, 2.0]],
    "DATASETS.TRAIN": ["coco_2017_train"],
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.ROI_HEADS.NUM_CLASSES": 80,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": [10, 10, 5, 5],
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": [
        [10, 10, 5, 5],
        [20, 20, 10, 10],
        [30, 30, 15, 15],
    ],
    "TEST.DETECTIONS_PER_IMAGE": 100,
}


# What baselines have otherwise than is usual with their backbone, by how their names end.
_OTHERS: dict[str, dict[str, Any]] = {
    "_gn": GROUP_NORM,
    "_3x_syncbn": GROUP_NORM,
    "_noaug_1x": {  # as the first Detectron
        f"MODEL.ROI_{head}_HEAD.{setting}": value
        for head in ("BOX", "MASK")
        for setting, value in {"POOLER_TYPE": "ROIAlign", "POOLER_SAMPLING_RATIO": 2}.items()
    },
}


def settings(backbone: str, name: str = "") -> dict[str, Any]:
    """Return the settings of a baseline by detectron2's paths.

    Args:
        name: of its config, as `mask_rcnn_R_50_FPN_3x_gn`.

    >>> settings("ResNet-50")["INPUT.FORMAT"]
    'BGR'
    """
    usual = RESNEXT if backbone.startswith("ResNeXt") else CAFFE2
    own: dict[str, Any] = next((own for end, own in _OTHERS.items() if name.endswith(end)), {})
    return _SHARED | usual | own
