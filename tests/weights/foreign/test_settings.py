"""Every setting of an MMDetection config is read, harmless, refused or told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tests.mmdet_files import mask_rcnn
from tests.weights.foreign.files import TEXT, State, applied, save, state, text

import scnet
from scnet.cli.main import main
from scnet.config import DeformableConfig, PAFPNConfig, SoftNMSConfig
from scnet.model.backbone import Backbone
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert

NMS = "nms=dict(type='nms', iou_threshold=0.5)"
RESIZE = "dict(type='Resize', scale=(640, 480), keep_ratio=True)"
SCALES = "scales=[8]"
BOX_LOSS = "loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)"
HEAD = "type='Shared2FCBBoxHead', "


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> State:
    return state(tmp_path_factory.mktemp("weights"))


def test_a_usual_config_is_read_whole(weights: State, tmp_path: Path) -> None:
    found = convert.read(save(tmp_path / "a.pth", weights, text()))
    assert (found.unread, found.assumed, found.left) == ((), (), {})
    assert found.settings == ("data.size (480, 640)",)
    assert found.detector.config.assumed == ()


IOU_HEAD = (
    "type='mmdet.MaskScoringRoIHead', mask_iou_head=dict(type='MaskIoUHead', num_convs=4, "
    "num_fcs=2, roi_feat_size=14, in_channels=16, conv_out_channels=16, fc_out_channels=1024, "
    "num_classes=6, loss_iou=dict(type='MSELoss', loss_weight=0.5)),"
)
SCORES_MASKS = [
    ("type='MaskRCNN'", "type='MaskScoringRCNN'"),
    ("type='StandardRoIHead',", IOU_HEAD),
    ("pos_iou_thr=0.7))", "pos_iou_thr=0.7)), rcnn=dict(mask_thr_binary=0.5)"),
]


def test_a_config_that_scores_masks_is_read_whole() -> None:
    found = applied(*SCORES_MASKS)
    assert found.unread == ()
    changes = [*SCORES_MASKS[:1], (SCORES_MASKS[1][0], IOU_HEAD.replace("size=14", "size=28"))]
    with pytest.raises(CheckpointError, match=r"mask_iou_head\.roi_feat_size = 28, but scnet has"):
        applied(*changes)


# What is changed in the config, and what then is set here.
DONE: dict[str, tuple[list[tuple[str, str]], dict[str, Any]]] = {
    "one size for all images": (
        [(RESIZE, "dict(type='Resize', scale=(512, 256), keep_ratio=False)")],
        {"data.size": (256, 512), "data.keep_ratio": False},
    ),
    "3.x keeps no shape by itself": (
        [(RESIZE, "dict(type='Resize', scale=(512, 256))")],
        {"data.size": (256, 512), "data.keep_ratio": False},
    ),
    "2.x keeps the shape by itself": (
        [
            (
                RESIZE,
                "dict(type='MultiScaleFlipAug', img_scale=(512, 256), flip=False, "
                "transforms=[dict(type='Resize'), dict(type='RandomFlip')])",
            )
        ],
        {"data.size": (256, 512), "data.keep_ratio": True},
    ),
    "a size of one number": (
        [(RESIZE, "dict(type='Resize', scale=512, keep_ratio=False)")],
        {"data.size": (512, 512)},
    ),
    "nms across classes": (
        [(NMS, "nms=dict(type='nms', iou_threshold=0.5, class_agnostic=True)")],
        {"model.box.nms_across_classes": True, "model.box.soft_nms": None},
    ),
    "soft-nms": (
        [(NMS, "nms=dict(type='soft_nms', iou_threshold=0.5, min_score=0.05)")],
        {"model.box.soft_nms": SoftNMSConfig(min_score=0.05), "model.box.nms_iou": 0.5},
    ),
    "soft-nms as mmcv has it": (
        [(NMS, "nms=dict(type='soft_nms')")],
        {"model.box.soft_nms": SoftNMSConfig(), "model.box.nms_iou": 0.3},
    ),
    "gaussian soft-nms across classes": (
        [(NMS, "nms=dict(type='soft_nms', method='gaussian', sigma=0.4, class_agnostic=True)")],
        {
            "model.box.soft_nms": SoftNMSConfig(method="gaussian", sigma=0.4),
            "model.box.nms_across_classes": True,
        },
    ),
    "octave scale": (
        [(SCALES, "octave_base_scale=4, scales_per_octave=1")],
        {"model.rpn.anchor_scale": 4.0, "model.rpn.anchor_multiples": (1.0,)},
    ),
    "no normalisation": (
        [("mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],", "")],
        {"model.backbone.mean": (0.0,) * 3, "model.backbone.std": (1 / 255,) * 3},
    ),
    "names of classes with their modules": (
        [
            ("type='AnchorGenerator'", "type='mmdet.models.task_modules.AnchorGenerator'"),
            ("type='MaskRCNN'", "type='mmdet.models.MaskRCNN'"),
        ],
        {"model.rpn.anchor_scale": 8.0},
    ),
    "a pipeline inside of a wrapped data set": (
        [
            ("dataset=dict(\n        type='CocoDataset',", "dataset=dict(dataset=dict("),
            ("'scale_factor'))]))", "'scale_factor'))])))"),
        ],
        {"data.size": (480, 640)},
    ),
    "a value by its name": (
        [
            ("\nmodel = dict(", "\nkept = 77\nmodel = dict("),
            ("max_per_img=100,", "max_per_img=kept,"),
        ],
        {"model.box.max_detections": 77},
    ),
}


BOX_POOLED, MASK_POOLED = (f"output_size={side}, sampling_ratio=0" for side in (7, 14))


def pooled(box: str, mask: str) -> list[tuple[str, str]]:
    return [(BOX_POOLED, f"output_size=7, {box}"), (MASK_POOLED, f"output_size=14, {mask}")]


LEGACY = "sampling_ratio=2, aligned=False"
ALIGNED = "sampling_ratio=0, aligned=True"
DONE |= {
    "the first RoIAlign": (pooled(LEGACY, LEGACY), {"model.roi_align": "legacy"}),
    "the RoIAlign of now": (pooled(ALIGNED, ALIGNED), {"model.roi_align": "aligned"}),
}


@pytest.mark.parametrize("case", DONE)
def test_a_setting_is_done(case: str) -> None:
    changes, expected = DONE[case]
    found = applied(*changes)
    assert (found.unread, found.assumed) == ((), ())
    for path, value in expected.items():
        assert _at(found.config, path) == value


STATISTICS = "mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],"
V2_PIPELINE = (
    RESIZE,
    f"{RESIZE}, dict(type='Normalize', mean=[1, 2, 3], std=[1, 1, 2], to_rgb={{}})",
)
TURNED = ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
PREPROCESSOR = TEXT[TEXT.index("    data_preprocessor") : TEXT.index("    backbone")]


@pytest.mark.parametrize(
    ("changes", "bgr", "mean", "std"),
    [
        ([], False, None, None),
        ([("bgr_to_rgb=True, ", "bgr_to_rgb=False, ")], True, *TURNED),
        ([("bgr_to_rgb=True, ", "")], True, *TURNED),
        (
            [
                (STATISTICS, "mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0],"),
                ("bgr_to_rgb=True, ", ""),
            ],
            True,
            None,
            (1, 1, 1),
        ),
        (
            [(PREPROCESSOR, ""), (V2_PIPELINE[0], V2_PIPELINE[1].format(False))],
            True,
            (3, 2, 1),
            (2, 1, 1),
        ),
        (
            [(PREPROCESSOR, ""), (V2_PIPELINE[0], V2_PIPELINE[1].format(True))],
            False,
            (1, 2, 3),
            (1, 1, 2),
        ),
    ],
)
def test_statistics_are_turned_with_the_colours(
    changes: list[tuple[str, str]],
    bgr: bool,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> None:
    found = applied(*changes)
    assert (found.bgr, found.unread, found.assumed) == (bgr, (), ())
    backbone = found.config.model.backbone
    for ours, theirs in ((backbone.mean, mean), (backbone.std, std)):
        assert (ours is None) == (theirs is None)  # None = ImageNet's
        if ours is not None and theirs is not None:
            assert ours == pytest.approx([value / 255 for value in theirs])


def test_a_caffe_backbone_gives_what_it_gives_of_plain_bgr(weights: State, tmp_path: Path) -> None:
    mean = [103.53, 116.28, 123.675]
    changes = [("style='pytorch'", "style='caffe'"), ("bgr_to_rgb=True, ", "bgr_to_rgb=False, ")]
    config = text(*changes, (STATISTICS, f"mean={mean}, std=[1.0, 1.0, 1.0],"))
    found = convert.read(save(tmp_path / "a.pth", weights, config))
    detector = found.detector
    assert found.unread == ()
    theirs = Backbone(mask_rcnn().config.model.backbone).eval()
    theirs.net.load_state_dict(
        {k[9:]: value for k, value in weights.items() if k.startswith("backbone.")}
    )
    for stage in (theirs.net.layer2, theirs.net.layer3, theirs.net.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    images = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(images.flip(1) - torch.tensor(mean).view(3, 1, 1))
        ours = detector.backbone(detector.normalise(images, torch.tensor([[64, 96]] * 2)))
    for one, other in zip(ours, expected, strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def test_octaves_give_several_anchors_at_a_place(weights: State, tmp_path: Path) -> None:
    nine = {**weights}
    for name in ("cls", "reg"):
        for kind in ("weight", "bias"):
            value = weights[f"rpn_head.rpn_{name}.{kind}"]
            nine[f"rpn_head.rpn_{name}.{kind}"] = value.repeat(3, *[1] * (value.ndim - 1))
    octaves = text((SCALES, "octave_base_scale=4, scales_per_octave=3"))
    rpn = convert.read(save(tmp_path / "a.pth", nine, octaves)).detector.config.model.rpn
    assert rpn.anchor_scale == 4.0
    assert rpn.anchor_multiples == pytest.approx((1, 2 ** (1 / 3), 2 ** (2 / 3)))
    listed = text((SCALES, "scales=[2, 4, 16]"))
    rpn = applied((SCALES, "scales=[2, 4, 16]")).config.model.rpn
    assert (rpn.anchor_scale, rpn.anchor_multiples) == (2.0, (1.0, 2.0, 8.0))
    with pytest.raises(CheckpointError, match=r"9 anchors at each place.*config has 3"):
        convert.read(save(tmp_path / "c.pth", nine, text()))
    with pytest.raises(CheckpointError, match=r"9 anchors at each place.*no config"):
        convert.read(save(tmp_path / "d.pth", nine))
    (tmp_path / "config.py").write_text(listed)
    assert convert.read(tmp_path / "d.pth", config=tmp_path / "config.py").assumed == ()


@pytest.mark.parametrize("activation", ["", ", act_cfg=None", ", act_cfg=dict(type='ReLU')"])
def test_a_pafpn_is_read(tmp_path: Path, activation: str) -> None:
    weights = state(tmp_path, model__pyramid=PAFPNConfig())
    config = text(("neck=dict(type='FPN'", f"neck=dict(type='PAFPN'{activation}"))
    found = convert.read(save(tmp_path / "a.pth", weights, config))
    assert (found.unread, found.assumed, found.left) == ((), (), {})
    assert found.detector.config.model.pyramid == PAFPNConfig(relu="ReLU" in activation)
    assert "architecture     mask_rcnn, resnet50.tv_in1k, pafpn\n" in str(found)
    down = found.detector.fpn.down[1].weight
    assert torch.equal(down, weights["neck.downsample_convs.1.conv.weight"])


DCN = "type='ResNet', depth=50, dcn=dict(type='{}', deform_groups={}, fallback_on_stride={}), "


@pytest.mark.parametrize(("kind", "groups"), [("DCN", 1), ("DCNv2", 1), ("DCNv2", 2)])
def test_deformable_convolutions_are_read(tmp_path: Path, kind: str, groups: int) -> None:
    own = DeformableConfig(stages=(2, 4), modulated=kind == "DCNv2", groups=groups)
    weights = state(tmp_path, model__backbone__deformable=own)
    config = text(("type='ResNet', depth=50, ", DCN.format(kind, groups, False)))
    found = convert.read(save(tmp_path / "a.pth", weights, config))
    assert (found.unread, found.assumed, found.left) == ((), (), {})
    assert found.detector.config.model.backbone.deformable == own
    assert "mask_rcnn, resnet50.tv_in1k, deformable convolutions\n" in str(found)
    offsets = found.detector.backbone.net.layer2[1].conv2.conv_offset.weight
    assert torch.equal(offsets, weights["backbone.layer2.1.conv2.conv_offset.weight"])
    alone = save(tmp_path / "b.pth", weights)
    if groups == 1:
        assert convert.read(alone).detector.config.model.backbone.deformable == own
    else:
        with pytest.raises(CheckpointError, match=r"54 numbers at each place.*only a config"):
            convert.read(alone)


def test_deformable_convolutions_by_their_old_names_are_read(tmp_path: Path) -> None:
    own = DeformableConfig(stages=(2,), modulated=True)
    weights = state(tmp_path, model__backbone__deformable=own)
    old = {name.replace("conv2.conv_offset", "conv2_offset"): x for name, x in weights.items()}
    assert old.keys() != weights.keys()
    found = convert.read(save(tmp_path / "a.pth", old))
    assert found.detector.config.model.backbone.deformable == own
    offsets = found.detector.backbone.net.layer2[1].conv2.conv_offset.bias
    assert torch.equal(offsets, old["backbone.layer2.1.conv2_offset.bias"])


def test_stages_decide_whether_there_are_deformable_convolutions(
    weights: State, tmp_path: Path
) -> None:
    dcn = DCN.format("DCN", 1, False)
    idle, used = (
        text(("type='ResNet', depth=50, ", f"{dcn}stage_with_dcn=({second}, False), "))
        for second in (False, True)
    )
    found = convert.read(save(tmp_path / "a.pth", weights, idle))
    assert (found.unread, found.detector.config.model.backbone.deformable) == ((), None)
    with pytest.raises(
        CheckpointError, match=r"missing: backbone\.net\.layer2\.0\.conv2\.conv_off"
    ):
        convert.read(save(tmp_path / "a.pth", weights, used))


def test_another_activation_of_a_pafpn_is_refused() -> None:
    changed = ("neck=dict(type='FPN'", "neck=dict(type='PAFPN', act_cfg=dict(type='LeakyReLU')")
    with pytest.raises(CheckpointError, match=r"neck\.act_cfg\.type = LeakyReLU"):
        applied(changed)


REFUSED: dict[str, tuple[list[tuple[str, str]], str]] = {
    "sigmoid in the box head": (
        [(BOX_LOSS, BOX_LOSS.replace("False", "True"))],
        "bbox_head.loss_cls.use_sigmoid",
    ),
    "focal loss, sigmoid by itself": (
        [(BOX_LOSS, "loss_cls=dict(type='FocalLoss')")],
        "bbox_head.loss_cls.type",
    ),
    "CLAHE": ([(RESIZE, f"dict(type='CLAHE', clip_limit=4.0), {RESIZE}")], "CLAHE"),
    "a step of their own": ([(RESIZE, f"dict(type='my.Denoise'), {RESIZE}")], "Denoise"),
    "another activation of the pyramid": (
        [("num_outs=5", "num_outs=5, act_cfg=dict(type='ReLU')")],
        "neck.act_cfg.type",
    ),
    "another upsampling in the pyramid": (
        [("num_outs=5", "num_outs=5, upsample_cfg=dict(mode='bilinear')")],
        "neck.upsample_cfg.mode",
    ),
    "dilations": (
        [("num_stages=4", "num_stages=4, dilations=(1, 1, 1, 2)")],
        "backbone.dilations",
    ),
    "weight standardisation": (
        [("num_stages=4", "num_stages=4, conv_cfg=dict(type='ConvWS')")],
        "backbone.conv_cfg.type = ConvWS: weight standardisation",
    ),
    "another group norm": (
        [("num_outs=5", "num_outs=5, norm_cfg=dict(type='GN', num_groups=16)")],
        "neck.norm_cfg.num_groups = 16",
    ),
    "another norm": (
        [("num_outs=5", "num_outs=5, norm_cfg=dict(type='IN')")],
        "neck.norm_cfg.type = IN",
    ),
    "normalised layers": (
        [(HEAD, f"{HEAD}cls_predictor_cfg=dict(type='NormedLinear', tempearture=20), ")],
        "bbox_head.cls_predictor_cfg.type",
    ),
    "deformable convolutions that are not everywhere": (
        [("type='ResNet', depth=50, ", DCN.format("DCN", 1, True))],
        "backbone.dcn.fallback_on_stride",
    ),
    "a third style of backbone": ([("style='pytorch'", "style='msra'")], "backbone.style"),
    "an order of colours that has to run": (
        [("bgr_to_rgb=True, ", "bgr_to_rgb=bool(1), ")],
        "data_preprocessor.bgr_to_rgb",
    ),
    "anchors in the middle": (
        [(SCALES, f"{SCALES}, center_offset=0.5")],
        "anchor_generator.center_offset",
    ),
}


REFUSED |= {
    "the first RoIAlign with other samples": (
        pooled("aligned=False", LEGACY),
        "bbox_roi_extractor.roi_layer.sampling_ratio",
    ),
    "the RoIAlign of now with 2 samples": (
        pooled("sample_num=2", ALIGNED),
        "bbox_roi_extractor.roi_layer.sample_num",
    ),
    "boxes and masks pooled apart": (
        pooled(LEGACY, ALIGNED),
        "mask_roi_extractor.roi_layer.aligned",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_setting_is_refused_by_name_and_can_be_left(case: str) -> None:
    changes, named = REFUSED[case]
    with pytest.raises(CheckpointError, match=named) as caught:
        applied(*changes)
    advised = str(caught.value).split("--leave ")[1].split(",")
    assert named.split(".")[-1] in applied(*changes, leave=tuple(advised)).unread[0]


TOLD: dict[str, tuple[list[tuple[str, str]], str]] = {
    "a model of their own": ([("type='MaskRCNN'", "type='TreeRCNN'")], "type = TreeRCNN"),
    "an unknown test setting": (
        [("mask_thr_binary=0.5", "mask_thr_binary=0.5, merge_nearby=3")],
        "test_cfg.rcnn.merge_nearby = 3",
    ),
    "augmentation at test time": (
        [
            (
                RESIZE,
                "dict(type='MultiScaleFlipAug', img_scale=[(640, 480), (800, 600)], flip=True, "
                "transforms=[dict(type='Resize', keep_ratio=True)])",
            )
        ],
        "MultiScaleFlipAug.flip = True",
    ),
    "grey images": (
        [("backend_args=None", "color_type='grayscale'")],
        "LoadImageFromFile.color_type = grayscale",
    ),
    "other padding": (
        [("pad_size_divisor=32", "pad_size_divisor=128")],
        "data_preprocessor.pad_size_divisor = 128",
    ),
    "another file": ([("\nmodel", "\n_base_ = ['../mask_rcnn.py']\nmodel")], "_base_ = "),
    "what has to run": ([("max_per_img=100,", "max_per_img=int('100'),")], "int('100')"),
    "a change afterwards": (
        [("test_cfg = dict(type='TestLoop')", "model['backbone']['depth'] = 101")],
        "model['backbone']['depth'] = 101",
    ),
}


@pytest.mark.parametrize("case", TOLD)
def test_what_is_not_read_is_told(case: str) -> None:
    changes, expected = TOLD[case]
    assert any(expected in line for line in applied(*changes).unread)


def test_the_command_tells_what_is_refused_left_and_not_read(
    weights: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = text((RESIZE, f"dict(type='CLAHE'), {RESIZE}"), ("_binary=0.5", "_binary=0.5, x=1"))
    file, output = save(tmp_path / "a.pth", weights, changed), tmp_path / "a.safetensors"
    command = ["convert", str(file), "-o", str(output)]
    assert main(command) == 1
    assert "CLAHE" in capsys.readouterr().err
    assert not output.exists()
    assert main([*command, "--leave", "CLAHE"]) == 0
    printed = capsys.readouterr().out
    assert "not read: images pass CLAHE before its network" in printed
    assert "not read: test_cfg.rcnn.x = 1" in printed


@pytest.mark.parametrize("config", [None, "model = (", "model = dict(**others)"])
def test_without_a_config_what_is_assumed_is_printed_and_kept(
    weights: State, tmp_path: Path, config: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "a.pth", weights, config)
    output = tmp_path / "a.safetensors"
    assert main(["convert", str(file), "-o", str(output)]) == 0
    printed = capsys.readouterr().out
    with safe_open(output, "pt") as opened:
        kept = json.loads(opened.metadata()["scnet"])["assumed"]
    for words in ("anchor_scale 8.0", "RGB", "mean", "style", "size [800", "threshold 0.05"):
        assert words in printed
        assert any(words in line for line in kept)
    assert scnet.load(file, device="cpu").config.assumed == tuple(kept)
    assert "anchor_scale 8.0" in capsys.readouterr().err


def _at(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = getattr(config, name)
    return config


def test_the_weights_are_those_of_the_file(weights: State, tmp_path: Path) -> None:
    found = convert.read(save(tmp_path / "a.pth", weights, text()))
    theirs = weights["roi_head.bbox_head.fc_cls.weight"]
    assert torch.equal(found.detector.roi_heads.stages[0].cls.weight, theirs)
