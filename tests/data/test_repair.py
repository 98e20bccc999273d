"""Mended copies hold what a training reads, and the originals stay as they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scnet.cli.main import main
from scnet.config import DataConfig
from scnet.data.annotations import read_annotations
from scnet.data.check import check
from scnet.data.coco import load_dataset

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


def test_marks_that_were_changed_have_the_area_of_their_mask(
    coco_folder: Path,
    tmp_path: Path,
    content: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    for image in content["images"]:
        image["width"], image["height"] = 80, 60
    content["annotations"][3].pop("area")
    file = coco_folder / "annotations/instances_train.json"
    file.write_text(json.dumps(content))
    settings = ["--data.scale-marks", "[2,2]", "--data.drop-invalid", "true"]
    main(["check-data", str(file), "--quiet", "--fix", "fixed", *settings])
    mended = json.loads((tmp_path / "fixed/instances_train.json").read_text())["annotations"]
    assert [entry["area"] for entry in mended][:4] == [800, 192, 4800, 576]
    assert f"{len(mended)} annotations have the area of the mask now" in capsys.readouterr().out


def fixed(folder: Path, tmp_path: Path) -> Path:
    """Write mended copies and lay them over the data set, as the last line says."""
    main(["check-data", str(folder), "--quiet", "--fix", str(tmp_path / "fixed")])
    shutil.copytree(tmp_path / "fixed", folder, dirs_exist_ok=True)
    return folder


def test_a_mended_copy_has_the_names_under_which_images_were_found(
    coco_folder: Path, tmp_path: Path, content: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(content["images"]):
        image["file_name"] = rf"C:\data\{number + 1}.PNG"
    file = coco_folder / "annotations/instances_train.json"
    file.write_text(json.dumps(content))
    found = load_dataset(coco_folder, "train", PLAIN, train=False)
    assert any("found under another spelling" in note for note in found.notes)
    mended = load_dataset(fixed(coco_folder, tmp_path), "train", PLAIN, train=False)
    assert mended.paths == found.paths
    assert not mended.notes
    names = [image["file_name"] for image in json.loads(file.read_text())["images"]]
    assert names == ["1.png", "2.png", "3.png", "4.png"]


def test_names_stay_where_no_image_is_found(
    tmp_path: Path, content: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "data/instances.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    main(["check-data", str(file), "--quiet", "--fix", "fixed"])
    assert "file names are left as they are: none of its images found" in capsys.readouterr().out
    copy = json.loads((tmp_path / "fixed/instances.json").read_text())
    assert copy["images"] == content["images"]


@pytest.mark.parametrize("inner", [".", "labels/train"])
def test_labels_of_yolo_are_written_as_coco(inner: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    for name in ("images/train", "labels/train"):
        (data / name).mkdir(parents=True)
    (data / "data.yaml").write_text("names: [cell]\ntrain: images/train\n")
    Image.new("RGB", (40, 30)).save(data / "images/train/a.png")
    (data / "labels/train/a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    before = load_dataset(data, "train", PLAIN, train=True)
    main(["check-data", str(data / inner), "--quiet", "--fix", "fixed"])
    shutil.copytree(tmp_path / "fixed", data, dirs_exist_ok=True)
    after = load_dataset(data, "train", PLAIN, train=True)
    assert after.annotation_file == data / "annotations/instances_train.json"
    assert after.paths == before.paths
    assert after.images[0].annotations[0].box == before.images[0].annotations[0].box


def test_labels_of_labelme_are_written_as_coco(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    Image.new("RGB", (40, 30)).save(data / "a.png")
    shape = {"label": "cell", "points": [[2, 2], [20, 2], [20, 20]], "shape_type": "polygon"}
    labels = {"imagePath": "a.png", "imageWidth": 40, "imageHeight": 30, "shapes": [shape]}
    (data / "a.json").write_text(json.dumps(labels))
    after = load_dataset(fixed(data, tmp_path), "train", PLAIN, train=True)
    assert after.annotation_file == data / "annotations/instances_train.json"
    assert after.paths == [data / "a.png"]
    assert len(after.images[0].annotations) == 1


def test_a_list_of_test_images_is_passed_over(
    coco_folder: Path, tmp_path: Path, content: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    test = coco_folder / "annotations/instances_test.json"
    test.write_text(json.dumps({k: content[k] for k in ("images", "categories")}))
    assert main(["check-data", str(coco_folder), "--quiet", "--fix", "fixed"]) == 0
    copies = sorted(file.name for file in (tmp_path / "fixed/annotations").iterdir())
    assert copies == ["instances_train.json", "instances_val.json"]


def test_copies_are_whole_or_not_there(coco_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    file = coco_folder / "annotations/instances_val.json"
    sound = file.read_text()
    file.write_text(sound[:-9])
    command = ["check-data", str(coco_folder), "--quiet", "--fix", "fixed"]
    assert main(command) != 0
    assert not [*tmp_path.glob("*fixed*")]
    file.write_text(sound)
    assert main(command) == 0
    assert len([*(tmp_path / "fixed/annotations").iterdir()]) == 2


def test_lists_of_images_alone_make_no_folder(
    coco_folder: Path,
    tmp_path: Path,
    content: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = coco_folder / "annotations/instances_test.json"
    file.write_text(json.dumps({k: content[k] for k in ("images", "categories")}))
    main(["check-data", str(file), "--quiet", "--fix", "fixed"])
    assert "nothing to mend" in capsys.readouterr().out
    assert not (tmp_path / "fixed").exists()


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
