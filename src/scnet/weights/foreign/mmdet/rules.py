"""What each setting of an MMDetection model means here: read, the same, harmless, or refused.

A setting that stands in none of these tables is told as not read. Paths are those inside of
`model`; a star stands for anything.
"""

from __future__ import annotations

from typing import Any

from scnet.weights.foreign.mmdet import pooling
from scnet.weights.foreign.mmdet.version_1 import LEGACY_ANCHORS, LEGACY_DELTAS

_ROI_LAYERS: dict[str, tuple[Any, ...]] = {
    f"roi_head.{name}.{setting}": values
    for name in ("bbox_roi_extractor", "mask_roi_extractor", "semantic_roi_extractor")
    for setting, values in {
        "type": ("SingleRoIExtractor",),
        "finest_scale": (56,),
        "roi_layer.type": ("RoIAlign",),
        "roi_layer.out_size": (7,) if name[0] == "b" else (14,),  # its name in 2.0
        "roi_layer.pool_mode": ("avg",),
        "featmap_strides": ([8],) if name[0] == "s" else ([4, 8, 16, 32],),
        "roi_layer.output_size": (7, [7, 7]) if name[0] == "b" else (14, [14, 14]),
    }.items()
}
_CODERS: dict[str, tuple[Any, ...]] = {
    f"{head}.bbox_coder.{setting}": values
    for head in ("rpn_head", "roi_head.bbox_head")
    for setting, values in {
        "type": ("DeltaXYWHBBoxCoder",),
        "target_means": ([0, 0, 0, 0],),
        "clip_border": (True,),
        "add_ctr_clamp": (False,),
    }.items()
}
_PLAIN_CONV: tuple[Any, ...] = (None, "Conv", "Conv2d")

# Where another value than ours would give other answers. None of them shows in a weight.
MUST_BE: dict[str, tuple[Any, ...]] = {
    "backbone.style": ("pytorch", "caffe"),
    "backbone.strides": ([1, 2, 2, 2],),
    "backbone.dilations": ([1, 1, 1, 1],),
    "backbone.out_indices": ([0, 1, 2, 3],),
    "backbone.num_stages": (4,),
    "backbone.deep_stem": (False,),
    "neck.no_norm_on_lateral": (False,),
    "backbone.avg_down": (False,),
    "backbone.dcn": (None,),
    "backbone.dcn.type": ("DCN", "DCNv2"),
    "backbone.dcn.fallback_on_stride": (False,),
    "backbone.plugins*": (None,),
    "*.conv_cfg": (None,),
    "*.conv_cfg.type": _PLAIN_CONV,
    "*.norm_cfg.type": ("BN", "BN2d", "SyncBN", "MMSyncBN", "GN"),  # which, the weights show
    "*.norm_cfg.eps": (1e-5,),
    "*.norm_cfg.num_groups": (32,),
    "neck.type": ("FPN", "PAFPN"),
    "neck.num_outs": (5,),
    "neck.start_level": (0,),
    "neck.end_level": (-1, 4),
    "neck.add_extra_convs": (False,),
    "neck.act_cfg*": (None,),
    "neck.upsample_cfg.mode": ("nearest",),
    "rpn_head.anchor_generator.type": ("AnchorGenerator",),
    "rpn_head.anchor_generator.strides": ([4, 8, 16, 32, 64],),
    "rpn_head.anchor_generator.base_sizes": (None, [4, 8, 16, 32, 64]),
    "rpn_head.anchor_generator.centers": (None,),
    "rpn_head.anchor_generator.center_offset": (0,),
    "rpn_head.bbox_coder.target_stds": ([1, 1, 1, 1],),
    "rpn_head.loss_cls.use_sigmoid": (True,),
    **_ROI_LAYERS,
    **_CODERS,
    "roi_head.semantic_fusion": (["bbox", "mask"],),
    "roi_head.bbox_head.loss_cls.use_sigmoid": (False,),
    "roi_head.bbox_head.roi_feat_size": (7, [7, 7]),
    "roi_head.bbox_head.with_avg_pool": (False,),
    "roi_head.bbox_head.*_predictor_cfg.type": ("Linear",),
    "roi_head.mask_head.upsample_cfg.type": ("deconv", None),
    "roi_head.mask_head.upsample_cfg.scale_factor": (2,),
    "roi_head.mask_head.conv_kernel_size": (3,),
    "roi_head.mask_head.predictor_cfg.type": _PLAIN_CONV,
    "roi_head.mask_iou_head.roi_feat_size": (14, [14, 14]),
    "roi_head.semantic_head.fusion_level": (1,),
    "roi_head.semantic_head.num_ins": (5,),
    "roi_head.feat_relay_head.roi_feat_size": (7, [7, 7]),
    "roi_head.feat_relay_head.scale_factor": (2,),
    "test_cfg.rpn.min_bbox_size": (0,),
    "test_cfg.rpn.nms.type": ("nms",),
    "test_cfg.rpn.nms.class_agnostic": (False,),
    "test_cfg.rpn.nms_across_levels": (False,),
    "test_cfg.rcnn.nms.type": ("nms", "soft_nms"),
    "test_cfg.*.nms.offset": (0,),
    "test_cfg.rcnn.mask_thr_binary": (0.5,),
    "test_cfg.keep_all_stages": (False,),  # of 1.x
    "data_preprocessor.bgr_to_rgb": (True, False),
    "data_preprocessor.rgb_to_bgr": (False,),
    "img_norm_cfg.to_rgb": (True, False),
}

