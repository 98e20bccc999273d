"""What each setting of a detectron2 config means here: read, the same, harmless, or refused.

A setting that stands in none of these tables is told as not read. A star stands for anything.
"""

from __future__ import annotations

from typing import Any

from scnet.weights.foreign.detectron2 import pooling

# Alike when their statistics are fixed, but for group norm, which the weights show.
_NORMS = (
    "FrozenBN",
    "BN",
    "SyncBN",
    "nnSyncBN",
    "naiveSyncBN",
    "NaiveSyncBN",
    "naiveSyncBN_N",
    "GN",
)

# Where another value than ours would give other answers. None of them shows in a weight.
MUST_BE: dict[str, tuple[Any, ...]] = {
    "INPUT.FORMAT": ("BGR", "RGB"),
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN", "PanopticFPN"),
    "MODEL.MASK_ON": (True,),
    "MODEL.KEYPOINT_ON": (False,),
    "MODEL.LOAD_PROPOSALS": (False,),
    "MODEL.BACKBONE.NAME": ("build_resnet_fpn_backbone",),
    "MODEL.RESNETS.OUT_FEATURES": (["res2", "res3", "res4", "res5"],),
    "MODEL.RESNETS.RES5_DILATION": (1,),
    "MODEL.RESNETS.NORM": _NORMS,
    "MODEL.FPN.IN_FEATURES": (["res2", "res3", "res4", "res5"],),
    "MODEL.FPN.FUSE_TYPE": ("sum",),
    "MODEL.FPN.NORM": ("", *_NORMS),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN",),
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": (0,),
    "MODEL.ANCHOR_GENERATOR.NAME": ("DefaultAnchorGenerator",),
    "MODEL.ANCHOR_GENERATOR.OFFSET": (0,),
    "MODEL.RPN.HEAD_NAME": ("StandardRPNHead",),
    "MODEL.RPN.IN_FEATURES": (["p2", "p3", "p4", "p5", "p6"],),
    "MODEL.RPN.BBOX_REG_WEIGHTS": ([1, 1, 1, 1],),
    "MODEL.ROI_HEADS.NAME": ("StandardROIHeads", "CascadeROIHeads"),
    "MODEL.ROI_HEADS.IN_FEATURES": (["p2", "p3", "p4", "p5"],),
    "MODEL.ROI_BOX_HEAD.NAME": ("FastRCNNConvFCHead",),
    "MODEL.ROI_BOX_HEAD.NORM": ("", *_NORMS),
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": (False,),
    "MODEL.ROI_MASK_HEAD.NAME": ("MaskRCNNConvUpsampleHead",),
    "MODEL.ROI_MASK_HEAD.NORM": ("", *_NORMS),
    "TEST.AUG.ENABLED": (False,),
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": (7,),
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": (14,),
}

# Read: their values become settings of ours.
HANDLED = (
    *("INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"),
    *("MODEL.RESNETS.STRIDE_IN_1X1", "MODEL.ANCHOR_GENERATOR.SIZES"),
    *("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "MODEL.RPN.PRE_NMS_TOPK_TEST"),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", "MODEL.RPN.NMS_THRESH", "MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
    *(
        "MODEL.ROI_HEADS.NMS_THRESH_TEST",
        "TEST.DETECTIONS_PER_IMAGE",
        "MODEL.ROI_HEADS.NUM_CLASSES",
    ),
    *("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS"),
    "MODEL.RESNETS.DEFORM_*",
    *pooling.PATHS,
)

# Of training, of the machine, of parts that are not there, or seen in the shapes of the weights.
HARMLESS = (
    *("CUDNN_BENCHMARK", "DATALOADER.*", "DATASETS.*", "FLOAT32_PRECISION", "GLOBAL.*"),
    *("OUTPUT_DIR", "SEED", "SOLVER.*", "VERSION", "VIS_PERIOD", "MODEL.DEVICE", "MODEL.WEIGHTS"),
    *("INPUT.CROP.*", "INPUT.MASK_FORMAT", "INPUT.*_TRAIN", "INPUT.*_TRAIN_SAMPLING"),
    *("INPUT.RANDOM_FLIP", "MODEL.BACKBONE.FREEZE_AT", "MODEL.ANCHOR_GENERATOR.ANGLES"),
    *("MODEL.FPN.OUT_CHANNELS", "MODEL.PANOPTIC_FPN.*", "MODEL.RETINANET.*"),
    *("MODEL.ROI_KEYPOINT_HEAD.*", "MODEL.SEM_SEG_HEAD.*", "MODEL.ROI_BOX_CASCADE_HEAD.IOUS"),
    "MODEL.RESNETS.DEPTH",
    *("MODEL.RESNETS.NUM_GROUPS", "MODEL.RESNETS.*_CHANNELS", "MODEL.RESNETS.WIDTH_PER_GROUP"),
    *("MODEL.RPN.*_TRAIN", "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "MODEL.RPN.*LOSS*"),
    *(
        "MODEL.RPN.CONV_DIMS",
        "MODEL.RPN.BOUNDARY_THRESH",
        "MODEL.RPN.IOU_*",
        "MODEL.RPN.POSITIVE_FRACTION",
    ),
    *("MODEL.RPN.SMOOTH_L1_BETA", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "MODEL.ROI_HEADS.IOU_*"),
    *("MODEL.ROI_HEADS.POSITIVE_FRACTION", "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT"),
    *("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_*", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"),
    *("MODEL.ROI_BOX_HEAD.CONV_DIM", "MODEL.ROI_BOX_HEAD.FC_DIM", "MODEL.ROI_BOX_HEAD.*FED_LOSS*"),
    *("MODEL.ROI_BOX_HEAD.NUM_CONV", "MODEL.ROI_BOX_HEAD.NUM_FC"),
    *("MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES"),
    *("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "MODEL.ROI_MASK_HEAD.CONV_DIM"),
    *("MODEL.ROI_MASK_HEAD.NUM_CONV", "TEST.AUG.*", "TEST.EVAL_PERIOD", "TEST.EXPECTED_RESULTS"),
    *("TEST.KEYPOINT_OKS_SIGMAS", "TEST.PRECISE_BN.*"),
)

# What to say beside a refusal.
WHY = {
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": ", so its scores are no softmax (LVIS recipes)",
    "MODEL.PROPOSAL_GENERATOR.NAME": "; rotated boxes (RRPN) are not there",
    "TEST.AUG.ENABLED": "; images are not looked at in several sizes",
    "MODEL.FPN.FUSE_TYPE": "; another sum in its pyramid",
}
