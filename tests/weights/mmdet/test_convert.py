"""Checkpoints of MMDetection: recognised, converted whole, or refused by name."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import mmdet_files
from tests.weights.mmdet.checkpoints import LAYOUTS, layout, mmengine, save, tiny, with_norms
from torch import Tensor

import scnet
from scnet import recipes
from scnet.cli.main import main
from scnet.config import ScoringConfig
from scnet.data.classes import coco_classes
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert
from scnet.weights.foreign.mmdet.names import our_name

State = dict[str, Tensor]
TINY = ("mask_rcnn", "cascade_mask_rcnn", "htc", "scnet")
SIX = ("cell", "nucleus", "debris", "bead", "fibre", "bubble")


@pytest.fixture
def scnet_state(reference_dir: Path) -> State:
    return tiny(reference_dir, "scnet")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_full_size_layout_converts_completely(
    reference_dir: Path, tmp_path: Path, name: str
) -> None:
    state = layout(reference_dir, name)
    found = convert.read(save(tmp_path / f"{name}.pth", state))
    assert found.used == len(state)
    assert not found.left
    recipe = name.replace("x101_64x4d", "x101").removesuffix("_r50")
    model, expected = found.detector.config.model, recipes.find(recipe).model
    assert found.detector.config.recipe == recipe
    assert model.backbone == expected.backbone
    assert (model.num_classes, model.box, model.mask) == (80, expected.box, expected.mask)
    assert model.semantic_classes == (183 if "branches" in _names(found, "semantic") else 81)
    filled = found.detector.state_dict().values()
    # every key had a number of its own, so none was used twice
    assert sorted(x.flatten()[0].item() for x in filled) == list(range(len(state)))


@pytest.mark.parametrize("name", TINY)
def test_a_small_file_converts_to_a_loadable_one(
    reference_dir: Path, tmp_path: Path, name: str
) -> None:
    state = tiny(reference_dir, name)
    file = save(tmp_path / "old.pth", state, meta={"CLASSES": SIX})
    found = convert.convert(file, tmp_path / "new.safetensors")
    model = scnet.load(tmp_path / "new.safetensors", device="cpu")
    assert model.classes == SIX
    assert model.config == found.detector.config
    theirs, ours = state["roi_head.bbox_head.fc_cls.bias" if name == "mask_rcnn" else BIAS], model
    assert torch.equal(ours.detector.roi_heads.stages[-1].cls.bias, theirs)


@pytest.mark.parametrize("norms", [("group",) * 3, ("batch",) * 3, ("none", "group", "batch")])
def test_norms_and_deeper_heads_convert_completely(tmp_path: Path, norms: tuple[str, ...]) -> None:
    parts = ("pyramid", "box", "mask")
    detector = mmdet_files.mask_rcnn(
        6,
        model__rpn__convs=2,
        model__box__convs=4,
        model__box__layers=1,
        **{f"model__{part}__norm": norm for part, norm in zip(parts, norms, strict=True)},
    )
    for value in detector.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    found = convert.read(mmdet_files.write(tmp_path / "a.pth", detector))
    theirs = detector.state_dict()
    assert (found.used, found.left) == (len(theirs), {})
    assert found.detector.config.model.norms == norms
    assert found.detector.state_dict().keys() == theirs.keys()
    assert all(torch.equal(x, theirs[n]) for n, x in found.detector.state_dict().items())
    assert "RPN of 2 convolutions; boxes by 4 convolutions and 1 fully connected" in str(found)
    assert any("32 groups" in line for line in found.assumed) == ("group" in norms)


@pytest.mark.parametrize("norm", ["gn", "bn"])
def test_a_full_size_model_with_norms_everywhere_converts_completely(
    reference_dir: Path, tmp_path: Path, norm: str
) -> None:
    state = with_norms(layout(reference_dir, "mask_rcnn_r50"), norm)
    found = convert.read(save(tmp_path / "a.pth", state))
    model = found.detector.config.model
    assert (found.used, found.left) == (len(state), {})
    assert model.norms == ({"gn": "group", "bn": "batch"}[norm],) * 3
    assert (model.box.convs, model.box.layers) == (4, 1)
    assert model.backbone.name == ("resnet50_gn" if norm == "gn" else "resnet50.tv_in1k")
    filled = [x.flatten()[0].item() for x in found.detector.state_dict().values()]
    assert sorted(filled) == sorted(x.flatten()[0].item() for x in state.values())


# Of MMDetection's MaskIoUHead, as its code makes them: convs are mmcv's Conv2d, no ConvModule.
SCORING = {
    "convs.0.weight": (256, 257, 3, 3),
    **{f"convs.{i}.weight": (256, 256, 3, 3) for i in (1, 2, 3)},
    **{f"convs.{i}.bias": (256,) for i in (0, 1, 2, 3)},
    "fcs.0.weight": (1024, 12544),
    "fcs.1.weight": (1024, 1024),
    "fcs.0.bias": (1024,),
    "fcs.1.bias": (1024,),
    "fc_mask_iou.weight": (80, 1024),
    "fc_mask_iou.bias": (80,),
}


@pytest.mark.parametrize("depth", ["50", "101"])
def test_a_full_size_model_that_scores_masks_converts_completely(
    reference_dir: Path, tmp_path: Path, depth: str
) -> None:
    state = layout(reference_dir, f"mask_rcnn_r{depth}")
    for i, (name, shape) in enumerate(SCORING.items(), len(state)):
        state[f"roi_head.mask_iou_head.{name}"] = torch.tensor(float(i)).expand(shape)
    found = convert.read(save(tmp_path / "a.pth", state))
    assert (found.used, found.left) == (len(state), {})
    recipe = "mask_scoring_rcnn" + ("_r101" if depth == "101" else "")
    assert found.detector.config.recipe == recipe
    assert found.detector.config.model.mask == recipes.find(recipe).model.mask
    filled = found.detector.state_dict().values()
    assert sorted(x.flatten()[0].item() for x in filled) == list(range(len(state)))


@pytest.fixture
def scoring(tmp_path: Path) -> State:
    """Return the weights of a small model that scores masks, by MMDetection's names."""
    config = ScoringConfig(convs=3, layers=1, hidden=8)
    detector = mmdet_files.mask_rcnn(6, model__mask__scoring=config)
    file = mmdet_files.write(tmp_path / "written.pth", detector)
    loaded: State = torch.load(file, weights_only=True)["state_dict"]
    return loaded


