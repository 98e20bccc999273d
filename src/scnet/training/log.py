"""What a training says: progress bar or plain lines on stderr, every figure in `log.jsonl`."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from scnet.types import Losses

Record = dict[str, Any]


class Meter:
    """Averages over the steps since the last log line. Values stay on the device until then."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self.steps = self.images = 0
        self.seconds = self.waited = 0.0

    def add(self, losses: Losses, images: int, seconds: float, waited: float) -> None:
        """Count one step; `waited` is the part of `seconds` spent waiting for data."""
        for name, value in losses.items():
            self.sums[name] = self.sums[name].to(value.device) + value.detach()
        self.steps += 1
        self.images += images
        self.seconds += seconds
        self.waited += waited

    def record(self) -> Record:
        """Return the averages and start anew."""
        losses = {name: round(total.item() / self.steps, 5) for name, total in self.sums.items()}
        values = {
            "loss": round(sum(losses.values()), 5),
            "losses": losses,
            "images_per_second": round(self.images / max(self.seconds, 1e-9), 3),
            "data_wait": round(self.waited / max(self.seconds, 1e-9), 4),
        }
        self.reset()
        return values


class Log:
    """Writes records to a file and shows how far the training is."""

    def __init__(self, file: Path, quiet: bool = False) -> None:
        self.file = file
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False)
        self.bar: Progress | None = None
        if not quiet and sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                TextColumn("{task.fields[text]}"),
                console=self.console,
            )
            self.task = self.bar.add_task("training", total=1.0, text="")
            self.bar.start()

    def train(self, record: Record, progress: float, seconds_left: float) -> None:
        """Log the averages of some steps."""
        self._write({"kind": "train", **record})
        text = (
            f"epoch {record['epoch']:.2f}  step {record['step']}  loss {record['loss']:.3f}  "
            f"lr {record['lr']:.2e}  {record['images_per_second']:.1f} images/s  "
            f"{duration(seconds_left)} left"
        )
        if self.bar:
            self.bar.update(self.task, completed=progress, text=text)
        elif not self.quiet:
            self.console.print(text, soft_wrap=True)

    def evaluation(self, record: Record) -> None:
        """Log the figures of an evaluation."""
        self._write({"kind": "eval", **record})
        aps = "  ".join(
            f"{n} AP {100 * record[k]['AP']:.1f}" for k, n in (("bbox", "box"), ("segm", "mask"))
        )
        self.say(f"epoch {record['epoch']:.2f}  validation: {aps}  ({record['seconds']:.0f} s)")

    def say(self, text: str) -> None:
        """Print one line above the progress bar."""
        if not self.quiet:
            self.console.print(text, soft_wrap=True, markup=False)

    def records(self) -> list[Record]:
        """Return everything logged so far, earlier parts of a resumed training too."""
        if not self.file.is_file():
            return []
        return [json.loads(line) for line in self.file.read_text().splitlines() if line]

    def close(self) -> None:
        """Take the progress bar off the screen."""
        if self.bar:
            self.bar.stop()

    def _write(self, record: Mapping[str, Any]) -> None:
        stamped = {**record, "time": round(time.time(), 2)}
        with self.file.open("a") as out:
            out.write(json.dumps(stamped) + "\n")


def duration(seconds: float) -> str:
    """Return a time span as people say it.

    >>> duration(3725)
    '1 h 02 min'
    """
    minutes, rest = divmod(int(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
