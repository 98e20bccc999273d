"""What `scnet experiment` does: plan, check the data, carry out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scnet.config import DataConfig
from scnet.data.coco import load_dataset
from scnet.data.images import DataError
from scnet.experiments import figure1, figure6, speed, tabulate
from scnet.experiments.plan import VARIABLE, Plan, Run
from scnet.experiments.runs import RECORD, parameters
from scnet.experiments.tables import TABLES

Say = Callable[[str], None]


def run(plan: Plan, say: Say) -> Path:
    """Carry out an experiment and return its page.

    Raises:
        DataError: a data set is not there or broken.
        ExperimentError: a training failed.
    """
    if plan.name == "speed":
        return speed.run(plan, say)
    for data in plan.data:
        say(check_data(data))
    if plan.name == "figure1":
        return figure1.run(plan, say)
    if plan.name == "figure6":
        return figure6.run(plan, say)
    return tabulate.run(plan, TABLES[plan.name], say)


def runs(plan: Plan) -> list[Run]:
    """Return all trainings that an experiment needs."""
    if plan.name == "speed":
        return []
    if plan.name == "figure6":
        return [plan.run(name, data, 0) for data in plan.data for name in figure6.METHODS]
    names = list(figure1.MODELS)
    if plan.name in TABLES:
        rows = TABLES[plan.name].measured(plan.size)
        names = list(dict.fromkeys(row.recipe for row in rows))
    return [run for data in plan.data for run in plan.runs(names, data)]


def dry_run(plan: Plan) -> None:
    """Print the trainings and what they need, then look at the data.

    Raises:
        DataError: a data set is not there or broken.
    """
    for line in describe(plan):
        print(line)
    for data in plan.data if runs(plan) else ():
        print(check_data(data))


def describe(plan: Plan) -> list[str]:
    """Return the whole plan in lines."""
    planned = runs(plan)
    finished = [run for run in planned if (run.folder / RECORD).is_file()]
    machine = f"{plan.size.gpus} GPUs" if plan.size.gpus else "this machine"
    return [
        f"{plan.name}, size {plan.size.name}, on {machine}: {len(planned)} trainings, "
        f"{len(finished)} of them finished",
        *(f"  {run.command(plan.size.gpus)}" for run in planned if run not in finished),
        *(line for data in plan.data if planned for line in _layout(data)),
        f"disk: {_disk_gb(planned):.1f} GB of checkpoints",
        "files:",
        *(f"  {run.folder / RECORD}" for run in planned),
        *(f"  {plan.folder / name}" for name in _results(plan)),
    ]


def check_data(data: Path) -> str:
    """Return what is in a data set.

    Raises:
        DataError: it is not there, or broken.
    """
    if data.parts[0] == f"${VARIABLE}":
        raise DataError(
            f"{VARIABLE} is not set; it names the folder that holds {data.name}. Set it, or give "
            "--data PATH"
        )
    sets = [load_dataset(data, "train", DataConfig(), train=False)]
    sets.append(load_dataset(data, "val", DataConfig(), train=False))
    return f"{data}: {len(sets[0])} train and {len(sets[1])} val images"


def _layout(data: Path) -> list[str]:
    return [
        f"data: {data}/annotations/instances_train*.json, images in {data}/train*/",
        f"      {data}/annotations/instances_val*.json, images in {data}/val*/",
    ]


def _disk_gb(planned: list[Run]) -> float:
    """Return the size of all checkpoints: weights and optimiser, `last` and `best` of each run."""
    sizes = {}
    for run in planned:
        if run.recipe not in sizes:
            copies = {"sgd": 2, "adamw": 3}[run.config.optim.optimizer]
            sizes[run.recipe] = 2 * copies * 4 * parameters(run.config) / 1e9
    return sum(sizes[run.recipe] for run in planned)


def _results(plan: Plan) -> list[str]:
    names = [data.name for data in plan.data]
    if plan.name == "speed":
        pictures = [f"speed_{objects}.png" for objects in speed.OBJECTS]
    else:
        pictures = [f"{plan.name}_{name}.png" for name in names]
    return ["README.md", "results.json", *pictures]
