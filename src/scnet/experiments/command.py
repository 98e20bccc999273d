"""What `scnet experiment` does: plan, check the data, carry out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from scnet.config import DataConfig
from scnet.data.coco import load_dataset
from scnet.data.images import DataError
from scnet.data.layout import SplitName
from scnet.experiments import (
    carparts,
    figure1,
    figure6,
    speed,
    stardist,
    stardist_splits,
    tabulate,
)
from scnet.experiments.plan import VARIABLE, Plan, Run, name_of
from scnet.experiments.runs import RECORD, parameters
from scnet.experiments.tables import TABLES, Table

Say = Callable[[str], None]

SPLITS: tuple[SplitName, ...] = ("train", "val")  # that most read


class Experiment(NamedTuple):
    """What a name stands for."""

    run: Callable[[Plan, Say], Path]  # carries it out and returns its page
    runs: Callable[[Plan], list[Run]]  # all trainings that it needs
    pictures: Callable[[Plan], list[str]]  # names of the pictures of its page
    check: Callable[[Path], str] = lambda data: check_data(data)  # says what is in a data set
    layout: Callable[[Path], list[str]] = lambda data: _layout(data)  # what it looks for there


def _each(plan: Plan, names: Iterable[str]) -> list[Run]:
    """Return the trainings of recipes on every data set with every seed."""
    names = list(names)
    return [run for data in plan.data for run in plan.runs(names, data)]


def _picture_of_each(plan: Plan) -> list[str]:
    return [f"{plan.name}_{name_of(data)}.png" for data in plan.data]


def _experiment_of(table: Table) -> Experiment:
    return Experiment(
        run=lambda plan, say: tabulate.run(plan, table, say),
        runs=lambda plan: _each(
            plan, dict.fromkeys(row.recipe for row in table.measured(plan.size))
        ),
        pictures=_picture_of_each,
    )


EXPERIMENTS = {name: _experiment_of(table) for name, table in TABLES.items()} | {
    "figure1": Experiment(figure1.run, lambda plan: _each(plan, figure1.MODELS), _picture_of_each),
    "figure6": Experiment(
        figure6.run,
        lambda plan: [plan.run(name, data, 0) for data in plan.data for name in figure6.METHODS],
        _picture_of_each,
    ),
    "carparts": Experiment(
        carparts.run,
        carparts.runs,
        carparts.pictures,
        lambda data: check_data(data, carparts.SPLITS),
        lambda data: _layout(data, carparts.SPLITS),
    ),
    "stardist": Experiment(
        stardist.run,
        stardist.runs,
        stardist.pictures,
        stardist_splits.check,
        stardist_splits.layout,
    ),
    "speed": Experiment(
        speed.run,
        lambda plan: [],
        lambda plan: [f"speed_{objects}.png" for objects in speed.OBJECTS],
    ),
}


def run(plan: Plan, say: Say) -> Path:
    """Carry out an experiment and return its page.

    Raises:
        DataError: a data set is not there or broken.
        ExperimentError: a training failed.
    """
    for data in plan.data if runs(plan) else ():
        say(_checked(plan, data))
    return EXPERIMENTS[plan.name].run(plan, say)


def runs(plan: Plan) -> list[Run]:
    """Return all trainings that an experiment needs."""
    return EXPERIMENTS[plan.name].runs(plan)


def dry_run(plan: Plan) -> None:
    """Print the trainings and what they need, then look at the data.

    Raises:
        DataError: a data set is not there or broken.
    """
    for line in describe(plan):
        print(line)
    for data in plan.data if runs(plan) else ():
        print(_checked(plan, data))


def describe(plan: Plan) -> list[str]:
    """Return the whole plan in lines."""
    planned = runs(plan)
    finished = [run for run in planned if (run.folder / RECORD).is_file()]
    machine = f"{plan.size.gpus} GPUs" if plan.size.gpus else "this machine"
    return [
        f"{plan.name}, size {plan.size.name}, on {machine}: {len(planned)} trainings, "
        f"{len(finished)} of them finished",
        *(f"  {run.command(plan.size.gpus)}" for run in planned if run not in finished),
        *(line for data in plan.data if planned for line in EXPERIMENTS[plan.name].layout(data)),
        f"disk: {_disk_gb(planned):.1f} GB of checkpoints",
        "files:",
        *(f"  {run.folder / RECORD}" for run in planned),
        *(f"  {plan.folder / name}" for name in _results(plan)),
    ]


def check_data(data: Path, splits: Sequence[SplitName] = SPLITS) -> str:
    """Return what is in a data set.

    Raises:
        DataError: it is not there, or broken.
    """
    sets = {split: load_dataset(data, split, DataConfig(), train=False) for split in splits}
    numbers = [f"{len(dataset)} {split}" for split, dataset in sets.items()]
    return f"{data}: {', '.join(numbers[:-1])} and {numbers[-1]} images"


def _checked(plan: Plan, data: Path) -> str:
    """Return what is in a data set, as the experiment uses it.

    Raises:
        DataError: it is not there, or broken.
    """
    if data.parts[0] == f"${VARIABLE}":
        raise DataError(
            f"{VARIABLE} is not set; it names the folder that holds {data.name}. Set it, or give "
            "--data PATH"
        )
    return EXPERIMENTS[plan.name].check(data)


def _layout(data: Path, splits: Sequence[SplitName] = SPLITS) -> list[str]:
    if data.suffix == ".json":
        others = ", ".join(f"instances_{split}*.json" for split in splits[1:])
        return [f"data: {data}, and beside it {others}"]
    lines = [
        f"{data}/annotations/instances_{split}*.json, images in {data}/{split}*/"
        for split in splits
    ]
    return [f"data: {lines[0]}", *(f"      {line}" for line in lines[1:])]


def _disk_gb(planned: list[Run]) -> float:
    """Return the size of all checkpoints: the weights twice, and in `last` the optimiser."""
    sizes = {}
    for run in planned:
        if run.recipe not in sizes:
            copies = {"sgd": 3, "adamw": 4}[run.config.optim.optimizer]
            sizes[run.recipe] = copies * 4 * parameters(run.config) / 1e9
    return sum(sizes[run.recipe] for run in planned)


def _results(plan: Plan) -> list[str]:
    return ["README.md", "results.json", *EXPERIMENTS[plan.name].pictures(plan)]
