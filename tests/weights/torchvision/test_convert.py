"""Checkpoints of torchvision: converted whole, or refused by name."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.weights.detectron2.files import layout
from tests.weights.torchvision.files import NORM, State, detector, old_names, save, state

import scnet
from scnet.cli.main import main
from scnet.data.classes import coco_category_ids, coco_classes
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert

CLASSES = ("ash", "oak", "elm", "fir", "yew", "box")
CLS, REG = (f"roi_heads.box_predictor.{name}" for name in ("cls_score", "bbox_pred"))
MASK = "roi_heads.mask_predictor.mask_fcn_logits"
CONVERTS = (
    "torchvision_maskrcnn_resnet50_fpn",
    "torchvision_maskrcnn_resnet50_fpn_batchnorm",
    "torchvision_maskrcnn_resnet50_fpn_v2",
)


@pytest.fixture(scope="module")
def weights() -> State:
    return state()


def same(ours: State, theirs: State) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(x, theirs[k]) for k, x in ours.items())


def test_every_layout_is_tried(reference_dir: Path) -> None:
    there = (reference_dir / "detectron2" / "keys").glob("torchvision_*.txt")
    assert {file.stem for file in there} == set(CONVERTS)


@pytest.mark.parametrize("name", CONVERTS)
def test_a_full_size_layout_converts_completely(
    reference_dir: Path, tmp_path: Path, name: str
) -> None:
    full = layout(reference_dir, name)
    # All of a variance is the same number, which must not change the scale here.
    found = convert.read(save(tmp_path / "a.pth", full), norm_eps=1e-5)
    model = found.detector.config.model
    assert (found.used, found.left) == (len(full), {})
    assert (found.detector.config.recipe, model.num_classes) == ("mask_rcnn", 80)
    assert found.detector.classes == coco_classes()
    kept = {x.flatten()[0].item() for x in found.detector.state_dict().values()}
    counters = {i for i, key in enumerate(full) if key.endswith("num_batches_tracked")}
    assert kept | counters >= set(range(len(full)))


@pytest.mark.parametrize("deep", [False, True])
def test_every_key_is_named_once_and_the_background_goes_last(tmp_path: Path, deep: bool) -> None:
    theirs = state(frozen=not deep, deep=deep)
    found = convert.read(save(tmp_path / "a.pth", theirs), norm_eps=1e-5)
    assert same(found.detector.state_dict(), detector(deep=deep).state_dict())
    assert found.used == len(theirs)
    model = found.detector.config.model
    expected = (2, 4, 1, "batch") if deep else (1, 0, 2, "none")
    assert (model.rpn.convs, model.box.convs, model.box.layers, model.norm) == expected
    assert set(model.norms) == {model.norm}


def test_a_parameter_by_an_old_and_a_new_name_is_refused(weights: State, tmp_path: Path) -> None:
    level = "backbone.fpn.inner_blocks.0"
    both = weights | {f"{level}.bias": weights[f"{level}.0.bias"] + 1}
    with pytest.raises(CheckpointError, match=rf"{level}\.bias and .* are the same parameter"):
        convert.read(save(tmp_path / "a.pth", both))


def test_files_by_old_names_and_in_any_wrapping_are_the_same(
    weights: State, tmp_path: Path
) -> None:
    files = {
        "old.pth": {"model": old_names(weights)},
        "alone.pth": weights,
        "module.pth": {"model": {f"module.{k}": x for k, x in weights.items()}},
        "script.pth": {
            "model": weights,
            "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []},
            "args": argparse.Namespace(model="maskrcnn_resnet50_fpn"),
            "epoch": 25,
        },
        "lightning.pth": {"state_dict": {f"net.{k}": x for k, x in weights.items()}},
    }
    goal = convert.read(save(tmp_path / "a.pth", weights)).detector
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        found = convert.read(tmp_path / name)
        assert same(found.detector.state_dict(), goal.state_dict())
        assert found.detector.config == goal.config
        assert ("checkpoint of epoch 25" in found.source) == (name == "script.pth")
        assert found.where == ("under state_dict.net" if name == "lightning.pth" else "")


def test_a_file_says_what_is_assumed(weights: State, tmp_path: Path) -> None:
    found = convert.read(save(tmp_path / "a.pth", weights))
    config = found.detector.config
    assert (config.model.rpn.anchor_grid, config.model.roi_align) == ("torchvision", "legacy")
    assert config.data.size == (800, 1333)
    assert config.assumed == found.assumed
    # Its labels are 1 to 6, as theirs are.
    assert found.detector.category_ids == (1, 2, 3, 4, 5, 6)
    told = str(found)
    for words in (
        "torchvision, weights alone",
        "eps 0 in frozen batch norm",
        "--norm-eps 1e-5",
        "data.size [800, 1333]",
        "model.box.score_threshold 0.05",
        "scnet.from_torchvision(model) reads it",
        "names unknown",
    ):
        assert words in told


def test_the_eps_of_frozen_norms_goes_into_their_scale(weights: State, tmp_path: Path) -> None:
    variance = torch.logspace(-9, 1, 64)
    norm = {f"{NORM}.weight": torch.linspace(0.1, 3, 64), f"{NORM}.running_var": variance}
    file = save(tmp_path / "a.pth", weights | norm)
    x = torch.randn(2, 64, 4, 4)

    def with_eps(eps: float) -> Any:
        goal = torch.nn.BatchNorm2d(64, eps=eps).double().eval()
        goal.weight.data, goal.running_var = norm[f"{NORM}.weight"].double(), variance.double()
        return goal(x.double()).float()

    for given, eps in ((None, 0.0), (0.0, 0.0), (1e-5, 1e-5), (1e-3, 1e-3)):
        net = convert.read(file, norm_eps=given).detector.backbone.net
        assert net.bn1.eps == 1e-5
        with torch.no_grad():
            torch.testing.assert_close(net.bn1(x), with_eps(eps), rtol=1e-5, atol=1e-5)


def test_norms_that_learn_have_pytorchs_eps(tmp_path: Path) -> None:
    weights = state(frozen=False)
    found = convert.read(save(tmp_path / "a.pth", weights))
    weight = found.detector.backbone.net.bn1.weight
    assert torch.equal(weight, weights[f"{NORM}.weight"])
    assert not any("eps" in line for line in found.assumed)


def test_a_norm_that_divides_by_nothing_is_named(weights: State, tmp_path: Path) -> None:
    for variance in (0.0, -1.0):
        changed = weights | {f"{NORM}.running_var": torch.full((64,), variance)}
        with pytest.raises(CheckpointError, match=rf"{NORM}\.running_var .*--norm-eps 1e-5"):
            convert.read(save(tmp_path / "a.pth", changed))
    for eps in (-1e-5, float("nan"), 2.0):
        with pytest.raises(CheckpointError, match=r"--norm-eps .*expected 0, 1e-5"):
            convert.read(save(tmp_path / "a.pth", weights), norm_eps=eps)


# COCO's 91 rows


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("many") / "a.pth", state(90))


def test_91_rows_become_the_80_classes_of_coco(many: Path) -> None:
    found = convert.read(many)
    assert found.detector.classes == coco_classes()
    assert found.detector.category_ids == coco_category_ids(coco_classes())
    theirs = torch.load(many)["model"]
    ids = list(found.detector.category_ids)
    assert (ids[11], ids[79]) == (13, 90)
    stage = found.detector.roi_heads.stages[0]
    assert torch.equal(stage.cls.weight, theirs[f"{CLS}.weight"][[*ids, 0]])
    assert torch.equal(stage.cls.bias, theirs[f"{CLS}.bias"][[*ids, 0]])
    for label, row in ((0, 1), (11, 13), (79, 90)):
        boxes = theirs[f"{REG}.weight"][4 * row : 4 * row + 4]
        assert torch.equal(stage.reg.weight[4 * label : 4 * label + 4], boxes)
        mask = found.detector.roi_heads.masks.heads[0].classifier
        assert torch.equal(mask.weight[label], theirs[f"{MASK}.weight"][row])
    told = str(found)
    assert "not read: class rows 12, 26, 29, 30, 45, 66, 68, 69, 71, 83: COCO has no class" in told
    assert "91 class rows are COCO's category ids; else give all 90 names" in told


def test_91_rows_are_90_classes_where_90_names_are_given(many: Path) -> None:
    names = tuple(f"kind {i}" for i in range(90))
    found = convert.read(many, classes=names)
    assert found.detector.classes == names
    assert found.unread == ()
    assert not any("rows" in line for line in found.assumed)
    theirs = torch.load(many)["model"]
    assert torch.equal(found.detector.roi_heads.stages[0].cls.bias, theirs[f"{CLS}.bias"].roll(-1))
    coco = convert.read(many, classes=coco_classes())
    assert coco.detector.classes == coco_classes()
    assert not any("rows" in line for line in coco.assumed)
    with pytest.raises(CheckpointError, match="predicts 80 classes, but 5 names"):
        convert.read(many, classes=names[:5])


# What is refused

CHANGED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "keypoints": (("roi_heads.keypoint_head.0.weight",), "", "with keypoints"),
    "ResNet-18": ((), ".conv3", "a ResNet-18 or -34"),
    "MobileNet": (("backbone.body.0.0.weight",), "backbone.body.", "another backbone than a ResN"),
    "no pyramid": ((), "backbone.fpn.", "without a pyramid"),
    "a plain backbone": (("backbone.0.0.weight",), "backbone.", "another backbone than a ResNet w"),
    "P6 and P7": (("backbone.fpn.extra_blocks.p6.weight",), "", "another pyramid"),
    "group norm": ((), "running_", "another norm than batch norm"),
    "group norm in heads": (
        tuple(f"roi_heads.mask_head.{i}.1.{kind}" for i in range(4) for kind in ("weight", "bias")),
        "",
        "group norm in its pyramid or heads",
    ),
    "another box head": (("roi_heads.box_head.mlp.weight",), ".box_head.", "another box head"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_changed_model_is_answered_by_what_was_changed(
    weights: State, tmp_path: Path, case: str
) -> None:
    added, taken, told = CHANGED[case]
    content: State = {k: v for k, v in weights.items() if not taken or taken not in k}
    file = save(tmp_path / "a.pth", content | {name: torch.zeros(1) for name in added})
    with pytest.raises(CheckpointError, match=f"a Mask R-CNN of torchvision .*{told}"):
        convert.read(file)


def test_other_detectors_of_torchvision_are_answered_by_name(
    weights: State, tmp_path: Path
) -> None:
    boxes = {k: v for k, v in weights.items() if "mask" not in k}
    keypoints = boxes | {"roi_heads.keypoint_predictor.kps_score_lowres.weight": torch.ones(1)}
    retina = {"head.classification_head.conv.0.weight": torch.ones(1)}
    for content, told in (
        (boxes, "a Faster R-CNN or other detector of torchvision"),
        (keypoints, "a Keypoint R-CNN of torchvision"),
        (retina, "a RetinaNet of torchvision"),
    ):
        with pytest.raises(CheckpointError, match=rf"a\.pth: this is {told}"):
            convert.read(save(tmp_path / "a.pth", content))


class Sneaky:
    def __reduce__(self) -> Any:
        return print, ("ran",)


def test_whole_models_and_unsafe_files_are_refused(
    weights: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.models.detection.rpn import RPNHead

    torch.save(RPNHead(2, 3), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a whole model of torchvision.*from_torchvision"):
        scnet.load(tmp_path / "a.pth", device="cpu")
    file = save(tmp_path / "b.pth", weights, hook=Sneaky())
    with pytest.raises(CheckpointError, match=r"b\.pth: holds more than weights"):
        convert.convert(file, tmp_path / "b.safetensors")
    content = save(tmp_path / "c.pth", weights).read_bytes()
    (tmp_path / "c.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"c\.pth: is an archive that is damaged or cut off"):
        convert.read(tmp_path / "c.pth")
    assert "ran" not in capsys.readouterr().out


def test_missing_unknown_and_broken_parameters_are_named(weights: State, tmp_path: Path) -> None:
    less = {k: v for k, v in weights.items() if not k.endswith("fc7.bias")}
    with pytest.raises(CheckpointError, match=r"1 missing: roi_heads\.stages\.0\.fc2\.bias"):
        convert.read(save(tmp_path / "a.pth", less))
    more = weights | {"roi_heads.extra.weight": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"1 keys have no counterpart: roi_heads\.extra"):
        convert.read(save(tmp_path / "a.pth", more))
    name = f"{NORM}.weight"
    with pytest.raises(CheckpointError, match=f"not all numbers are finite in {re.escape(name)}"):
        convert.read(save(tmp_path / "a.pth", weights | {name: weights[name] / 0}))


def test_odd_parameters_end_with_a_plain_answer(weights: State, tmp_path: Path) -> None:
    odd = {
        "backbone.body.conv1.weight": torch.zeros(3),
        f"{NORM}.running_var": torch.ones(2),
        "backbone.fpn.layer_blocks.0.0.weight": torch.tensor(1.0),
        "rpn.head.cls_logits.weight": torch.zeros(15, 16, 1, 1),
        "rpn.head.bbox_pred.weight": torch.tensor(1.0),
        "roi_heads.box_head.fc6.weight": torch.zeros(32, 5),
        f"{CLS}.weight": torch.zeros(1),
        f"{CLS}.bias": torch.tensor(1.0),
        f"{REG}.weight": torch.zeros(4, 32),  # one box for all classes
        f"{MASK}.weight": torch.zeros(2, 16, 1, 1),
    }
    for name, value in odd.items():
        with pytest.raises(CheckpointError, match=r"a\.pth: "):
            convert.read(save(tmp_path / "a.pth", weights | {name: value}))


def test_what_means_nothing_for_a_file_is_refused(weights: State, tmp_path: Path) -> None:
    file = save(tmp_path / "a.pth", weights)
    with pytest.raises(CheckpointError, match="torchvision's models have no config"):
        convert.read(file, config=tmp_path / "config.yaml")
    with pytest.raises(CheckpointError, match="--leave stride: not refused"):
        convert.read(file, leave=["stride"])
    other = save(tmp_path / "b.pth", {"a.b": torch.ones(1)})
    with pytest.raises(CheckpointError, match="--norm-eps: has no effect"):
        convert.read(other, norm_eps=0.0)


def test_the_commands_take_the_file(
    weights: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = save(tmp_path / "a.pth", weights), tmp_path / "a.safetensors"
    command = ["convert", str(file), "-o", str(output), "--norm-eps", "1e-5"]
    assert main([*command, "--classes", ",".join(CLASSES)]) == 0
    assert "classes          6: ash, oak, elm, fir, yew, ... (given)" in capsys.readouterr().out
    converted = scnet.load(output, device="cpu")
    assert converted.classes == CLASSES
    assert torch.equal(
        converted.detector.backbone.net.bn1.weight.detach(), weights[f"{NORM}.weight"]
    )
    model = scnet.load(file, device="cpu")
    assert "assumed" in capsys.readouterr().err
    assert len(model.predict(np.zeros((40, 60, 3), np.uint8))) <= 100
