"""A detector for inference gives the results of the one it was made from."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from tests.model_cases import make_batch, make_detector
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from scnet.config import BackboneConfig
from scnet.inference.fused import for_inference, fused, with_proposals
from scnet.inference.model import Model
from scnet.model import layers
from scnet.model.backbone import Backbone


def backbone(
    name: str, stride_in: Literal["3x3", "1x1"] = "3x3", sync_norm: bool = False
) -> Backbone:
    """Return a network whose batch norm does something."""
    torch.manual_seed(0)
    norms: dict[str, bool] = {"sync_norm": True, "frozen_norm": False} if sync_norm else {}
    net = Backbone(BackboneConfig(name=name, weights="none", stride_in=stride_in, **norms))
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return net


PLAIN = ("resnet18", "resnet50", "tf_efficientnet_lite0", "regnetx_002")


@pytest.mark.parametrize(
    ("name", "stride_in", "sync_norm"),
    [
        *((name, "3x3", False) for name in PLAIN),
        ("resnet50", "1x1", False),
        ("resnet18", "3x3", True),
        ("tf_efficientnet_lite0", "3x3", True),  # whose norms carry activations
    ],
)
def test_folding_leaves_no_batch_norm_and_the_same_maps(
    name: str, stride_in: Literal["3x3", "1x1"], sync_norm: bool
) -> None:
    net = backbone(name, stride_in, sync_norm)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    fast = fused(net)
    assert not fast.has_batch_norm
    image = torch.randn(2, 3, 96, 128)
    net.eval()
    with torch.no_grad():
        for a, b in zip(net(image), fast(image), strict=True):
            assert torch.allclose(a, b, atol=2e-5 * a.abs().max().item())
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


def test_a_network_without_batch_norm_stays() -> None:
    net = backbone("convnext_atto")
    assert fused(net) is net


def test_a_norm_whose_convolution_is_read_elsewhere_too_is_not_left_out() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            x = self.conv(x)
            return [x, self.norm(x)]

    net = backbone("resnet18")
    net.net = Forked()
    nn.init.constant_(net.net.norm.running_mean, 1.0)
    net.index, net.channels_last = [0, 1], False
    assert fused(net) is net


def test_training_mode_is_kept() -> None:
    net = backbone("resnet18").train()
    fused(net)
    assert net.training


@pytest.mark.parametrize("recipe", ["mask_rcnn", "cascade_mask_rcnn", "htc", "scnet"])
def test_a_model_finds_what_its_detector_finds(recipe: str) -> None:
    detector = make_detector(recipe).eval()
    images = [torch.randint(256, (3, 96, 128), dtype=torch.uint8) for _ in range(2)]
    model = Model(detector, "cpu")
    batch = model.read(images)[1]
    plain, fast = detector.detect(batch), model.detect(batch)
    assert len(plain.boxes) == len(fast.boxes) > 0
    assert torch.allclose(plain.scores, fast.scores, atol=1e-4)
    # Two that score the same but for rounding may change places.
    distance = (plain.boxes[:, None] - fast.boxes).abs().amax(2)
    distance += 1e6 * (plain.image[:, None] != fast.image)
    distance += 1e6 * (plain.labels[:, None] != fast.labels)
    nearest, index = distance.min(1)
    assert nearest.max() <= 1e-2
    assert (plain.masks - fast.masks[index]).abs().max() <= 1e-3
    assert model.detector is detector


def test_the_copy_shares_all_weights_but_those_of_the_backbone() -> None:
    detector = make_detector("scnet").eval()
    fast = for_inference(detector)
    assert fast.backbone is not detector.backbone
    assert fast.roi_heads is detector.roi_heads


def test_fewer_proposals_reach_the_box_stages_and_the_detector_stays_as_it_is() -> None:
    detector = make_detector("scnet").eval()
    batch = make_batch((1, 1))
    fast = with_proposals(detector, 7)
    with torch.inference_mode():
        rpn, _ = detector.dense(batch.images, batch.sizes)
        few = fast.rpn.proposals(rpn, batch.sizes, training=False)
        many = detector.rpn.proposals(rpn, batch.sizes, training=False)
    assert few.boxes.shape[1] == 7
    assert torch.equal(few.boxes, many.boxes[:, :7])
    with pytest.raises(ValueError, match="at least one"):
        with_proposals(detector, 0)


def test_both_forms_of_the_roi_layer_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = layers.RoILinear(16, 7, 32), torch.randn(5, 16, 7, 7)
    results = []
    for convolution in (True, False):
        monkeypatch.setattr(layers, "has_avx512", lambda convolution=convolution: convolution)
        layer.zero_grad()
        out = layer(x)
        out.square().sum().backward()
        assert layer.weight.grad is not None
        results.append((out.detach(), layer.weight.grad.clone()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)
