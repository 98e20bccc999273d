"""Annotations as columns are those of the file, and only sound ones are cleared at a glance."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scnet.config import DataConfig
from scnet.data.annotations import AnnotationFile, read_annotations
from scnet.data.columns import Numbers
from scnet.data.faults import annotation_fault
from scnet.data.layout import find_split
from scnet.data.screening import Sheet
from scnet.ops.rle import decode, pack, runs

SIZE = (30, 40)


def read(file: Path) -> AnnotationFile:
    return read_annotations(file, None, DataConfig(drop_invalid=True))


def require_the_same(file: Path) -> None:
    """Compare what is read with the entries of the file, one after the other."""
    content, found = json.loads(file.read_text()), read(file)
    label = {category["id"]: place for place, category in enumerate(content["categories"])}
    for image, record in zip(content["images"], found.images, strict=True):
        width, height = image["width"], image["height"]
        own = [
            entry
            for position, entry in enumerate(content["annotations"])
            if entry["image_id"] == image["id"] and position not in found.dropped
        ]
        for entry, got in zip(own, record.annotations, strict=True):
            x, y, w, h = (0, 0, 0, 0) if entry.get("iscrowd") else entry["bbox"]
            corners = [max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)]
            assert got.box == tuple(np.array(corners, np.float32).tolist())
            assert got.label == label[entry["category_id"]]
            assert got.crowd == bool(entry.get("iscrowd"))
            if isinstance(entry["segmentation"], dict):
                given = runs(entry["segmentation"], record.size)
                assert np.array_equal(runs(got.segmentation, record.size), given)
            else:
                assert [p.tolist() for p in got.segmentation] == entry["segmentation"]


def outline(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def test_columns_hold_what_the_file_holds(
    tmp_path: Path, content: Any, write: Callable[..., Path]
) -> None:
    lengths = np.array([600, 300, 300])
    masks = [
        [outline(3.07, 4.1, 9.3), outline(20, 5, 4), outline(1 / 3, 0.1234567, 5)],
        {"size": [30, 40], "counts": lengths.tolist()},
        [outline(5, 6, 1.5)],  # so small that it is drawn to know
        pack(lengths, SIZE),
        [outline(-3, -2, 20), outline(655.36 - 640, 1e-9, 100)],
    ]
    for number, mask in enumerate(masks, start=10):
        entry = {"bbox": [1.23, -2.5, 300, 17.77], "segmentation": mask, "id": number}
        content["annotations"].insert(0, content["annotations"][-5] | entry)
    content["annotations"].insert(2, content["annotations"][0] | {"image_id": 99})
    file = write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    assert list(read(file).dropped) == [2]
    require_the_same(file)


@pytest.mark.parametrize("name", ["coco600_400px", "dsb2018_le360"])
def test_columns_hold_what_real_files_hold(name: str, data_dir: Path) -> None:
    require_the_same(find_split(data_dir / name, "val").annotations)


def test_no_object_is_kept_for_an_annotation(coco_folder: Path) -> None:
    images = read(coco_folder / "annotations/instances_train.json").images
    columns = images[0].columns
    assert all(image.columns is columns for image in images)
    values = [getattr(columns, field.name) for field in fields(columns)]
    arrays = [v for value in values for v in (value if isinstance(value, Numbers) else [value])]
    assert all(isinstance(v, float) or not v.dtype.hasobject for v in arrays)


numbers = st.one_of(
    st.integers(-70_000, 70_000).map(lambda n: n / 100), st.floats(width=64), st.just(1 / 3)
)


@given(st.lists(numbers, max_size=50), st.integers(0, 50), st.integers(0, 50))
def test_numbers_come_back_as_they_were(values: list[float], start: int, end: int) -> None:
    given = np.array(values)
    for kind in (given, np.concatenate([np.arange(1000) / 100, given])):
        end = min(end, len(kind))
        assert np.array_equal(Numbers.of(kind).part(start, end), kind[start:end], equal_nan=True)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([0.0, 12.34, 655.35], "uint16"), ([-1.0, 9999.99], "int32"), ([1 / 3, 0.1], "float64")],
)
def test_numbers_take_the_smallest_kind_that_holds_them(values: list[float], kind: str) -> None:
    assert Numbers.of(np.array(values)).stored.dtype == kind


VALUES = [0, 1, 2.5, 3, 10, 29, 30, 31, 40, 41, 180, 181, -180, -181, 1e9, -0.5, True, "7", None]
VALUES += [float("nan"), float("inf"), 10**400]


def mutated(entry: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Change a number of the box or of a mask, or a field."""
    entry = copy.deepcopy(entry)
    value, mask = draw.choice(VALUES), entry["segmentation"]
    action = draw.randrange(6)
    if action < 2:
        entry["bbox"][draw.randrange(4)] = value
    elif action < 4 and isinstance(mask, list):
        mask[0][draw.randrange(len(mask[0]))] = value
    elif action == 4 and isinstance(mask, list):
        mask[draw.randrange(len(mask)) :] = [[3, 3, 9, 3, 9][: draw.randrange(6)]]
    else:
        keys = ["segmentation", "bbox", "image_id", "category_id", "iscrowd"]
        entry[draw.choice(keys)] = draw.choice([value, {}, [], [[]], "x", {"size": [30, 40]}])
    return entry


def test_what_is_cleared_at_a_glance_is_sound_and_most_that_is_sound_is_cleared(
    content: Any,
) -> None:
    draw = random.Random(0)
    sound = [*content["annotations"], content["annotations"][4] | {"segmentation": PACKED}]
    two = content["annotations"][0] | {"segmentation": [outline(3, 3, 9), outline(20, 4, 8)]}
    entries = [mutated(draw.choice([*sound, two]), draw) for _ in range(3000)]
    images, labels = {1: 0, 2: 1, 3: 2, 4: 3}, {9: 0, 7: 1}
    sizes = np.array([SIZE] * 4)
    assert Sheet.of(sound, images, labels).cleared(sound, sizes).tolist() == [
        isinstance(e["segmentation"], list) or e["segmentation"] is PACKED for e in sound
    ]
    sheet = Sheet.of(entries, images, labels)
    for place, (entry, cleared) in enumerate(
        zip(entries, sheet.cleared(entries, sizes).tolist(), strict=True)
    ):
        size = SIZE if sheet.owner[place] >= 0 else None
        fault = annotation_fault(entry, size, bool(sheet.label[place] >= 0))
        assert not (cleared and fault), (entry, fault)


PACKED = pack(np.array([600, 300, 300]), SIZE)


def test_no_annotations_at_all_are_read(
    tmp_path: Path, content: Any, write: Callable[..., Path]
) -> None:
    content["annotations"] = []
    file = write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    assert [record.annotations for record in read(file).images] == [[]] * 4
    assert all(record.empty for record in read(file).images)


def test_packed_run_lengths_stay_as_they_are(coco_folder: Path) -> None:
    file = coco_folder / "annotations/instances_train.json"
    changed = json.loads(file.read_text())
    changed["annotations"][4]["segmentation"] = PACKED
    file.write_text(json.dumps(changed))
    crowd = read(file).images[2].annotations[-1]
    assert crowd.segmentation == PACKED
    assert decode(crowd.segmentation, SIZE).sum() == 300
