"""Data and a model, or results, with one class each of another name: scored, and never silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.made_up import made_up
from tests.evaluation.test_report import Page, stored
from tests.model_cases import make_detector

import scnet
from scnet.cli.main import main
from scnet.data.coco import CocoDataset
from scnet.data.images import DataError
from scnet.evaluation import run
from scnet.evaluation.stored import evaluate_results
from scnet.inference.model import Model
from scnet.weights import checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Json = dict[str, Any]
TAKEN = "cell of the data is taken for nucleus"
SAID = f"class {TAKEN} of the model, as neither has another"


@pytest.fixture(scope="module")
def model() -> Model:
    changes = {"model__num_classes": 1, "classes": ("nucleus",), "data__size": (48, 64)}
    return Model(make_detector("scnet_lite", model__box__score_threshold=0.0, **changes), "cpu")


@pytest.fixture
def weights(model: Model, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "model", model.detector)
    return tmp_path / "model"


@pytest.fixture
def knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a model find what is there."""

    def look(finder: Any, dataset: CocoDataset, *options: Any) -> Any:
        return [run.truth_as_detections(dataset, i) for i in range(len(dataset))], []

    monkeypatch.setattr(run, "_look", look)


def data_of(folder: Path, *names: str, seed: int = 3) -> tuple[Path, Path]:
    """Write results, of category 1, and data with classes of these names; some have objects."""
    truth, results = made_up(seed, images=3, classes=1)
    truth["categories"] = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
    return stored(folder, truth, [entry for entry in results if entry["category_id"] == 1])


@pytest.mark.usefixtures("knowing")
@pytest.mark.parametrize("options", [{}, {"score": 0.5}, {"metric": "matching"}], ids=str)
def test_the_figures_are_those_under_the_models_name(
    options: Json, model: Model, tmp_path: Path
) -> None:
    _, equal = data_of(tmp_path / "equal", "nucleus")
    _, other = data_of(tmp_path / "other", "cell")
    plain = scnet.evaluate(model, equal, **options)
    with pytest.warns(UserWarning, match=SAID):
        taken = scnet.evaluate(model, other, **options)
    named = scnet.evaluate(model, other, same_class={"cell": "nucleus"}, **options)
    assert taken.pop("same_class") == named.pop("same_class") == {"cell": "nucleus"}
    for result in (plain, taken, named):
        del result["seconds"]
    assert plain == taken == named
    # In label maps some of the masks hide others.
    best = plain["mean_AP"]["pooled"] if "metric" in options else plain["segm"]["AP"]
    assert best > (0.5 if "metric" in options else 0.99)
    assert list(plain["per_class"]) == ["nucleus"]


@pytest.mark.usefixtures("knowing")
def test_classes_that_are_named_count_together(model: Model, tmp_path: Path) -> None:
    _, data = data_of(tmp_path, "cell", "dust")
    with pytest.raises(DataError, match="--same-class DATA=MODEL"):
        scnet.evaluate(model, data)
    alone = scnet.evaluate(model, data, same_class={"dust": "nucleus"})
    assert alone["per_class"]["nucleus"]["objects"] == 0
    both = scnet.evaluate(model, data, same_class={"cell": "nucleus", "dust": "nucleus"})
    assert both["per_class"]["nucleus"]["objects"] > 0
    assert both["same_class"] == {"cell": "nucleus", "dust": "nucleus"}


def test_the_command_says_it_and_so_do_page_and_file(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, data = data_of(tmp_path / "other", "cell")
    page, figures = tmp_path / "page", tmp_path / "figures.json"
    command = ["eval", str(weights), "--data", str(data), "--device", "cpu"]
    assert main([*command, "--report", str(page), "--json", str(figures)]) == 0
    assert SAID in " ".join(capsys.readouterr().err.split())
    assert json.loads(figures.read_text())["same_class"] == {"cell": "nucleus"}
    assert TAKEN in Page((page / "index.html").read_text()).text
    assert json.loads((page / "report.json").read_text())["about"]["classes"] == TAKEN


def test_the_command_takes_names(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, data = data_of(tmp_path / "other", "cell", "dust")
    command = ["eval", str(weights), "--data", str(data), "--device", "cpu", "--quiet"]
    assert main([*command, "--same-class", "cell=nucleus", "dust=nucleus"]) == 0
    assert "nucleus" in capsys.readouterr().out
    assert main(command) == 1
    assert "--same-class DATA=MODEL" in capsys.readouterr().err
    assert main([*command, "--same-class", "cell=nucleus", "cell=x"]) == 2
    assert "names a class of the data twice" in capsys.readouterr().err
    for wrong in ("cell", "=nucleus", "cell="):
        with pytest.raises(SystemExit):
            main([*command, "--same-class", wrong])


def renumbered(results: Path, number: Any) -> None:
    content = json.loads(results.read_text())
    results.write_text(json.dumps([{**entry, "category_id": number} for entry in content]))


@pytest.mark.parametrize("number", [0, 7, "nucleus"])
@pytest.mark.parametrize("options", [{}, {"metric": "matching"}], ids=str)
def test_results_of_one_other_category_are_of_the_only_class(
    number: Any, options: Json, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, data = data_of(tmp_path, "cell")
    plain = evaluate_results(results, data, **options)
    assert "same_class" not in plain
    renumbered(results, number)
    said = f"class cell of the data is taken for category {number} of the results"
    with pytest.warns(UserWarning, match=said):
        taken = evaluate_results(results, data, **options)
    assert taken.pop("same_class") == {"cell": f"category {number}"}
    for result in (plain, taken):
        result.pop("seconds")
    assert taken == plain
    capsys.readouterr()
    evaluate_results(results, data, quiet=False, **options)
    assert f"note: {results}: {said}" in capsys.readouterr().err


def test_the_page_of_such_results_says_it(tmp_path: Path) -> None:
    results, data = data_of(tmp_path, "cell")
    renumbered(results, 7)
    evaluate_results(results, data, report=tmp_path / "page", quiet=False)
    text = Page((tmp_path / "page/index.html").read_text()).text
    assert "cell of the data is taken for category 7" in text


def test_results_that_may_be_of_several_classes_are_refused(tmp_path: Path) -> None:
    results, data = data_of(tmp_path / "several", "cell", "dust")
    renumbered(results, 7)
    with pytest.raises(ValueError, match=r"category 7 is not .*, which has 1, 2; give results"):
        evaluate_results(results, data)
    results, data = data_of(tmp_path / "mixed", "cell")
    content = json.loads(results.read_text())
    content[-1]["category_id"] = 7
    results.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="category 7 is not in the annotation file"):
        evaluate_results(results, data)
