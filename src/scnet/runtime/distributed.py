"""The few things that the processes of one training tell each other."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch import distributed as dist


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return which of them this is."""
    return dist.get_rank() if world_size() > 1 else 0


def mean_count(count: Shaped[Tensor, ""]) -> Float[Tensor, ""]:
    """Return a count, such as of samples, averaged over the processes; together at least one.

    A loss divided by it, and then averaged over the processes as their gradients are, is the loss
    of the whole batch, however many processes share it.
    """
    total = count.float()
    if world_size() > 1:
        total = total.clone()
        dist.all_reduce(total)
    return total.clamp(min=1) / world_size()


def largest(values: list[float], device: torch.device) -> list[float]:
    """Return the largest of each value over all processes."""
    if world_size() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return [float(v) for v in tensor.tolist()]


def gather(value: Any) -> list[Any]:
    """Return the value of each process, in order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