# Likewise, where the pyramid is a PAFPN.
OF_PAFPN: dict[str, tuple[Any, ...]] = {
    "neck.act_cfg": (None,),
    "neck.act_cfg.type": ("ReLU",),
    "neck.act_cfg.inplace": (True, False),
}

# These make scores of another kind; any other loss may have its softmax.
MUST_NOT_BE: dict[str, tuple[Any, ...]] = {
    "roi_head.bbox_head.loss_cls.type": ("FocalLoss", "SeesawLoss", "EQLv2", "GumbelCE"),
}

# What to say of a value that is refused.
WHY = {
    "ConvWS": ": weight standardisation (WS), by which its weights are no ordinary ones",
    "ConvAWS": ": weight standardisation (WS), by which its weights are no ordinary ones",
    LEGACY_ANCHORS: ", the anchors of MMDetection 1.x, of whole numbers and half a cell off",
    LEGACY_DELTAS: ", by which boxes are a pixel wider (x2 - x1 + 1), as in MMDetection 1.x",
}

# What these do is known; a class of another name is told.
KNOWN: dict[str, tuple[Any, ...]] = {
    "type": ("MaskRCNN", "MaskScoringRCNN", "CascadeRCNN", "HybridTaskCascade", "SCNet"),
    "backbone.type": ("ResNet", "ResNeXt", "RegNet"),
    "rpn_head.type": ("RPNHead",),
    "roi_head.type": (
        *("StandardRoIHead", "CascadeRoIHead", "HybridTaskCascadeRoIHead", "SCNetRoIHead"),
        "MaskScoringRoIHead",
        *("DynamicRoIHead", "PISARoIHead"),  # others in training alone
    ),
    "roi_head.bbox_head.type": (
        *("Shared2FCBBoxHead", "Shared4Conv1FCBBoxHead", "ConvFCBBoxHead", "SCNetBBoxHead"),
        *("BBoxHead", "SharedFCBBoxHead"),  # the last in 1.x
    ),
    "roi_head.mask_head.type": ("FCNMaskHead", "HTCMaskHead", "SCNetMaskHead"),
    "roi_head.mask_iou_head.type": ("MaskIoUHead",),
    "roi_head.semantic_head.type": ("FusedSemanticHead", "SCNetSemanticHead"),
    "roi_head.glbctx_head.type": ("GlobalContextHead",),
    "roi_head.feat_relay_head.type": ("FeatureRelayHead",),
    "roi_head.bbox_head.loss_cls.type": ("CrossEntropyLoss",),
    "roi_head.mask_info_flow": (True,),
    "roi_head.bbox_head.custom_activation": (False,),
    "rpn_head.anchor_generator.scale_major": (True,),
    "data_preprocessor.type": ("DetDataPreprocessor",),
    "data_preprocessor.pad_size_divisor": (32,),
    "data_preprocessor.pad_value": (0,),
    "test_cfg.rpn.nms.max_num": (-1,),
    "test_cfg.rcnn.nms.max_num": (-1,),
}

