"""Mended copies hold what a training reads, and the originals stay as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scnet.cli.main import main
from scnet.config import DataConfig
from scnet.data.annotations import read_annotations
from scnet.data.check import check

Write = Callable[..., Path]
PLAIN = DataConfig(size=(30, 40), flip=0.0, workers=0)


@pytest.fixture
def broken(tmp_path: Path, content: Any, write: Write) -> Path:
    """A data set with a broken polygon, a box alone, an unknown class and double ids."""
    annotations = content["annotations"]
    annotations[0]["segmentation"].append([1, 1, 2, 2])
    annotations[1] |= {"segmentation": [], "id": 1}
    annotations.append(annotations[3] | {"category_id": 99, "id": 50})
    annotations.append(annotations[3] | {"bbox": [1, 1, 0, 9], "id": 51})
    content["categories"].append({"id": 12, "name": "coin"})
    write(content, tmp_path / "data/annotations/instances_train.json", tmp_path / "data/train")
    return tmp_path / "data"


def test_a_mended_copy_is_sound_and_the_original_untouched(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    file = broken / "annotations/instances_train.json"
    before = file.read_bytes()
    assert main(["check-data", str(broken), "--quiet", "--fix", "fixed"]) == 1
    assert file.read_bytes() == before
    said = capsys.readouterr().out
    for part in ("1 annotation mended", "categories of one name", "3 annotations are broken"):
        assert part in said
    assert "1 removed, the others are crowd regions now" in said
    copy = tmp_path / "fixed/annotations/instances_train.json"
    file.write_bytes(copy.read_bytes())
    assert check(broken).ok
    mended = read_annotations(file, None, PLAIN)
    assert not mended.dropped
    assert not mended.notes
    crowds = [a.crowd for image in mended.images for a in image.annotations]
    assert (len(crowds), sum(crowds)) == (6, 3)


def test_what_is_sound_is_copied_as_it_is(
    coco_folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["check-data", str(coco_folder), "--quiet", "--fix", str(tmp_path / "fixed")])
    name = "annotations/instances_train.json"
    copy = json.loads((tmp_path / "fixed" / name).read_text())
    assert copy == json.loads((coco_folder / name).read_text())


def test_a_report_ends_with_a_command_that_suits_the_data(
    coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["check-data", str(coco_folder), "--quiet", "--data.crowd", "objects"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "taken as objects" in said
    last = said.splitlines()[-1]
    assert last == f"which is: scnet train auto --data {coco_folder} --data.crowd objects"


def test_a_recommendation_repeats_lists_as_they_can_be_typed(
    coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check-data", str(coco_folder), "--quiet", "--data.classes", "[ring]"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"which is: scnet train auto --data {coco_folder} --data.classes '[ring]'"


def test_a_picture_of_nothing_is_an_error(
    coco_folder: Path, tmp_path: Path, content: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = coco_folder / "annotations/instances_train.json"
    file.write_text(json.dumps(content | {"annotations": []}))
    picture = tmp_path / "picture.png"
    assert main(["check-data", str(file), "--quiet", "--picture", str(picture)]) == 1
    said = capsys.readouterr()
    assert f"--picture {picture}: no image to draw" in said.err
    assert "no object to learn from" in said.out
    assert not picture.exists()


def test_other_settings_have_no_effect_and_are_refused(coco_folder: Path) -> None:
    assert main(["check-data", str(coco_folder), "--optim.lr", "1"]) == 2
