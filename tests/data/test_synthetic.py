"""The generated data set: always the same, truthful about what is visible, careful with folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scnet.data.synthetic.relief import OTHERS, Light, sprite
from scnet.data.synthetic.scene import CLASSES, SMALLEST, generate, scene
from scnet.ops.rle import decode

LIGHT = Light(azimuth=np.pi, elevation=0.8, ambient=0.3, gloss=0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("sets") / "discs", train=6, val=3, size=(192, 256))


def annotations(folder: Path, split: str = "train") -> dict[str, Any]:
    values: dict[str, Any] = json.loads(
        (folder / f"annotations/instances_{split}.json").read_text()
    )
    return values


def files(folder: Path) -> dict[str, bytes]:
    found = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def test_layout_is_coco(folder: Path) -> None:
    assert [c["name"] for c in annotations(folder)["categories"]] == list(CLASSES)
    for split, count in (("train", 6), ("val", 3)):
        images = annotations(folder, split)["images"]
        assert len(images) == count
        for entry in images:
            with Image.open(folder / split / entry["file_name"]) as image:
                assert image.size == (entry["width"], entry["height"]) == (256, 192)


def test_annotations_describe_their_masks_and_masks_never_overlap(folder: Path) -> None:
    seen: dict[int, np.ndarray[Any, Any]] = {}
    for a in annotations(folder)["annotations"]:
        mask = decode(a["segmentation"], (192, 256)).numpy()
        rows, columns = np.nonzero(mask)
        x, y, w, h = a["bbox"]
        assert (x, y, x + w, y + h) == (
            columns.min(),
            rows.min(),
            columns.max() + 1,
            rows.max() + 1,
        )
        assert a["area"] == mask.sum() >= SMALLEST
        taken = seen.setdefault(a["image_id"], np.zeros_like(mask))
        assert not (taken & mask).any()
        taken |= mask


def test_the_same_seed_gives_the_same_files_and_another_does_not(
    folder: Path, tmp_path: Path
) -> None:
    assert files(generate(tmp_path / "a", train=6, val=3, size=(192, 256))) == files(folder)
    other = files(generate(tmp_path / "b", train=6, val=3, size=(192, 256), seed=1))
    assert other["train/000001.jpg"] != files(folder)["train/000001.jpg"]


def test_no_image_of_one_split_is_in_the_other(folder: Path) -> None:
    images = [data for name, data in files(folder).items() if name.endswith(".jpg")]
    assert len(set(images)) == 9


def test_the_same_set_is_used_again_and_anything_else_is_left_alone(
    folder: Path, tmp_path: Path
) -> None:
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert generate(folder, train=6, val=3, size=(192, 256)) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    with pytest.raises(FileExistsError, match="discs"):
        generate(folder, train=7, val=3, size=(192, 256))
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        generate(tmp_path, train=1, val=1)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]


def test_an_empty_folder_is_filled_and_nothing_else_remains(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    generate(tmp_path / "new", train=1, val=1, size=(96, 96))
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_scenes_vary_in_kind_and_number() -> None:
    scenes = [scene(np.random.default_rng([0, i]), (256, 256)) for i in range(24)]
    assert {pixels.shape[2] for pixels, _ in scenes} == {1, 3}
    assert {label for _, objects in scenes for label, _ in objects} == {0, 1}
    counts = [len(objects) for _, objects in scenes]
    assert min(counts) >= 1
    assert max(counts) <= 30
    assert np.ptp(counts) > 10


@pytest.mark.parametrize("kind", ["disc", *OTHERS])
@pytest.mark.parametrize("side", [16, 110])
def test_an_object_fits_its_square_and_fills_its_size(kind: str, side: int) -> None:
    mask = sprite(np.random.default_rng(3), side, kind, LIGHT).mask
    assert mask.any(0).sum() >= 0.4 * side
    outside = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert not outside.any()


def test_the_side_towards_the_light_is_brighter() -> None:
    brightness = [sprite(np.random.default_rng(i), 60, "disc", LIGHT).brightness for i in range(20)]
    left, right = np.mean(brightness, axis=0)[33, [4, 5]], np.mean(brightness, axis=0)[33, [-6, -5]]
    assert left.mean() > right.mean()
