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


def part() -> None:
    """Let the processes part, where several trained together; they cannot meet again."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


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


def largest(values: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Return the largest of each value over all processes."""
    if world_size() > 1:
        values = values.clone()
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


class OnTheWay:
    """Numbers on their way from a device to the host, which may go on meanwhile."""

    def __init__(self, values: Float[Tensor, "n"]) -> None:
        self._values = values.to("cpu", non_blocking=True)
        self._sent: torch.Event | None = None
        if values.device.type != "cpu":
            self._sent = torch.accelerator.current_stream(values.device).record_event()

    def read(self) -> list[float]:
        """Return the numbers; waits for what the device had to do before, and no longer."""
        if self._sent is not None:
            self._sent.synchronize()
        return [float(value) for value in self._values.tolist()]


def gather(value: Any) -> list[Any]:
    """Return the value of each process, in order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
