"""Parts and steps of a config that stand in others, or in one architecture alone."""

from __future__ import annotations

import pytest
from tests.weights.foreign.files import applied

from scnet import recipes
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign.mmdet import config_text, settings

RESIZE = "dict(type='Resize', scale=(640, 480), keep_ratio=True)"


def test_the_parts_of_scnet_and_htc_are_known() -> None:
    box = "dict(type='SCNetBBoxHead', bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2]))"
    parts = f"""
model = dict(type='SCNet', roi_head=dict(
    type='SCNetRoIHead', num_stages=3, stage_loss_weights=[1, 0.5, 0.25], mask_info_flow=True,
    semantic_fusion=('bbox', 'mask'), bbox_head=[{box}, {box}, {box}],
    semantic_roi_extractor=dict(
        roi_layer=dict(type='RoIAlign', out_size=14, sample_num=0), featmap_strides=[8]),
    semantic_head=dict(
        type='SCNetSemanticHead', num_ins=5, fusion_level=1, num_convs=4, num_classes=9,
        seg_scale_factor=0.125, conv_to_res=True, loss_seg=dict(ignore_index=255)),
    glbctx_head=dict(type='GlobalContextHead', num_convs=4, num_classes=6, loss_weight=3.0),
    feat_relay_head=dict(
        type='FeatureRelayHead', out_conv_channels=16, roi_feat_size=7, scale_factor=2)))
"""
    read = settings.apply(recipes.scnet(), config_text.parse(parts))
    assert read.unread == ()
    assert read.config.model.box.stages[2].delta_std == (0.1, 0.1, 0.2, 0.2)
    told = settings.apply(recipes.scnet(), config_text.parse(parts.replace("num_ins", "num_in")))
    assert told.unread == ("roi_head.semantic_head.num_in = 5",)
    old = parts.replace("sample_num=0", "sample_num=2")
    with pytest.raises(CheckpointError, match=r"roi_layer\.sample_num = 2"):
        settings.apply(recipes.scnet(), config_text.parse(old))


def test_flips_are_decided_by_the_step_around_them() -> None:
    around = "dict(type='MultiScaleFlipAug', img_scale=(640, 480), flip={}, transforms=[{}])"
    flips = "dict(type='Resize', keep_ratio=True), dict(type='RandomFlip', flip_ratio=0.5)"
    assert applied((RESIZE, around.format(False, flips))).unread == ()
    assert len(applied((RESIZE, around.format(True, flips))).unread) == 1
    alone = "dict(type='RandomFlip', prob=0.5), " + RESIZE
    assert "RandomFlip.prob = 0.5" in applied((RESIZE, alone)).unread[0]
