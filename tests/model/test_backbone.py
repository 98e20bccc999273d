"""Backbones of timm: which serve, at which sizes, and what of them stands still."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.model_cases import make_batch, make_detector, small

from scnet.model.backbone import ANY_SIZE, STRIDES, Backbone
from scnet.model.detector import Detector
from scnet.settings import ConfigError
from scnet.weights.pretrained import _fill


def backbone(name: str) -> Backbone:
    config = replace(small("scnet").model.backbone, name=name, widths=None)
    return Backbone(config).eval()


FAMILIES = ("resnext50_32x4d", "resnet50_gn", "convnext_atto", "mobilenetv3_small_050")
FAMILIES += ("swin_tiny_patch4_window7_224", "swinv2_cr_tiny_ns_224", "pvt_v2_b0", "mambaout_femto")


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_maps_of_any_image_size_have_its_strides(name: str) -> None:
    net = backbone(name)
    for height, width in ((96, 160), (64, 224)):
        maps = net(torch.rand(1, 3, height, width))
        expected = zip(STRIDES, net.channels, strict=True)
        assert [x.shape[1:] for x in maps] == [(c, height // s, width // s) for s, c in expected]


@torch.no_grad()
def test_maps_with_channels_last_are_those_of_the_network_turned() -> None:
    net, x = backbone("swin_tiny_patch4_window7_224"), torch.rand(1, 3, 96, 160)
    for ours, own in zip(net(x), net.net(x), strict=True):
        assert torch.equal(ours, own.permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
@torch.no_grad()
def test_strides_move_to_the_first_convolution_and_nothing_else_changes(name: str) -> None:
    config = replace(small("scnet").model.backbone, name=name, widths=None)
    usual, early = Backbone(config).eval(), Backbone(replace(config, stride_in="1x1")).eval()
    for module in usual.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # the last of a block begins with 0
            module.weight.fill_(1)
    early.load_state_dict(usual.state_dict())
    x = torch.rand(1, 3, 64, 96)
    ours, theirs = early(x), usual(x)
    assert [m.shape for m in ours] == [m.shape for m in theirs]
    assert torch.equal(ours[0], theirs[0])  # the first stage halves nothing
    assert not torch.allclose(ours[1], theirs[1])
    for layer in (usual.net.layer2, early.net.layer2):
        block, inside = layer[0], usual.net.layer1(usual.net.maxpool(torch.rand(1, 64, 16, 24)))
        first = block.act1(block.bn1(block.conv1(inside)))
        assert first.shape[2:] == ((4, 6) if layer is early.net.layer2 else (8, 12))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_a_network_without_bottlenecks_has_no_other_place_to_stride(name: str) -> None:
    config = replace(small("scnet").model.backbone, name=name, widths=None, stride_in="1x1")
    with pytest.raises(ValueError, match=f"stride_in: {name} has no three bottlenecks"):
        Backbone(config)


def test_a_detector_learns_with_a_transformer() -> None:
    config = small("scnet", replace(small("scnet").model.backbone, name="pvt_v2_b0", widths=None))
    detector = Detector(config)
    sum(detector.loss(make_batch((2, 0))).values()).backward()
    assert all(p.grad is not None for p in detector.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["maxvit_tiny_tf_224", "efficientformerv2_s0", "hiera_tiny_224"])
def test_a_network_of_one_image_size_is_refused_with_those_of_any(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is made for images of one size .*{ANY_SIZE[1]}"):
        backbone(name)


def test_a_vision_transformer_is_refused_for_its_strides() -> None:
    with pytest.raises(ValueError, match=r"has maps at strides .* but \[4, 8, 16, 32\] are needed"):
        backbone("vit_tiny_patch16_224")


@pytest.mark.parametrize("stages", [0, 1, 3])
def test_statistics_of_frozen_stages_stand_still_while_others_move(stages: int) -> None:
    changes = {"model__backbone__frozen_norm": False, "model__backbone__frozen_stages": stages}
    detector = make_detector("mask_rcnn", **changes).train()
    before = {n: x.clone() for n, x in detector.backbone.net.named_buffers() if "mean" in n}
    detector.loss(make_batch((2, 1)))
    now = dict(detector.backbone.net.named_buffers())
    moved = {name.split(".")[0] for name, x in before.items() if not torch.equal(x, now[name])}
    parts = ["bn1", "layer1", "layer2", "layer3", "layer4"]
    assert moved == set(parts[stages + 1 if stages else 0 :])


def test_a_first_convolution_of_rgb_is_repeated_over_more_bands() -> None:
    plain = replace(small("scnet").model.backbone, widths=None, weights="imagenet")
    rgb, five = Backbone(plain), Backbone(replace(plain, bands=5))
    state = rgb.net.state_dict()
    _fill(five.net, state, "a file")
    wide, narrow = five.net.conv1.weight, rgb.net.conv1.weight
    assert wide.shape[1] == 5
    for band in range(5):
        torch.testing.assert_close(wide[:, band], narrow[:, band % 3] * 3 / 5)
    assert five.mean == (*rgb.mean, *rgb.mean[:2])
    assert torch.equal(five.net.layer1[0].conv1.weight, rgb.net.layer1[0].conv1.weight)
    with pytest.raises(ConfigError, match=r"model.backbone.mean: 4 values; expected 3, or one"):
        replace(plain, bands=5, mean=(0.5,) * 4)
