"""Statistics of batch norm, which the forward pass changes, in each process by its own images."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from scnet.runtime.distributed import world_size


class Statistics:
    """Those that a step may change, as they were before it; of frozen norms there are none."""

    def __init__(self, model: nn.Module) -> None:
        norms = (m for m in model.modules() if isinstance(m, _BatchNorm) and m.training)
        self._now = [buffer for norm in norms for buffer in norm.buffers()]
        self._before = [buffer.clone() for buffer in self._now]

    def put_back(self, finite: Bool[Tensor, ""]) -> None:
        """Undo what a step did that was not finite; the host does not wait to know."""
        for now, before in zip(self._now, self._before, strict=True):
            now.copy_(torch.where(finite, now, before))


def share_statistics(model: nn.Module) -> None:
    """Give all processes the statistics of the main one, which are those that are saved."""
    if world_size() == 1:
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)
