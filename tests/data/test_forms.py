"""Other forms of COCO are taken or refused with a sentence each; plain files stay as they are."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.form_cases import TAKEN, Change, Coco, both, each, listed, points, polygons

from scnet.config import DataConfig
from scnet.data.annotations import AnnotationFile, read_annotations
from scnet.data.check import check
from scnet.data.coco import load_dataset
from scnet.data.forms import normalise
from scnet.data.images import DataError
from scnet.data.reading import read_content
from scnet.evaluation.scoring import score
from scnet.ops.rle import decode, encode

Write = Callable[..., Path]
CONFIG = DataConfig(size=(30, 40))


def what_it_means(found: AnnotationFile) -> list[Any]:
    """Return all that training takes from a file, without ids."""
    names = list(found.categories.values())
    return [
        (
            record.file_name.split("/")[-1],
            record.size,
            sorted(
                (
                    names[a.label],
                    a.box,
                    a.crowd,
                    encode(decode(a.segmentation, record.size))["counts"],
                )
                for a in record.annotations
            ),
        )
        for record in found.images
    ]


@pytest.mark.parametrize("case", TAKEN)
def test_another_form_means_the_same_and_is_said(
    case: str, tmp_path: Path, content: Coco, write: Write
) -> None:
    change, notes = TAKEN[case]
    file = write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    plain = read_annotations(file, None, CONFIG)
    change(content)
    file.write_text(json.dumps(content))
    found = read_annotations(file, None, CONFIG)
    assert what_it_means(found) == what_it_means(plain)
    assert all(any(said.startswith(note) for said in found.notes) for note in notes), found.notes
    assert bool(found.notes) == bool(notes)
    report = check(file)
    assert report.ok
    assert [p.reason for p in report.problems if p.severity == "warning"] == []
    dataset = load_dataset(tmp_path, "train", CONFIG, train=False)
    assert len(dataset[0].image.shape) == 3
    score(dataset.ground_truth, [])


@pytest.mark.parametrize("note", [name for name in TAKEN if name.startswith("ids of images")])
def test_numbered_images_keep_their_ids_beside(
    note: str, tmp_path: Path, content: Coco, write: Write
) -> None:
    file = write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    TAKEN[note][0](content)
    originals = [image["id"] for image in content["images"]]
    file.write_text(json.dumps(content))
    images = read_content(file, CONFIG).json["images"]
    assert [
        i.get("original_id", type(o)(i["id"])) for i, o in zip(images, originals, strict=True)
    ] == (originals)


# What is changed, and the one sentence that must name it, in training and in the check.
REFUSED: dict[str, tuple[Change, str]] = {
    "decimal comma in boxes": (
        each("annotations", "bbox", lambda b: ["12,5", *map(str, b[1:])]),
        'bbox: a number is written as "12,5", with a decimal comma; write numbers with a point',
    ),
    "decimal comma in polygons": (
        polygons(lambda s: [["1,5", *map(str, s[0][1:])]]),
        'segmentation: a number is written as "1,5", with a decimal comma',
    ),
    "GeoJSON with holes": (
        polygons(lambda s: {"type": "Polygon", "coordinates": [points(s[0])] * 2}),
        "a polygon of GeoJSON has holes",
    ),
    "no sizes and no images": (
        both(
            each("images", "width", lambda _: 0),
            each("images", "height", lambda _: 0),
            each("images", "file_name", "gone/x{}".format),
        ),
        "4 images: width and height are missing, and cannot be read from the files",
    ),
    "masks in other files": (
        each("annotations", "segmentation", lambda _: "masks/1.png"),
        "segmentation: masks/1.png is an image, and masks in other files are not read; write",
    ),
    "categories are names alone": (
        listed("categories", lambda found: [c["name"] for c in found]),
        "categories are names alone, so that it cannot be known which number is whose; write",
    ),
    "a name is the id of another": (
        both(
            each("annotations", "category_id", str),
            each("categories", "name", {"coin": "7", "ring": "9"}.get),
        ),
        'category_id "7" is the id of one and the name of another; write ids as whole numbers',
    ),
    "panoptic": (
        listed("annotations", lambda _: [{"segments_info": [], "file_name": "1.png"}]),
        "it is a COCO panoptic file, whose masks are in PNG files; give the instances file",
    ),
    "captions": (
        listed("annotations", lambda _: [{"image_id": 1, "id": 1, "caption": "a coin"}]),
        "it is a COCO captions file; give the instances file",
    ),
    "videos": (
        lambda c: c.update(videos=c.pop("images")),
        "it is annotations of videos",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_form_that_is_not_read_is_named_once(
    case: str, tmp_path: Path, content: Coco, write: Write
) -> None:
    change, reason = REFUSED[case]
    file = write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_annotations(file, None, CONFIG)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"{file}: ")
    [error] = check(file).errors
    assert reason.split("; ")[0] in error.reason
    assert error.action


def test_an_unknown_id_is_never_taken_for_an_image_that_was_numbered(
    tmp_path: Path, content: Coco, write: Write
) -> None:
    file = write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    for entry in content["images"]:
        entry["id"] = f"img_{entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"img_{entry['image_id']}"
    content["annotations"][0]["image_id"] = 3  # of no image, though the third is numbered 3
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="belongs to image 3, which is not in the file"):
        read_annotations(file, None, CONFIG)


def test_two_images_of_one_number_stay_a_fault(tmp_path: Path, content: Coco, write: Write) -> None:
    file = write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    content["images"][1]["id"] = "1"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="another image has the same id"):
        read_annotations(file, None, CONFIG)


def test_a_broken_image_or_category_blames_none_of_its_annotations(
    tmp_path: Path, content: Coco, write: Write
) -> None:
    file = write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    content["images"][0]["width"] = -4
    content["categories"][0]["name"] = None
    file.write_text(json.dumps(content))
    reasons = [error.reason for error in check(file).errors]
    assert sorted(reasons) == [
        "name is missing or not text",
        "width is missing or not a positive whole number",
    ]


number = st.integers(0, 500) | st.floats(0, 500)
boxes = st.lists(number, min_size=4, max_size=4)
outlines = st.lists(
    st.integers(3, 8).flatmap(lambda n: st.lists(number, min_size=2 * n, max_size=2 * n)),
    min_size=1,
    max_size=3,
)
counts = st.lists(st.integers(0, 900), min_size=1) | st.text("0123456789:;<=>?@ABC", min_size=1)
run_lengths = st.fixed_dictionaries({"size": st.just([30, 40]), "counts": counts})
annotation = st.fixed_dictionaries(
    {
        "id": st.integers(),
        "image_id": st.integers(),
        "category_id": st.integers(),
        "segmentation": outlines | run_lengths,
        "bbox": boxes,
    },
    optional={"iscrowd": st.sampled_from([0, 1]), "area": number, "ignore": st.booleans()},
)
plain_content = st.fixed_dictionaries(
    {
        "images": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.integers(),
                    "file_name": st.text(min_size=1),
                    "width": st.integers(1, 9000),
                    "height": st.integers(1, 9000),
                }
            )
        ),
        "annotations": st.lists(annotation, max_size=4),
        "categories": st.lists(
            st.fixed_dictionaries(
                {"id": st.integers(), "name": st.text("aB1- \u00e9\u6f22").map(str.strip)}
            )
        ),
    },
    optional={"info": st.dictionaries(st.text(), st.text())},
)


@given(plain_content)
def test_a_plain_file_goes_through_unchanged(content: Coco) -> None:
    before = copy.deepcopy(content)
    lists = {key: id(value) for key, value in content.items()}
    assert normalise(content, Path("instances.json")) == []
    assert content == before
    assert {key: id(value) for key, value in content.items()} == lists
