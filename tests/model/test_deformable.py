"""Deformable convolutions: what they compute, where they stand, and what becomes of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tests.model_cases import make_batch, make_detector
from torch import Tensor, nn

from scnet.config import BackboneConfig, Config, DeformableConfig, override
from scnet.inference.fused import fused
from scnet.model.backbone import Backbone
from scnet.model.deformable import DeformConv2d
from scnet.settings import ConfigError
from scnet.weights.pretrained import _fill

NARROW = BackboneConfig(name="resnet50", weights="none", widths=(8, 16, 32, 64))


def at(plane: Tensor, y: float, x: float) -> Tensor:
    """Return a value between the pixels of a map, outside of which there is nothing."""
    total, top, left = plane.new_zeros(()), math.floor(y), math.floor(x)
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += plane[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def by_hand(conv: DeformConv2d, x: Tensor) -> Tensor:
    """Return what a deformable convolution of 3x3 gives, one product after the other."""
    found = conv.conv_offset(x)
    out = x.new_zeros(len(x), conv.out_channels, *found.shape[2:])
    stride, groups = conv.stride[0], found.shape[1] // (27 if conv.modulated else 18)
    inside, per_offset = conv.weight.shape[1], x.shape[1] // groups
    for b, d, row, column in torch.cartesian_prod(*map(torch.arange, out.shape)).tolist():
        for c in range(inside):
            channel = d * conv.groups // conv.out_channels * inside + c
            own = channel // per_offset
            for cell in range(9):
                dy, dx = found[b, own * 18 + 2 * cell :, row, column][:2].tolist()
                y = row * stride - 1 + cell // 3 + dy
                across = column * stride - 1 + cell % 3 + dx
                value = at(x[b, channel], y, across) * conv.weight[d, c, cell // 3, cell % 3]
                if conv.modulated:
                    place = groups * 18 + own * 9 + cell
                    value = value * found[b, place, row, column].sigmoid()
                out[b, d, row, column] += value
    return out


def deformable(stride: int, groups: int, modulated: bool, of_offsets: int) -> DeformConv2d:
    plain = nn.Conv2d(4, 4, 3, stride, 1, groups=groups, bias=False)
    config = DeformableConfig(modulated=modulated, groups=of_offsets)
    return DeformConv2d(plain, config).double()


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize(("stride", "groups", "of_offsets"), [(1, 1, 1), (2, 2, 2)])
@torch.no_grad()
def test_it_is_the_sum_of_what_lies_at_its_moved_cells(
    stride: int, groups: int, of_offsets: int, modulated: bool
) -> None:
    torch.manual_seed(0)
    conv = deformable(stride, groups, modulated, of_offsets)
    for parameter in conv.conv_offset.parameters():
        parameter.normal_(std=0.5)  # offsets of a pixel or two, some out of the map
    x = torch.randn(2, 4, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(conv(x), by_hand(conv, x))


@pytest.mark.parametrize("modulated", [False, True])
def test_its_gradients_are_those_of_differences(modulated: bool) -> None:
    torch.manual_seed(0)
    conv = deformable(2, 2, modulated, 2)
    nn.init.normal_(conv.conv_offset.bias, std=0.5)
    names = ("weight", "conv_offset.weight", "conv_offset.bias")

    def of(x: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        out: Tensor = torch.func.functional_call(conv, given, (x,))
        return out

    x = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of, (x, *(conv.get_parameter(name) for name in names)))


@pytest.mark.parametrize("modulated", [False, True])
@torch.no_grad()
def test_it_begins_as_the_plain_convolution_and_modulated_as_half_of_it(modulated: bool) -> None:
    plain = nn.Conv2d(6, 4, 3, 2, 1, groups=2, bias=False)
    x = torch.randn(2, 6, 9, 7)
    found = DeformConv2d(plain, DeformableConfig(modulated=modulated))(x)
    torch.testing.assert_close(found, plain(x) * (0.5 if modulated else 1))


@pytest.mark.parametrize("modulated", [False, True])
def test_its_parameters_are_named_and_shaped_as_those_of_mmdetection(modulated: bool) -> None:
    plain, backbone = (
        Backbone(replace(NARROW, deformable=value)).net.state_dict()
        for value in (None, DeformableConfig(modulated=modulated, groups=2))
    )
    added = {k: tuple(v.shape) for k, v in backbone.items() if k not in plain}
    blocks = [(2, 4, 16), (3, 6, 32), (4, 3, 64)]
    number = 54 if modulated else 36
    assert added == {
        f"layer{stage}.{block}.conv2.conv_offset.{kind}": shape
        for stage, count, width in blocks
        for block in range(count)
        for kind, shape in (("weight", (number, width, 3, 3)), ("bias", (number,)))
    }
    assert list(plain) == [k for k in backbone if k in plain]


def spread(backbone: Backbone) -> Backbone:
    """Give every number of a backbone a part in what it computes."""
    for name, parameter in backbone.named_parameters():
        if "conv_offset" in name:
            nn.init.normal_(parameter, std=0.01)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return backbone.eval()


@pytest.mark.parametrize("stride_in", ["3x3", "1x1"])
@torch.no_grad()
def test_norms_fold_and_strides_move_with_it(stride_in: str) -> None:
    torch.manual_seed(0)
    config = override(
        Config(), {"model": {"backbone": {"stride_in": stride_in, "deformable": True}}}
    )
    backbone = spread(
        Backbone(replace(config.model.backbone, name="resnet50", widths=(8, 16, 32, 64)))
    )
    fast, x = fused(backbone), torch.rand(1, 3, 64, 96)
    assert fast is not backbone
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    for one, other in zip(fast(x), backbone(x), strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def test_it_learns_in_a_detector_that_predicts_and_exports() -> None:
    detector = make_detector(
        "mask_rcnn", model__backbone=replace(NARROW, deformable=DeformableConfig())
    )
    spread(detector.backbone)  # the last norm of a block begins with 0
    sum(detector.loss(make_batch((2, 1))).values()).backward()
    offsets = [p for n, p in detector.named_parameters() if "conv_offset" in n]
    assert offsets
    for parameter in offsets:
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    assert detector.detect(make_batch((0,))).boxes.shape[1] == 4
    backbone, image = detector.backbone.eval(), torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        graph = torch.export.export(backbone, (image,), strict=False).module()
        for one, other in zip(graph(image), backbone(image), strict=True):
            assert (one - other).abs().max() <= 1e-3 * other.abs().max()
        with torch.autocast("cpu", torch.bfloat16):  # its kernel has no numbers of 16 bits
            assert backbone(image)[-1].isfinite().all()


@pytest.mark.parametrize("name", ["resnet18", "regnetx_004", "convnext_atto"])
def test_a_network_without_bottlenecks_of_its_kind_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"backbone.deformable: {name} has no stage 2"):
        Backbone(BackboneConfig(name=name, weights="none", deformable=DeformableConfig()))


def test_imagenet_weights_leave_its_offsets_at_zero() -> None:
    plain = Backbone(NARROW).net.state_dict()
    backbone = Backbone(replace(NARROW, deformable=DeformableConfig()))
    _fill(backbone.net, plain, "a file")
    filled = backbone.net.state_dict()
    assert all(torch.equal(filled[k], v) for k, v in plain.items())
    assert not any(v.any() for k, v in filled.items() if "conv_offset" in k)


def test_stages_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.backbone\.deformable\.stages\[1\]: 5"):
        DeformableConfig(stages=(2, 5))
