"""How far a training is: its steps are counted and logged when the device is through with them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Bool
from torch import Tensor

from scnet.config import Config
from scnet.runtime.distributed import OnTheWay, gather, largest
from scnet.training.guards import not_finite
from scnet.training.log import Log, Meter, average_records
from scnet.types import Batch, Losses

HOPELESS = 50  # steps in a row that are left out: the weights themselves are broken then


class StepResult(NamedTuple):
    """What a step gives, on the device."""

    losses: Losses  # of this process, averaged over its pieces
    left_out: Bool[Tensor, ""]  # something was not finite, so that nothing has changed


class Pending(NamedTuple):
    """A step that the device may still be at."""

    number: int
    rate: float
    losses: Losses
    pieces: Sequence[tuple[str, ...]]  # paths of the images of each piece
    unreadable: tuple[str, ...]  # images that could not be used, with the reason
    waited: float  # seconds for data
    # the most of all processes: left out, asked to stop, checkpoint is due, seconds of the step
    flags: OnTheWay


class Progress:
    """Counts the steps of a training, and logs them."""

    def __init__(
        self, config: Config, steps_an_epoch: int, accelerator: Accelerator, log: Log
    ) -> None:
        self.config, self.accelerator, self.log = config, accelerator, log
        self.steps_an_epoch = steps_an_epoch
        self.total_steps = config.optim.max_steps or config.optim.epochs * steps_an_epoch
        self.step = self.skipped = 0
        self.seconds = 0.0  # spent in steps
        self.stopping = self.due = False  # a process was asked to stop, wants a checkpoint
        self._in_a_row = 0  # steps left out, up to now
        self._unreadable = 0  # images that this process left out
        self._meter = Meter()
        self._pending: Pending | None = None
        self._behind = 0.0  # seconds spent waiting for steps, not counted yet

    def __str__(self) -> str:
        return f"step {self.step} of {self.total_steps}"

    @property
    def epoch(self) -> int:
        """Epochs that are whole."""
        return self.step // self.steps_an_epoch

    @property
    def part(self) -> float:
        """Part of the training that is done, 0..1, by steps or by time, whichever is further."""
        minutes = self.config.optim.max_minutes
        by_time = self.seconds / (60 * minutes) if minutes else 0.0
        return min(1.0, max(self.step / self.total_steps, by_time))

    def add(
        self,
        result: StepResult,
        pieces: Sequence[Batch],
        rate: float,
        seconds: tuple[float, float],
        wishes: tuple[bool, bool],
    ) -> None:
        """Take note of a step that the device may still be at, when it is through with the last.

        Args:
            seconds: of the step on the host, and before it waiting for data.
            wishes: of this process: to stop, to have a checkpoint.
        """
        self.settle()  # the step before: the device is at this one meanwhile
        flags = [*map(float, wishes), sum(seconds) + self._behind]
        self._behind = 0.0
        device = result.left_out.device
        others = torch.tensor(flags).to(device, non_blocking=True)
        self._pending = Pending(
            number=self.step,
            rate=rate,
            losses=result.losses,
            pieces=[tuple(info.path for info in batch.info) for batch in pieces],
            unreadable=tuple(reason for batch in pieces for reason in batch.skipped),
            waited=seconds[1],
            flags=OnTheWay(largest(torch.cat([result.left_out.float().view(1), others]))),
        )
        self.step += 1
        if not runs_ahead(device):
            self.settle()

    def settle(self) -> None:
        """Wait for the end of the step under way, where there is one; count it and log it.

        Raises:
            FloatingPointError: something was not finite, and such steps are not to be left out.
        """
        if self._pending is None:
            return
        step, self._pending = self._pending, None
        start = time.perf_counter()
        left_out, stop, due, seconds = step.flags.read()
        self._behind += time.perf_counter() - start
        self.stopping, self.due = self.stopping or bool(stop), bool(due)
        self.seconds += seconds
        self._in_a_row = self._in_a_row + 1 if left_out else 0
        if left_out:
            self._leave_out(step)
        for reason in step.unreadable:
            self._unreadable += 1
            self.log.say(f"left out an image, {self._unreadable} so far: {reason}")
        images = sum(map(len, step.pieces)) * self.accelerator.num_processes
        self._meter.add({} if left_out else step.losses, images, seconds, step.waited)
        if (step.number + 1) % self.config.optim.log_every == 0 or self.part >= 1:
            self._log(step)

    def _leave_out(self, step: Pending) -> None:
        """Stop at a step whose loss or gradient is not finite, or count it."""
        paths = [path for of_piece in step.pieces for path in of_piece]
        everywhere = [path for of_process in gather(paths) for path in of_process]
        losses = {name: value.item() for name, value in step.losses.items()}
        error = not_finite(step.number, losses, everywhere)
        if self.config.optim.nonfinite == "stop" or self._in_a_row == HOPELESS:
            raise error
        self.skipped += 1
        self.log.say(f"left out step {step.number}, {self.skipped} so far: {error}")

    def _log(self, step: Pending) -> None:
        """Log the averages since the last time, over all processes."""
        record = average_records(gather(self._meter.record()))
        if not record["losses"]:  # all of these steps were left out
            return
        record = {
            "step": step.number + 1,
            "epoch": round((step.number + 1) / self.steps_an_epoch, 4),
            "lr": step.rate,
            "skipped": self.skipped,
            "unreadable": sum(gather(self._unreadable)),
            **record,
        }
        self.log.train(record, self.part, self.seconds * (1 / self.part - 1))
        losses = {f"loss/{name}": value for name, value in record["losses"].items()}
        figures = {k: record[k] for k in ("loss", "lr", "images_per_second", "data_wait")}
        self.accelerator.log(losses | figures, step=record["step"])


def runs_ahead(device: torch.device) -> bool:
    """Whether the host can prepare a step while the device is at the one before."""
    return device.type != "cpu"
