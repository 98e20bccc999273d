"""What is read from the config text inside a checkpoint, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.weights.mmdet.checkpoints import save, tiny

from scnet import recipes
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert
from scnet.weights.foreign.mmdet import config_text, settings

# As MMDetection 2.x prints it, shortened.
V2 = """
model = dict(
    type='MaskRCNN',
    backbone=dict(type='ResNet', depth=50, style='pytorch'),
    neck=dict(type='FPN', num_outs=5),
    rpn_head=dict(
        anchor_generator=dict(
            type='AnchorGenerator', scales=[4], ratios=[0.25, 1.0, 4.0],
            strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0],
                        target_stds=[1.0, 1.0, 1.0, 1.0])),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0)),
        bbox_head=dict(bbox_coder=dict(target_stds=[0.2, 0.2, 0.3, 0.3]))),
    test_cfg=dict(
        rpn=dict(nms_pre=2000, max_per_img=1500, nms=dict(type='nms', iou_threshold=0.8)),
        rcnn=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.6), max_per_img=300,
                  mask_thr_binary=0.5)))
img_norm_cfg = dict(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0], to_rgb=True)
data = dict(
    samples_per_gpu=2,
    test=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='MultiScaleFlipAug', img_scale=(2048, 1024), transforms=[
            dict(type='Resize', keep_ratio=True)])]))
custom = open('/etc/passwd')
"""

# As 3.x prints it.
V3 = """
model = dict(
    type='SCNet',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True),
    roi_head=dict(bbox_head=[
        dict(bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2])),
        dict(bbox_coder=dict(target_stds=[0.05, 0.05, 0.1, 0.1])),
        dict(bbox_coder=dict(target_stds=[0.03, 0.03, 0.06, 0.06]))]),
    test_cfg=dict(rcnn=dict(score_thr=0.05, max_per_img=100)))
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(1000, 600))]
"""


def test_a_2x_config_is_read() -> None:
    config, notes, unread, assumed, bgr = settings.apply(recipes.mask_rcnn(), config_text.parse(V2))
    assert not bgr
    rpn, box = config.model.rpn, config.model.box
    assert (rpn.anchor_scale, rpn.anchor_ratios) == (4.0, (0.25, 1.0, 4.0))
    assert (rpn.before_nms, rpn.after_nms, rpn.nms_iou) == (2000, 1500, 0.8)
    assert (box.score_threshold, box.nms_iou, box.max_detections) == (0.01, 0.6, 300)
    assert box.stages[0].delta_std == (0.2, 0.2, 0.3, 0.3)
    assert config.data.size == (1024, 2048)
    assert config.model.backbone.mean == pytest.approx((100 / 255, 110 / 255, 120 / 255))
    assert config.model.backbone.std == pytest.approx((50 / 255, 60 / 255, 70 / 255))
    assert len(notes) == 12
    assert (unread, assumed) == ((), ())


def test_a_3x_config_is_read_and_what_equals_the_recipe_is_not_told() -> None:
    config, notes, unread, assumed, bgr = settings.apply(recipes.scnet(), config_text.parse(V3))
    assert not bgr
    stds = [stage.delta_std for stage in config.model.box.stages]
    assert stds[1:] == [(0.05, 0.05, 0.1, 0.1), (0.03, 0.03, 0.06, 0.06)]
    assert config.model.backbone.mean is None
    assert config.data.size == (600, 1000)
    assert [note.split()[0] for note in notes] == [
        "model.box.stages",
        "model.box.score_threshold",
        "data.size",
        "data.keep_ratio",  # 3.x keeps no shape unless told to
    ]
    assert unread == ()
    assert [line.split()[0] for line in assumed] == [
        *("model.rpn.anchor_scale", "model.rpn.anchor_ratios", "model.rpn.nms_iou"),
        *("model.rpn.before_nms", "model.rpn.after_nms", "model.box.nms_iou", "backbone"),
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("style='pytorch'", "style='msra'"), "backbone.style = msra"),
        (("sampling_ratio=0", "sampling_ratio=2"), "sampling_ratio = 2"),
        (("to_rgb=True", "to_rgb=swapped"), "img_norm_cfg.to_rgb = swapped"),
        (("nms=dict(type='nms', iou_threshold=0.6)", "nms=dict(type='nms_match')"), "nms_match"),
        (("mask_thr_binary=0.5", "mask_thr_binary=0.4"), "mask_thr_binary = 0.4"),
        (("num_outs=5", "num_outs=6"), "num_outs = 6"),
        (("[4, 8, 16, 32, 64]", "[8, 16, 32, 64, 128]"), "strides"),
    ],
)
def test_what_would_give_other_answers_is_refused(change: tuple[str, str], told: str) -> None:
    text = V2.replace(*change)
    assert text != V2
    with pytest.raises(CheckpointError, match=told):
        settings.apply(recipes.mask_rcnn(), config_text.parse(text))


def test_the_text_of_a_file_reaches_the_converted_model(
    reference_dir: Path, tmp_path: Path
) -> None:
    state = tiny(reference_dir, "scnet")
    found = convert.read(save(tmp_path / "a.pth", state, meta={"cfg": V3}))
    assert found.detector.config.model.box.score_threshold == 0.05
    assert "model.box.score_threshold 0.05" in str(found)
    file = save(
        tmp_path / "b.pth", state, meta={"config": "model = dict(backbone=dict(style='msra'))"}
    )
    with pytest.raises(CheckpointError, match=r"b\.pth.*style = msra"):
        convert.read(file)


def test_statistics_of_the_images_reach_the_network() -> None:
    config, *_ = settings.apply(recipes.mask_rcnn(), config_text.parse(V2))
    from scnet.model.backbone import Backbone

    backbone = Backbone(config.model.backbone)
    assert backbone.mean == pytest.approx((100 / 255, 110 / 255, 120 / 255))


@pytest.mark.parametrize("text", ["", "model = (", "x = 1 +", "model = 5", "a.b = dict(c=1)"])
def test_a_text_that_says_nothing_changes_nothing_and_all_is_assumed(text: str) -> None:
    config, changed, _, assumed, _ = settings.apply(recipes.scnet(), config_text.parse(text))
    assert (replace(config, assumed=()), changed) == (recipes.scnet(), ())
    assert config.assumed == assumed
    assert "data.size [800, 1333]" in assumed
    assert any("RGB" in line for line in assumed)


def test_a_value_of_the_wrong_kind_is_refused(reference_dir: Path, tmp_path: Path) -> None:
    text = "model = dict(test_cfg=dict(rcnn=dict(score_thr='high')))"
    file = save(tmp_path / "a.pth", tiny(reference_dir, "scnet"), meta={"cfg": text})
    with pytest.raises(CheckpointError, match=r"a\.pth: model\.box\.score_threshold"):
        convert.read(file)
