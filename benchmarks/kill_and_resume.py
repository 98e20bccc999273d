"""Kill a training at random moments and show that it ends as if nothing had happened.

    python benchmarks/kill_and_resume.py DATA [--kills 20] [--recipe scnet_lite]

One training runs undisturbed. Another, with the same settings, gets SIGKILL after a random time,
is resumed, and again, until it has been killed as often as asked; then it may finish. Weights,
optimiser state and logged losses of both must be the same to the last bit. Exit status 1 if not.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from scnet.training.log import Log

SETTINGS: dict[str, Any] = {
    "model": {
        "backbone": {"name": "resnet18", "widths": [8, 16, 32, 64], "weights": "none"},
        "channels": 16,
        "box": {"hidden": 32, "samples": 32},
    },
    "data": {"size": [96, 128], "scales": [64, 96], "flip": 0.5, "workers": 1},
    "optim": {
        "batch_size": 4,
        "max_steps": 200,
        "accumulate": 2,
        "ema": 0.99,
        "optimizer": "adamw",
        "lr": 1e-3,
        "log_every": 1,
    },
    "eval": {"every": 0, "pictures": 0},
    "run": {"checkpoint_steps": 3, "trackers": []},
}


def main() -> int:
    """Run both trainings, compare them and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--recipe", default="scnet_lite")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with TemporaryDirectory() as temporary:
        whole, cut = Path(temporary) / "whole", Path(temporary) / "cut"
        settings = Path(temporary) / "settings.yaml"
        settings.write_text(yaml.safe_dump(SETTINGS))
        begin = ["train", options.recipe, "--data", options.data, "--config", settings, "-o"]
        seconds = finish(start([*begin, whole]))
        print(f"undisturbed: {steps(whole)} steps in {seconds:.0f} s")
        kill_often([*begin, cut], cut, options.kills, chance)
        finish(start(["train", "--resume", cut]))
        faults = differences(whole, cut)
    print("\n".join(faults) if faults else f"bit-identical after {options.kills} kills")
    return int(bool(faults))


def kill_often(begin: list[Any], folder: Path, kills: int, chance: random.Random) -> None:
    """Start or resume a training and kill it, that often."""
    reach = SETTINGS["optim"]["max_steps"] // kills  # steps between kills, but for the last second
    for number in range(1, kills + 1):
        resumable = (folder / "last").is_dir() or (folder / ".last-old").is_dir()
        if not resumable:  # killed before its first checkpoint, so it begins anew
            shutil.rmtree(folder, ignore_errors=True)
        goal = steps(folder) + chance.randint(0, reach)
        process = start(["train", "--resume", folder] if resumable else begin)
        while process.poll() is None and steps(folder) < goal:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1))  # into the middle of a step, or of a checkpoint
        done = process.poll() is not None
        if not done:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"kill {number}: at step {steps(folder)}{', was done already' * done}", flush=True)


def start(arguments: list[Any]) -> subprocess.Popen[bytes]:
    """Start the command line in a process group of its own."""
    command = [sys.executable, "-m", "scnet", *map(str, arguments), "--quiet"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command, start_new_session=True, env=environment, stdout=subprocess.DEVNULL
    )


def finish(process: subprocess.Popen[bytes]) -> float:
    """Wait for the end and return the seconds that it took."""
    begin = time.perf_counter()
    if process.wait() != 0:
        raise SystemExit(f"the training failed with status {process.returncode}")
    return time.perf_counter() - begin


def steps(folder: Path) -> int:
    """Return the last step in the log."""
    records = log(folder)
    return int(records[-1]["step"]) if records else 0


def log(folder: Path) -> list[dict[str, Any]]:
    """Return the records of the log."""
    return Log(folder / "log.jsonl", quiet=True).records()


def differences(whole: Path, cut: Path) -> list[str]:
    """Return in what two finished trainings differ."""
    faults = []
    a, b = (load_file(folder / "last" / "model.safetensors") for folder in (whole, cut))
    faults += [f"weights {name}" for name in a if not torch.equal(a[name], b[name])]
    a, b = (torch.load(x / "last" / "state.pt", weights_only=True) for x in (whole, cut))
    for part in ("step", "best", "optimizer", "weights", "updates", "random"):
        faults += [f"state {part}"] * (not same(a[part], b[part]))
    pairs = itertools.zip_longest(log(whole), log(cut), fillvalue={})
    changed = [a.get("step") for a, b in pairs if a.get("losses") != b.get("losses")]
    return faults + [f"losses of steps {', '.join(map(str, changed))}"] * bool(changed)


def same(a: Any, b: Any) -> bool:
    """Return whether nested values are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


if __name__ == "__main__":
    sys.exit(main())
