"""Averaged weights (EMA)."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Bool
from torch import Tensor

from scnet.model.detector import Detector


class Average:
    """A copy of a detector that follows its weights; call `update` after each step.

    After n updates the copy is `d * copy + (1 - d) * weights` with d = min(decay, (1 + n) /
    (10 + n)), so that a short training is averaged over fewer steps (the rule of TensorFlow's
    ExponentialMovingAverage). The first update copies. Statistics of batch norm are copied always.
    """

    def __init__(self, detector: Detector, decay: float) -> None:
        self.module = copy.deepcopy(detector).eval().requires_grad_(False)
        self.decay = decay
        # PyTorch's AveragedModel reads its count on the host, which then waits at each step.
        self.updates = torch.zeros((), device=detector.device)

    @torch.no_grad()
    def update(self, detector: Detector, finite: Bool[Tensor, ""]) -> None:
        """Follow the weights; a step that was not finite is none."""
        n = self.updates
        decay = ((1 + n) / (10 + n)).clamp(max=self.decay) * (n > 0)
        decay = torch.where(finite, decay, 1.0)
        copies: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(detector.parameters())
        torch._foreach_mul_(copies, decay)
        moved = list(torch._foreach_mul(weights, 1 - decay))
        torch._foreach_add_(copies, moved)
        for mine, theirs in zip(self.module.buffers(), detector.buffers(), strict=True):
            mine.copy_(theirs)
        self.updates += finite
