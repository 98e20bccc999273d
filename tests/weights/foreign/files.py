"""Checkpoint files of other libraries, made up from the weights of a small Mask R-CNN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.mmdet_files import mask_rcnn, write
from torch import Tensor

from scnet import recipes
from scnet.weights.foreign.mmdet import config_text, settings

State = dict[str, Tensor]
NAMES = ("ash", "oak", "elm", "fir", "yew", "box")

TEXT = """
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_mask=True, pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=50, num_stages=4, out_indices=(0, 1, 2, 3), frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True), norm_eval=True, style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
    neck=dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=16, num_outs=5),
    rpn_head=dict(
        type='RPNHead', in_channels=16, feat_channels=16,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=16, featmap_strides=[4, 8, 16, 32]),
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=16, fc_out_channels=32, roi_feat_size=7,
            num_classes=6, reg_class_agnostic=False,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2]),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=16, featmap_strides=[4, 8, 16, 32]),
        mask_head=dict(
            type='FCNMaskHead', num_convs=4, in_channels=16, conv_out_channels=16, num_classes=6,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))),
    train_cfg=dict(rpn=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.7))),
    test_cfg=dict(
        rpn=dict(
            nms_pre=1000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0),
        rcnn=dict(
            score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100,
            mask_thr_binary=0.5)))
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        type='CocoDataset',
        pipeline=[
            dict(type='LoadImageFromFile', backend_args=None),
            dict(type='Resize', scale=(640, 480), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'scale_factor'))]))
test_cfg = dict(type='TestLoop')
"""


def state(folder: Path, classes: int = 6, **changes: object) -> State:
    """Return the weights of a small Mask R-CNN by MMDetection's names."""
    file = write(folder / "mask_rcnn.pth", mask_rcnn(classes, **changes))
    loaded: State = torch.load(file, weights_only=True)["state_dict"]
    file.unlink()
    return loaded


def text(*changes: tuple[str, str]) -> str:
    """Return the config with pieces of it replaced, each of which is in it once."""
    result = TEXT
    for old, new in changes:
        assert result.count(old) == 1, old
        result = result.replace(old, new)
    return result


def save(file: Path, content: Any, config: str | None = None, names: Any = NAMES) -> Path:
    """Write a checkpoint of MMDetection 3.x."""
    meta = {"dataset_meta": {"classes": names}} if names else {}
    torch.save({"state_dict": content, "meta": meta | ({"cfg": config} if config else {})}, file)
    return file


def applied(*changes: tuple[str, str], leave: tuple[str, ...] = ()) -> settings.Applied:
    """Return what is made of a config."""
    return settings.apply(recipes.mask_rcnn(), config_text.parse(text(*changes)), leave)
