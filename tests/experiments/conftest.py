"""A size of experiments under which a training takes seconds, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from tests.quick import QUICK, no_curves

from scnet.cli.main import main
from scnet.data.synthetic.scene import generate
from scnet.experiments import carparts, figure1, figure6, runs, tabulate
from scnet.experiments.plan import Plan, Size
from scnet.settings import merge

_OPTIM = {name: value for name, value in QUICK["optim"].items() if name != "epochs"}

TINY = Size(
    name="tiny",
    suffix="_lite",
    settings=merge(
        {**QUICK, "optim": _OPTIM},
        {
            "optim": {"max_steps": 2},
            "eval": {"every": 0},
            "run": {"trackers": []},
            # what a network of two steps finds must reach the mask branch
            "model": {"box": {"score_threshold": 0.0, "max_detections": 8}},
        },
    ),
    data="shapes",
    gpus=0,
    backbones=("ResNet-50",),
    image_size=(64, 96),
    equal={
        "steps": {"optim": {"max_steps": 2}},
        "minutes": {"optim": {"max_steps": 3, "max_minutes": 60.0}},
    },
)

MakePlan = Callable[..., Plan]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of all experiments of the test session, which share their runs."""
    return tmp_path_factory.mktemp("experiments")


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("data") / "shapes", train=4, val=6, size=(96, 128))


@pytest.fixture
def make_plan(root: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> MakePlan:
    """Return what makes a plan whose trainings run in this process."""

    def here(arguments: Sequence[str], processes: int) -> None:
        assert main([*arguments]) == 0

    monkeypatch.setattr("scnet.pictures.curves.curves", no_curves)
    monkeypatch.setattr(tabulate, "ROUNDS", 2)
    monkeypatch.setattr("scnet.bench.peak_of", lambda *given: 0.5)  # would start processes
    for module in (tabulate, carparts, figure1, figure6):
        monkeypatch.setattr(module, "finish", partial(runs.finish, launch=here))

    def make(name: str, seeds: int = 1, speed: bool = False) -> Plan:
        return Plan(
            name=name, size=TINY, data=(shapes,), seeds=seeds, root=root, speed=speed, quiet=True
        )

    return make
