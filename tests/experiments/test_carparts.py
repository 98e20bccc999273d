"""Left and right parts: from trainings to the page, and what merging them does."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.experiments.conftest import MakePlan

from scnet.cli.main import main
from scnet.data.images import DataError
from scnet.experiments import USUAL_DATA, carparts, command
from scnet.experiments.plan import SMALL, Plan, data_folders, name_of
from scnet.experiments.runs import ExperimentError
from scnet.experiments.tables import Row

PAIR = (("left", "right"),)


@pytest.fixture(scope="session")
def parts(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of left and right, in numbered parts of a training split and a test split."""
    folder = tmp_path_factory.mktemp("parts") / "cars"
    shutil.copytree(shapes, folder)
    shutil.copytree(folder / "val", folder / "test")
    for split, name in (("train", "fit4"), ("val", "val6")):
        content = json.loads((folder / f"annotations/instances_{split}.json").read_text())
        for side, category in zip(("left", "right"), content["categories"], strict=True):
            category["name"] = f"{side}_part"
        (folder / f"annotations/instances_{name}.json").write_text(json.dumps(content))
        (folder / f"annotations/instances_{split}.json").unlink()
    content["images"] = content["images"][:3]
    shown = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in shown]
    (folder / "annotations/instances_test.json").write_text(json.dumps(content))
    return folder / "annotations/instances_fit4.json"