def test_a_small_model_that_scores_masks_keeps_its_numbers(scoring: State, tmp_path: Path) -> None:
    found = convert.convert(save(tmp_path / "a.pth", scoring), tmp_path / "a.safetensors")
    detector = scnet.load(tmp_path / "a.safetensors", device="cpu").detector
    head = detector.roi_heads.masks.scoring
    assert head is not None
    assert head.config == ScoringConfig(convs=3, layers=1, hidden=8)
    names = {"iou.": "fc_mask_iou."}
    for name, value in head.state_dict().items():
        theirs = re.sub(r"^iou\.", names["iou."], name)
        assert torch.equal(value, scoring[f"roi_head.mask_iou_head.{theirs}"]), name
    assert "masks scored by 3 convolutions and 2 layers" in str(found)


SPARE = "roi_head.mask_iou_head.fc_mask_iou."


def with_spare_output(state: State) -> State:
    """Return weights with an output of mask scoring that is of no class, as early configs have."""
    return {k: torch.cat([v, v[:1] + 9]) if k.startswith(SPARE) else v for k, v in state.items()}


@pytest.mark.parametrize("version", ["2.0.0", "2.28.1", "3.0.0"])
def test_an_output_of_mask_scoring_that_is_of_no_class_is_left(
    scoring: State, tmp_path: Path, version: str
) -> None:
    meta = {"mmdet_version": version, "CLASSES": SIX}
    found = convert.read(save(tmp_path / "a.pth", with_spare_output(scoring), meta=meta))
    assert found.left == {f"{SPARE[:-1]}, last output": "it is of no class"}
    head = found.detector.roi_heads.masks.scoring
    assert head is not None
    assert torch.equal(head.iou.weight, scoring[f"{SPARE}weight"])