HANDLED = (
    *pooling.PATHS,
    "backbone.dcn.deform_groups",
    "backbone.dcn.deformable_groups",
    "rpn_head.anchor_generator.scales",
    "rpn_head.anchor_generator.octave_base_scale",
    "rpn_head.anchor_generator.scales_per_octave",
    "rpn_head.anchor_generator.ratios",
    "roi_head.bbox_head.bbox_coder.target_stds",
    "test_cfg.rpn.nms_pre",
    "test_cfg.rpn.nms_post",
    "test_cfg.rpn.max_num",
    "test_cfg.rpn.max_per_img",
    "test_cfg.rpn.nms_thr",
    "test_cfg.rpn.nms.iou_th*",
    "test_cfg.rcnn.score_thr",
    "test_cfg.rcnn.nms.iou_th*",
    "test_cfg.rcnn.nms.class_agnostic",
    "test_cfg.rcnn.max_per_img",
    "data_preprocessor.mean",
    "data_preprocessor.std",
    "img_norm_cfg.mean",
    "img_norm_cfg.std",
)
HANDLED_IN_SOFT_NMS = tuple(f"test_cfg.rcnn.nms.{x}" for x in ("method", "sigma", "min_score"))

# Of training, of memory, or seen in the shapes of the weights, which have to fit.
HARMLESS = (
    *("train_cfg", "train_cfg.*", "pretrained", "*.pretrained", "init_cfg*", "*.init_cfg*"),
    *("*.loss_bbox*", "*.loss_mask*", "*.loss_weight", "*.loss_seg*", "*.stage_loss_weights"),
    *("rpn_head.loss_cls.*", "roi_head.bbox_head.loss_cls.loss_weight", "*.class_weight"),
    *("*.in_channels", "*.out_channels", "*.feat_channels", "*.conv_out_channels"),
    *("*.fc_out_channels", "*.out_conv_channels", "*.num_classes", "*.num_convs"),
    *("*.num_*_convs", "*.num_*fcs", "*.norm_cfg", "*.norm_cfg.*", "*.conv_to_res"),
    "*.mask_iou_head.loss_iou*",
    *(
        "*.reg_class_agnostic",
        "*.mask_head.class_agnostic",
        "*.with_conv_res",
        "*.reg_decoded_bbox",
    ),
    *(
        "backbone.arch",
        "backbone.depth",
        "backbone.groups",
        "backbone.base_width",
        "backbone.base_channels",
    ),
    *("backbone.stem_channels", "backbone.frozen_stages", "backbone.norm_eval"),
    *("backbone.with_cp", "backbone.zero_init_residual", "backbone.stage_with_dcn"),
    *("neck.relu_before_extra_convs", "neck.extra_convs_on_inputs"),
    *("roi_head.num_stages", "roi_head.interleaved", "*.use_torchvision", "*.use_box_type"),
    *("roi_head.mask_head.roi_feat_size", "roi_head.bbox_head.with_cls"),
    *(
        "roi_head.bbox_head.with_reg",
        "roi_head.shared_head",
        "roi_head.semantic_head",
        "roi_head.semantic_roi_extractor",
        "*.ignore_label",
    ),
    *("*.seg_scale_factor", "*.predict_box_type", "*.ctr_clamp", "test_cfg.type"),
    *("test_cfg.*.nms.split_thr", "data_preprocessor.*pad_mask", "data_preprocessor.*pad_seg"),
    *("data_preprocessor.mask_pad_value", "data_preprocessor.seg_pad_value"),
    *("data_preprocessor.boxtype2tensor", "data_preprocessor.non_blocking"),
    *("data_preprocessor.batch_augments*",),
)
