"""Files of the usual mistakes are named, and the named settings read them as the right file."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scnet.cli.main import main
from scnet.config import DataConfig
from scnet.data.annotations import AnnotationFile, read_annotations
from scnet.data.check import check
from scnet.data.images import DataError
from scnet.data.repair import repair
from scnet.ops.rle import decode, encode

Coco = dict[str, Any]
Change = Callable[[dict[str, Any], int, int], None]  # of an annotation, image width and height

SIZES = ((320, 240), (250, 400), (600, 450))  # width, height


def right_file(packed: bool, number: int = 24, seed: int = 0) -> Coco:
    """Return objects of many places and shapes in images of several sizes."""
    random = np.random.default_rng(seed)
    images = [
        {"id": i + 1, "file_name": f"{i}.png", "width": w, "height": h}
        for i, (w, h) in enumerate(SIZES)
    ]
    annotations = []
    for n in range(number):
        image = images[n % len(images)]
        width, height = image["width"], image["height"]
        low = random.uniform(0, 0.6, 2)
        high = low + random.uniform(0.15, 0.38, 2)
        x1, y1 = (low * (width, height)).round()
        x2, y2 = (high * (width, height)).round()
        annotations.append(_object(n + 1, image["id"], (x1, y1, x2, y2), (width, height), packed))
    categories = [{"id": 1, "name": "cell"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def _object(number: int, image: int, box: Any, size: Any, packed: bool) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(v) for v in box)
    middle = (x1 + x2) / 2
    mask: Any = [[middle, y1, x2, (y1 + y2) / 2, middle, y2, x1, (y1 + y2) / 2]]
    if packed:
        pixels = torch.zeros(size[1], size[0], dtype=torch.bool)
        pixels[int(y1) : int(y2), int(x1) : int(x2)] = True
        pixels[int(y1), int(x1)] = False
        mask = encode(pixels)
    found = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0}
    return found | {"bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": mask}


def corners(entry: dict[str, Any], width: int, height: int) -> None:
    x, y, w, h = entry["bbox"]
    entry["bbox"] = [x, y, x + w, y + h]


def centres(entry: dict[str, Any], width: int, height: int) -> None:
    x, y, w, h = entry["bbox"]
    entry["bbox"] = [x + w / 2, y + h / 2, w, h]


def parts_of_boxes(whole: float) -> Change:
    def change(entry: dict[str, Any], width: int, height: int) -> None:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [whole * x / width, whole * y / height, whole * w / width]
        entry["bbox"].append(whole * h / height)

    return change


def parts_of_masks(whole: float) -> Change:
    def change(entry: dict[str, Any], width: int, height: int) -> None:
        if isinstance(entry["segmentation"], list):
            points = np.reshape(entry["segmentation"][0], (-1, 2)) * whole / (width, height)
            entry["segmentation"] = [points.ravel().tolist()]

    return change


def swapped_boxes(entry: dict[str, Any], width: int, height: int) -> None:
    x, y, w, h = entry["bbox"]
    entry["bbox"] = [y, x, h, w]


def swapped_masks(entry: dict[str, Any], width: int, height: int) -> None:
    points = np.reshape(entry["segmentation"][0], (-1, 2))[:, ::-1]
    entry["segmentation"] = [points.ravel().tolist()]


def upward_boxes(entry: dict[str, Any], width: int, height: int) -> None:
    x, y, w, h = entry["bbox"]
    entry["bbox"] = [x, height - y - h, w, h]


def along_rows(entry: dict[str, Any], width: int, height: int) -> None:
    turned = encode(decode(entry["segmentation"], (height, width)).T)
    entry["segmentation"] = {"size": [height, width], "counts": turned["counts"]}


def of_turned_mask(entry: dict[str, Any], width: int, height: int) -> None:
    entry["segmentation"] = encode(decode(entry["segmentation"], (height, width)).T)


def swapped_size(entry: dict[str, Any], width: int, height: int) -> None:
    entry["segmentation"] = entry["segmentation"] | {"size": [width, height]}


POLYGONS: dict[str, tuple[tuple[Change, ...], dict[str, str]]] = {
    "corners": ((corners,), {"boxes": "corners"}),
    "centres": ((centres,), {"boxes": "centres"}),
    "normalised": ((parts_of_boxes(1), parts_of_masks(1)), {"coordinates": "normalised"}),
    "percent": ((parts_of_boxes(100), parts_of_masks(100)), {"coordinates": "percent"}),
    "thousandths": ((parts_of_boxes(1000), parts_of_masks(1000)), {"coordinates": "thousandths"}),
    "swapped": ((swapped_boxes, swapped_masks), {"coordinates": "swapped"}),
    "boxes normalised": ((parts_of_boxes(1),), {"box_coordinates": "normalised"}),
    "boxes percent": ((parts_of_boxes(100),), {"box_coordinates": "percent"}),
    "boxes swapped": ((swapped_boxes,), {"box_coordinates": "swapped"}),
    "polygons normalised": (
        (parts_of_masks(1),),
        {"coordinates": "normalised", "box_coordinates": "pixels"},
    ),
    "corners normalised": (
        (corners, parts_of_boxes(1), parts_of_masks(1)),
        {"boxes": "corners", "coordinates": "normalised"},
    ),
    "centres normalised, as YOLO's, with polygons in pixels": (
        (centres, parts_of_boxes(1)),
        {"boxes": "centres", "box_coordinates": "normalised"},
    ),
    "corners swapped": (
        (corners, swapped_boxes),
        {"boxes": "corners", "box_coordinates": "swapped"},
    ),
}
PACKED: dict[str, tuple[tuple[Change, ...], dict[str, str]]] = {
    "corners": ((corners,), {"boxes": "corners"}),
    "centres": ((centres,), {"boxes": "centres"}),
    "normalised": ((parts_of_boxes(1),), {"coordinates": "normalised"}),
    "percent": ((parts_of_boxes(100),), {"coordinates": "percent"}),
    "swapped": ((swapped_boxes,), {"coordinates": "swapped"}),
    "upward": ((upward_boxes,), {"coordinates": "upward"}),
    "rows": ((along_rows,), {"run_lengths": "rows"}),
    "rows, of a mask turned over": ((of_turned_mask,), {"run_lengths": "rows"}),
    "swapped size": ((swapped_size,), {"run_lengths": "swapped_size"}),
    "rows and corners": ((along_rows, corners), {"run_lengths": "rows", "boxes": "corners"}),
}
CASES = [(False, *case) for case in POLYGONS.values()] + [(True, *case) for case in PACKED.values()]
NAMES = [f"polygons: {name}" for name in POLYGONS] + [f"run lengths: {name}" for name in PACKED]


def changed(content: Coco, changes: tuple[Change, ...], share: float = 1.0) -> Coco:
    """Return a file in which a share of the annotations has been changed."""
    found = copy.deepcopy(content)
    images = {image["id"]: image for image in found["images"]}
    for entry in found["annotations"][: round(share * len(found["annotations"]))]:
        image = images[entry["image_id"]]
        for change in changes:
            change(entry, image["width"], image["height"])
    return found


def read(folder: Path, content: Coco, **how: Any) -> AnnotationFile:
    file = folder / "instances.json"
    file.write_text(json.dumps(content))
    return read_annotations(file, None, DataConfig(**how))


def objects(found: AnnotationFile) -> list[Any]:
    """Return what is annotated, as plain numbers."""
    return [
        (record.size, a.box, [list(s) for s in mask] if isinstance(mask, list) else mask)
        for record in found.images
        for a in record.annotations
        for mask in (a.segmentation,)
    ]


@pytest.mark.parametrize(("packed", "changes", "meant"), CASES, ids=NAMES)
def test_a_mistake_is_named_and_the_named_settings_read_the_right_file(
    packed: bool, changes: tuple[Change, ...], meant: dict[str, str], tmp_path: Path
) -> None:
    right = right_file(packed)
    wrong = changed(right, changes)
    fields = ("boxes", "coordinates", "box_coordinates", "run_lengths")
    ordered = {field: meant[field] for field in fields if field in meant}
    switches = " ".join(f"--data.{k.replace('_', '-')} {v}" for k, v in ordered.items())
    with pytest.raises(DataError, match=rf"of 24 annotations.* 24 agree; set {switches}, or "):
        read(tmp_path, wrong)
    found = read(tmp_path, wrong, **meant)
    expected = read(tmp_path, right)
    assert objects(found) == objects(expected)
    assert not expected.notes
    assert len(found.notes) == 1
    assert found.notes[0].startswith("24 annotations read with ")


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), packed=st.booleans(), number=st.integers(1, 40))
def test_right_files_are_never_accused(
    tmp_path: Path, seed: int, packed: bool, number: int
) -> None:
    assert not read(tmp_path, right_file(packed, number, seed)).notes


def test_boxes_that_are_loose_or_of_what_is_visible_are_no_mistake(tmp_path: Path) -> None:
    content = right_file(packed=False, number=30)
    for n, entry in enumerate(content["annotations"]):
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x, y, w, 0.6 * h] if n % 2 else [x - 2, y - 2, w + 4, h + 4]
    assert not read(tmp_path, content).notes


@pytest.mark.parametrize("case", ["corners", "boxes normalised", "normalised"])
def test_a_mixture_is_warned_of_and_not_stopped(case: str, tmp_path: Path) -> None:
    changes = POLYGONS[case][0]
    content = right_file(packed=False, number=30)
    if case == "normalised":  # what is smaller than a pixel stops for itself
        content = changed(content, changes, 0.3)
        with pytest.raises(DataError, match=r"annotation 1 .*--data\.drop-invalid"):
            read(tmp_path, content)
        return
    notes = read(tmp_path, changed(content, changes, 0.3)).notes
    assert len(notes) == 1
    assert re.search(r"in [89] of 30 annotations, such as annotation 1 \(image 1, 0.png", notes[0])
    assert "make the file one of a kind" in notes[0]


def test_boxes_of_masks_read_any_boxes(tmp_path: Path) -> None:
    for packed in (False, True):
        right = right_file(packed)
        wrong = copy.deepcopy(right)
        for n, entry in enumerate(wrong["annotations"]):
            entry["bbox"] = [n, 2 * n, 3, 4]
        notes = read(tmp_path, wrong).notes
        assert "--data.boxes masks takes boxes from the masks" in notes[0]
        found = read(tmp_path, wrong, boxes="masks")
        assert objects(found) == objects(read(tmp_path, right))


@pytest.mark.parametrize("size", [None, (640, 512)])
@pytest.mark.parametrize("packed", [False, True])
def test_boxes_of_another_size_of_images_are_named(
    packed: bool, size: tuple[int, int] | None, tmp_path: Path
) -> None:
    right = right_file(packed)
    images = {image["id"]: image for image in right["images"]}
    wrong = copy.deepcopy(right)
    for entry in wrong["annotations"]:
        image = images[entry["image_id"]]
        x_scale, y_scale = (size[0] / image["width"], size[1] / image["height"]) if size else (2, 2)
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x * x_scale, y * y_scale, w * x_scale, h * y_scale]
    how = "those of images of 640 x 512" if size else r"scaled by 0\.5 \(x\) and 0\.5 \(y\)"
    with pytest.raises(DataError, match=rf"{how}, 24 agree; set --data.boxes masks, or"):
        read(tmp_path, wrong)
    assert objects(read(tmp_path, wrong, boxes="masks")) == objects(read(tmp_path, right))


def test_marks_for_larger_images_are_spoken_of(tmp_path: Path) -> None:
    content = right_file(packed=False)
    for image in content["images"]:
        image["width"], image["height"] = image["width"] * 2 // 3, image["height"] * 2 // 3
    notes = read(tmp_path, content).notes
    assert (
        "of images; if these were made smaller since, scale marks too, as --data.scale-marks"
        in notes[0]
    )


def shrunk(side: int) -> Coco:
    """Return marks made on square images of a side that have 640 pixels now."""
    content = right_file(packed=False, number=40)
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for entry in content["annotations"]:
        scale = np.array([side, side]) / sizes[entry["image_id"]]
        for numbers in (entry["bbox"], *entry["segmentation"]):
            numbers[:] = (np.reshape(numbers, (-1, 2)) * scale).ravel().tolist()
    for image in content["images"]:
        image["width"] = image["height"] = 640
    return content


def test_thousandths_may_be_images_made_smaller(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="coordinates thousandths, or") as caught:
        read(tmp_path, shrunk(960))
    assert "if images were made smaller since, --data.scale-marks '[0.5,0.5]'" in str(caught.value)
    (tmp_path / "data.json").write_text(json.dumps(shrunk(960)))
    with pytest.raises(DataError, match="made smaller since"):  # none is chosen without a word
        repair(tmp_path / "data.json", tmp_path / "fixed", DataConfig())


def test_marks_beyond_a_thousand_are_no_thousandths(tmp_path: Path) -> None:
    content = shrunk(1024)
    for entry in content["annotations"][::10]:
        entry["bbox"] = [924, 924, 100, 100]
        entry["segmentation"] = [[924, 924, 1024, 924, 1024, 1024, 924, 1024]]
    with pytest.raises(DataError, match=r"outside the image.*drop-invalid; .*scale marks too"):
        read(tmp_path, content)
    contradiction = read(tmp_path, content, drop_invalid=True).notes[0]
    assert "scale marks too" in contradiction
    assert "thousandths" not in contradiction


def test_a_switch_that_makes_a_right_file_worse_stops(tmp_path: Path) -> None:
    for how in ({"boxes": "corners"}, {"coordinates": "normalised"}, {"coordinates": "swapped"}):
        with pytest.raises(DataError, match="contradict") as caught:
            read(tmp_path, right_file(packed=False), **how)
        name, _ = next(iter(how.items()))
        plain = {"boxes": "xywh", "coordinates": "pixels"}[name]
        assert f"set --data.{name} {plain}, or" in str(caught.value)


def test_what_two_readings_explain_as_well_is_left_to_whom_it_concerns(tmp_path: Path) -> None:
    wrong = changed(right_file(packed=False), (upward_boxes,))
    with pytest.raises(DataError, match="whichever the pictures show") as caught:
        read(tmp_path, wrong)
    assert "--data.box-coordinates upward" in str(caught.value)
    assert "--data.coordinates upward --data.box-coordinates pixels" in str(caught.value)


def test_contradictions_can_be_let_through(tmp_path: Path) -> None:
    wrong = changed(right_file(packed=False), (corners,))
    notes = read(tmp_path, wrong, contradictions="warn").notes
    assert "24 agree" in notes[0]


def test_check_and_its_mended_copy_tell_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    right = right_file(packed=False)
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(changed(right, (corners, parts_of_boxes(1), parts_of_masks(1)))))
    errors = [str(p) for p in check(file).errors]
    with pytest.raises(DataError) as caught:
        read_annotations(file, None, DataConfig())
    assert f"error: {caught.value}" in errors
    assert all("none of its images" in error for error in errors if "contradict" not in error)
    main(["check-data", str(file), "--quiet", "--fix", "fixed"])
    assert "24 agree" in capsys.readouterr().out
    mended = read_annotations(tmp_path / "fixed/instances.json", None, DataConfig())
    assert objects(mended) == objects(read(tmp_path, right))
