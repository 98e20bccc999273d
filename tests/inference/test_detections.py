"""Detections: one value that keeps boxes, scores, labels and masks together."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as rle_mask
from PIL import Image

from scnet.inference.detections import ROWS, Detections

SIZE = (40, 60)


def make(count: int, **changes: object) -> Detections:
    masks = np.zeros((count, *SIZE), np.uint8)
    for i in range(count):
        masks[i, i % 30 : i % 30 + 5, i % 50 : i % 50 + 8] = 1
    rle = [rle_mask.encode(np.asfortranarray(m)) for m in masks]
    values: dict[str, object] = {
        "boxes": torch.tensor([[i % 50, i % 30, i % 50 + 8, i % 30 + 5] for i in range(count)])
        .reshape(-1, 4)
        .float(),
        "scores": torch.linspace(0.9, 0.1, count),
        "labels": torch.arange(count) % 2,
        "rle": [{"size": list(SIZE), "counts": r["counts"].decode()} for r in rle],
        "size": SIZE,
        "classes": ("cat", "dog"),
        "category_ids": (17, 18),
    }
    return Detections(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (2, [2]),
        (-1, [4]),
        (np.int64(1), [1]),
        (slice(1, None, 2), [1, 3]),
        (slice(None, None, -1), []),
        ([3, 0], [3, 0]),
        ([], []),
        (torch.tensor([4, -5]), [4, 0]),
        (np.array([1, 1]), [1, 1]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
        (np.array([False] * 5), []),
        ([False, True, False, False, False], [1]),
    ],
)
def test_every_kind_of_index_keeps_the_fields_together(index: object, expected: list[int]) -> None:
    found = make(5)
    if isinstance(index, slice) and index.step == -1:
        expected = [4, 3, 2, 1, 0]
    chosen = found[index]
    assert isinstance(chosen, Detections)
    assert chosen.boxes.tolist() == found.boxes[expected].tolist()
    assert chosen.scores.tolist() == found.scores[expected].tolist()
    assert chosen.names == [found.names[i] for i in expected]
    assert chosen.rle == [found.rle[i] for i in expected]
    assert len(chosen) == len(expected)


@pytest.mark.parametrize("index", [5, -6, [0, 7], torch.ones(4, dtype=torch.bool)])
def test_an_index_outside_is_an_index_error(index: object) -> None:
    with pytest.raises(IndexError):
        make(5)[index]


def test_iterating_gives_one_object_at_a_time() -> None:
    assert [len(one) for one in make(3)] == [1, 1, 1]


def test_masks_are_the_pixels_of_the_run_lengths() -> None:
    masks = make(3).masks()
    assert masks.shape == (3, *SIZE)
    assert masks.dtype == torch.bool
    assert masks[2].nonzero().amin(0).tolist() == [2, 2]
    assert masks.flatten(1).sum(1).tolist() == [40, 40, 40] == make(3).areas


def test_to_coco_is_json_with_category_ids_and_xywh() -> None:
    rows = json.loads(json.dumps(make(3).to_coco(image_id=7)))
    assert [r["category_id"] for r in rows] == [17, 18, 17]
    assert rows[1]["bbox"] == [1.0, 1.0, 8.0, 5.0]
    assert {r["image_id"] for r in rows} == {7}
    assert rows[0]["segmentation"]["size"] == list(SIZE)


def test_empty_detections_work_everywhere() -> None:
    found = make(0, image=np.zeros((*SIZE, 3), np.uint8))
    assert found.masks().shape == (0, *SIZE)
    assert found.to_coco(1) == []
    assert found.names == []
    assert len(found[found.scores > 0.5]) == 0
    assert "0 objects" in str(found)
    assert found.plot().size[0] >= SIZE[1]


def test_the_table_is_short_however_many_objects() -> None:
    lines = str(make(100, path="cells.png")).splitlines()
    assert "100 objects in cells.png" in lines[0]
    assert len(lines) == ROWS + 3
    assert lines[-1].endswith("80 more")


def test_fields_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        make(3, rle=[])


def test_masks_have_the_score_of_their_box_unless_the_model_scores_them() -> None:
    found = make(3)
    assert found.mask_scores is found.scores
    assert all("mask_score" not in row for row in found.to_coco(1))
    ious = torch.tensor([0.5, 1.0, 0.25])
    scored = make(3, mask_ious=ious)
    assert torch.equal(scored.mask_scores, found.scores * ious)
    rows = json.loads(json.dumps(scored.to_coco(1)))
    assert [row.pop("mask_score") for row in rows] == scored.mask_scores.tolist()
    assert rows == json.loads(json.dumps(found.to_coco(1)))  # score is that of the box
    assert scored[[2, 0]].mask_scores.tolist() == scored.mask_scores[[2, 0]].tolist()
    assert len(scored[scored.mask_scores > 0.4]) == 2
    assert str(scored) == str(found)
    with pytest.raises((ValueError, TypeError), match="mask_ious"):  # or the check of shapes
        make(3, mask_ious=ious[:2])


def test_supervision_gets_the_score_of_the_box_and_that_of_the_mask_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def detections(**given: object) -> dict[str, object]:
        return given

    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=detections))
    plain, scored = (make(2, mask_ious=x).to_supervision() for x in (None, torch.full((2,), 0.5)))
    assert plain["data"].keys() == {"class_name"}
    assert scored["confidence"].tolist() == plain["confidence"].tolist()
    assert scored["data"]["mask_score"].tolist() == (plain["confidence"] / 2).tolist()


def test_missing_supervision_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        make(1).to_supervision()


def test_plot_reads_the_image_from_its_path(tmp_path: object) -> None:
    path = f"{tmp_path}/image.png"
    Image.new("RGB", SIZE[::-1]).save(path)
    assert make(2, path=path).plot().width >= SIZE[1]
    with pytest.raises(ValueError, match="nothing to plot on"):
        make(2).plot()
