"""How far a reader has to go: files, functions and depth of a training step and of a prediction.

    python benchmarks/trip.py --recipe scnet

Counts our own code alone, comprehensions and lambdas not as functions. The model computes as it
would on a GPU, so that the kernels for CPUs are left out; those that make run lengths of masks are
counted, and named apart.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.host_waits import SOURCE, gpu_path
from tests.model_cases import HEIGHT, WIDTH, make_batch, make_detector
from tests.quick import QUICK

from scnet import recipes
from scnet.data.synthetic.scene import generate
from scnet.inference.model import Model
from scnet.training.loop import Trainer
from scnet.training.run import train

KERNELS = {"ops/placing.py", "ops/rle.py"}  # from masks to run lengths
STEP = "_advance"  # of Trainer: all that is done with the pieces of a step


class Trip:
    """Counts the own functions that are called inside `with`."""

    def __init__(self) -> None:
        self.calls: Counter[CodeType] = Counter()
        self.between_files = 0
        self.depth = self.above = 0

    def __enter__(self) -> Trip:
        self.above = len(_own_stack(sys._getframe()))
        sys.setprofile(self._see)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, value: object) -> None:
        if event != "call" or not _is_own(frame.f_code):
            return
        stack = _own_stack(frame)
        self.calls[stack[0]] += 1
        self.depth = max(self.depth, len(stack) - self.above)
        self.between_files += len(stack) > 1 and stack[0].co_filename != stack[1].co_filename

    @property
    def files(self) -> list[str]:
        """Files, by path below the package."""
        return sorted({str(Path(c.co_filename).relative_to(SOURCE)) for c in self.calls})

    @property
    def functions(self) -> list[str]:
        """Functions, as file, line and name."""
        places = ((str(Path(c.co_filename).relative_to(SOURCE)), c) for c in self.calls)
        return sorted(f"{file}:{c.co_firstlineno} {c.co_name}" for file, c in places)


def _own_stack(frame: FrameType | None) -> list[CodeType]:
    """Return the own functions that are under way, the innermost first."""
    stack = []
    while frame is not None:
        if _is_own(frame.f_code):
            stack.append(frame.f_code)
        frame = frame.f_back
    return stack


def _is_own(code: CodeType) -> bool:
    return code.co_filename.startswith(SOURCE) and not code.co_name.startswith("<")


def loss_and_backward(recipe: str) -> Trip:
    """Return the trip of a step without Trainer."""
    detector, batch = make_detector(recipe).train(), make_batch((3, 2))
    with Trip() as trip:
        torch.stack(list(detector.loss(batch).values())).sum().backward()
    return trip


def trainer_step(recipe: str) -> Trip:
    """Return the trip of the second step of a training that logs each."""
    trips: list[Trip] = []
    step: Callable[..., Any] = getattr(Trainer, STEP)

    def followed(*args: Any) -> Any:
        with Trip() as trip:
            result = step(*args)
        trips.append(trip)
        return result

    settings = {"optim": {"max_steps": 2}, "eval": {"every": 0}}
    with tempfile.TemporaryDirectory() as folder, patch.object(Trainer, STEP, followed):
        data = generate(Path(folder) / "data", train=4, val=1, size=(128, 128))
        run = Path(folder) / "run"
        train(recipe, data, output=run, base=QUICK, settings=settings, quiet=True)
    return trips[1]


def prediction(recipe: str) -> Trip:
    """Return the trip of `Model.predict` of an array."""
    detector = make_detector(recipe, model__box__score_threshold=0.0)
    model = Model(detector, "cpu", keep_memory=0)  # as on a GPU
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    model.predict(pixels, score=0.0)
    with Trip() as trip:
        model.predict(pixels, score=0.0)
    return trip


TRIPS = {
    "loss and backward": loss_and_backward,
    "whole step of Trainer": trainer_step,
    "Model.predict": prediction,
}


def main() -> None:
    """Print the table, and what each trip passes if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recipe", default="scnet", choices=sorted(recipes.RECIPES))
    parser.add_argument("--list", action="store_true", help="name the functions")
    args = parser.parse_args()
    console = Console()
    result = Table("trip", title=args.recipe)
    for column in ("files", "functions", "depth", "calls between files", "of them in kernels"):
        result.add_column(column, justify="right")
    for name, follow in TRIPS.items():
        with gpu_path():
            trip = follow(args.recipe)
        figures = len(trip.files), len(trip.functions), trip.depth, trip.between_files
        kernels = sum(function.split(":")[0] in KERNELS for function in trip.functions)
        files = len(KERNELS & set(trip.files))
        result.add_row(name, *map(str, figures), f"{files} files, {kernels} functions")
        if args.list:
            console.print(f"\n{name}", *trip.functions, sep="\n  ", highlight=False)
    console.print(result)


if __name__ == "__main__":
    main()
