"""Carry out trainings, each once and in a process of its own, and read what came of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from scnet.bench.machine import describe
from scnet.config import Config, from_dict, override, to_dict
from scnet.experiments.page import write_whole
from scnet.experiments.plan import Run, name_of
from scnet.model.detector import Detector
from scnet.runtime.device import pick_device
from scnet.runtime.files import recover
from scnet.training.log import Log, duration
from scnet.weights import checkpoint

RECORD = "record.json"
INTERRUPTED = 130  # exit status of `scnet`

# Carries out a command of `scnet` in so many processes.
Launch = Callable[[Sequence[str], int], None]


class ExperimentError(ValueError):
    """An experiment that cannot go on; says what to do."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a training."""

    recipe: str
    data: str
    seed: int
    command: str
    # figures of COCO as fractions, -1 where undefined; empty without images to evaluate on
    box: dict[str, float]
    mask: dict[str, float]
    parameters: int
    memory_gb: float  # most in training
    seconds: float  # of training steps, without evaluation
    device: str
    versions: str

    def figure(self, column: str) -> float | None:
        """Return a figure in per cent, by the name of its column; None where it is undefined."""
        value = self.box["AP"] if column == "box AP" else self.mask[column]
        return None if value < 0 else 100 * value


def launch(arguments: Sequence[str], processes: int) -> None:
    """Run `scnet` with these arguments and wait for it; the same Python, in another process.

    Raises:
        ExperimentError: it failed; its own message stands on stderr.
        KeyboardInterrupt: it was interrupted, and has written its checkpoint.
    """
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--nproc-per-node", str(processes), "-m"]
    with subprocess.Popen([*start, "scnet", *arguments]) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:  # which reached the training too
            process.wait()
            status = INTERRUPTED
    if status == INTERRUPTED:
        raise KeyboardInterrupt("interrupted; the same command goes on where it stopped")
    if status:
        raise ExperimentError(
            f"scnet {' '.join(arguments)}: ended with status {status}; its message is above. "
            "The same command goes on with what is missing"
        )


def finish(
    runs: Sequence[Run],
    launch: Launch = launch,
    say: Callable[[str], None] = lambda text: None,
    quiet: bool = False,
) -> list[Outcome]:
    """Return what came of each run, carrying out what is not finished yet.

    Raises:
        ExperimentError: a training failed, or a folder holds one with other settings.
    """
    gpus, start = torch.cuda.device_count(), time.perf_counter()
    outcomes: list[Outcome] = []
    missing = [run for run in runs if not (run.folder / RECORD).is_file()]
    for run in runs:
        _require_same_settings(run)
    for run in runs:
        if run in missing:
            done = missing.index(run)
            taken = duration(time.perf_counter() - start)
            say(f"training {done + 1} of {len(missing)}, after {taken}: {run.command(gpus)}")
            _carry_out(run, launch, gpus, quiet)
        outcomes.append(read(run.folder))
    return outcomes


def read(folder: Path) -> Outcome:
    """Return what came of a finished run."""
    return Outcome(**json.loads((folder / RECORD).read_text()))


def parameters(config: Config) -> int:
    """Return the number of weights of a model."""
    with torch.device("meta"):
        return sum(p.numel() for p in Detector(config).parameters())


def _carry_out(run: Run, launch: Launch, gpus: int, quiet: bool) -> None:
    """Start a training or go on with one, and record what came of it."""
    recover(run.folder / "last")
    arguments = run.resuming()
    if not (run.folder / "last").is_dir():
        shutil.rmtree(run.folder, ignore_errors=True)  # it ended before its first checkpoint
        arguments = run.arguments()
    launch([*arguments, *["--quiet"] * quiet], run.processes(gpus))
    text = json.dumps(asdict(_outcome(run, gpus)), indent=1)
    write_whole(run.folder / RECORD, text + "\n")


def _outcome(run: Run, gpus: int) -> Outcome:
    log = run.folder / "log.jsonl"
    records = Log(log, quiet=True).records()
    evaluations = [record for record in records if record["kind"] == "eval"]
    if run.validated and not evaluations:
        raise ExperimentError(
            f"{log}: the training was not evaluated; {run.data} needs a val split. "
            f"Add one and remove {run.folder}"
        )
    figures = evaluations[-1] if run.validated else {"bbox": {}, "segm": {}}
    return Outcome(
        recipe=run.recipe,
        data=name_of(run.data),
        seed=run.seed,
        command=run.command(gpus),
        box=figures["bbox"],
        mask=figures["segm"],
        parameters=parameters(_stored(run.folder)),
        memory_gb=max(r["memory_gb"] for r in records if r["kind"] == "train"),
        seconds=round(checkpoint.load_state(run.folder / "last")["seconds"], 1),
        **describe(pick_device()),
    )


def _require_same_settings(run: Run) -> None:
    """Stop where a folder holds a training with other settings than those planned."""
    if not (run.folder / "config.yaml").is_file():
        return
    stored = _stored(run.folder)
    if stored.recipe != run.recipe or override(stored, _planned(run)) != stored:
        raise ExperimentError(
            f"{run.folder}: holds a training with other settings than those of this experiment; "
            "remove it, or give another folder with -o"
        )


def _stored(folder: Path) -> Config:
    return from_dict(yaml.safe_load((folder / "config.yaml").read_text()))


def _planned(run: Run) -> dict[str, Any]:
    """Return all settings of a run but those that come from its data set."""
    planned = to_dict(run.config)
    for name in ("classes", "category_ids"):
        del planned[name]
    del planned["data"]["path"], planned["model"]["num_classes"]
    if planned["model"]["semantic"]:
        del planned["model"]["semantic"]["num_classes"]
    return planned
