"""A report names every broken thing with its file, its id, the reason and what to do."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from scnet.config import DataConfig
from scnet.data.check import Report, check
from scnet.data.coco import DataError, load_dataset

Write = Callable[..., Path]

# Position in the file, changes, and the reason the report must give.
BROKEN_ANNOTATIONS: list[tuple[dict[str, Any], str]] = [
    ({"bbox": [1, 1, 0, 5]}, "box has zero width"),
    ({"bbox": [1, 1, 5, -2]}, "box has negative height"),
    ({"bbox": [60, 1, 5, 5]}, "box lies outside the image of 40 x 30"),
    ({"bbox": [1, float("nan"), 5, 5]}, "not finite"),
    ({"bbox": [1, 1, float("inf"), 5]}, "not finite"),
    ({"bbox": [1, 1, "five", 5]}, "not a number"),
    ({"bbox": {"x": 1}}, "bbox is missing"),
    ({"segmentation": [[1, 1, 9, 1]]}, "polygon has 4 numbers"),
    ({"segmentation": [[1, 1, "nine", 1, 9, 9]]}, "holds something that is not a number"),
    ({"segmentation": [[60, 1, 70, 1, 70, 9]]}, "mask lies outside the image"),
    ({"segmentation": [[1, 1, 9, 1, 1e12, 9]]}, "far outside the image"),
    ({"segmentation": {"size": [30, 40], "counts": [7]}}, "cover 7 pixels"),
    ({"segmentation": {"size": [30, 40], "counts": [-7, 1207]}}, "negative run"),
    ({"segmentation": {"size": [30, 40], "counts": "oooo"}}, "cut off"),
    ({"segmentation": {"size": [40, 30], "counts": [1200]}}, "height and width"),
    ({"segmentation": {"size": [30, 40], "counts": [1200]}}, "mask is empty"),
    ({"segmentation": [[3, 3, 9, 9, 3, 3]]}, "mask is empty"),
    ({"segmentation": "polygon"}, "expected polygons or run lengths"),
    ({"image_id": 77}, "belongs to image 77, which is not in the file"),
    ({"image_id": {}}, "which is not in the file"),
    ({"category_id": 77}, "has category 77, which is not in the file"),
    ({"iscrowd": "yes"}, "iscrowd is 'yes'; expected 0, or 1 for a crowd region"),
]
ODD_ANNOTATIONS: list[tuple[dict[str, Any], str]] = [
    ({"id": 0}, "evaluators built like pycocotools count it as unmatched"),
    ({"id": 1}, "another annotation has the same id"),
    ({"id": None}, "id is missing"),
    ({"area": "large"}, "area is not a finite number; evaluation takes that of the mask"),
    ({"bbox": [-9, 1, 20, 5]}, "box sticks out of the image"),
    ({"segmentation": [[1, 1, 60, 1, 60, 9, 1, 9]], "bbox": [1, 1, 39, 8]}, "mask sticks out"),
    ({"bbox": [30, 20, 5, 5]}, "box and mask lie in different places"),
]
BROKEN_IMAGES: list[tuple[dict[str, Any], str]] = [
    ({"file_name": "../secret.png"}, "refused: file_name ../secret.png leaves the image folder"),
    ({"file_name": "/etc/passwd"}, "refused: file_name /etc/passwd leaves the image folder"),
    ({"file_name": "missing.png"}, "no such image file"),
    ({"file_name": "cut.png"}, "cannot be read"),
    ({"file_name": "other_size.png"}, "file is 50 x 20, the annotations say 40 x 30"),
    ({"width": -4}, "width is missing or not a positive whole number"),
    ({"height": 10**9}, "million pixels"),
    ({"id": 1}, "another image has the same id"),
    ({"id": 1.5}, "id is missing or not a whole number"),
]


def found(report: Report, severity: str, where: str, reason: str) -> bool:
    return any(
        p.severity == severity
        and p.where.startswith(where)
        and reason in p.reason
        and p.file.endswith("instances_train.json")
        and p.action
        for p in report.problems
    )


@pytest.fixture
def broken(tmp_path: Path, content: Any, write: Write) -> Path:
    """A data set with every broken entry, one after the other, beside the sound ones."""
    file = write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    sound = copy.deepcopy(content)
    for number, (changes, _) in enumerate(BROKEN_ANNOTATIONS + ODD_ANNOTATIONS, start=100):
        content["annotations"].append({**sound["annotations"][0], "id": number, **changes})
    for number, (changes, _) in enumerate(BROKEN_IMAGES, start=100):
        content["images"].append({**sound["images"][0], "id": number, **changes})
    content["images"].append({**sound["images"][0], "id": 200})
    content["images"].append("street.png")
    content["categories"] += [{"id": 9, "name": "bolt"}, {"id": 3, "name": "nail"}, {"id": 4}]
    file.write_text(json.dumps(content))
    (tmp_path / "train/cut.png").write_bytes((tmp_path / "train/1.png").read_bytes()[:500])
    Image.new("RGB", (50, 20)).save(tmp_path / "train/other_size.png")
    return tmp_path


def test_a_class_that_is_mostly_crowd_is_an_error(
    tmp_path: Path, content: Any, write: Write
) -> None:
    for annotation in content["annotations"]:
        annotation["iscrowd"] = int(annotation["category_id"] == 9)
    write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    report = check(tmp_path)
    said = "3 of 3 annotations of class coin are crowd regions (iscrowd 1)"
    assert [p.reason.startswith(said) for p in report.problems if p.severity == "error"] == [True]


def test_everything_broken_is_named_at_once(broken: Path) -> None:
    report = check(broken)
    assert not report.ok
    for number, (changes, reason) in enumerate(BROKEN_ANNOTATIONS, start=100):
        where = f"annotation {changes.get('id', number)} (image "
        assert found(report, "error", where, reason), reason
    for number, (changes, reason) in enumerate(
        ODD_ANNOTATIONS, start=100 + len(BROKEN_ANNOTATIONS)
    ):
        where = f"annotation {changes.get('id', number)} (image "
        assert found(report, "warning", where, reason), reason
    for number, (changes, reason) in enumerate(BROKEN_IMAGES, start=100):
        where = f"image {changes.get('id', number)} ("
        assert found(report, "error", where, reason), reason
    assert found(report, "warning", "image 200 (1.png)", "image 1 has the same file name")
    assert found(report, "error", "category 9", "another category has the same id")
    assert found(report, "error", "category 4", "name is missing")
    assert found(report, "error", "", "images holds an entry that is not an object")
    assert found(report, "warning", "", "1 of 3 classes has no object: nail")
    assert found(report, "note", "", "images have no object, such as image 4 (4.png)")
    expected = len(BROKEN_ANNOTATIONS) + len(BROKEN_IMAGES) + 3
    assert len(report.errors) == expected


def test_report_writes_out_what_it_found(broken: Path) -> None:
    text = check(broken).render()
    line = "annotation 100 (image 1, 1.png): box has zero width; remove it or run with"
    assert line in text
    assert text.splitlines()[-1].endswith("34 errors, 12 warnings, 3 notes")
    assert "... and 24 more errors" in check(broken).render(limit=10)


def test_a_sound_data_set_has_no_errors_and_is_counted(coco_folder: Path) -> None:
    seen = []
    report = check(coco_folder, progress=lambda done, total: seen.append((done, total)))
    assert report.ok
    assert [s.split for s in report.summaries] == ["train", "val"]
    summary = report.summaries[0]
    assert (summary.images, summary.crowds, summary.read) == (4, 1, 4)
    assert summary.per_class == {"coin": 2, "ring": 2}
    assert summary.sizes == {"small": 3, "medium": 1, "large": 0}
    assert summary.per_image == {1: 2, 2: 1, 3: 1, 4: 0}
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)] * 2
    text = report.render()
    assert "objects per image: median 1, most 2, none in 1" in text
    assert "objects by class: coin 2, ring 2" in text


def test_samples_can_be_drawn(coco_folder: Path) -> None:
    samples = check(coco_folder).samples()
    assert len(samples) == 3
    first = samples[0]
    assert first.image.size == (40, 30)
    assert first.names == ["ring", "coin"]
    assert first.caption == "1.png"
    assert [rle["size"] for rle in first.rles] == [[30, 40]] * 2


def test_one_file_is_checked_alone(coco_folder: Path) -> None:
    report = check(coco_folder / "annotations/instances_val.json")
    assert [s.split for s in report.summaries] == ["val"]
    assert not report.errors


def test_what_is_not_a_data_set_is_reported(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations/instances_train.json"
    assert "no such file" in check(tmp_path / "nowhere").render()
    assert "no annotation files" in check(tmp_path).render()
    for text in ("", "{", "\xff", "[]", "[" * 100000, "{}", '{"images": 3}', '"images"', "NaN"):
        file.write_text(text, encoding="latin-1")
        assert check(tmp_path).errors


def test_missing_images_are_reported_once(coco_folder: Path) -> None:
    for image in coco_folder.glob("*/*.png"):
        image.unlink()
    reasons = [p.reason for p in check(coco_folder).errors]
    assert len(reasons) == 2
    assert all("none of its images found, such as 1.png" in reason for reason in reasons)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "segmentation", "iscrowd"),
    "categories": ("id", "name"),
}
place = st.sampled_from([(part, key) for part, keys in KEYS.items() for key in keys])


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.lists(st.tuples(place, st.integers(0, 1), junk), max_size=3))
def test_any_content_ends_in_a_report_that_agrees_with_loading(
    coco_folder: Path, content: Any, changes: list[Any]
) -> None:
    content = copy.deepcopy(content)
    for (part, key), index, value in changes:
        content[part][index][key] = value
    file = coco_folder / "annotations/instances_train.json"
    file.write_text(json.dumps(content))
    report = check(file)
    assert report.render()
    try:
        dataset = load_dataset(file, "train", DataConfig(size=(30, 40)), train=True)
        for index in range(len(dataset)):
            dataset[index]
    except DataError:
        assert report.errors
    else:
        assert not report.errors


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("images", "id"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
        ("categories", "id"),
    ],
)
def test_lists_within_lists_end_in_a_report_too(
    coco_folder: Path, content: Any, part: str, key: str
) -> None:
    del content[part][1:]
    content[part][0][key] = "here"
    file = coco_folder / "annotations/instances_train.json"
    file.write_text(json.dumps(content).replace('"here"', "[" * 1010 + "]" * 1010))
    assert check(file).errors
    with pytest.raises(DataError):
        load_dataset(file, "train", DataConfig(size=(30, 40)), train=True)


@pytest.mark.parametrize("name", ["coco600_400px", "dsb2018_le360", "balloon_1024px"])
def test_real_data_have_no_errors(name: str, data_dir: Path) -> None:
    report = check(data_dir / name)
    assert report.errors == ()
    assert len(report.samples()) == 6
