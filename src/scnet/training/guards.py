"""What can end a training early, and what is said then."""

from __future__ import annotations

import errno
import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType

import torch


class TrainingError(ValueError):
    """A training that cannot go on as it is set; says what to change."""


class Interrupted(KeyboardInterrupt):
    """The training was asked to end and has written a checkpoint."""


class StopSignals:
    """Turns the first SIGINT or SIGTERM into a wish to stop; a second SIGINT ends at once."""

    def __init__(self) -> None:
        self.wanted = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.wanted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.wanted = True


def out_of_memory(error: torch.OutOfMemoryError, batch_size: int, pieces: int) -> TrainingError:
    """Return the error to raise instead, which names the settings that help."""
    text = str(error).split(". ")[0]
    return TrainingError(
        f"out of memory with {batch_size} images a step in {pieces} pieces ({text}). These help, "
        f"the first without any change of the result: --optim.accumulate {2 * pieces}; "
        "--optim.precision bf16; --data.size '[640, 1067]'; --optim.batch-size "
        f"{max(1, batch_size // 2)}; --model.box.samples 256"
    )


def disk_full(error: OSError, folder: Path) -> Exception:
    """Return the error to raise instead: what is full, and how to go on."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    resumable = (folder / "last").is_dir()
    return TrainingError(
        f"{error.filename or folder}: the disk is full; make room, then "
        + (f"continue with: scnet train --resume {folder}" if resumable else "start again")
    )


def not_finite(step: int, losses: dict[str, float], paths: list[str]) -> FloatingPointError:
    """Return the error for a loss or gradient that is not finite."""
    named = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    return FloatingPointError(
        f"loss or gradient is not finite at step {step} ({named}); images: {', '.join(paths)}. "
        "Lower --optim.lr or set --optim.clip-norm 10; `scnet check-data` finds broken "
        "annotations; --optim.nonfinite skip leaves such steps out"
    )
