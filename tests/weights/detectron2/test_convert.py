"""Checkpoints of detectron2: converted whole, or refused by name."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests import parity_detectron2
from tests.weights.detectron2.files import (
    CLASSES,
    FIRST,
    State,
    cell_anchors,
    layout,
    save,
    save_zoo,
    state,
    with_4conv1fc,
    with_two_rpn_convolutions,
)

import scnet
from scnet.cli.main import main
from scnet.data.classes import coco_classes
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert

TINY = ("mask_rcnn_caffe", "mask_rcnn_rgb", "cascade_mask_rcnn_caffe", "cascade_mask_rcnn_rgb")
# Full-size layouts that convert: recipe and backbone.
CONVERTS = {
    "d2_mask_rcnn_R_50_FPN": ("mask_rcnn", "resnet50.tv_in1k"),
    "d2_mask_rcnn_R_101_FPN": ("mask_rcnn_r101", "resnet101.tv_in1k"),
    "d2_mask_rcnn_X_101_32x8d_FPN": ("mask_rcnn", "resnext101_32x8d.tv_in1k"),
    "d2_mask_rcnn_R_50_FPN_cls_agnostic": ("mask_rcnn", "resnet50.tv_in1k"),
    "d2_mask_rcnn_R_50_FPN_dconv": ("mask_rcnn", "resnet50.tv_in1k"),
    "d2_cascade_mask_rcnn_R_50_FPN": ("cascade_mask_rcnn_d2", "resnet50.tv_in1k"),
}
# Full-size layouts that are deeper, or made so: convolutions of RPN and box head, layers, norms.
Deep = tuple[str, Callable[[State], State], tuple[int, int, int], tuple[str, str, str]]
DEEP: dict[str, Deep] = {
    "GN": ("d2_mask_rcnn_R_50_FPN_gn", dict, (1, 4, 1), ("group",) * 3),
    "SyncBN": ("d2_mask_rcnn_R_50_FPN_syncbn", dict, (1, 4, 1), ("batch",) * 3),
    "LSJ": (
        "d2_mask_rcnn_R_50_FPN_syncbn",
        with_two_rpn_convolutions,
        (2, 4, 1),
        ("batch",) * 3,
    ),
    "cascade, 4conv1fc": (
        "d2_cascade_mask_rcnn_R_50_FPN",
        with_4conv1fc,
        (1, 4, 1),
        ("none", "group", "none"),
    ),
}
REFUSED = {
    "d2_mask_rcnn_R_50_C4": "this is .*C4: RoI heads on res4",
    "d2_mask_rcnn_R_50_DC5": "this is .*DC5: RoI heads on a dilated res5",
    "d2_cascade_mask_rcnn_X_152_32x8d_FPN_gn_dconv": "timm, .*, has no resnext152_32x8d",
}


@pytest.fixture(scope="module")
def weights() -> State:
    return state()


def test_every_layout_is_converted_or_refused(reference_dir: Path) -> None:
    there = {file.stem for file in (reference_dir / "detectron2" / "keys").glob("d2_*.txt")}
    assert there == CONVERTS.keys() | REFUSED.keys() | {name for name, *_ in DEEP.values()}


@pytest.mark.parametrize("name", CONVERTS)
def test_a_full_size_layout_converts_completely(
    reference_dir: Path, tmp_path: Path, name: str
) -> None:
    full = layout(reference_dir, name)
    found = convert.read(save(tmp_path / "a.pth", full))
    model = found.detector.config.model
    assert (found.used, found.left) == (len(full), {})
    assert (found.detector.config.recipe, model.backbone.name) == CONVERTS[name]
    assert model.num_classes == 80
    assert model.box.class_agnostic == ("agnostic" in name or "cascade" in name)
    ours = found.detector.state_dict()
    assert numbers(ours) == numbers(full)


def numbers(state: Mapping[str, torch.Tensor]) -> list[float]:
    """Return the number of each key; every key has one of its own, so that none is used twice."""
    counter = "num_batches_tracked"  # which only some files hold
    found = [x.flatten()[0].item() for name, x in state.items() if not name.endswith(counter)]
    assert len(set(found)) == len(found)
    return sorted(found)


@pytest.mark.parametrize("kind", DEEP)
def test_norms_and_deeper_heads_convert_completely(
    reference_dir: Path, tmp_path: Path, kind: str
) -> None:
    name, made, (rpn, convs, layers), norms = DEEP[kind]
    full = made(layout(reference_dir, name))
    found = convert.read(save(tmp_path / "a.pth", full))
    model = found.detector.config.model
    assert (found.used, found.left) == (len(full), {})
    assert (model.rpn.convs, model.box.convs, model.box.layers) == (rpn, convs, layers)
    assert model.norms == norms
    assert (model.backbone.name == "resnet50_gn") == (kind == "GN")
    if kind == "GN":  # which stores nothing that tells how images come
        assert model.backbone.stride_in == "3x3"
        assert any("BGR" in line and "as R50 with group norm" in line for line in found.assumed)
    assert numbers(found.detector.state_dict()) == numbers(full)
    assert f"boxes by {convs} convolutions and {layers} fully connected" in str(found)
    parts = found.detector.state_dict()
    for number in range(rpn - 1):
        ours = parts[f"rpn.convs.{number}.conv.bias"]
        assert ours[0] == full[f"proposal_generator.rpn_head.conv.conv{number}.bias"][0]


def test_group_norm_in_a_backbone_that_timm_does_not_have_is_named(
    reference_dir: Path, tmp_path: Path
) -> None:
    full = layout(reference_dir, "d2_mask_rcnn_R_101_FPN")
    less = {name: x for name, x in full.items() if "running_" not in name}
    with pytest.raises(CheckpointError, match=r"timm, which .*, has no resnet101_gn"):
        convert.read(save(tmp_path / "a.pth", less))


@pytest.mark.parametrize("name", REFUSED)
def test_another_full_size_layout_is_refused_by_name(
    reference_dir: Path, tmp_path: Path, name: str
) -> None:
    file = save(tmp_path / "a.pth", layout(reference_dir, name))
    with pytest.raises(CheckpointError, match=rf"a\.pth: {REFUSED[name]}"):
        convert.convert(file, tmp_path / "a.safetensors")
    assert [x.name for x in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.parametrize("name", TINY)
def test_a_file_with_its_config_finds_what_detectron2_finds(
    reference_dir: Path, tmp_path: Path, name: str
) -> None:
    folder = reference_dir / "detectron2" / name
    found = convert.convert(
        folder / "state_dict.pt", tmp_path / "a.safetensors", config=folder / "config.yaml"
    )
    assert found.assumed + found.unread == ()
    detector = scnet.load(tmp_path / "a.safetensors", device="cpu").detector
    theirs = parity_detectron2.read(reference_dir, name, "test_batch")
    wrong = [str(row) for row in parity_detectron2.compare(detector, theirs) if not row.ok]
    assert not wrong, "\n".join(wrong)


def test_both_kinds_of_files_and_any_wrapping_give_the_same(weights: State, tmp_path: Path) -> None:
    wrapped = {f"module.{key}": value for key, value in weights.items()}
    files = [
        save(tmp_path / "trainer.pth", weights),
        save(tmp_path / "module.pth", wrapped),
        save_zoo(tmp_path / "zoo.pkl", weights),
        tmp_path / "alone.pth",
    ]
    torch.save(weights, files[-1])
    read = [convert.read(file) for file in files]
    sources = ["a trainer, iteration 89999", "a trainer", "Detectron2 Model Zoo", "weights alone"]
    for found, source in zip(read, sources, strict=True):
        assert found.where == ""
        assert source in str(found).splitlines()[0]
        assert found.detector.config == read[0].detector.config
        for one, other in zip(
            found.detector.state_dict().values(),
            read[0].detector.state_dict().values(),
            strict=True,
        ):
            assert torch.equal(one, other)


def test_counters_of_trained_norms_are_read(weights: State, tmp_path: Path) -> None:
    counter = {f"{FIRST}.norm.num_batches_tracked": torch.tensor(7)}
    for file in (
        save(tmp_path / "a.pth", weights | counter),
        save_zoo(tmp_path / "a.pkl", weights | counter),
    ):
        assert convert.read(file).detector.backbone.net.bn1.num_batches_tracked == 7


def test_the_first_layer_is_turned_only_for_bgr(weights: State, tmp_path: Path) -> None:
    file = save(tmp_path / "a.pth", weights)
    first = weights[f"{FIRST}.weight"]
    for order in ("BGR", "RGB"):
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({"INPUT": {"FORMAT": order}}))
        ours = convert.read(file, config=tmp_path / "c.yaml").detector.backbone.net.conv1.weight
        assert torch.equal(ours, first.flip(1) if order == "BGR" else first)


def test_a_file_alone_says_what_is_assumed(weights: State, tmp_path: Path) -> None:
    found = convert.read(save(tmp_path / "a.pth", weights))
    config = found.detector.config
    assert (config.model.backbone.stride_in, config.data.size) == ("1x1", (800, 1333))
    assert np.allclose(config.model.backbone.std, 1 / 255)
    assert config.model.backbone.mean is None  # ImageNet's, once in the order of RGB
    assert config.assumed == found.assumed
    told = str(found)
    for words in (
        "images BGR, mean [103.53, 116.28, 123.675], std [1.0, 1.0, 1.0]",
        "stride in the 1x1 convolution: as R50 and R101 of detectron2's zoo",
        "model.rpn.anchor_scale 8.0",
        "model.box.score_threshold 0.05",
        "data.size [800, 1333]",
        "--config config.yaml",
        "names unknown",
    ):
        assert words in told


def test_the_first_norm_tells_how_images_come(weights: State, tmp_path: Path) -> None:
    power = weights[f"{FIRST}.weight"].square().sum((1, 2, 3))
    for variance, order, in_1x1 in ((1.0, "RGB", "3x3"), (4000.0, "BGR", "1x1")):
        seen = {
            f"{FIRST}.norm.running_mean": torch.ones(64),
            f"{FIRST}.norm.running_var": power * variance,
        }
        found = convert.read(save(tmp_path / "a.pth", weights | seen))
        assert found.detector.config.model.backbone.stride_in == in_1x1
        assert f"images {order}" in str(found)


def test_what_older_files_hold_is_read(weights: State, tmp_path: Path) -> None:
    held = cell_anchors((16, 32, 64, 128, 256)) | {
        "pixel_mean": torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1),
        "pixel_std": torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1),
    }
    found = convert.read(save(tmp_path / "a.pth", weights | held))
    config = found.detector.config
    assert config.model.rpn.anchor_scale == 4
    assert config.model.backbone.mean is None  # ImageNet's
    assert found.left.keys() == held.keys()
    assert not any("anchor" in line or "BGR" in line for line in found.assumed)
    first = found.detector.backbone.net.conv1.weight
    assert torch.equal(first, weights[f"{FIRST}.weight"])


def test_anchors_out_of_proportion_are_read(weights: State, tmp_path: Path) -> None:
    found = convert.read(save(tmp_path / "a.pth", weights | cell_anchors((4, 9, 17, 31, 64))))
    rpn = found.detector.config.model.rpn
    assert rpn.anchor_sizes == ((4,), (9,), (17,), (31,), (64,))


def test_one_mask_for_all_classes_becomes_one_for_each(weights: State, tmp_path: Path) -> None:
    names = [f"roi_heads.mask_head.predictor.{kind}" for kind in ("weight", "bias")]
    changed = weights | {name: weights[name][:1] for name in names}
    found = convert.read(save(tmp_path / "a.pth", changed))
    classifier = found.detector.roi_heads.masks.heads[0].classifier.weight
    assert torch.equal(classifier, changed[names[0]].expand(6, -1, -1, -1))
    assert "one mask for all classes" in str(found)


def test_stuff_of_panoptic_fpn_is_left_and_named(weights: State, tmp_path: Path) -> None:
    more = {"sem_seg_head.p2.0.weight": torch.ones(2)}
    found = convert.read(save(tmp_path / "a.pth", weights | more))
    assert "Panoptic FPN" in found.left["sem_seg_head.p2.0.weight"]


def test_class_names_come_from_metadata_or_are_given(weights: State, tmp_path: Path) -> None:
    file = save(tmp_path / "a.pth", weights, metadata={"thing_classes": list(CLASSES)})
    assert convert.read(file).detector.classes == CLASSES
    others = [name.upper() for name in CLASSES]
    assert convert.read(file, classes=others).detector.classes == tuple(others)
    with pytest.raises(CheckpointError, match="predicts 6 classes, but 80 names"):
        convert.read(file, classes=coco_classes())


# Keys that are added to a right file, what those begin with that are taken, and the answer.
CHANGED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "ViTDet": (("backbone.net.blocks.0.attn.qkv.weight",), "backbone.", "ViTDet"),
    "MViT": (("backbone.bottom_up.blocks.0.attn.qkv.weight",), "backbone.", "MViT"),
    "keypoints": (("roi_heads.keypoint_head.conv_fcn1.weight",), "", "keypoints"),
    "DensePose": (("roi_heads.densepose_head.body_conv_fcn1.weight",), "", "DensePose"),
    "PointRend": (("roi_heads.mask_head.point_head.fc1.weight",), "", "PointRend"),
    "C4": (("roi_heads.res5.0.conv1.weight",), "backbone.", "C4.*scnet zoo"),
    "DC5": (("backbone.res5.0.conv1.weight",), "backbone.", "DC5"),
    "BiFPN": (("backbone.bifpn.0.weight",), "", "another pyramid"),
    "boxes alone": ((), "roi_heads.mask_head.", r"Faster R-CNN.*needs masks"),
    "ResNet-18": ((), "backbone.bottom_up.res2.0.conv3", "ResNet-18"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_changed_model_is_answered_by_what_was_changed(
    weights: State, tmp_path: Path, case: str
) -> None:
    added, taken, told = CHANGED[case]
    content: dict[str, Any] = {k: v for k, v in weights.items() if not taken or taken not in k}
    file = save(tmp_path / "a.pth", content | {name: torch.zeros(1) for name in added})
    with pytest.raises(CheckpointError, match=f"a model of detectron2 with .*{told}"):
        convert.read(file)


def test_rotated_boxes_are_refused(weights: State, tmp_path: Path) -> None:
    name = "proposal_generator.rpn_head.anchor_deltas.weight"
    five = torch.zeros(15, *weights[name].shape[1:])
    with pytest.raises(CheckpointError, match="rotated boxes"):
        convert.read(save(tmp_path / "a.pth", weights | {name: five}))


OTHERS = {
    "a RetinaNet": (
        {"model": {"backbone.fpn_lateral3.weight": 0, "head.cls_subnet.0.weight": 0}},
        "a RetinaNet of detectron2",
    ),
    "blobs of Caffe2": ({"blobs": {"conv1_w": 0, "res2_0_branch2a_w": 0}}, "first Detectron"),
    "a backbone": (
        {"model": {"stem.conv1.weight": 0, "res2.0.conv1.weight": 0}, "matching_heuristics": True},
        "an ImageNet backbone of detectron2",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_pickles_are_answered_by_name(tmp_path: Path, case: str) -> None:
    content, told = OTHERS[case]
    filled = {
        key: {k: np.zeros(1, np.float32) for k in value} if isinstance(value, dict) else value
        for key, value in content.items()
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(filled, 2))
    with pytest.raises(CheckpointError, match=rf"a\.pkl: this is .*{told}"):
        convert.read(tmp_path / "a.pkl")


def test_missing_unknown_and_broken_parameters_are_named(weights: State, tmp_path: Path) -> None:
    less = {k: v for k, v in weights.items() if not k.endswith("fc2.bias")}
    with pytest.raises(CheckpointError, match=r"1 missing: roi_heads\.stages\.0\.fc2\.bias"):
        convert.read(save(tmp_path / "a.pth", less))
    more = weights | {"roi_heads.extra.weight": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"1 keys have no counterpart: roi_heads\.extra"):
        convert.read(save(tmp_path / "a.pth", more))
    name = f"{FIRST}.weight"
    with pytest.raises(CheckpointError, match=f"not all numbers are finite in {re.escape(name)}"):
        convert.read(save(tmp_path / "a.pth", weights | {name: weights[name] / 0}))


def test_odd_parameters_end_with_a_plain_answer(weights: State, tmp_path: Path) -> None:
    odd = {
        f"{FIRST}.weight": torch.zeros(3),
        f"{FIRST}.norm.running_var": torch.zeros(2),
        "pixel_mean": torch.zeros(0),
        "proposal_generator.rpn_head.objectness_logits.weight": torch.tensor(1.0),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(0, 4),
        "roi_heads.box_predictor.cls_score.weight": torch.zeros(1),
    }
    for name, value in odd.items():
        with pytest.raises(CheckpointError, match=r"a\.pth: "):
            convert.read(save(tmp_path / "a.pth", weights | {name: value}))
    without = {k: v for k, v in weights.items() if not k.startswith(FIRST)}
    with pytest.raises(CheckpointError, match=r"stem\.conv1, is missing"):
        convert.read(save(tmp_path / "a.pth", without))


def test_a_dry_run_tells_all_and_writes_nothing(
    weights: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save_zoo(tmp_path / "a.pkl", weights)
    command = ["convert", str(file), "--classes", ",".join(CLASSES), "--dry-run"]
    assert main(command) == 0
    told = capsys.readouterr().out
    for words in (
        "detectron2, file of Detectron2 Model Zoo",
        "mask_rcnn",
        "ash",
        "score over 0.05",
    ):
        assert words in told
    assert "nothing was written; next: scnet convert" in told
    assert main([*command, "-o", str(tmp_path / "b.safetensors")]) == 0
    assert [x.name for x in tmp_path.iterdir()] == ["a.pkl"]
    assert main([*command, "-o", str(file)]) == 1
    assert "must end in .safetensors" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 2
    assert "no file is named to write" in capsys.readouterr().err
    assert main(["convert", str(file)]) == 2
    assert "-o FILE.safetensors, or --dry-run" in capsys.readouterr().err


def test_load_and_predict_take_the_file_itself(
    weights: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = scnet.load(save_zoo(tmp_path / "a.pkl", weights), device="cpu")
    assert "assumed" in capsys.readouterr().err
    assert len(model.predict(np.zeros((40, 60, 3), np.uint8))) <= 100
