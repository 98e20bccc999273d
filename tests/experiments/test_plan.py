"""Every planned training is a command line that scnet takes, and says what it needs."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from scnet import recipes
from scnet.cli.arguments import make_parser
from scnet.cli.main import main
from scnet.cli.parser import read_settings
from scnet.cli.unused import refuse_unused
from scnet.config import from_dict, override, to_dict
from scnet.data.synthetic.scene import generate
from scnet.experiments import EXPERIMENTS, command
from scnet.experiments.plan import PAPER, SIZES, SMALL, Plan, Run

PLANS = [
    Plan(name=name, size=size, data=(Path("a b/dsb2018_le360"),), seeds=2, root=Path("experiments"))
    for name in EXPERIMENTS
    for size in SIZES.values()
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.name}-{plan.size.name}")
def test_every_planned_command_parses_to_the_planned_config(plan: Plan) -> None:
    for run in command.runs(plan):
        words = shlex.split(run.command(gpus=0))
        assert words[0] == "scnet"
        options, rest = make_parser().parse_known_args(words[1:])
        given = override(recipes.find(options.recipe), read_settings(rest))
        assert override(given, {"data": {"path": options.data}}) == run.config
        assert options.output == str(run.folder)
        assert given.optim.seed == run.seed


def test_the_command_of_a_plan_has_no_option_without_effect() -> None:
    for plan in PLANS:
        words = shlex.split(plan.command())
        refuse_unused(make_parser().parse_args(words[1:]))
        assert ("--data" in words) == (plan.name != "speed")
        assert "--data" in replace(plan, data_given=True).command()


def test_runs_are_shared_by_experiments() -> None:
    def folders(name: str) -> set[Path]:
        plan = next(p for p in PLANS if p.name == name and p.size is SMALL)
        return {run.folder for run in command.runs(plan)}

    assert folders("figure1") < folders("table2")
    assert len(folders("table3") - folders("table2")) == 2
    assert len(folders("figure6") - folders("table1")) == 0


def test_recipes_that_stand_for_each_other_are_the_same_model() -> None:
    for one, other in (
        ("table2_none", "cascade_mask_rcnn_semantic"),
        ("table2_consistency", "sample_consistency"),
        ("table2_relay", "cascade_mask_rcnn_relay"),
        ("scnet", "scnet_context_3"),
    ):
        assert replace(recipes.find(one), recipe="") == replace(recipes.find(other), recipe="")


def test_paper_size_is_the_recipe_with_the_schedule_of_the_paper() -> None:
    plan = Plan(name="table1", size=PAPER, data=(Path("coco"),), seeds=1, root=Path("e"))
    run = plan.run("scnet", Path("coco"), 0)
    own = to_dict(recipes.find("scnet"))
    own["data"]["path"] = "coco"
    assert run.config == from_dict(own)
    assert plan.run("mask_rcnn", Path("coco"), 0).config.optim.epochs == 20
    assert run.command(8).startswith("torchrun --nproc-per-node 8 -m scnet train scnet --data coco")


def test_processes_share_a_batch_evenly() -> None:
    run = Run(recipe="scnet_lite", data=Path("d"), seed=0, settings={}, root=Path("e"))
    assert run.config.optim.batch_size == 4
    assert [run.processes(gpus) for gpus in (0, 1, 2, 3, 8)] == [1, 1, 2, 1, 4]


def test_nuclei_are_mirrored_upside_down_and_nothing_else_is() -> None:
    plan = PLANS[0]
    assert plan.run("scnet", Path("x/dsb2018_le360"), 0).config.data.vertical_flip == 0.5
    assert plan.run("scnet", Path("x/shapes"), 0).config.data.vertical_flip == 0


def test_dry_run_prints_the_plan_and_looks_at_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = generate(tmp_path / "shapes", train=3, val=2, size=(64, 64))
    arguments = ["experiment", "table3", "--size", "paper", "--seeds", "1", "--dry-run"]
    assert main([*arguments, "--data", str(data), "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.count("torchrun --nproc-per-node 8 -m scnet train") == 3
    for text in ("GB of checkpoints", "instances_train", "record.json", "README.md", "table3_sha"):
        assert text in out
    assert "3 train and 2 val images" in out
    assert not (tmp_path / "out").exists()


def test_dry_run_prints_the_plan_before_it_misses_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # away from trainings that are finished
    monkeypatch.delenv("SCNET_DATA", raising=False)
    assert main(["experiment", "table2", "--dry-run"]) == 1
    said = capsys.readouterr()
    assert said.out.count("scnet train") == 18
    assert "SCNET_DATA is not set" in said.err
    assert "--data PATH" in said.err
    assert main(["experiment", "table2", "--dry-run", "--data", "nowhere"]) == 1
    assert "nowhere: no such file or folder" in capsys.readouterr().err


def test_two_data_sets_of_one_name_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "table2", "--data", "a/cells", "b/cells"]) == 1
    assert "two data sets are named cells" in capsys.readouterr().err
