"""Backbones of MMDetection: told by names and shapes, and equal to what they are by themselves."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from tests.mmdet_files import write
from tests.model_cases import small
from tests.weights.foreign.files import save, text
from torch import Tensor

from scnet.config import BackboneConfig
from scnet.model.backbone import Backbone
from scnet.model.detector import Detector
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert
from scnet.weights.foreign.mmdet.names import our_names
from scnet.weights.foreign.recognise import Shapes, recognise
from scnet.weights.foreign.tensors import to_rgb

State = dict[str, Tensor]
TAGGED = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
)
UNTAGGED = ("resnext101_32x4d", "regnetx_004", "regnetx_008", "regnetx_016", "regnetx_032")
UNTAGGED += ("regnetx_040", "regnetx_064", "regnetx_080", "regnetx_120")
TOLERANCE = 1e-5  # of the largest value; only the order of sums differs


def spread(state: State, seed: int = 0) -> State:
    """Return numbers in the place of all weights, such that every one of them counts."""
    random = torch.Generator().manual_seed(seed)
    found = {}
    for name, value in state.items():
        if not value.is_floating_point():
            found[name] = value
        elif value.ndim == 1:
            found[name] = torch.rand(value.shape, generator=random) + 0.5
        else:
            scale = (2 / value[0].numel()) ** 0.5
            found[name] = scale * torch.randn(value.shape, generator=random)
    return found


@pytest.mark.parametrize("name", TAGGED + UNTAGGED)
def test_a_backbone_is_told_by_its_shapes(name: str) -> None:
    with torch.device("meta"):
        detector = Detector(small("mask_rcnn", BackboneConfig(name=name)))
    shapes = {key: tuple(value.shape) for key, value in detector.state_dict().items()}
    found = recognise(Shapes(shapes)).model.backbone
    assert (found.name, found.widths) == (f"{name}.tv_in1k" if name in TAGGED else name, None)


def test_other_depths_are_refused() -> None:
    with torch.device("meta"):
        shallow = Detector(small("mask_rcnn", BackboneConfig(name="resnet18")))
    shapes = {key: tuple(value.shape) for key, value in shallow.state_dict().items()}
    fewer = {k: v for k, v in shapes.items() if not k.startswith("backbone.net.layer3.1.")}
    with pytest.raises(CheckpointError, match=r"18, 34 has \(2, 2, 1, 2\) basic blocks"):
        recognise(Shapes(fewer))


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet101", "resnext50_32x4d"])
@torch.no_grad()
def test_a_backbone_gives_what_torchvision_gives(name: str) -> None:
    theirs = getattr(torchvision.models, name)().eval()
    state = spread(theirs.state_dict())
    theirs.load_state_dict(state)
    ours = Backbone(BackboneConfig(name=name, weights="none")).eval()
    ours.net.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
    for number, found in enumerate(ours(image), start=1):
        x = getattr(theirs, f"layer{number}")(x)
        assert (found - x).abs().max() <= TOLERANCE * x.abs().max()


def test_a_shallow_resnet_converts_in_any_style(tmp_path: Path) -> None:
    config = small("mask_rcnn", BackboneConfig(name="resnet18", widths=(8, 16, 32, 64)))
    detector = Detector(replace(config, recipe="mask_rcnn"))
    state = torch.load(write(tmp_path / "a.pth", detector), weights_only=True)["state_dict"]
    for style in ("pytorch", "caffe"):  # a block without a 1x1 convolution has one place to stride
        file = save(tmp_path / "b.pth", state, text(("style='pytorch'", f"style='{style}'")), ())
        backbone = convert.read(file).detector.config.model.backbone
        assert (backbone.name, backbone.stride_in) == ("resnet18.tv_in1k", "3x3")
        assert backbone.widths == (8, 16, 32, 64)


# --- RegNet, which timm builds under other names


def their_name(name: str) -> str:
    """Return MMDetection's name of a parameter of timm's RegNet."""
    found = re.match(r"s(\d)\.b(\d+)\.", name)
    if found is None:
        return {"stem.conv": "conv1", "stem.bn": "bn1"}[name.rpartition(".")[0]] + name[
            name.rindex(".") :
        ]
    rest = name[found.end() :]
    for ours, theirs in (
        (r"downsample\.conv\.", "downsample.0."),
        (r"downsample\.bn\.", "downsample.1."),
        (r"conv(\d)\.conv\.", r"conv\1."),
        (r"conv(\d)\.bn\.", r"bn\1."),
    ):
        rest = re.sub(rf"^{ours}", theirs, rest)
    return f"layer{found[1]}.{int(found[2]) - 1}.{rest}"


def regnet(seed: int = 0) -> State:
    """Return the weights of a RegNetX of 400 MF by MMDetection's names."""
    net = Backbone(BackboneConfig(name="regnetx_004", weights="none")).net
    state = {their_name(k): v for k, v in net.state_dict().items() if "num_batches" not in k}
    return spread(state, seed)


