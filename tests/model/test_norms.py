"""Norms and deeper heads compute what torchvision's do, and take their statistics as they say."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from tests.model_cases import make_batch, make_detector
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork

from scnet.config import (
    BackboneConfig,
    BoxConfig,
    BoxStageConfig,
    MaskConfig,
    ModelConfig,
    Norm,
    RPNConfig,
)
from scnet.inference.fused import for_inference
from scnet.model.backbone import Backbone
from scnet.model.box_stage import BoxStage
from scnet.model.detector import Detector
from scnet.model.layers import BatchNorm
from scnet.model.mask_branch import MaskHead
from scnet.model.pyramid import FPN
from scnet.model.rpn import RPN, RPNOutput
from scnet.types import Proposals
from scnet.weights.checkpoint import load, write_weights

BATCH_NORMS: tuple[Norm, ...] = ("batch", "sync", "frozen")
# As the heads of torchvision's second version and of detectron2's later baselines.
DEEP: dict[str, Any] = {"model__rpn__convs": 2, "model__box__convs": 4, "model__box__layers": 1}
CHANNELS = 64  # groups of two


def theirs(norm: str) -> Any:
    """Return torchvision's argument for a norm."""
    group = lambda channels: nn.GroupNorm(32, channels)  # noqa: E731
    return {"none": None, "group": group}.get(norm, nn.BatchNorm2d)


def filled(module: nn.Module) -> nn.Module:
    """Fill every parameter and statistic with numbers that do something."""
    for name, value in module.state_dict().items():
        if name.endswith("running_var") or (name.endswith("weight") and value.ndim == 1):
            nn.init.uniform_(value, 0.5, 1.5)
        elif value.is_floating_point():
            nn.init.normal_(value, std=0.1)
    return module


def copy(ours: nn.Module, to: nn.Module) -> None:
    """Give a module the weights of ours, in the order in which both have them."""
    own, other = ours.state_dict(), to.state_dict()
    values = [x.reshape(y.shape) for x, y in zip(own.values(), other.values(), strict=True)]
    to.load_state_dict(dict(zip(other, values, strict=True)))


def model(norm: Norm) -> ModelConfig:
    box = BoxConfig(stages=(BoxStageConfig(),), hidden=48, convs=4, layers=1)
    mask = MaskConfig(fed_by=(0,), convs=4, residual=False, loss_weights=(1.0,))
    return ModelConfig(num_classes=3, channels=CHANNELS, norm=norm, box=box, mask=mask)


