"""The page of a report: right numbers, whole, escaped, for any data; nothing is overwritten."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.made_up import NAMES, SIZE, entry, made_up, plain_counts

from scnet.cli.main import main
from scnet.evaluation.asking import Asked, asking
from scnet.evaluation.stored import evaluate_results
from scnet.settings import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Json = dict[str, Any]
ODD = ("one & two", "<img src=x>", "Zellen äöü 細胞", "with 'quotes\"")


class Page(HTMLParser):
    """The links and pictures of a page, and its tables as rows of text, by their id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.tables: dict[str, list[list[str]]] = {}
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.links += [given[name] or "" for name in ("src", "href") if name in given]
        if tag == "table":
            self.rows = self.tables.setdefault(given.get("id") or f"{len(self.tables)}", [])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def stored(folder: Path, truth: Json, results: list[Json]) -> tuple[Path, Path]:
    """Write a data set whose images have odd names, and results of it."""
    (folder / "data/annotations").mkdir(parents=True)
    (folder / "data/val").mkdir()
    rng = np.random.default_rng(0)
    for number, image in enumerate(truth["images"]):
        image["file_name"] = f"{ODD[number % len(ODD)]} {number}.png"
        grey = rng.integers(0, 255, SIZE, dtype=np.uint8)
        Image.fromarray(grey).save(folder / "data/val" / image["file_name"])
    (folder / "data/annotations/instances_val.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "results.json", folder / "data"


def reported(folder: Path, truth: Json, results: list[Json], **options: Any) -> tuple[Json, Page]:
    """Write a report and return its figures and its page."""
    out = folder / "page"
    evaluate_results(*stored(folder, truth, results), report=out, **options)
    page = Page((out / "index.html").read_text())
    for link in page.links:
        assert link[1:] in page_ids(out) if link.startswith("#") else (out / link).is_file(), link
    content: Json = json.loads((out / "report.json").read_text())
    return content, page


def page_ids(out: Path) -> set[str]:
    text = (out / "index.html").read_text()
    return {part.split('"')[0] for part in text.split('id="')[1:]}


def test_the_numbers_of_page_and_file_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    truth, results = made_up(0)
    content, page = reported(tmp_path, truth, results, score=0.4)
    plain = plain_counts(truth, results, 0.4)
    rows = {row[0]: row[1:] for row in page.tables["class-table"][1:]}
    for category in truth["categories"]:
        true, false, missed = plain[category["id"]]
        figures = content["counts"]["per_class"][category["name"]]
        assert (figures["TP"], figures["FP"], figures["FN"]) == (true, false, missed)
        if true + false + missed == 0:
            assert category["name"] not in rows
            continue
        shown = rows[category["name"]]
        assert shown[:4] == [str(n) for n in (true + missed, true, false, missed)]
        precision = f"{100 * true / (true + false):.1f}" if true + false else "-"
        recall = f"{100 * true / (true + missed):.1f}" if true + missed else "-"
        assert shown[4:6] == [precision, recall]
    total = [sum(values) for values in zip(*plain.values(), strict=True)]
    images = content["per_image"]
    assert [sum(image[key] for image in images) for key in ("TP", "FP", "FN")] == total
    at = next(row for row in content["thresholds"] if row["score"] == 0.4)
    assert [at[key] for key in ("TP", "FP", "FN")] == total


def test_the_page_stands_alone_and_shows_names_as_they_are(tmp_path: Path) -> None:
    content, page = reported(tmp_path, *made_up(1), score=0.2, pictures=30)
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert not [link for link in page.links if "//" in link]
    assert all(f"{name} " in page.text for name in ODD)
    assert NAMES[1] in page.text
    assert "b" not in {row[0] for row in page.tables["class-table"]}
    assert len(content["worst"]["misses"]) == len(list((tmp_path / "page").glob("miss-*.jpg")))
    kinds = {find["kind"] for find in content["worst"]["false_finds"]}
    assert kinds <= set(content["counts"]["false_finds"])


def test_each_worst_miss_names_its_image_and_annotation(tmp_path: Path) -> None:
    truth, results = made_up(2)
    content, _ = reported(tmp_path, truth, results)
    annotations = {a["id"]: a for a in truth["annotations"]}
    files = {image["id"]: image["file_name"] for image in truth["images"]}
    assert content["worst"]["misses"]
    for miss in content["worst"]["misses"]:
        annotation = annotations[miss["annotation_id"]]
        assert (miss["image_id"], miss["area"]) == (annotation["image_id"], annotation["area"])
        assert (miss["box"], miss["file_name"]) == (annotation["bbox"], files[miss["image_id"]])
    scores = [find["score"] for find in content["worst"]["false_finds"]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.5


@pytest.mark.parametrize("what", ["finds", "objects", "one class", "one class alone"])
def test_any_data_give_a_page(what: str, tmp_path: Path) -> None:
    truth, results = made_up(3, classes=1 if what.startswith("one class") else 3)
    if what == "finds":
        results = []
    if what == "objects":
        results = [r for r in results if r["image_id"] == 1]
        truth["annotations"] = truth["annotations"][:1]
    if what == "one class alone":
        truth["categories"] = truth["categories"][:1]
        results = [r for r in results if r["category_id"] == 1]
    content, page = reported(tmp_path, truth, results)
    overall = content["counts"]["overall"]
    assert overall["objects"] == sum(not a["iscrowd"] for a in truth["annotations"])
    assert (overall["precision"] is None) == (what == "finds")
    assert ("- %" in page.text) == (what == "finds")


def test_boxes_are_matched_and_drawn_where_there_are_no_masks(tmp_path: Path) -> None:
    truth, results = made_up(4)
    bare = [{k: v for k, v in r.items() if k != "segmentation"} for r in results]
    content, page = reported(tmp_path, truth, bare)
    assert content["counts"]["kind"] == "bbox"
    assert "segm" not in content
    assert "of boxes" in page.text


def test_pictures_of_the_miss_show_it_in_the_colour_of_truth(tmp_path: Path) -> None:
    truth, _ = made_up(0, images=1)
    truth["annotations"] = [entry(1, 1, (20, 10, 20, 16), id=5)]
    reported(tmp_path, truth, [])
    pixels = np.asarray(Image.open(tmp_path / "page/miss-01.jpg")).astype(int)
    blue = (abs(pixels - (86, 180, 233)).sum(2) < 60).sum()
    orange = (abs(pixels - (230, 159, 0)).sum(2) < 60).sum()
    assert blue > 1000 > 50 > orange


def test_the_command_scores_results_and_says_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, made = made_up(5)
    results, data = stored(tmp_path, truth, made)
    out = tmp_path / "out"
    command = ["eval", str(results), "--data", str(data)]
    assert main([*command, "--report", str(out), "--score", "best", "--pictures", "2"]) == 0
    assert "best F1" in capsys.readouterr().out
    assert len(list(out.glob("miss-*.jpg"))) == 2
    assert main([*command, "--report", str(out)]) == 1
    assert "not empty; give another folder or replace it with --overwrite" in (
        capsys.readouterr().err
    )
    with pytest.raises(FileExistsError, match=r"give another folder or pass overwrite=True"):
        evaluate_results(results, data, report=out)
    assert main([*command, "--report", str(out), "--pictures", "1", "--overwrite"]) == 0
    assert len(list(out.glob("miss-*.jpg"))) == 1
    (out / "notes.txt").write_text("mine")
    assert main([*command, "--report", str(out), "--overwrite"]) == 1
    assert "holds notes.txt, which is no part of a report" in capsys.readouterr().err
    figures = tmp_path / "figures.json"
    figures.write_text("old")
    assert main([*command, "--json", str(figures)]) == 1
    assert "give another file or replace it with --overwrite" in capsys.readouterr().err
    assert (
        main([*command, "--score", "0.3", "--iou", "0.7", "--json", str(figures), "--overwrite"])
        == 0
    )
    overall = json.loads(figures.read_text())["counts"]["overall"]
    plain = plain_counts(truth, made, 0.3, 0.7)
    assert overall["TP"] == sum(true for true, _, _ in plain.values())
    assert main(command) == 0
    assert "precision" not in capsys.readouterr().out.splitlines()[-1]


def test_images_without_a_result_are_counted_unless_that_is_not_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, made = made_up(5)
    lost = {truth["images"][0]["id"], truth["images"][1]["id"]}
    left = [one for one in made if one["image_id"] not in lost]
    without = len(truth["images"]) - len({one["image_id"] for one in left})
    results, data = stored(tmp_path, truth, left)
    command = ["eval", str(results), "--data", str(data)]
    assert main(command) == 0
    said = f"no result for {without} of {len(truth['images'])} images"
    assert said in capsys.readouterr().err
    assert main([*command, "--quiet"]) == 0
    assert "no result" not in capsys.readouterr().err


def test_results_have_the_ids_of_the_data_also_where_these_are_text(tmp_path: Path) -> None:
    truth, results = made_up(7)
    plain = evaluate_results(*stored(tmp_path / "numbers", truth, results))
    for row in truth["images"] + truth["categories"]:
        row["id"] = f"no. {row['id']}"
    for row in truth["annotations"] + results:
        row |= {key: f"no. {row[key]}" for key in ("image_id", "category_id")}
    text = evaluate_results(*stored(tmp_path / "text", truth, results))
    assert {**text, "seconds": 0} == {**plain, "seconds": 0}
    results[0]["image_id"] = "no. 99"
    with pytest.raises(ValueError, match=r"image no. 99.: there is no such image"):
        evaluate_results(*stored(tmp_path / "other", truth, results))


def test_an_id_with_a_decimal_point_is_the_number_that_it_means(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, _ = made_up(5, images=3)
    results = [entry(image, 1, (2, 2, 9, 9), score=0.5) for image in (1, 2, 3)]
    for found in results:
        found["image_id"] = float(found["image_id"])
    results_file, data = stored(tmp_path, truth, results)
    assert main(["eval", str(results_file), "--data", str(data)]) == 0
    assert "no result" not in capsys.readouterr().err


def test_results_of_other_images_with_the_same_ids_are_refused(tmp_path: Path) -> None:
    truth, results = made_up(8)
    plain = evaluate_results(*stored(tmp_path / "plain", truth, results))
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    for found in results:
        found["file_name"] = f"photos/{names[found['image_id']]}"
    named = evaluate_results(*stored(tmp_path / "named", truth, results))
    assert named["segm"] == plain["segm"]
    results[-1]["file_name"] = "train/other.png"
    with pytest.raises(ValueError, match="results are of other images: image 12 is train/other"):
        evaluate_results(*stored(tmp_path / "other", truth, results))


@pytest.mark.parametrize(
    "options", [["--score", "2"], ["--score", "good"], ["--iou", "0"], ["--pictures", "-1"]]
)
def test_numbers_out_of_range_are_refused(options: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["eval", "results.json", "--data", "x", "--report", "y", *options])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ('{"annotations": []}', "is an annotation file"),
        ('{"a": 1}', "expected results"),
        ("[1]", "expected results"),
    ],
)
def test_a_file_that_holds_no_results_is_called_so(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    file.write_text(content)
    assert main(["eval", str(file), "--data", "x"]) == 1
    assert said in capsys.readouterr().err


def test_options_of_the_function_without_effect_are_refused(tmp_path: Path) -> None:
    assert asking(None, None, None, None) is None
    for options in ((None, 0.5, None, None), (None, None, None, 3), (0.5, None, None, 3)):
        with pytest.raises(ValueError, match="has no effect without"):
            asking(*options)
    for wrong in ({"score": 1.5}, {"iou": 0.0}, {"pictures": -1}):
        with pytest.raises(ValueError, match="expected"):
            Asked(**wrong)
    assert asking(None, None, tmp_path, None) == Asked(report=tmp_path)
    assert asking(0.0, None, None, None) == Asked(score=0.0)


def test_a_score_below_what_the_model_keeps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"score 0.01 is below 0.05.*counts would lack some"):
        Asked(score=0.01).check(lowest=0.05)
    Asked(score=0.05).check(lowest=0.05)
    Asked(score="best").check(lowest=0.05)


def test_settings_say_how_the_annotations_of_stored_results_are_read(tmp_path: Path) -> None:
    truth, results = made_up(6)
    files = stored(tmp_path, truth, results)
    crowds = sum(a["iscrowd"] for a in truth["annotations"])
    plain = evaluate_results(*files, score=0.5)["counts"]["overall"]
    settings = {"data": {"crowd": "objects"}}
    taken = evaluate_results(*files, score=0.5, settings=settings)["counts"]["overall"]
    assert taken["objects"] == plain["objects"] + crowds > plain["objects"]
    with pytest.raises(ConfigError, match="settings of data alone"):
        evaluate_results(*files, settings={"optim": {"epochs": 1}})
