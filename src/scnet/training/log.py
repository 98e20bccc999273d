"""What a training says: progress bar or plain lines on stderr, every figure in `log.jsonl`."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from scnet.config import Config, DataConfig
from scnet.data.contents import Contents
from scnet.evaluation.scoring import percent
from scnet.pictures.curves import grouped
from scnet.runtime.files import whole_file
from scnet.runtime.memory import peak_memory
from scnet.training.optim import base_rate
from scnet.types import Losses

Record = dict[str, Any]


class Meter:
    """Averages over the steps since the last log line. Values stay on the device until then."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self.counted = self.images = 0
        self.seconds = self.waited = 0.0

    def add(self, losses: Losses, images: int, seconds: float, waited: float) -> None:
        """Count one step; one that was left out has no losses.

        `waited` is the part of `seconds` spent waiting for data.
        """
        for name, value in losses.items():
            self.sums[name] = self.sums[name].to(value.device) + value.detach()
        self.counted += bool(losses)
        self.images += images
        self.seconds += seconds
        self.waited += waited

    def record(self) -> Record:
        """Return the averages and start anew."""
        losses = {name: digits(total.item() / self.counted) for name, total in self.sums.items()}
        values = {
            "loss": digits(float(sum(losses.values()))),
            "losses": losses,
            "images_per_second": round(self.images / max(self.seconds, 1e-9), 3),
            "data_wait": round(self.waited / max(self.seconds, 1e-9), 4),
            "memory_gb": round(peak_memory(), 2),
        }
        self.reset()
        return values


def average_records(records: Sequence[Record]) -> Record:
    """Return the record of all processes together from one of each."""
    first = records[0]
    losses = {
        name: digits(sum(r["losses"][name] for r in records) / len(records))
        for name in first["losses"]
    }
    return {
        **first,
        "loss": digits(float(sum(losses.values()))),
        "losses": losses,
        "memory_gb": max(r["memory_gb"] for r in records),
    }


def digits(value: float) -> float:
    """Return a number with nine significant digits, as many as float32 has."""
    return float(f"{value:.9g}")


class Log:
    """Writes records to a file and shows how far the training is."""

    def __init__(self, file: Path, quiet: bool = False, main: bool = True) -> None:
        """Where several processes train together, only the main one says and writes anything."""
        self.file = file
        self.main = main
        quiet = quiet or not main
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
        parts = ", ".join(f"{n} {v:.2f}" for n, v in grouped(record["losses"]).items())
        text = (
            f"epoch {record['epoch']:.2f}  step {record['step']}  "
            f"loss {record['loss']:.3f} ({parts})  lr {record['lr']:.2e}  "
            f"{record['images_per_second']:.1f} images/s, {record['data_wait']:.0%} waiting  "
            f"{record['memory_gb']:.1f} GB  {duration(seconds_left)} left"
        )
        if self.bar:
            self.bar.update(self.task, completed=progress, text=text)
        elif not self.quiet:
            self.console.print(text, soft_wrap=True)

    def evaluation(self, record: Record) -> None:
        """Log the figures of an evaluation."""
        self._write({"kind": "eval", **record})
        aps = "  ".join(
            f"{n} AP {percent(record[k]['AP'])}" for k, n in (("bbox", "box"), ("segm", "mask"))
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
        records = []
        for line in self.file.read_text().splitlines():
            with suppress(json.JSONDecodeError):  # cut off by a kill
                records.append(json.loads(line))
        return records

    def forget_after(self, step: int) -> None:
        """Remove what was logged after a step, as it is done again."""
        kept = [r for r in self.records() if r.get("step", 0) <= step]
        if self.main and self.file.is_file():
            with whole_file(self.file) as new:
                new.write_text("".join(json.dumps(record) + "\n" for record in kept))

    def close(self) -> None:
        """Take the progress bar off the screen."""
        if self.bar:
            self.bar.stop()

    def _write(self, record: Mapping[str, Any]) -> None:
        if not self.main:
            return
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


def introduction(
    config: Config,
    *,
    parameters: int,
    device: torch.device,
    images: tuple[int, int],
    contents: Contents,
    notes: Sequence[str],
    steps: int,
    processes: int,
    folder: Path,
) -> list[str]:
    """Return the lines that say what is about to be trained.

    Args:
        images: of training and val.
        contents: of the training images.
        notes: what was taken for what in the files of all images.
    """
    optim = config.optim
    minutes = f" or {optim.max_minutes:g} minutes" if optim.max_minutes else ""
    val = f"{images[1]} val" if images[1] else "no val"
    rule = "in proportion" if optim.optimizer == "sgd" else "by the square root"
    shared = f", shared by {processes} processes" * (processes > 1)
    pieces = f" in {optim.accumulate} pieces" * (optim.accumulate > 1)
    return [
        f"recipe {config.recipe}: {parameters / 1e6:.1f} M parameters, on {device}, "
        f"{optim.precision}",
        f"data {config.data.path}: {images[0]} train and {val} images, "
        f"{counted_classes(config.classes)}",
        *(f"note: {note}" for note in notes),
        f"to learn from: {contents}",
        *(f"warning: {warning}" for warning in contents.warnings),
        f"images {resizing(config.data)}, {optim.batch_size} a step"
        f"{shared}{pieces}, {steps} steps{minutes}",
        f"{optim.optimizer} at {base_rate(optim, optim.batch_size):g}: {optim.lr:g} for "
        f"{optim.lr_batch} images, {rule} of the batch",
        f"run folder {folder}",
    ]


def resizing(data: DataConfig) -> str:
    """Return what is done to images in training so that they fit."""
    short, long = data.size
    if data.scale_factor is not None:
        return f"enlarged {data.scale_factor:g} times and cut to {short} x {long}"
    limit = f"{short} (longer side at most {long})" if data.keep_ratio else f"{short} x {long}"
    return f"resized to {limit}"


def counted_classes(classes: tuple[str, ...]) -> str:
    """Return how many classes there are, and the first names."""
    shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    return f"{len(classes)} class{'es' if len(classes) > 1 else ''} ({shown})"
