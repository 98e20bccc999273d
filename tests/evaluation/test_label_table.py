"""The matching metric from the command line, and its figures as tables and sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.evaluation.label_cases import POOLED, THRESHOLDS, annotation, coco, label_maps, truth
from tests.evaluation.made_up import SIZE, made_up, rectangle
from tests.evaluation.test_report import stored

from scnet.cli.main import main
from scnet.evaluation.label_metric import RESULT, match_instances
from scnet.evaluation.label_table import WIDTH, lines, tables
from scnet.evaluation.stored import evaluate_results

Json = dict[str, Any]

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def shown(result: Json) -> list[str]:
    """Return the lines of the tables as a console of the width that they ask for prints them."""
    console = Console(width=WIDTH)
    with console.capture() as text:
        for table in tables(result):
            console.print(table)
    return text.get().splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]]


def test_the_command_shows_the_figures_and_writes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects, found = coco(label_maps())
    results, data = stored(tmp_path, objects, found)
    command = ["eval", str(results), "--data", str(data), "--metric", "matching"]
    figures = tmp_path / "figures.json"
    thresholds = [str(threshold) for threshold in THRESHOLDS]
    assert main([*command, "--thresholds", *thresholds, "--json", str(figures)]) == 0
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.startswith("│0.5 "))
    assert cells(row)[1:8] == ["27", "19", "32", "58.7", "45.8", "51.4", "39.1"]
    assert "59 objects and 46 predictions of score 0.5 or more in 6 images" in said
    assert "1 image with neither objects nor predictions, 0 in means over images" in said
    written = json.loads(figures.read_text())
    assert [tuple(r[k] for k in ("TP", "FP", "FN")) for r in written["pooled"]] == [
        row[:3] for row in POOLED
    ]
    assert main([*command, "--score", "best"]) == 0
    assert "has the highest mean AP on these very images" in capsys.readouterr().out


def test_every_figure_that_is_written_is_described() -> None:
    described = {line.split()[0].rstrip(",") for line in RESULT.splitlines() if line[:1].strip()}
    assert set(match_instances(*made_up(0))) == described


def test_nothing_is_cut_in_the_tables() -> None:
    result = match_instances(*made_up(0), score=0.1)
    result["pooled"][0] |= {"TP": 12345, "FP": 12345, "FN": 12345, "AP_interval": [0.991, 0.999]}
    text = "\n".join(shown(result))
    assert "…" not in text
    assert all(name in text for name in ("precision", "99.1-99.9", "12345"))


def test_classes_that_occur_have_a_table_and_one_class_has_none() -> None:
    objects, found = made_up(0)
    objects["categories"].append({"id": 9, "name": "never found"})
    text = shown(match_instances(objects, found))
    start = next(place for place, line in enumerate(text) if "class" in line)
    names = [cells(line)[0] for line in text[start:] if line.startswith("│")]
    assert names == [c["name"] for c in objects["categories"][:-1]]
    assert not any("class" in line for line in shown(match_instances(*coco(label_maps()))))


def test_what_was_left_out_is_said() -> None:
    def thing(x: int, width: int, **more: Any) -> Json:
        return annotation(rectangle(x, 0, width, 8), **more)

    image = {"id": 1, "height": SIZE[0], "width": SIZE[1], "file_name": "1.png"}
    there = [
        thing(0, 8, id=1),
        thing(0, 8, id=2),
        thing(30, 8, id=3),
        thing(40, 20, id=4, iscrowd=1),
    ]
    scores = {0: 0.9, 30: 0.8, 31: 0.7, 42: 0.6}
    found = [thing(x, 6, score=score) for x, score in scores.items()]
    found += [thing(30, 4, score=0.55), thing(20, 2, score=0.52)]
    result = match_instances(truth([image], there), found, max_detections=5)
    assert list(lines(result | {"skipped": 2})) == [
        "2 objects and 4 predictions of score 0.5 or more in 1 image; 2 images left out",
        "64 pixels in several objects went to the one of the smallest",
        "1 object left out that kept no pixel",
        "48 pixels in several predictions went to the one of the best score",
        "1 prediction left out that kept no pixel",
        "1 prediction left out beyond the 5 best of their image",
        "1 prediction on crowd regions at IoU 0.5 neither true nor false",
        "1 of 1 image has the most predictions that may be (5), 1 of them with the score threshold "
        "or more in all",
    ]


def test_as_many_results_as_a_usual_limit_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects, found = coco(label_maps(images=3))
    full = [{**found[0], "score": 0.1}] * 100
    results, data = stored(tmp_path, objects, full)
    evaluate_results(results, data, metric="matching", quiet=False)
    assert "1 of 3 images has 100 results and none more" in capsys.readouterr().err
    evaluate_results(results, data, metric="matching")
    assert capsys.readouterr().err == ""
    results.write_text(json.dumps(full[1:]))
    evaluate_results(results, data, metric="matching", quiet=False)
    assert "results and none more" not in capsys.readouterr().err


def test_results_are_cut_at_a_limit_that_is_given(tmp_path: Path) -> None:
    files = stored(tmp_path, *made_up(3))
    whole = evaluate_results(*files, metric="matching", score=0.0)
    with pytest.warns(UserWarning, match="the most predictions that may be"):
        cut = evaluate_results(*files, metric="matching", score=0.0, max_detections=2)
    assert cut["left_out"]["predictions_beyond_limit"] > 0
    assert cut["predictions"] < whole["predictions"]
    with pytest.raises(ValueError, match="report is of the coco metric"):
        evaluate_results(*files, metric="matching", report=tmp_path / "page")
