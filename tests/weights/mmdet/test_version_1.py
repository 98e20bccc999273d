"""Models of MMDetection 1.x: another order of classes, other configs, other maths."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.weights.foreign.files import NAMES, State, state, text
from torch import Tensor

from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert
from scnet.weights.foreign.mmdet import version_1

POOLED = (
    "dict(type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', out_size={}, sample_num=2), "
    "out_channels=16, featmap_strides=[4, 8, 16, 32])"
)
CONFIG = f"""
model = dict(
    type='MaskRCNN', pretrained='torchvision://resnet50',
    backbone=dict(
        type='ResNet', depth=50, num_stages=4, out_indices=(0, 1, 2, 3), frozen_stages=1,
        style='pytorch'),
    neck=dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=16, num_outs=5),
    rpn_head=dict(
        type='RPNHead', in_channels=16, feat_channels=16, anchor_scales=[4],
        anchor_ratios=[0.5, 1.0, 2.0], anchor_strides=[4, 8, 16, 32, 64],
        target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 1.0, 1.0],
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0)),
    bbox_roi_extractor={POOLED.format(7)},
    bbox_head=dict(
        type='SharedFCBBoxHead', num_fcs=2, in_channels=16, fc_out_channels=32, roi_feat_size=7,
        num_classes=7, target_means=[0., 0., 0., 0.], target_stds=[0.05, 0.05, 0.1, 0.1],
        reg_class_agnostic=False,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0)),
    mask_roi_extractor={POOLED.format(14)},
    mask_head=dict(
        type='FCNMaskHead', num_convs=4, in_channels=16, conv_out_channels=16, num_classes=7,
        loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0)))
train_cfg = dict(rpn=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.7)))
test_cfg = dict(
    rpn=dict(
        nms_across_levels=False, nms_pre=1000, nms_post=1000, max_num=900, nms_thr=0.7,
        min_bbox_size=0),
    rcnn=dict(
        score_thr=0.05, nms=dict(type='nms', iou_thr=0.5), max_per_img=100, mask_thr_binary=0.5))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug', img_scale=(1333, 800), flip=False,
        transforms=[
            dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'),
            dict(type='Normalize', **img_norm_cfg), dict(type='Pad', size_divisor=32),
            dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])])]
