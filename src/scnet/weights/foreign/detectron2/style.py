"""How a backbone of detectron2 expects its images, where no config says it.

Three kinds are in use. detectron2's own ResNets came from Caffe2, where the batch norm of ImageNet
was folded into scale and shift: their stored statistics are those of a norm that does nothing, mean
0 and variance 1. Those of a network that was trained in PyTorch are real ones, and the variance
behind its first convolution shows how large its input was. Group norm has none to tell by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign.tensors import FIRST

_BGR = [103.53, 116.28, 123.675]
# Variance of the input that lies between images of std 1 and those of std 57, 3,000 times apart.
_BETWEEN = 55.0


class Style(NamedTuple):
    """What a network expects of its images, and where it strides."""

    settings: dict[str, Any]  # by detectron2's paths
    why: str


def _style(order: str, std: list[float], in_1x1: bool) -> dict[str, Any]:
    return {
        "INPUT.FORMAT": order,
        "MODEL.PIXEL_MEAN": _BGR if order == "BGR" else _BGR[::-1],
        "MODEL.PIXEL_STD": std,
        "MODEL.RESNETS.STRIDE_IN_1X1": in_1x1,
    }


CAFFE2 = _style("BGR", [1.0, 1.0, 1.0], True)  # R50 and R101
GROUP_NORM = _style("BGR", [1.0, 1.0, 1.0], False)  # R50
RESNEXT = _style("BGR", [57.375, 57.12, 58.395], False)  # X101 32x8d
TORCHVISION = _style("RGB", [58.395, 57.12, 57.375], False)


def guess(tensors: Mapping[str, Tensor]) -> Style:
    """Return the most likely style of a model by our names.

    Raises:
        CheckpointError: its first layer is none that reads images.
    """
    if FIRST not in tensors or tensors[FIRST].ndim != 4:
        raise CheckpointError("the first convolution of a ResNet, stem.conv1, is missing")
    weight, norm = tensors[FIRST].float(), "backbone.net.bn1.running_"
    mean, variance = tensors.get(f"{norm}mean"), tensors.get(f"{norm}var")
    groups = _is_grouped(tensors)
    ours = RESNEXT if groups else CAFFE2
    if mean is None and variance is None:
        return Style(GROUP_NORM, "as R50 with group norm of detectron2's zoo")
    if mean is None or variance is None or variance.shape != weight.shape[:1]:
        return Style(ours, "as in detectron2's zoo")
    if _does_nothing(mean, variance):
        return Style(ours, f"as {'X101 32x8d' if groups else 'R50 and R101'} of detectron2's zoo")
    ratio = float((variance.float() / weight.square().sum((1, 2, 3)).clamp(min=1e-12)).median())
    if ratio > _BETWEEN:
        return Style(CAFFE2, "as the statistics of its first norm are those of large values")
    return Style(TORCHVISION, "as the statistics of its first norm are those of torchvision's")


def _does_nothing(mean: Tensor, variance: Tensor) -> bool:
    return not mean.any() and bool(torch.isclose(variance.float(), torch.ones(1), atol=1e-3).all())


def _is_grouped(tensors: Mapping[str, Tensor]) -> bool:
    second = tensors.get("backbone.net.layer1.0.conv2.weight")
    return second is not None and second.shape[0] != second.shape[1]
