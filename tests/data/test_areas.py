"""Areas that are not those of the masks are named, and the evaluation goes by the masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scnet.cli.main import main
from scnet.config import DataConfig
from scnet.data.areas import area_fault
from scnet.data.check import check
from scnet.data.coco import load_dataset
from scnet.evaluation.scoring import score
from scnet.ops.rle import to_rle

SIZE = (100, 120)


def triangles(number: int = 6, **fields: Any) -> list[dict[str, Any]]:
    """Return objects of 20 x 40 that fill half of their boxes."""
    return [
        {
            "id": i + 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [i, i, 20, 40],
            "segmentation": [[i, i, i + 20, i, i, i + 40]],
            "area": 400,
            "iscrowd": 0,
            **fields,
        }
        for i in range(number)
    ]


@pytest.mark.parametrize(
    ("area", "said"),
    [
        (0, "area is 0, not that of the mask (looked at 6 of 6 annotations)"),
        (1.0, "area is 1, not that"),
        (800, "area is that of the box, not that of the mask"),
        (100_000, "area is less than half or more than twice that of the mask"),
    ],
)
def test_what_areas_are_instead_is_said(area: float, said: str) -> None:
    assert said in area_fault(triangles(area=area), {1: SIZE})


def test_areas_of_masks_are_nothing_to_speak_of() -> None:
    assert not area_fault(triangles(), {1: SIZE})
    assert not area_fault(triangles(area=430), {1: SIZE})  # edges counted in another way
    assert not area_fault(triangles(area=None), {1: SIZE})
    assert not area_fault([], {})
    full = triangles(segmentation=[[0, 0, 20, 0, 20, 40, 0, 40]], area=800)
    assert not area_fault(full, {1: SIZE})  # the mask is its box


def test_the_evaluation_and_a_mended_copy_take_the_areas_of_masks(
    tmp_path: Path, content: Any, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    right = [entry["area"] for entry in content["annotations"]]
    for entry in content["annotations"]:
        entry["area"] = 0
    file = write(content, tmp_path / "data/annotations/instances_val.json", tmp_path / "data/val")
    dataset = load_dataset(file, "val", DataConfig(), train=False)
    assert [a["area"] for a in dataset.ground_truth["annotations"]] == right
    assert any("APs, APm and APl go by those of the masks" in note for note in dataset.notes)
    found = [
        a | {"score": 1.0, "segmentation": to_rle(a["segmentation"], (30, 40))}
        for a in dataset.ground_truth["annotations"]
        if not a["iscrowd"]
    ]
    assert score(dataset.ground_truth, found)["segm"]["APm"] == pytest.approx(1)
    warned = [p for p in check(file).problems if p.severity == "warning"]
    assert [p.reason for p in warned] == [dataset.area_fault]
    main(["check-data", "data", "--quiet", "--fix", "fixed"])
    mended = json.loads((tmp_path / "fixed/annotations/instances_val.json").read_text())
    assert [a["area"] for a in mended["annotations"]] == right
