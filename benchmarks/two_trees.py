"""How fast this project predicts and trains in one checkout of it, beside another.

    git worktree add ../before COMMIT
    SCNET_DATA=FOLDER python benchmarks/two_trees.py ../before . --rounds 7

Each checkout has a process of its own, which makes its models with its own code: it predicts
photos of COCO's validation part, one at a time, and takes training steps of two of its training
part (forward, losses, backward and update by SGD). The processes take turns, the first of a round
going second in the next, and one waits while the other works. A ratio below 1 means that the
second checkout is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

MODELS = ("mask_rcnn", "scnet")
PHOTOS = 8
KINDS = ("predict", "train")


def main() -> None:
    """Measure in turn, and print seconds and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("trees", type=Path, nargs=2, metavar="CHECKOUT")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    workers = [Worker(tree, args) for tree in args.trees]
    jobs = [(kind, model) for kind in KINDS for model in args.models]
    seconds: dict[tuple[str, str], list[list[float]]] = {job: [] for job in jobs}
    for turn in range(-1, args.rounds):  # the first warms up
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        for job in jobs:
            took = {i: workers[i].seconds(job, max(turn, 0)) for i in order}
            if turn >= 0:
                seconds[job].append([took[0], took[1]])
    for worker in workers:
        worker.end()
    print(f"{workers[0].processor}, {args.size[0]} x {args.size[1]}, {args.rounds} rounds")
    for (kind, model), rounds in seconds.items():
        ratios = sorted(after / before for before, after in rounds)
        before, after = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"{kind:8}{model:20}{before:7.2f} -> {after:.2f} s, median of ratios "
            f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


class Worker:
    """A process that runs the code of one checkout."""

    def __init__(self, tree: Path, args: Namespace) -> None:
        tree = tree.resolve()
        if not (tree / "src/scnet").is_dir() or not (tree / "benchmarks/train_step.py").is_file():
            raise SystemExit(f"{tree} is no checkout of this project; make one: git worktree add")
        command = [sys.executable, str(Path(__file__).resolve()), str(tree), str(tree)]
        command += ["--worker", "--size", *map(str, args.size), "--models", *args.models]
        self.process = subprocess.Popen(
            command,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        told = self._read()
        if told["code"] != str(tree / "src"):
            raise SystemExit(f"{tree}: the code of {told['code']} would be measured")
        self.processor = told["processor"]

    def seconds(self, job: tuple[str, str], turn: int) -> float:
        """Return how long a job took."""
        print(json.dumps([*job, turn]), file=cast(IO[str], self.process.stdin), flush=True)
        return float(self._read())

    def end(self) -> None:
        """Let the process end."""
        cast(IO[str], self.process.stdin).close()
        self.process.wait()

    def _read(self) -> Any:
        line = cast(IO[str], self.process.stdout).readline()
        if not line:
            raise SystemExit(f"a process ended with status {self.process.wait()}; see above")
        return json.loads(line)


def work(args: Namespace) -> None:
    """Make the models and do what is asked for, a line each."""
    sys.path[0] = str(Path.cwd() / "benchmarks")  # not that of this file
    import scnet
    from scnet.bench import machine

    tell = sys.stdout
    sys.stdout = sys.stderr
    jobs = {
        **{("predict", model): predicting(model, tuple(args.size)) for model in args.models},
        **{("train", model): training(model, tuple(args.size)) for model in args.models},
    }
    code = Path(scnet.__file__).parents[1]
    name = getattr(machine, "processor", lambda: "")()
    print(json.dumps({"code": str(code), "processor": name}), file=tell, flush=True)
    for line in sys.stdin:
        kind, model, turn = json.loads(line)
        start = time.perf_counter()
        jobs[kind, model](turn)
        print(json.dumps(time.perf_counter() - start), file=tell, flush=True)


def predicting(model: str, size: tuple[int, int]) -> Callable[[int], Any]:
    """Return what predicts one of the photos, as `scnet bench` does."""
    import torch

    from scnet import bench

    folder = Path(os.environ["SCNET_DATA"]) / "coco600_400px/val2017"
    photos = tuple(sorted(folder.glob("*.jpg"))[:PHOTOS])
    if len(photos) < PHOTOS:
        raise SystemExit(f"{folder} holds less than {PHOTOS} photos; set SCNET_DATA")
    setting = bench.Setting(models=(model,), images=photos, size=size, memory=False)
    run = bench.contender(model, setting, torch.device("cpu"), photos)
    return lambda turn: run([photos[turn % PHOTOS]])


def training(model: str, size: tuple[int, int]) -> Callable[[int], Any]:
    """Return a training step, as `benchmarks/train_step.py` takes them."""
    import train_step

    batch = train_step.photos(size, 2)
    step = train_step.make_step(model, batch, Namespace(device="cpu", precision="fp32"))
    return lambda turn: step()


if __name__ == "__main__":
    main()