def require_equal(ours: nn.Module, to: nn.Module, outputs: tuple[Tensor, Tensor]) -> None:
    """Check two results, and the statistics that both modules hold behind them."""
    torch.testing.assert_close(*outputs, atol=2e-5, rtol=1e-4)
    pairs = zip(ours.named_buffers(), to.buffers(), strict=True)
    for (name, own), other in pairs:
        if name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", ["none", "group", "batch"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_box_head_is_torchvisions(norm: Norm, layers: int, training: bool) -> None:
    config = model(norm)
    config = replace(config, box=replace(config.box, layers=layers))
    stage = BoxStage(config.box.stages[0], config)
    head = FastRCNNConvFCHead((CHANNELS, 7, 7), [CHANNELS] * 4, [48] * layers, theirs(norm))
    connected = (stage.get_submodule(f"fc{number + 1}") for number in range(layers))
    shared = nn.ModuleList([filled(stage.convs), *connected])
    copy(shared, head)
    stage.train(training), head.train(training)
    x = torch.randn(6, CHANNELS, 7, 7)
    require_equal(shared, head, (stage(x).hidden, head(x)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", ["none", "group", "batch"])
def test_a_mask_head_is_torchvisions(norm: Norm, training: bool) -> None:
    ours = MaskHead(model(norm), receives_flow=False)
    head = MaskRCNNHeads(CHANNELS, (CHANNELS,) * 4, 1, theirs(norm))
    copy(filled(ours.convs), head)
    ours.train(training), head.train(training)
    x = torch.randn(3, CHANNELS, 14, 14)
    require_equal(ours.convs, head, (ours(x, None).own, head(x)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", ["none", "group", "batch"])
def test_a_pyramid_is_torchvisions(norm: Norm, training: bool) -> None:
    widths = [8, 16, 32, 64]
    ours = FPN(widths, CHANNELS, norm)
    pyramid = FeaturePyramidNetwork(widths, CHANNELS, norm_layer=theirs(norm))
    filled(ours)
    order = [
        nn.ModuleList(level)
        for convs, norms in ((ours.lateral, ours.lateral_norm), (ours.output, ours.output_norm))
        for level in zip(convs, norms, strict=True)
    ]
    same = nn.ModuleList(order)
    copy(same, pyramid)
    ours.train(training), pyramid.train(training)
    maps = [torch.randn(2, width, 32 >> i, 48 >> i) for i, width in enumerate(widths)]
    expected = pyramid(OrderedDict((str(i), m) for i, m in enumerate(maps)))
    for own, other in zip(ours(maps)[:4], expected.values(), strict=True):
        require_equal(same, pyramid, (own, other))


@pytest.mark.parametrize("convs", [1, 2, 3])
def test_a_deeper_rpn_is_torchvisions_with_its_gradients(convs: int) -> None:
    ours = RPN(RPNConfig(convs=convs), CHANNELS)
    head = RPNHead(CHANNELS, 3, conv_depth=convs)
    filled(ours)
    copy(ours, head)
    maps = [torch.randn(2, CHANNELS, 32 >> i, 48 >> i) for i in range(5)]
    out = ours(maps)
    logits, deltas = head(maps)
    flat = [x.permute(0, 2, 3, 1).reshape(2, -1, 1) for x in logits]
    torch.testing.assert_close(out.logits[..., None], torch.cat(flat, 1), atol=2e-5, rtol=1e-4)
    flat = [x.permute(0, 2, 3, 1).reshape(2, -1, 4) for x in deltas]
    torch.testing.assert_close(out.deltas, torch.cat(flat, 1), atol=2e-5, rtol=1e-4)
    # As the loss does, of few anchors.
    out.logits[:, ::97].square().sum().backward()
    torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in logits], 1)[
        :, ::97
    ].square().sum().backward()
    for own, other in zip(ours.parameters(), head.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(own.grad, other.grad, atol=1e-3, rtol=1e-3)


def test_a_backbone_with_group_norm_is_torchvisions() -> None:
    torch.manual_seed(0)
    ours = filled(Backbone(BackboneConfig(name="resnet50_gn", weights="none")).eval())
    net = resnet50(norm_layer=theirs("group")).eval()
    given = {name.removeprefix("net."): x for name, x in ours.state_dict().items()}
    missing, unexpected = net.load_state_dict(given, strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    image = torch.rand(1, 3, 64, 96)
    x = net.maxpool(net.relu(net.bn1(net.conv1(image))))
    for own, layer in zip(
        ours(image), (net.layer1, net.layer2, net.layer3, net.layer4), strict=True
    ):
        x = layer(x)
        torch.testing.assert_close(own, x, atol=1e-5 * x.abs().max().item(), rtol=1e-4)


def no_proposals(out: RPNOutput, sizes: Tensor, training: bool) -> Proposals:
    return Proposals(torch.zeros(len(sizes), 60, 4), torch.zeros(len(sizes), 60, dtype=torch.bool))


def statistics(detector: Detector) -> dict[str, Tensor]:
    """Return what the norms of pyramid and heads have stored."""
    return {
        name: value.clone()
        for name, value in detector.state_dict().items()
        if "running_" in name and not name.startswith("backbone.")
    }


@pytest.mark.parametrize(
    ("recipe", "norm"),
    [
        *(("mask_rcnn", norm) for norm in ("none", "group", *BATCH_NORMS)),
        ("scnet", "group"),
        ("scnet", "batch"),
    ],
)
def test_deep_heads_train_and_predict(recipe: str, norm: Norm) -> None:
    detector = make_detector(recipe, model__norm=norm, **DEEP).train()
    before = statistics(detector)
    for batch in (make_batch((4, 2)), make_batch((3, 0)), make_batch((0, 0))):
        for proposals in (detector.rpn.proposals, no_proposals):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(detector.rpn, "proposals", proposals)
                detector.zero_grad()
                torch.stack(list(detector.loss(batch).values())).sum().backward()
            learning = [(n, p) for n, p in detector.named_parameters() if p.requires_grad]
            assert [n for n, p in learning if p.grad is None or not p.grad.isfinite().all()] == []
    after = statistics(detector)
    assert bool(after) == (norm in BATCH_NORMS)
    moved = [name for name in after if not torch.equal(before[name], after[name])]
    assert moved == ([] if norm == "frozen" else list(after))
    assert all(value.isfinite().all() for value in after.values())
    found = detector.eval().predict([torch.rand(3, 64, 90) * 255])
    assert [f.size for f in found] == [(64, 90)]
    assert all(torch.equal(after[n], value) for n, value in statistics(detector).items())


def test_padding_has_no_part_in_the_statistics_of_boxes() -> None:
    config = model("batch")
    torch.manual_seed(0)
    stage = BoxStage(config.box.stages[0], config).train()
    x = torch.randn(8, CHANNELS, 7, 7)
    valid = torch.tensor([True, False, True, True, False, False, True, True])
    out = stage(torch.where(valid[:, None, None, None], x, 1e3), valid)
    found = {n: b.clone() for n, b in stage.named_buffers()}
    torch.manual_seed(0)
    alone = BoxStage(config.box.stages[0], config).train()
    expected = alone(x[valid])
    torch.testing.assert_close(out.logits[valid], expected.logits)
    torch.testing.assert_close(found, dict(alone.named_buffers()))


def test_kinds_of_batch_norm_have_the_same_weights_and_results() -> None:
    first, *others = (make_detector("mask_rcnn", model__norm=norm, **DEEP) for norm in BATCH_NORMS)
    filled(first.fpn), filled(first.roi_heads)
    image = [torch.rand(3, 64, 90) * 255]
    expected = first.eval().predict(image)[0]
    for other in others:
        other.load_state_dict(first.state_dict())
        found = other.eval().predict(image)[0]
        torch.testing.assert_close(found.boxes, expected.boxes)
        torch.testing.assert_close(found.scores, expected.scores)


@pytest.mark.parametrize("recipe", ["mask_rcnn", "scnet"])
@pytest.mark.parametrize("mode", [True, False])
def test_norms_are_folded_for_inference_and_the_detector_stays(recipe: str, mode: bool) -> None:
    torch.manual_seed(0)
    detector = make_detector(recipe, model__norm="batch", **DEEP)
    filled(detector.fpn), filled(detector.branches), filled(detector.roi_heads)
    detector.train(mode)
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    fast = for_inference(detector)
    assert not any(isinstance(m, BatchNorm) for m in fast.modules())
    assert any(isinstance(m, BatchNorm) for m in detector.modules())
    own, shared = fast.roi_heads.stages[0], detector.roi_heads.stages[0]
    assert own.fc1 is not shared.fc1
    assert own.fc1.weight is shared.fc1.weight
    batch = make_batch((1, 1))
    plain, found = detector.detect(batch, min_score=0.0), fast.eval().detect(batch)
    assert len(plain.scores) > 0
    torch.testing.assert_close(
        found.scores.sort().values, plain.scores.sort().values, atol=1e-4, rtol=1e-3
    )
    assert all(torch.equal(state[n], value) for n, value in detector.state_dict().items())
    assert detector.training == mode


def test_norms_and_convolutions_are_kept_in_a_file(tmp_path: Path) -> None:
    norms: dict[str, Literal["group", "batch"]] = {
        "model__norm": "group",
        "model__box__norm": "batch",
    }
    detector = make_detector("mask_rcnn", **norms, **DEEP).eval()
    filled(detector.roi_heads)
    write_weights(tmp_path / "a.safetensors", detector)
    again = load(tmp_path / "a.safetensors")
    assert again.config == detector.config
    assert again.state_dict().keys() == detector.state_dict().keys()
    assert all(torch.equal(again.state_dict()[n], x) for n, x in detector.state_dict().items())
