"""Experiments from trainings to their page, at a size that takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from tests.experiments.conftest import MakePlan

from scnet.bench import Setting
from scnet.experiments import command, page, speed
from scnet.experiments.page import Page, markdown, with_spread
from scnet.experiments.plan import Plan
from scnet.experiments.statistics import Spread
from scnet.weights import checkpoint


def results(plan: Plan) -> dict:
    return json.loads((plan.folder / "results.json").read_text())


def width(picture: Path) -> int:
    with Image.open(picture) as image:
        return image.width


def test_table3_from_trainings_to_its_page(make_plan: MakePlan, shapes: Path) -> None:
    plan = make_plan("table3", seeds=2, speed=True)
    text = command.run(plan, lambda said: None).read_text()
    for part in (
        "# Table 3",
        "scnet experiment table3 --size tiny --seeds 2",
        "Machine: ",
        "torch",
        "+ effective sample consistency against Cascade Mask R-CNN, mask AP: ",
        "not decided",
        "## Published",
        "| + effective sample consistency | 38.8 | 43.5 | 6.5 |",
        "scnet train naive_sample_consistency_lite --data",
        "images/s | GFLOP | inference GB",
        "(table3_shapes.png)",
    ):
        assert part in text, part
    found = results(plan)["data"][0]
    assert [row["recipe"] for row in found["rows"]][1:] == [
        "naive_sample_consistency_lite",
        "table2_consistency_lite",
    ]
    assert set(found["rows"][0]["seeds"]) == {"0", "1"}
    assert len(found["speed"]["models"]) == 3
    assert width(plan.folder / "table3_shapes.png") > 1000
    assert (plan.root / "tiny/runs/shapes/table2_none_lite-seed1/record.json").is_file()


def test_figure1_takes_the_trainings_of_table3(make_plan: MakePlan) -> None:
    plan = make_plan("figure1", seeds=2)
    text = command.run(plan, lambda said: None).read_text()
    assert "(figure1_shapes.png)" in text
    assert "49.1 %" in text
    models = results(plan)["data"][0]["models"]
    assert set(models) == {"table2_none", "table2_consistency"}
    for by_seed in models.values():
        for figures in by_seed.values():
            assert figures["below"]["training"]["0.5"] == 0
            assert figures["samples"]["training"] > 0


def test_figure6_shows_five_images(make_plan: MakePlan) -> None:
    plan = make_plan("figure6")
    text = command.run(plan, lambda said: None).read_text()
    chosen = results(plan)["data"][0]["chosen"]
    assert [c["rule"] for c in chosen] == ["largest gain", "largest loss", *["drawn at random"] * 3]
    assert len({c["image"] for c in chosen}) == 5
    assert all(c["image"] in text for c in chosen)
    assert width(plan.folder / "figure6_shapes.png") > 1000


def fake_bench(setting: Setting, report: object) -> dict:
    """A record in which the second half of the models is twice as fast as the first."""
    half = len(setting.models) // 2
    models = [
        {
            "model": name,
            "seconds": [1.0, 1.2, 1.1] if i < half else [0.5, 0.6, 0.55],
            "shares": {"backbone": 0.3, "mask branch": 0.2, "other": 0.1},
            "flops": 1e11,
            "detections": [setting.detections] * 3,
            "gb": 1.5 if setting.memory else 0.0,
        }
        for i, name in enumerate(setting.models)
    ]
    return {
        "device": "a machine",
        "versions": "a version",
        "setting": {**vars(setting), "images": len(setting.images)},
        "models": models,
    }


def test_speed_takes_random_weights_and_the_trained_models_that_are_there(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed.bench, "bench", fake_bench)
    command.run(make_plan("table3"), lambda said: None)
    plan = make_plan("speed")
    text = command.run(plan, lambda said: None).read_text()
    assert "| SCNet : Cascade Mask R-CNN | 2.00 | 2.00 - 2.00 | 1.38 |" in text
    assert "| effective : naive sample consistency | 2.00 | 2.00 - 2.00 | 1.44 |" in text
    assert "## Trained on shapes, score from 0.001" in text
    assert "at 64 x 96" in text
    assert "`. The measurements took" in text  # no seeds, as nothing was trained
    for objects in speed.OBJECTS:
        assert f"## Random weights, {objects} objects an image" in text
        assert (plan.folder / f"speed_{objects}.png").is_file()
    trained = results(plan)["trained"][0]["record"]
    assert {"table2_none", "table2_consistency"} <= {e["model"] for e in trained["models"]}


def test_a_trained_model_takes_a_lower_threshold(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan("table3")
    command.run(plan, lambda said: None)
    run = plan.run("table2_none", plan.data[0], 0)
    detector = checkpoint.load(speed._with_threshold(run, 0.001, tmp_path))
    assert detector.config.model.box.score_threshold == 0.001


def test_a_page_says_what_made_it(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, shapes: Path
) -> None:
    monkeypatch.setenv("SCNET_DATA", str(shapes.parent))
    plan = make_plan("table5", seeds=3)
    made = Page(
        title="Title",
        about="What it is.",
        body=("## Body",),
        results={"a": 1},
        machines=("a machine",),
        commands=(f"scnet train scnet --data {shapes}",),
        seconds=3725.0,
    )
    text = page.write(plan, made).read_text()
    for part in ("# Title", "3 seeds", "1 h 02 min", "Machine: a machine.", "## Trainings"):
        assert part in text
    assert "--data $SCNET_DATA/shapes" in text
    assert str(shapes) not in text
    assert results(plan)["seeds"] == 3


def test_tables_are_markdown() -> None:
    assert markdown(["", "AP"], [["a", "1"]]) == "|  | AP |\n| --- | ---: |\n| a | 1 |"
    assert with_spread(Spread(1.25, 0.5, 3), 2, "+") == "+1.25 ± 0.50"
    assert with_spread(Spread(1.25, None, 1)) == "1.2"
    assert with_spread(None) == ""
