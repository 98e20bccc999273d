"""Pyramids: sizes of their levels, and equality with MMDetection's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tests.model_cases import make_batch, make_detector
from torch import Tensor

from scnet.config import Config, PAFPNConfig, override
from scnet.model.pyramid import FPN, PAFPN
from scnet.settings import ConfigError
from scnet.weights.foreign.mmdet import names

VALUES, GRADIENTS = 1e-4, 1e-3  # of the largest value of a tensor


def our_name(key: str) -> str:
    return str(names.our_name(f"neck.{key}")).removeprefix("fpn.")


def share(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", ["pafpn_mmdet", "pafpn_mmdet_gn_relu"])
def test_pafpn_gives_what_mmdetection_gives(reference_dir: Path, name: str) -> None:
    reference = torch.load(reference_dir / "panet" / f"{name}.pt", weights_only=True)
    maps = [x.requires_grad_() for x in reference["c"]]
    normed = name.endswith("relu")
    pyramid = PAFPN([x.shape[1] for x in maps], 64, "group" if normed else "none", relu=normed)
    pyramid.load_state_dict({our_name(k): v for k, v in reference["state_dict"].items()})
    levels = pyramid(maps)
    for found, expected in zip(levels, reference["n"], strict=True):
        assert share(found, expected) <= VALUES
    sum((x * p).sum() for x, p in zip(levels, reference["probe"], strict=True)).backward()
    for one, gradient in zip(maps, reference["grad_c"], strict=True):
        assert one.grad is not None
        assert share(one.grad, gradient) <= GRADIENTS
    parameters = dict(pyramid.named_parameters())
    for key, norm in reference["grad_norm"].items():
        gradient = parameters[our_name(key)].grad
        assert gradient is not None
        assert float(gradient.norm()) == pytest.approx(float(norm), rel=GRADIENTS)
    for key, expected in reference["grads_small"].items():
        gradient = parameters[our_name(key)].grad
        assert gradient is not None
        assert share(gradient, expected) <= GRADIENTS


@torch.no_grad()
def test_pafpn_whose_second_path_gives_nothing_is_fpn() -> None:
    torch.manual_seed(0)
    plain, paths = FPN((3, 4, 5, 6), 8, "none"), PAFPN((3, 4, 5, 6), 8, "none", relu=False)
    identity = torch.zeros(8, 8, 3, 3)
    identity[range(8), range(8), 1, 1] = 1
    added = {k: torch.zeros_like(v) for k, v in paths.state_dict().items() if "down." in k}
    added |= {f"last.{i}.weight": identity for i in range(3)}
    added |= {f"last.{i}.bias": torch.zeros(8) for i in range(3)}
    paths.load_state_dict(plain.state_dict() | added)
    # Sides that are odd, so that a level is not twice the next.
    maps = [torch.rand(2, c, h, w) for c, h, w in ((3, 23, 33), (4, 12, 17), (5, 6, 9), (6, 3, 5))]
    for one, other in zip(paths(maps), plain(maps), strict=True):
        torch.testing.assert_close(one, other)


def test_a_detector_with_pafpn_learns_in_all_of_it_and_predicts() -> None:
    detector = make_detector("scnet", model__pyramid=PAFPNConfig())
    sum(detector.loss(make_batch((2, 1))).values()).backward()
    for name, parameter in detector.fpn.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert detector.detect(make_batch((0,))).boxes.shape[1] == 4


def test_the_kind_of_pyramid_is_a_setting() -> None:
    found = override(Config(), {"model": {"pyramid": "pafpn"}}).model.pyramid
    assert found == PAFPNConfig()
    with pytest.raises(ConfigError, match=re.escape("model.pyramid.relu: a setting of kind pafpn")):
        override(Config(), {"model": {"pyramid": {"relu": True}}})
