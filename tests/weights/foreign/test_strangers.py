"""A model is found under whatever its keys are wrapped in; a stranger is answered by its name."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.weights.foreign.files import NAMES, State, state

import scnet
from scnet.cli.main import main
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert

CLS = "roi_head.bbox_head.fc_cls.bias"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> State:
    return state(tmp_path_factory.mktemp("weights"))


def starting(weights: State, prefix: str, more: float = 0.0) -> State:
    return {
        prefix + key: value + more if value.is_floating_point() else value
        for key, value in weights.items()
    }


def nested(weights: State) -> dict[str, Any]:
    """Return dictionaries of the parts of a model."""
    parts: dict[str, Any] = {}
    for key, value in weights.items():
        part, _, rest = key.partition(".")
        parts.setdefault(part, {})[rest] = value
    return parts


# What a file holds, and what is told of the place.
WRAPPED: dict[str, tuple[Callable[[State], dict[str, Any]], str]] = {
    "bare": (lambda w: dict(w), ""),
    "data parallel": (lambda w: {"state_dict": starting(w, "module.")}, ""),
    "an attribute": (lambda w: {"state_dict": starting(w, "model.")}, "state_dict.model"),
    "Lightning": (
        lambda w: {
            "state_dict": starting(w, "detector.model.") | {"criterion.weight": torch.ones(3)},
            "pytorch-lightning_version": "2.4.0",
            "hyper_parameters": argparse.Namespace(lr=0.1),
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        },
        "state_dict.detector.model",
    ),
    "compiled": (lambda w: {"model": starting(w, "_orig_mod.")}, "under model"),
    "compiled in parts": (
        lambda w: {
            "state_dict": {k.replace("backbone.", "backbone._orig_mod."): v for k, v in w.items()}
        },
        "",
    ),
    "DeepSpeed": (lambda w: {"module": dict(w), "dp_world_size": 2}, ""),
    "dictionaries of parts": (lambda w: {"net": nested(w)}, "under net"),
    "only an average": (
        lambda w: {"ema_state_dict": starting(w, "module.")},
        "ema_state_dict.module, an averaged copy",
    ),
    "an average beside": (
        lambda w: {"state_dict": dict(w), "model_ema": starting(w, "", 1)},
        "",
    ),
    "the same twice": (lambda w: {"state_dict": dict(w), "model": dict(w)}, ""),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_a_model_is_found_in_any_wrapping(weights: State, tmp_path: Path, case: str) -> None:
    content, told = WRAPPED[case]
    torch.save(content(weights), tmp_path / "a.pth")
    found = convert.read(tmp_path / "a.pth", classes=NAMES)
    assert found.used == len(weights)
    assert torch.equal(found.detector.roi_heads.stages[0].cls.bias, weights[CLS])
    assert told in str(found) if told else found.where == ""


def test_a_copy_beside_is_told(weights: State, tmp_path: Path) -> None:
    content, _ = WRAPPED["an average beside"]
    torch.save(content(weights), tmp_path / "a.pth")
    assert convert.read(tmp_path / "a.pth").left == {"model_ema.*": "an averaged copy"}
    named = convert.read(tmp_path / "a.pth", prefix="model_ema")
    assert torch.equal(named.detector.roi_heads.stages[0].cls.bias, weights[CLS] + 1)


def test_of_several_models_one_must_be_named(
    weights: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = starting(weights, "student.") | starting(weights, "teacher.", 1)
    torch.save({"state_dict": both}, tmp_path / "a.pth")
    command = ["convert", str(tmp_path / "a.pth"), "-o", str(tmp_path / "a.safetensors")]
    assert main(command) == 1
    told = capsys.readouterr().err
    assert "several models: state_dict.student, state_dict.teacher" in told
    assert main([*command, "--prefix", "teacher"]) == 0
    assert "under state_dict.teacher" in capsys.readouterr().out
    model = scnet.load(tmp_path / "a.safetensors", device="cpu")
    assert torch.equal(model.detector.roi_heads.stages[0].cls.bias, weights[CLS] + 1)


def test_an_unknown_key_in_a_wrapped_model_is_no_key_beside_it(
    weights: State, tmp_path: Path
) -> None:
    content = starting(weights, "model.") | {"model.extra_head.weight": torch.ones(2)}
    torch.save({"state_dict": content}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"1 keys have no counterpart: extra_head\.weight"):
        convert.read(tmp_path / "a.pth")


def test_a_file_of_safetensors_is_read_and_our_own_is_told(weights: State, tmp_path: Path) -> None:
    save_file({k: v.contiguous() for k, v in weights.items()}, tmp_path / "a.safetensors")
    convert.convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", classes=NAMES)
    with pytest.raises(CheckpointError, match="a file of scnet already"):
        convert.read(tmp_path / "b.safetensors")


def test_what_is_no_checkpoint_is_called_what_it_is(weights: State, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    contents = {
        "an image": b"\x89PNG\r\n\x1a\n" + bytes(99),
        "JSON": b'[{"image_id": 1}]',
        "empty": b"",
        "damaged or cut off": whole[: len(whole) // 2],
        "damaged or another kind of file": bytes(99),
    }
    for what, content in contents.items():
        file = tmp_path / "a.pth"
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"is .*{what}") as told:
            convert.read(file)
        assert "weights_only" not in str(told.value)


def test_a_folder_is_called_one_or_known_as_our_own(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder; give a checkpoint file"):
        convert.read(tmp_path)
    for place in (tmp_path / "run" / "last", tmp_path / "model"):
        place.mkdir(parents=True)
        (place / "model.safetensors").write_bytes(b"")
    for folder in ("run", "model"):
        with pytest.raises(CheckpointError, match="is scnet's own already; use it as it is"):
            convert.read(tmp_path / folder)


def keys(*names: str) -> dict[str, Any]:
    return {name: torch.zeros(1) for name in names}


# Files of others, and words of the answer.
STRANGERS: dict[str, tuple[dict[str, Any], str]] = {
    "MMDetection 1.x": (
        {"state_dict": keys("rpn_head.rpn_conv.weight", "bbox_head.shared_fcs.0.weight")}
        | {"meta": {"mmdet_version": "1.2.0"}},
        "MMDetection 1.x without masks.*reads Mask R-CNN",
    ),
    "detectron2": (
        {
            "model": keys(
                "backbone.bottom_up.res2.0.conv1.weight",
                "proposal_generator.rpn_head.conv.weight",
                "roi_heads.box_head.fc1.weight",
            ),
            "iteration": 9,
        },
        "detectron2 with boxes alone.*needs masks",
    ),
    "a backbone of detectron2": (
        {"model": keys("stem.conv1.weight", "res2.0.conv1.weight")},
        "ImageNet backbone of detectron2",
    ),
    "maskrcnn-benchmark": (
        {"model": keys("module.backbone.body.stem.conv1.weight", "module.rpn.head.conv.weight")},
        "maskrcnn-benchmark",
    ),
    "torchvision": (
        keys(
            "backbone.body.conv1.weight",
            "backbone.fpn.inner_blocks.0.0.weight",
            "roi_heads.mask_head.0.0.weight",
            "roi_heads.box_predictor.cls_score.weight",
        ),
        "a part of a Mask R-CNN of torchvision",
    ),
    "YOLO": (
        keys("model.0.conv.weight", "model.22.dfl.conv.weight"),
        r"Ultralytics \(YOLO\)",
    ),
    "SAM": (
        keys("image_encoder.patch_embed.proj.weight", "prompt_encoder.x", "mask_decoder.y"),
        "Segment Anything",
    ),
    "DETR": (
        {"model": keys("transformer.encoder.layers.0.linear1.weight", "class_embed.weight")},
        "transformer detector",
    ),
    "FCOS": (
        {"state_dict": keys("backbone.conv1.weight", "bbox_head.conv_centerness.weight")},
        "a one-stage detector of MMDetection",
    ),
    "SOLO": (
        {"state_dict": keys("backbone.conv1.weight", "mask_head.conv_cls.weight")},
        "a one-stage detector of MMDetection",
    ),
    "Faster R-CNN": (
        {"state_dict": keys("rpn_head.rpn_conv.weight", "roi_head.bbox_head.fc_cls.weight")},
        "without a mask head.*needs masks",
    ),
    "MMSegmentation": (
        {"state_dict": keys("backbone.conv1.weight", "decode_head.conv_seg.weight")},
        "MMSegmentation",
    ),
    "a ResNet": (
        keys("conv1.weight", "layer1.0.conv1.weight", "fc.weight"),
        "bare ResNet.*model.backbone.weights",
    ),
    "a ResNet of MMPretrain": (
        {"state_dict": keys("backbone.conv1.weight", "head.fc.weight")},
        "MMPretrain.*model.backbone.weights",
    ),
    "a Swin": (
        {"model": keys("patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight")},
        "bare backbone",
    ),
    "an optimizer": (
        {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
        "state of an optimizer alone",
    ),
    "nobody's": (
        {"weights": keys("a.b", "c.d")},
        "no model of MMDetection in it.*it holds weights",
    ),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_a_stranger_is_answered_by_its_name(tmp_path: Path, case: str) -> None:
    content, told = STRANGERS[case]
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"(?s)a.pth: .*{told}"):
        convert.convert(tmp_path / "a.pth", tmp_path / "a.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


# Keys that are added to a right file, or begin those that are taken from it.
CHANGED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "C4": (("roi_head.shared_head.layer4.0.bn1.weight",), "neck.", "C4.*no pyramid"),
    "WS": (("backbone.layer4.0.conv2.weight_gamma",), "", "weight standardisation"),
    "norms in the semantic branch": (
        ("roi_head.semantic_head.lateral_convs.0.gn.weight",),
        "",
        "norms where scnet has none",
    ),
    "Swin": (
        ("backbone.patch_embed.projection.weight",),
        "backbone.",
        "Swin.*norms behind",
    ),
    "ConvNeXt": (
        ("backbone.downsample_layers.0.0.weight",),
        "backbone.",
        "ConvNeXt.*norms behind",
    ),
    "PointRend": (("roi_head.point_head.fcs.0.conv.weight",), "", "PointRend"),
    "heads apart": (("roi_head.bbox_head.cls_convs.0.conv.weight",), "", "of boxes apart"),
    "a deep stem": (("backbone.stem.0.weight",), "backbone.conv1", "ResNetV1d"),
    "BFP": (("neck.1.refine.conv.weight",), "", "another pyramid"),
    "guided anchors": (("rpn_head.conv_loc.weight",), "rpn_head.rpn_cls", "another RPN"),
    "boxes alone": ((), "roi_head.mask_head.", "without a mask head"),
    "Res2Net": (("backbone.layer1.0.convs.0.weight",), "backbone.layer", "Res2Net.*pools nothing"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_changed_model_is_answered_by_what_was_changed(
    weights: State, tmp_path: Path, case: str
) -> None:
    added, taken, told = CHANGED[case]
    content = {k: v for k, v in weights.items() if not taken or not k.startswith(taken)}
    torch.save({"state_dict": content | keys(*added)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"a model of MMDetection with .*{told}"):
        convert.read(tmp_path / "a.pth")


def test_one_mask_for_all_classes_is_told(weights: State, tmp_path: Path) -> None:
    names = [f"roi_head.mask_head.conv_logits.{kind}" for kind in ("weight", "bias")]
    content = weights | {name: weights[name][:1] for name in names}
    torch.save({"state_dict": content}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"1 masks for 6 classes \(mask_head\.class_agn"):
        convert.read(tmp_path / "a.pth")


class Other:
    """Is unknown where a file is read."""


def test_files_that_cannot_be_loaded_are_recognised_by_their_texts(tmp_path: Path) -> None:
    pickled = pickle.dumps({"model": {"backbone.bottom_up.stem.conv1.weight": np.zeros(3)}})
    (tmp_path / "d2.pkl").write_bytes(pickled)
    with zipfile.ZipFile(tmp_path / "yolo.pt", "w") as archive:
        archive.writestr("best/data.pkl", b"cultralytics.nn.tasks\nSegmentationModel\n.")
        archive.writestr("best/version", b"3")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", b"c__torch__\nNet\n.")
        archive.writestr("script/code/__torch__.py", b"class Net(Module): ...")
    old = {"model": Other(), "names": ["ultralytics.nn.tasks"]}
    torch.save(old, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "page.pth").write_bytes(b"<!DOCTYPE html><html>404</html>")
    (tmp_path / "lfs.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    for name, told in {
        "d2.pkl": "a checkpoint of detectron2",
        "yolo.pt": "Ultralytics",
        "old.pt": "Ultralytics",
        "script.pt": "TorchScript",
        "page.pth": "a web page",
        "lfs.pth": "Git LFS",
    }.items():
        with pytest.raises(CheckpointError, match=f"{name}: this is .*{told}"):
            convert.read(tmp_path / name)
        with pytest.raises(CheckpointError, match=told):
            scnet.load(tmp_path / name, device="cpu")
