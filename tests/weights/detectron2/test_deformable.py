"""Deformable convolutions of detectron2: what they compute, and which kind they are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.weights.detectron2.files import State, config, layout, save, state
from torch import Tensor

from scnet.config import BackboneConfig, DeformableConfig
from scnet.model.backbone import Backbone
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert
from scnet.weights.foreign.conversion import Conversion
from scnet.weights.foreign.detectron2.names import rename

STAGE = "backbone.bottom_up.res3."
DEFORM = "MODEL.RESNETS.DEFORM"


def between(maps: Tensor, y: float, x: float) -> Tensor:
    """Return the values of maps between their pixels, outside of which there is nothing."""
    total, top, left = maps.new_zeros(len(maps)), math.floor(y), math.floor(x)
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < maps.shape[1] and 0 <= column < maps.shape[2]:
                total += maps[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def by_cells(parts: State, x: Tensor, stride: int, groups: int) -> Tensor:
    """Return what a deformable convolution gives of one image, cell after cell.

    detectron2 splits the numbers of a modulated one in three thirds, joins the first two again and
    reads y and x of each cell in turn from them, whatever it calls them; the last, behind a
    sigmoid, weigh the cells. Groups of channels follow one another in each.
    """
    found = F.conv2d(x, parts["conv2_offset.weight"], parts["conv2_offset.bias"], stride, 1)[0]
    weight, modulated = parts["conv2.weight"], len(found) == 27 * groups
    own = len(weight) // groups
    out = x.new_zeros(1, len(weight), *found.shape[1:])
    for row, column in torch.cartesian_prod(*map(torch.arange, found.shape[1:])).tolist():
        numbers, seen = found[:, row, column].tolist(), x.new_zeros(len(weight), 9)
        for group in range(groups):
            channels = slice(group * own, group * own + own)
            for cell in range(9):
                y = row * stride - 1 + cell // 3 + numbers[18 * group + 2 * cell]
                across = column * stride - 1 + cell % 3 + numbers[18 * group + 2 * cell + 1]
                seen[channels, cell] = between(x[0, channels], y, across)
                if modulated:
                    number = numbers[18 * groups + 9 * group + cell]
                    seen[channels, cell] /= 1 + math.exp(-number)
        out[0, :, row, column] = (weight.flatten(2) * seen).sum((1, 2))
    return out


def block_by_hand(parts: State, x: Tensor, stride: int, groups: int) -> Tensor:
    """Return what a block gives, its norms by their statistics."""

    def norm(name: str, x: Tensor) -> Tensor:
        kinds = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(parts[f"{name}.norm.{kind}"] for kind in kinds))

    shortcut = x
    if "shortcut.weight" in parts:
        shortcut = norm("shortcut", F.conv2d(x, parts["shortcut.weight"], None, stride))
    inner = norm("conv1", F.conv2d(x, parts["conv1.weight"])).relu()
    inner = norm("conv2", by_cells(parts, inner, stride, groups)).relu()
    return (norm("conv3", F.conv2d(inner, parts["conv3.weight"])) + shortcut).relu()


def made_up(full: State, groups: int, modulated: bool) -> State:
    """Return numbers for the parameters of a stage, so that offsets are of a pixel or two."""
    generator, found = torch.Generator().manual_seed(0), State()
    for name, value in full.items():
        if not name.startswith(STAGE):
            continue
        shape = list(value.shape)
        if "conv2_offset" in name:
            shape[0] = (27 if modulated else 18) * groups
        numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            numbers = numbers.abs() + 0.5
        elif len(shape) == 4:
            numbers = numbers / math.prod(shape[1:]) ** 0.5
        found[name] = numbers
    return found


@pytest.mark.parametrize(("modulated", "groups"), [(False, 1), (True, 1), (False, 4), (True, 2)])
@torch.no_grad()
def test_a_stage_gives_what_its_cells_give(
    reference_dir: Path, modulated: bool, groups: int
) -> None:
    full = layout(reference_dir, "d2_mask_rcnn_R_50_FPN_dconv")
    theirs = made_up(full, groups, modulated)
    kind = DeformableConfig(stages=(2,), modulated=modulated, groups=groups)
    stage = Backbone(BackboneConfig(name="resnet50", weights="none", deformable=kind)).net.layer2
    prefix = "backbone.net.layer2."
    ours = {name.removeprefix(prefix): value for name, value in rename(theirs).items()}
    stage.double().eval().load_state_dict(ours, strict=False)
    assert {k for k in stage.state_dict() if "num_batches" not in k} == ours.keys()
    x = torch.randn(1, 256, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for number, block in enumerate(stage[:2]):
        start = f"{STAGE}{number}."
        parts = {k.removeprefix(start): v for k, v in theirs.items() if k.startswith(start)}
        goal = block_by_hand(parts, x, 1 if number else 2, groups)
        x = block(x)
        torch.testing.assert_close(x, goal)


def of(modulated: bool, groups: int = 1) -> State:
    kind = DeformableConfig(stages=(2, 4), modulated=modulated, groups=groups)
    return state(model__backbone__deformable=kind)


def read(folder: Path, weights: State, text: str = "", leave: tuple[str, ...] = ()) -> Conversion:
    lines = f"MODEL.MASK_ON True\n{text}"
    file = save(folder / "a.pth", weights)
    return convert.read(file, config=config(folder / "c.yaml", lines), leave=leave)


@pytest.mark.parametrize(
    ("modulated", "groups", "alone"), [(False, 1, True), (True, 1, True), (True, 2, False)]
)
def test_the_kind_is_told_by_the_numbers_at_each_place_or_a_config(
    tmp_path: Path, modulated: bool, groups: int, alone: bool
) -> None:
    weights = of(modulated, groups)
    text = f"{DEFORM}_MODULATED {modulated}\n{DEFORM}_NUM_GROUPS {groups}"
    text += f"\n{DEFORM}_ON_PER_STAGE [False, True, False, True]"
    own = DeformableConfig(stages=(2, 4), modulated=modulated, groups=groups)
    found = read(tmp_path, weights, text)
    assert found.detector.config.model.backbone.deformable == own
    assert (found.unread, found.left) == ((), {})
    assert "resnet50.tv_in1k, deformable convolutions" in str(found)
    offsets = found.detector.backbone.net.layer2[1].conv2.conv_offset.weight
    assert torch.equal(offsets, weights[f"{STAGE}1.conv2_offset.weight"])
    half = read(tmp_path, weights, f"{DEFORM}_NUM_GROUPS {groups}")
    assert half.detector.config.model.backbone.deformable == own
    if alone:
        assert read(tmp_path, weights).detector.config.model.backbone.deformable == own
        return
    with pytest.raises(CheckpointError, match=r"54 numbers .*DCN or DCNv2.*--config config\.yaml"):
        read(tmp_path, weights)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{DEFORM}_MODULATED False", "27 numbers at each place, which .*modulated = False"),
        (f"{DEFORM}_NUM_GROUPS 2", r"27 numbers .*\(groups = 2\) contradicts"),
        (f"{DEFORM}_ON_PER_STAGE [False, True, True, True]", "but its weights .*True, False, True"),
    ],
)
def test_a_config_of_another_kind_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        read(tmp_path, of(modulated=True), text)


def test_other_stages_of_a_config_can_be_left(tmp_path: Path) -> None:
    name = f"{DEFORM}_ON_PER_STAGE"
    with pytest.raises(CheckpointError, match=rf"--leave {name}"):
        read(tmp_path, state(), f"{name} [False, False, False, True]")
    found = read(tmp_path, of(False), f"{name} [False, False, False, True]", leave=(name,))
    assert any(name in line for line in found.unread)
    deformable = found.detector.config.model.backbone.deformable
    assert deformable is not None
    assert deformable.stages == (2, 4)


def test_numbers_of_other_cells_are_refused(tmp_path: Path) -> None:
    weights = {
        name: value[:5] if "conv2_offset" in name else value for name, value in of(False).items()
    }
    with pytest.raises(CheckpointError, match="have 5 numbers at each place; expected 18 or 27"):
        read(tmp_path, weights)
