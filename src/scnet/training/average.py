"""Averaged weights (EMA)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from scnet.model.detector import Detector

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(detector: Detector, decay: float) -> AveragedModel:
    """Return a copy of a detector that follows its weights; call `update_parameters` each step.

    After n updates the copy is `d * copy + (1 - d) * weights` with d = min(decay, (1 + n) /
    (10 + n)), so that a short training is averaged over fewer steps (the rule of TensorFlow's
    ExponentialMovingAverage). The first update copies. Statistics of batch norm are copied always.
    """

    def follow(copies: Tensors, weights: Tensors, updates: Tensor | int) -> None:
        n = int(updates)
        torch._foreach_lerp_(copies, weights, 1 - min(decay, (1 + n) / (10 + n)))

    copy = AveragedModel(detector, multi_avg_fn=follow)
    copy.eval().requires_grad_(False)
    return copy