@pytest.mark.parametrize("meta", [{}, {"mmdet_version": "1.2.0+abc"}])
def test_where_nothing_says_which_output_is_of_no_class_the_file_is_refused(
    scoring: State, tmp_path: Path, meta: dict[str, str]
) -> None:
    file = save(tmp_path / "a.pth", with_spare_output(scoring), meta=meta)
    with pytest.raises(CheckpointError, match=r"7 outputs for 6 classes.*meta\.mmdet_version"):
        convert.read(file)


def test_mask_scoring_of_other_classes_is_refused(scoring: State, tmp_path: Path) -> None:
    other = {k: v[:4] if k.startswith(SPARE) else v for k, v in scoring.items()}
    with pytest.raises(CheckpointError, match="fc_mask_iou"):
        convert.read(save(tmp_path / "a.pth", other))


BIAS = "roi_head.bbox_head.2.fc_cls.bias"


def test_a_prefix_of_wrapped_models_is_taken_off(scnet_state: State, tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in scnet_state.items()}
    assert convert.read(save(tmp_path / "a.pth", state)).used == len(state)


def test_averaged_copies_are_left_and_named(scnet_state: State, tmp_path: Path) -> None:
    copies = {"ema_" + key.replace(".", "_"): value + 1 for key, value in scnet_state.items()}
    beside = {"ema_state_dict": {"steps": torch.tensor(7)}, "optimizer": {"param_groups": []}}
    found = convert.read(save(tmp_path / "a.pth", scnet_state | copies, **beside))
    assert found.left.keys() == copies.keys()
    stage = found.detector.roi_heads.stages[2]
    assert torch.equal(stage.cls.bias, scnet_state[BIAS])


@pytest.mark.parametrize("hub", [True, False])
def test_a_3x_file_with_logs_of_other_classes_converts(
    scnet_state: State, tmp_path: Path, hub: bool
) -> None:
    with mmengine() as history_buffer:
        logs = {"log_scalars": {"loss": history_buffer()}, "runtime_info": {"iter": 9}}
        beside: dict[str, Any] = {"meta": {"dataset_meta": {"classes": SIX}}}
        if hub:
            beside["message_hub"] = logs
        file = save(tmp_path / "epoch_12.pth", scnet_state, **beside)
    found = convert.read(file)
    assert found.detector.classes == SIX
    assert found.used == len(scnet_state)


def test_an_unused_flow_convolution_and_missing_counters_are_no_faults(
    reference_dir: Path, tmp_path: Path
) -> None:
    state = tiny(reference_dir, "htc")
    flow = {k: v for k, v in state.items() if "mask_head.1.conv_res" in k}
    state |= {k.replace("head.1.", "head.0."): v for k, v in flow.items()}
    state = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    found = convert.read(save(tmp_path / "htc.pth", state))
    assert list(found.left) == [k for k in state if "mask_head.0.conv_res" in k]
    assert all("no input" in why for why in found.left.values())


def test_a_file_of_old_pytorch_converts(scnet_state: State, tmp_path: Path) -> None:
    content = {"state_dict": scnet_state, "meta": {"CLASSES": SIX}}
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert convert.read(tmp_path / "old.pth").detector.classes == SIX


def test_half_precision_becomes_single(scnet_state: State, tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in scnet_state.items()}
    found = convert.read(save(tmp_path / "half.pth", state))
    assert {p.dtype for p in found.detector.parameters()} == {torch.float32}


@pytest.mark.parametrize("drop", ["semantic_head", "glbctx_head", "feat_relay_head"])
def test_an_ablation_is_recognised(scnet_state: State, tmp_path: Path, drop: str) -> None:
    state = {k: v for k, v in scnet_state.items() if drop not in k}
    found = convert.read(save(tmp_path / "a.pth", state)).detector.config
    part = {"semantic_head": "semantic", "glbctx_head": "context", "feat_relay_head": "relay"}
    assert found.recipe == f"scnet_without_{part[drop]}"


def test_coco_names_bring_coco_ids(reference_dir: Path, tmp_path: Path) -> None:
    state = layout(reference_dir, "mask_rcnn_r50")
    file = save(tmp_path / "a.pth", state)
    config = convert.read(file, classes=coco_classes()).detector.config
    assert config.category_ids[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)
    assert config.category_ids[-1] == 90
    with pytest.raises(CheckpointError, match="80 classes, but 6 names"):
        convert.read(file, classes=SIX)


