"""Images are found under other spellings of their names, or it is said why not."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scnet.config import DataConfig
from scnet.data.check import check
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import DataError
from scnet.data.wording import of_all

CONFIG = DataConfig(size=(30, 40))
LATIN = "Zell\N{LATIN SMALL LETTER E WITH DIAERESIS}.png"

# What the file says, the file that lies in the image folder, which is found for it.
FOUND = [
    ("images\\001.png", "001.png"),
    ("..\\..\\label-studio\\media\\upload\\4\\001.png", "001.png"),
    ("/home/somebody/data/images/001.png", "001.png"),
    ("C:\\Users\\somebody\\001.png", "001.png"),
    ("file:///data/my%20cells/001.png", "001.png"),
    ("my%20cell.png", "my cell.png"),
    ("/data/upload/4/1a2b3c4d-001.png", "1a2b3c4d-001.png"),
    ("/data/upload/4/1a2b3c4d-001.png", "001.png"),
    ("001.png", "1a2b3c4d-001.png"),
    ("/data/local-files/?d=cells/001.png", "cells/001.png"),
    ("001.jpg", "001.JPG"),
    ("Cell_A.PNG", "cell_a.png"),
    ("001.jpeg", "001.jpg"),
    ("001.tif", "001.tiff"),
    (unicodedata.normalize("NFD", LATIN), LATIN),
    (LATIN, unicodedata.normalize("NFD", LATIN)),
    ("001.png", "batch1/001.png"),
    ("train/images/001.png", "001.png"),
    ("https://example.org/a/b/001.png", "001.png"),
    ("./train//001.png", "001.png"),
]


def write(folder: Path, said: list[str], there: list[str], split: str = "") -> Path:
    """Write a data set whose file names the images so, and such files."""
    images = folder / "images"
    for number, name in enumerate(there):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        file = images / name
        Image.new("RGB", (40, 30), (number, 0, 0)).save(file)
    polygon = [2, 3, 22, 3, 22, 13, 2, 13]
    entry = {"category_id": 1, "bbox": [2, 3, 20, 10], "segmentation": [polygon], "iscrowd": 0}
    ids = range(1, len(said) + 1)
    content = {
        "images": [
            {"id": i, "file_name": name, "width": 40, "height": 30}
            for i, name in zip(ids, said, strict=True)
        ],
        "annotations": [{**entry, "id": i, "image_id": i, "area": 200} for i in ids],
        "categories": [{"id": 1, "name": "cell"}],
    }
    file = folder / f"result{split}.json"
    file.write_text(json.dumps(content))
    return file


def load(file: Path) -> CocoDataset:
    return load_dataset(file, "train", CONFIG, train=True)


@pytest.mark.parametrize(("said", "there"), FOUND)
@pytest.mark.parametrize("others", [0, 3])
def test_another_spelling_of_a_name_is_found_and_said(
    tmp_path: Path, said: str, there: str, others: int
) -> None:
    more = [f"other{i}.png" for i in range(others)]
    file = write(tmp_path, [said, *more], [there, *more])
    dataset = load(file)
    assert [r.file_name for r in dataset.images] == [there, *more]
    assert [dataset[i].image.shape for i in range(len(dataset))] == [(3, 30, 40)] * (1 + others)
    images = of_all(1, 1 + others, "image")
    sentence = f"{images} found under another spelling, such as {said} -> {there}"
    assert dataset.notes == (sentence,)
    report = check(file)
    assert report.ok
    assert sentence in [p.reason for p in report.problems if p.severity == "note"]


def test_names_that_fit_cost_no_index_and_need_no_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("an index was made")

    monkeypatch.setattr("scnet.data.finding.Index.__init__", refuse)
    file = write(tmp_path, ["cam0/a.png", "cam1/a.png"], ["cam0/a.png", "cam1/a.png"])
    assert load(file).notes == ()


# What the file says, the files there, and the error that tells why none of them is taken.
REFUSED = [
    (["A.PNG"], ["a.png", "a.PNG"], r"file_name A.PNG may be a.PNG or a.png"),
    (["/x/a.png"], ["cam0/a.png", "cam1/a.png"], "may be cam0/a.png or cam1/a.png"),
    (["a.jpeg", "b.png"], ["a.jpg", "a.JPG", "b.png"], "may be a.JPG or a.jpg"),
    (["cam0/a.png", "cam1/a.png"], ["a.png"], "has no file but a.png, which others fit too"),
    (["a.png", "/cam1/a.png"], ["a.png"], "has no file but a.png, which others fit too"),
    (["../secret.png", "a.png"], ["a.png"], "secret.png leaves the image folder"),
    (["/etc/passwd", "a.png"], ["a.png"], "passwd leaves the image folder"),
    (["\\\\server\\b.png", "a.png"], ["a.png"], "leaves the image folder"),
    (["cell_01.png"], ["cell_0l.png"], r"did you mean .*images/cell_0l.png\?"),
    (["cam0/a.png"], ["cam1/a.png"], r"none of its images found.*did you mean .*cam1/a.png"),
    (["a.png"], ["masks/a.png"], "none of its images found"),
]


@pytest.mark.parametrize(("said", "there", "reason"), REFUSED)
def test_what_is_not_certain_is_refused_with_the_reason(
    tmp_path: Path, said: list[str], there: list[str], reason: str
) -> None:
    file = write(tmp_path, said, there)
    (tmp_path / "secret.png").write_bytes(b"not for us")
    with pytest.raises(DataError, match=reason):
        load(file)
    assert check(file).errors


def test_a_file_outside_is_never_opened_but_its_name_is_found_inside(tmp_path: Path) -> None:
    file = write(tmp_path, ["../secret.png", "a.png"], ["sub/secret.png", "a.png"])
    Image.new("RGB", (40, 30), (9, 9, 9)).save(tmp_path / "secret.png")
    assert load(file).images[0].file_name == "sub/secret.png"


def test_images_that_are_not_there_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path, ["cell1.png", "cell2.png", "a.png"], ["cell_1.png", "a.png"])
    (note,) = load(file).notes
    assert note.startswith(
        "2 of 3 images have no file, such as cell1.png; did you mean cell_1.png?"
    )
    assert f"looked in {tmp_path / 'images'}" in note
    assert note in [p.reason for p in check(file).problems]


def test_the_images_of_another_split_are_not_taken(tmp_path: Path) -> None:
    file = write(tmp_path, ["a.png"], ["val/a.png"], split="s_train")
    file = file.rename(tmp_path / "instances_train.json")
    with pytest.raises(DataError, match="none of its images found"):
        load(file)


@pytest.mark.parametrize("folder", ["default", "Train", "task_7"])
def test_the_folders_of_cvat_are_found(tmp_path: Path, folder: str) -> None:
    file = write(tmp_path, ["001.png"], [f"{folder}/001.png"])
    (tmp_path / "annotations").mkdir()
    file = file.rename(tmp_path / f"annotations/instances_{folder}.json")
    dataset = load(file)
    assert dataset.image_root / dataset.images[0].file_name == tmp_path / f"images/{folder}/001.png"
    assert dataset.notes == ()


def test_a_file_of_another_entry_is_not_offered(tmp_path: Path) -> None:
    (note,) = load(write(tmp_path, ["001.png", "002.png"], ["001.png"])).notes
    assert "did you mean" not in note