data = dict(test=dict(type='CocoDataset', pipeline=test_pipeline))
"""
LEGACY = (
    "rpn_head.anchor_generator.type",
    "rpn_head.bbox_coder.type",
    "roi_head.bbox_head.bbox_coder.type",
)


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> State:
    return state(tmp_path_factory.mktemp("weights"))


def in_old_form(later: State) -> State:
    """Return a model as 1.x has it, whose first class is the background."""

    def old(name: str, value: Tensor) -> Tensor:
        if ".fc_cls." in name:
            return torch.cat([value[-1:], value[:-1]])
        if ".fc_reg." in name:
            return torch.cat([torch.full_like(value[:4], 77), value])
        if ".conv_logits." in name:
            return torch.cat([torch.full_like(value[:1], 77), value])
        return value

    return {name.removeprefix("roi_head."): old(name, value) for name, value in later.items()}


def write(file: Path, weights: State, config: str | None = CONFIG, version: str = "1.2.0") -> Path:
    meta = {"mmdet_version": version, "CLASSES": NAMES}
    torch.save({"state_dict": weights, "meta": meta | ({"config": config} if config else {})}, file)
    return file


def test_it_is_refused_for_its_maths_and_can_be_left(later: State, tmp_path: Path) -> None:
    file = write(tmp_path / "a.pth", in_old_form(later))
    with pytest.raises(CheckpointError, match=r"a pixel wider \(x2 - x1 \+ 1\)") as told:
        convert.read(file)
    assert str(told.value).endswith(f"--leave {','.join(LEGACY)}")
    found = convert.read(file, leave=LEGACY)
    assert found.source == "MMDetection 1.2.0"
    assert len(found.unread) == len(LEGACY)  # all else is read
    assert found.assumed == ()
    config = found.detector.config
    assert config.classes == NAMES
    assert config.model.roi_align == "legacy"
    assert config.model.rpn.anchor_scale == 4
    assert config.model.rpn.after_nms == 900
    assert config.model.box.stages[0].delta_std == (0.05, 0.05, 0.1, 0.1)


def test_its_classes_are_in_the_order_of_later_versions(later: State, tmp_path: Path) -> None:
    old = convert.read(write(tmp_path / "a.pth", in_old_form(later)), leave=LEGACY)
    # As MMDetection's own tool upgrades them: the weights are of 2.x, the config is not.
    upgraded = convert.read(write(tmp_path / "b.pth", later), leave=LEGACY)
    expected = upgraded.detector.state_dict()
    assert upgraded.detector.config == old.detector.config
    for name, value in old.detector.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("old_names", [True, False])
def test_without_a_config_it_is_taken_for_what_all_of_1_x_was(
    later: State, tmp_path: Path, old_names: bool
) -> None:
    weights = in_old_form(later) if old_names else later
    file = write(tmp_path / "a.pth", weights, config=None)
    with pytest.raises(CheckpointError, match=f"--leave {','.join(LEGACY)}"):
        convert.read(file)
    found = convert.read(file, leave=LEGACY)
    assert found.detector.config.model.roi_align == "legacy"
    assert any("standard deviations" in line for line in found.assumed)


def test_names_alone_tell_it(later: State, tmp_path: Path) -> None:
    torch.save(in_old_form(later), tmp_path / "a.pth")
    assert convert.read(tmp_path / "a.pth", leave=LEGACY).source == "MMDetection 1.x"


def test_a_config_of_2_x_is_contradicted(later: State, tmp_path: Path) -> None:
    config = tmp_path / "later.py"
    config.write_text(text())
    old = write(tmp_path / "a.pth", in_old_form(later))
    with pytest.raises(CheckpointError, match=r"1\.2\.0, where a box .*--leave mmdet_version"):
        convert.read(old, config=config)
    assert "a pixel wider" in convert.read(old, config=config, leave=("mmdet_version",)).unread[0]
    # These may have been brought to 2.x.
    assert "a pixel wider" in convert.read(write(old, later), config=config).unread[0]


def test_later_versions_are_not_asked(later: State, tmp_path: Path) -> None:
    file = write(tmp_path / "a.pth", later, config=None, version="2.0.0+abc")
    assert convert.read(file).unread == ()


def test_every_stage_of_a_cascade_is_brought_into_the_later_form() -> None:
    rows = torch.arange(7)  # the background and six classes
    weights = {
        **{f"bbox_head.{stage}.fc_cls.bias": rows for stage in range(2)},
        **{f"bbox_head.{stage}.fc_reg.bias": rows[:4] for stage in range(2)},
        **{f"mask_head.{stage}.conv_logits.bias": rows for stage in range(2)},
        "mask_iou_head.fc_mask_iou.bias": rows,
        "semantic_head.conv_logits.bias": rows,
        "rpn_head.rpn_cls.bias": rows,
        "neck.fpn_convs.0.conv.bias": rows,
    }
    assert {name: x.tolist() for name, x in version_1.upgraded(weights).items()} == {
        **{f"roi_head.bbox_head.{stage}.fc_cls.bias": [1, 2, 3, 4, 5, 6, 0] for stage in range(2)},
        **{f"roi_head.bbox_head.{stage}.fc_reg.bias": [0, 1, 2, 3] for stage in range(2)},
        **{
            f"roi_head.mask_head.{stage}.conv_logits.bias": [1, 2, 3, 4, 5, 6] for stage in range(2)
        },
        "roi_head.mask_iou_head.fc_mask_iou.bias": [1, 2, 3, 4, 5, 6],
        "roi_head.semantic_head.conv_logits.bias": [*range(7)],
        "rpn_head.rpn_cls.bias": [*range(7)],
        "neck.fpn_convs.0.conv.bias": [*range(7)],
    }
    head = {"type": "SharedFCBBoxHead", "target_stds": [1, 1, 2, 2]}
    layer = {"type": "RoIAlign", "sample_num": 2}
    found = version_1.in_later_form(
        {
            "num_stages": 2,
            "rpn_head": {"anchor_scales": [8]},
            "bbox_head": [head, head],
            "mask_roi_extractor": {"roi_layer": layer},
            "semantic_roi_extractor": None,
        },
        version_1.UNKNOWN,
    )
    coder = {"type": version_1.LEGACY_DELTAS}
    stage = {"type": "SharedFCBBoxHead", "bbox_coder": coder | {"target_stds": [1, 1, 2, 2]}}
    assert found == {
        "rpn_head": {
            "anchor_generator": {"type": version_1.LEGACY_ANCHORS, "scales": [8]},
            "bbox_coder": coder,
        },
        "roi_head": {
            "num_stages": 2,
            "bbox_head": [stage, stage],
            "bbox_roi_extractor": {"roi_layer": {"aligned": False, "sample_num": 2}},
            "mask_roi_extractor": {"roi_layer": {"aligned": False, **layer}},
            "semantic_roi_extractor": None,
        },
    }