def by_hand(state: State, x: Tensor) -> list[Tensor]:
    """Return the maps of a RegNetX: a stem, then bottlenecks with grouped convolutions."""

    def conv(name: str, norm: str, x: Tensor, stride: int) -> Tensor:
        weight = state[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)
        parts = [state[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts)

    x, maps = conv("conv1", "bn1", x, 2).relu(), []
    for stage in (1, 2, 3, 4):
        number = 0
        while f"layer{stage}.{number}.conv1.weight" in state:
            block, stride = f"layer{stage}.{number}", 1 if number else 2
            shortcut = x
            if number == 0:
                shortcut = conv(f"{block}.downsample.0", f"{block}.downsample.1", x, stride)
            x = conv(f"{block}.conv1", f"{block}.bn1", x, 1).relu()
            x = conv(f"{block}.conv2", f"{block}.bn2", x, stride).relu()
            x = (conv(f"{block}.conv3", f"{block}.bn3", x, 1) + shortcut).relu()
            number += 1
        maps.append(x)
    return maps


@torch.no_grad()
def test_a_regnet_that_reads_bgr_gives_what_its_layers_give() -> None:
    state = regnet()
    names = our_names({f"backbone.{key}": value for key, value in state.items()})
    ours = to_rgb({str(names[f"backbone.{key}"]): value for key, value in state.items()})
    net = Backbone(BackboneConfig(name="regnetx_004", weights="none")).eval().net
    net.load_state_dict({k.removeprefix("backbone.net."): v for k, v in ours.items()}, strict=False)
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    for found, expected in zip(net(image)[-4:], by_hand(state, image.flip(1)), strict=True):
        assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()


def test_a_file_with_a_regnet_converts_whole(tmp_path: Path) -> None:
    config = small("mask_rcnn", BackboneConfig(name="regnetx_004", weights="none"))
    detector = Detector(replace(config, recipe="mask_rcnn"))
    state = torch.load(write(tmp_path / "a.pth", detector), weights_only=True)["state_dict"]
    parts = {k: v for k, v in state.items() if not k.startswith("backbone.")}
    parts |= {f"backbone.{k}": v for k, v in regnet().items()}
    of_regnet = [
        ("type='ResNet', depth=50, ", "type='RegNet', arch='regnetx_400mf', "),
        ("bgr_to_rgb=True, ", ""),
    ]
    found = convert.read(save(tmp_path / "b.pth", parts, text(*of_regnet), ()))
    assert (found.unread, found.left) == ((), {})
    assert found.detector.config.model.backbone.name == "regnetx_004"
    first = found.detector.backbone.net.stem.conv.weight
    assert torch.equal(first, parts["backbone.conv1.weight"].flip(1))
    del parts["backbone.layer3.2.bn2.bias"]
    with pytest.raises(CheckpointError, match=r"missing: backbone\.net\.s3\.b3\.conv2\.bn\.bias"):
        convert.read(save(tmp_path / "b.pth", parts, text(*of_regnet), ()))
    caffe = text(*of_regnet, ("style='pytorch'", "style='caffe'"))
    with pytest.raises(CheckpointError, match="style = caffe; scnet's RegNet"):
        convert.read(save(tmp_path / "b.pth", parts, caffe, ()))


@pytest.mark.parametrize("name", ["conv2.conv_offset", "conv2_offset"])
def test_a_regnet_with_deformable_convolutions_is_refused_by_name(
    tmp_path: Path, name: str
) -> None:
    config = small("mask_rcnn", BackboneConfig(name="regnetx_004", weights="none"))
    detector = Detector(replace(config, recipe="mask_rcnn"))
    state = torch.load(write(tmp_path / "a.pth", detector), weights_only=True)["state_dict"]
    parts = {k: v for k, v in state.items() if not k.startswith("backbone.")}
    parts |= {f"backbone.{k}": v for k, v in regnet().items()}
    parts |= {f"backbone.layer2.0.{name}.bias": torch.zeros(27)}
    with pytest.raises(CheckpointError, match="deformable convolutions in a RegNet; scnet has"):
        convert.read(save(tmp_path / "b.pth", parts))
