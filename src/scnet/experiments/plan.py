"""What an experiment trains: sizes, runs and their command lines."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scnet import recipes
from scnet.config import Config, override
from scnet.data.images import DataError
from scnet.experiments import SEEDED, WITHOUT_TRAINING
from scnet.settings import merge, nested
from scnet.types import Size as ImageSize

Settings = Mapping[str, Any]  # nested, as `scnet train --group.field VALUE` gives them

VARIABLE = "SCNET_DATA"  # environment variable: folder of data sets
ROOT = "experiments"  # folder of all experiments, where none is given
STEPS = 200  # of a small training: about 3 minutes on two cores


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the trainings of an experiment are."""

    name: str
    suffix: str  # of the recipes' names
    settings: Settings  # laid over each recipe
    data: str  # data set in `$SCNET_DATA` that is taken where none is given
    gpus: int  # that a plan is made for; a training takes those of the machine
    backbones: tuple[str, ...]  # whose rows of Table 1 are measured
    image_size: ImageSize  # of the speed experiment
    equal: Mapping[str, Settings]  # what all methods of `carparts` get, by the name of the budget


SMALL = Size(
    name="small",
    suffix="_lite",
    # Narrower than the `_lite` recipes, which halves the time of a step.
    settings={
        "model": {"channels": 64, "box": {"samples": 64}},
        "data": {"size": [256, 384]},
        "optim": {"max_steps": STEPS},
        "eval": {"every": 0, "pictures": 2},
        "run": {"trackers": []},
    },
    data="dsb2018_le360",
    gpus=0,
    backbones=("ResNet-50",),
    image_size=(400, 667),
    equal={
        "steps": {"optim": {"max_steps": 2000}, "eval": {"every": 5}},
        # The steps are more than fit into the time.
        "minutes": {"optim": {"max_steps": 10**6, "max_minutes": 20.0}, "eval": {"every": 5}},
    },
)

PAPER = Size(
    name="paper",
    suffix="",
    # All models train for 20 epochs (sec. 5.1); the recipe of Mask R-CNN has 12.
    settings={"optim": {"epochs": 20, "milestones": [16, 19]}},
    data="coco",
    gpus=8,
    backbones=("ResNet-50", "ResNet-101", "ResNeXt-101"),
    image_size=(800, 1333),
    # Of 320 images, which 20 epochs are too short for: 1200 steps, of 20 an epoch.
    equal={
        "steps": {
            "optim": {"epochs": 60, "milestones": [48, 57], "warmup_steps": 200},
            "eval": {"every": 5},
        },
        # The rate falls at the same parts of the time.
        "minutes": {
            "optim": {
                "epochs": 1000,
                "milestones": [800, 950],
                "warmup_steps": 200,
                "max_minutes": 15.0,
            },
            "eval": {"every": 5},
        },
    },
)

SIZES = {size.name: size for size in (SMALL, PAPER)}

# Settings that a data set asks for, by the name of its folder. Nuclei have no upright position.
OF_DATA: dict[str, Settings] = {"dsb2018_le360": {"data": {"vertical_flip": 0.5}}}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training."""

    recipe: str
    data: Path
    seed: int
    settings: Settings
    root: Path  # folder of all runs of this size
    budget: str = ""  # where several lengths of training are compared
    validated: bool = True  # its data set has images to evaluate on

    @property
    def folder(self) -> Path:
        """Folder of the run; all experiments share it."""
        budget = f"-{self.budget}" if self.budget else ""
        return self.root / name_of(self.data) / f"{self.recipe}{budget}-seed{self.seed}"

    @property
    def config(self) -> Config:
        """The recipe with all settings, before it is fitted to the classes of the data."""
        given = merge(nested("data.path", str(self.data)), self._settings)
        return override(recipes.find(self.recipe), given)

    def arguments(self) -> list[str]:
        """Return the command line behind `scnet`."""
        words = ["train", self.recipe, "--data", str(self.data), "-o", str(self.folder)]
        return [*words, *_words(self._settings)]

    def resuming(self) -> list[str]:
        """Return the command line, behind `scnet`, that goes on where the run was interrupted."""
        return ["train", "--resume", str(self.folder)]

    def command(self, gpus: int) -> str:
        """Return the whole command line on a machine with so many GPUs."""
        processes = self.processes(gpus)
        start = ["scnet"]
        if processes > 1:
            start = ["torchrun", "--nproc-per-node", str(processes), "-m", "scnet"]
        return shlex.join([*start, *self.arguments()])

    def processes(self, gpus: int) -> int:
        """Return how many processes train, each with the same number of images."""
        return math.gcd(gpus, self.config.optim.batch_size) if gpus else 1

    @property
    def _settings(self) -> Settings:
        return merge(self.settings, nested("optim.seed", self.seed))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An experiment as it was asked for."""

    name: str
    size: Size
    data: tuple[Path, ...]
    data_given: bool = False  # else it is the usual one
    seeds: int
    root: Path  # folder of all experiments
    speed: bool = True  # measure images a second, too
    quiet: bool = False
    image_size: ImageSize | None = None  # of the speed experiment; None takes that of `size`
    steps: int | None = None  # of each training of StarDist's table; None takes those of `size`
    test: bool = False  # train and measure what is tested in StarDist's table, too

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return self.root / self.size.name / self.name

    def runs(self, names: Sequence[str], data: Path) -> list[Run]:
        """Return the trainings of these recipes on a data set, seed after seed."""
        return [self.run(name, data, seed) for seed in range(self.seeds) for name in names]

    def run(self, name: str, data: Path, seed: int, budget: str = "") -> Run:
        """Return one training; `name` is that of the recipe at paper size."""
        length = self.size.equal[budget] if budget else {}
        return Run(
            recipe=name + self.size.suffix,
            data=data,
            seed=seed,
            settings=merge(merge(self.size.settings, OF_DATA.get(data.name, {})), length),
            root=self.root / self.size.name / "runs",
            budget=budget,
        )

    def command(self) -> str:
        """Return the command line that asks for this."""
        words = ["scnet", "experiment", self.name, "--size", self.size.name]
        words += ["--seeds", str(self.seeds)] * (self.name in SEEDED)
        if self.data_given or self.name not in WITHOUT_TRAINING:
            words += ["--data", *map(str, self.data)]
        if self.root != Path(ROOT):
            words += ["-o", str(self.root)]
        if self.image_size:
            words += ["--image-size", "x".join(map(str, self.image_size))]
        if self.steps:
            words += ["--steps", str(self.steps)]
        words += ["--test"] * self.test
        return shlex.join(words)


def name_of(data: Path) -> str:
    """Return what a data set is called: its folder, or an annotation file with where it lies.

    >>> name_of(Path("/data/carparts/annotations/instances_fit320.json"))
    'carparts-annotations-instances_fit320'
    """
    if data.suffix != ".json":
        return data.name
    return "-".join([*data.absolute().parent.parts[-2:], data.stem]).lstrip("/-")


def data_folders(given: Sequence[str], usual: str) -> tuple[Path, ...]:
    """Return the data sets that were named, or the usual one.

    Raises:
        DataError: two of them have the same name, by which results are told apart.
    """
    base = os.environ.get(VARIABLE, f"${VARIABLE}")
    found = tuple(Path(path) for path in given) or (Path(base) / usual,)
    names = [name_of(path) for path in found]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"--data: two data sets are named {double}; rename a folder")
    return found


def _words(settings: Settings, start: str = "--") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _words(value, f"{start}{name}.")
        else:
            yield from (start + name, json.dumps(value, separators=(",", ":")))