@pytest.mark.parametrize("name", ["mask_rcnn_r50", "scnet_x101_64x4d"])
@pytest.mark.parametrize("key", ["roi_head.bbox_head", "backbone.layer3.1.bn2.running_var"])
def test_a_missing_key_is_named(reference_dir: Path, tmp_path: Path, name: str, key: str) -> None:
    state = layout(reference_dir, name)
    key = [k for k in state if k.startswith(key)][-1]
    del state[key]
    with pytest.raises(CheckpointError, match="missing") as caught:
        convert.convert(save(tmp_path / "a.pth", state), tmp_path / "a.safetensors")
    assert our_name(key) in str(caught.value)
    assert "a.pth" in str(caught.value)
    assert os.listdir(tmp_path) == ["a.pth"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_any_single_fault_is_found(reference_dir: Path, tmp_path: Path, name: str) -> None:
    state = layout(reference_dir, name)
    keys = [k for k in state if "num_batches" not in k]
    faults: list[tuple[str, State]] = []
    key = keys[LAYOUTS.index(name) * len(keys) // len(LAYOUTS)]
    wrong = torch.zeros(state[key].shape[0] + 1, *state[key].shape[1:])
    faults += [
        ("missing", {k: v for k, v in state.items() if k != key}),
        ("of another shape|unknown|missing|no recipe", state | {key: wrong}),
        ("no counterpart|1 unknown", state | {f"{key}_extra.weight": torch.zeros(1)}),
    ]
    for expected, broken in faults:
        with pytest.raises(CheckpointError, match=expected):
            convert.read(save(tmp_path / "a.pth", broken))


def test_a_wrong_shape_is_told_with_both_shapes(scnet_state: State, tmp_path: Path) -> None:
    state = scnet_state | {"neck.fpn_convs.1.conv.weight": torch.zeros(16, 16, 1, 1)}
    expected = "neck.fpn_convs.1.conv.weight (16, 16, 1, 1) instead of (16, 16, 3, 3)"
    with pytest.raises(CheckpointError, match=re.escape(expected)):
        convert.read(save(tmp_path / "a.pth", state))


def test_numbers_that_are_not_finite_are_refused(scnet_state: State, tmp_path: Path) -> None:
    state = {k: v.clone() for k, v in scnet_state.items()}
    state["rpn_head.rpn_cls.bias"][0] = float("nan")
    with pytest.raises(CheckpointError, match=r"not all numbers are finite in rpn_head.rpn_cls"):
        convert.read(save(tmp_path / "a.pth", state))


OTHERS: dict[str, tuple[Any, str]] = {
    "faster_rcnn": ("mask_head", "without masks|box heads without a mask head"),
    "a_list": ([1, 2], "not a checkpoint"),
    "no_weights": ({"state_dict": {}, "meta": {}}, "there are no weights"),
    "detectron2": (
        {"model": {"backbone.bottom_up.res2.0.conv1.weight": [0.0]}},
        "a checkpoint of detectron2",
    ),
    "torchvision": (
        {"backbone.body.conv1.weight": torch.zeros(1), "rpn.head.conv.weight": torch.zeros(1)},
        "detector of torchvision",
    ),
    "retinanet": (
        {"state_dict": {"bbox_head.retina_cls.weight": torch.zeros(1)}},
        "a one-stage detector of MMDetection",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_model_is_refused(scnet_state: State, tmp_path: Path, kind: str) -> None:
    content, expected = OTHERS[kind]
    if isinstance(content, str):
        content = {k: v for k, v in scnet_state.items() if content not in k}
    torch.save(content, tmp_path / f"{kind}.pth")
    with pytest.raises(CheckpointError, match=f"(?s){kind}.pth.*{expected}"):
        convert.convert(tmp_path / f"{kind}.pth", tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == [f"{kind}.pth"]


class Attack:
    """Creates a file when unpickled."""

    def __init__(self, mark: Path, call: str) -> None:
        self.mark, self.call = mark, call

    def __reduce__(self) -> Any:
        if self.call == "exec":
            return exec, (f"open({str(self.mark)!r}, 'w')",)
        if self.call == "getattr":
            return getattr(Path, "touch"), (self.mark,)  # noqa: B009
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("call", ["exec", "getattr", "system"])
@pytest.mark.parametrize("place", ["meta", "state_dict", "message_hub", "whole"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_never_runs(
    scnet_state: State, tmp_path: Path, call: str, place: str, zipped: bool
) -> None:
    attack = Attack(tmp_path / "mark", call)
    content: Any = {"state_dict": scnet_state, "meta": {}}
    content = attack if place == "whole" else content | {place: {"x": attack}}
    file = tmp_path / "bad.pth"
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"(?s)bad\.pth: holds more than weights"):
        convert.convert(file, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"bad\.pth"):
        scnet.load(file, device="cpu")
    assert os.listdir(tmp_path) == ["bad.pth"]


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Attack(tmp_path / "mark", "exec")))
    with pytest.raises(CheckpointError, match=r"bad\.pth"):
        convert.read(tmp_path / "bad.pth")
    assert os.listdir(tmp_path) == ["bad.pth"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_cut_off_file_is_refused(
    scnet_state: State, tmp_path: Path, share: float, zipped: bool
) -> None:
    file = tmp_path / "cut.pth"
    torch.save({"state_dict": scnet_state}, file, _use_new_zipfile_serialization=zipped)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"cut\.pth.*(cut off|holds more|cannot be read)"):
        convert.convert(file, tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == ["cut.pth"]


def test_flipped_bytes_of_a_weight_are_found(scnet_state: State, tmp_path: Path) -> None:
    file = save(tmp_path / "flip.pth", scnet_state)
    with zipfile.ZipFile(file) as archive:
        entry = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(file.read_bytes())
    content[entry.header_offset + 200 + entry.file_size // 2] ^= 0x10
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"flip\.pth.*checksum"):
        convert.read(file)


def test_a_missing_file_and_a_wrong_name_are_told(tmp_path: Path, scnet_state: State) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth: no such file"):
        convert.read(tmp_path / "none.pth")
    file = save(tmp_path / "a.pth", scnet_state)
    with pytest.raises(CheckpointError, match=r"end in \.safetensors"):
        convert.convert(file, tmp_path / "a.pt")


def test_the_command_converts_and_overwrites_only_when_told(
    scnet_state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = save(tmp_path / "a.pth", scnet_state), tmp_path / "a.safetensors"
    command = ["convert", str(file), "-o", str(output), "--classes", ",".join(SIX)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "scnet, resnet50.tv_in1k" in printed
    assert "cell, nucleus, debris" in printed
    assert f"{len(scnet_state)} used, 0 left" in printed
    assert main(command) == 1
    told = f"{output}: exists; give another file or replace it with --overwrite"
    assert told in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert scnet.load(output, device="cpu").classes == SIX


def test_what_is_there_is_kept_and_it_is_said_how_to_replace_it(
    scnet_state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = save(tmp_path / "a.pth", scnet_state), tmp_path / "a.safetensors"
    output.write_text("mine")
    told = r"a\.safetensors: exists; give another file or pass overwrite=True"
    with pytest.raises(FileExistsError, match=told):
        convert.convert(file, output)
    assert output.read_text() == "mine"
    (tmp_path / "b.safetensors").mkdir()
    for other, why in (("b.safetensors", "is a folder"), ("a.pth/c.safetensors", "is a file")):
        assert main(["convert", str(file), "-o", str(tmp_path / other), "--overwrite"]) == 1
        assert why in capsys.readouterr().err


def test_names_can_come_from_a_file(
    scnet_state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.txt").write_text("\n".join(SIX) + "\n")
    file, output = save(tmp_path / "a.pth", scnet_state), tmp_path / "a.safetensors"
    names = str(tmp_path / "names.txt")
    assert main(["convert", str(file), "-o", str(output), "--classes", names]) == 0
    assert scnet.load(output, device="cpu").classes == SIX


def _names(found: convert.Conversion, part: str) -> set[str]:
    return {n.split(".")[0] for n in found.detector.state_dict() if f".{part}." in n}