@pytest.fixture
def plan(make_plan: MakePlan, parts: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Two of the methods, to be quick."""
    rows = (Row("Mask R-CNN", "mask_rcnn"), Row("with relay", "mask_rcnn_relay", "mask_rcnn"))
    monkeypatch.setattr(carparts, "METHODS", rows)
    return replace(make_plan("carparts"), data=(parts,))


def test_all_methods_are_trained_with_both_budgets() -> None:
    plan = Plan(name="carparts", size=SMALL, data=(Path("d/cars"),), seeds=3, root=Path("e"))
    runs = carparts.runs(plan)
    assert len(runs) == 2 * 5 * 3 == len({run.folder for run in runs})
    assert {run.recipe for run in runs} == {
        "mask_rcnn_lite",
        "cascade_mask_rcnn_lite",
        "cascade_mask_rcnn_semantic_lite",
        "htc_lite",
        "scnet_lite",
    }
    steps = {r.config.optim.max_steps for r in runs if r.budget == "steps"}
    minutes = {r.config.optim.max_minutes for r in runs if r.budget == "minutes"}
    assert (len(steps), len(minutes)) == (1, 1)
    assert all(run.config.eval.every for run in runs)  # there are epochs to choose from
    assert all(run.config.data.flip_swaps == "auto" for run in runs)


def test_the_usual_data_are_the_part_that_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCNET_DATA", "/data")
    (usual,) = data_folders([], USUAL_DATA["carparts"])
    assert usual == Path("/data/carparts/annotations/instances_fit320.json")
    assert data_folders([], SMALL.data) == (Path("/data/dsb2018_le360"),)
    old, new = (f"/data/cars/{name}/instances_fit3.json" for name in ("labels", "labels_v1"))
    assert len({name_of(path) for path in data_folders([old, new], SMALL.data)}) == 2


def test_carparts_from_trainings_to_its_page(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    text = command.run(plan, said.append).read_text()
    for part in (
        "# Left and right parts of cars",
        "scnet experiment carparts --size tiny --seeds 1",
        "## At equal steps: cars-annotations-instances_fit4",
        "## At equal time: cars-annotations-instances_fit4",
        "merged AP | gap of pairs | box AP | val AP",
        "Merged in `cars-annotations-instances_fit4`: left_part and right_part.",
        "| HTC | 55.2 | 59.1 |",
        "paper's mAP",
        "not decided by a single seed",
    ):
        assert part in text, part
    assert any("4 train, 6 val and 3 test images" in line for line in said)
    results = json.loads((plan.folder / "results.json").read_text())
    assert [found["budget"] for found in results["data"]] == ["steps", "minutes"]
    assert all((plan.folder / name).is_file() for name in carparts.pictures(plan))
    for run in carparts.runs(plan):
        tested = json.loads((run.folder / "test.json").read_text())
        assert tested["separate"]["images"] == tested["merged"]["images"] == 3
        assert list(tested["merged"]["per_class"]) == ["left_part or right_part"]
        assert tested["step"] == run.config.optim.max_steps
    # Tested once: nothing of it is done again.
    monkeypatch.setattr(carparts, "_test", None)
    assert command.run(plan, said.append).read_text() == text


def test_a_run_without_a_chosen_epoch_is_refused(plan: Plan, tmp_path: Path) -> None:
    (run, *_) = carparts.runs(replace(plan, root=tmp_path))
    run.folder.mkdir(parents=True)
    record = {"kind": "eval", "step": 2, "segm": {"AP": -1}}
    (run.folder / "log.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(ExperimentError, match="no epoch could be chosen"):
        carparts.figures_of_test(run, lambda said: None)


def test_data_without_left_and_right_are_refused(shapes: Path) -> None:
    with pytest.raises(DataError, match="no two classes differ in the word left or right alone"):
        carparts.pairs_of(shapes)


def test_the_dry_run_says_what_it_needs(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["experiment", "carparts", "--dry-run", "--data", str(parts), "--seeds", "1"]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.count("scnet train ") == 10
    assert "4 train, 6 val and 3 test images" in out
    assert f"data: {parts}, and beside it instances_val*.json, instances_test*.json" in out
    assert "carparts_cars-annotations-instances_fit4_minutes.png" in out


def entry(image: int, category: int, x: float, score: float = 1.0) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [x, 0.0, 10, 10], "score": score}


@pytest.fixture
def truth() -> dict[str, Any]:
    names = {1: "left", 2: "hood", 3: "right"}
    return {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": i, "name": name} for i, name in names.items()],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3}],
    }


def test_merging_joins_the_classes_of_a_pair_and_leaves_the_others(truth: dict[str, Any]) -> None:
    found = [entry(1, 3, 0), entry(1, 2, 0), entry(1, 2, 1)]
    merged, results = carparts.merge_sides(truth, found, PAIR, 0.5)
    assert [c["name"] for c in merged["categories"]] == ["left or right", "hood"]
    assert merged["annotations"][0]["category_id"] == 1
    assert results == [entry(1, 1, 0), entry(1, 2, 0), entry(1, 2, 1)]
    assert truth["annotations"][0]["category_id"] == 3  # no argument is changed


def test_a_part_found_as_left_and_right_is_found_once(truth: dict[str, Any]) -> None:
    found = [entry(1, 1, 0, 0.4), entry(1, 3, 1, 0.9), entry(1, 1, 30, 0.3), entry(2, 1, 1, 0.2)]
    _, results = carparts.merge_sides(truth, found, PAIR, 0.5)
    assert results == [entry(1, 1, 1, 0.9), entry(1, 1, 30, 0.3), entry(2, 1, 1, 0.2)]
    assert carparts.merge_sides(truth, [], PAIR, 0.5)[1] == []


def test_the_gap_is_over_the_pairs_alone() -> None:
    def aps(**values: float) -> dict[str, Any]:
        return {name.replace("_or_", " or "): {"segm": value} for name, value in values.items()}

    separate = aps(left=0.2, right=0.4, hood=0.9, l2=-1.0, r2=0.5)
    merged = aps(left_or_right=0.8, hood=0.9, l2_or_r2=0.5)
    pairs = (*PAIR, ("l2", "r2"))
    assert carparts.gap_of_pairs(separate, merged, pairs) == pytest.approx(0.5)
    assert carparts.gap_of_pairs(separate, merged, pairs[1:]) is None
