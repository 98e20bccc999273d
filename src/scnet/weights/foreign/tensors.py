"""What a parameter of another library needs beside our name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from scnet.config import BoxStageConfig

FIRST = "backbone.net.conv1.weight"  # our name of the convolution that reads the image
_FIRSTS = (FIRST, "backbone.net.stem.conv.weight")  # of a ResNet, of a RegNet
SIDE = BoxStageConfig().side  # of the RoI feature that a box head reads


def in_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters of the precision that ours have; counters stay as they are."""
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def in_our_shape(name: str, value: Tensor) -> Tensor:
    """Return a parameter in the shape that ours has: a layer over a whole RoI is a convolution."""
    if name.endswith(".fc1.weight") and value.ndim == 2 and value.shape[1] % SIDE**2 == 0:
        return value.view(len(value), -1, SIDE, SIDE)
    return value


def to_rgb(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters by our names, of a model that reads BGR, for one that reads RGB.

    Mean and std of the pixels are to be reversed beside.
    """
    return {k: v.flip(1) if k in _FIRSTS and v.ndim == 4 else v for k, v in state.items()}
