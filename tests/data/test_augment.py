"""Jitter, copy-paste and skipped images: everything that lies on an image follows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from scnet.config import DataConfig, OptimConfig
from scnet.data.coco import CocoDataset, DataError, load_dataset
from scnet.data.copy_paste import covered, hidden, paste_objects
from scnet.data.loader import collate, train_loader
from scnet.data.repeats import Draw
from scnet.data.transforms import (
    Objects,
    Sample,
    keep_visible,
    mask_box,
    train_view,
    view_boxes,
    view_crop,
    view_image,
    view_mask,
)
from scnet.ops.masks import Crop, crop, cut_crop, hide_crop
from scnet.ops.rle import decode
from scnet.settings import ConfigError
from scnet.types import IGNORE, Batch, ImageInfo, Size, View

PLAIN = DataConfig(size=(30, 40), flip=0.0, workers=0)
JITTER = replace(PLAIN, jitter=(0.2, 3.0), flip=0.5, vertical_flip=0.5)
forking = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def load(path: Path, config: DataConfig, **options: Any) -> CocoDataset:
    return load_dataset(path, "train", config, **{"train": True, **options})


def full(piece: Crop, size: Size) -> Tensor:
    """The mask of a crop in its image."""
    return covered([piece], size)


def blob(random: np.random.Generator, size: Size) -> Tensor:
    """A mask of a few rectangles, which may touch the border and leave holes."""
    mask = torch.zeros(size, dtype=torch.bool)
    for _ in range(int(random.integers(0, 4))):
        y, x = int(random.integers(size[0])), int(random.integers(size[1]))
        mask[y : y + int(random.integers(1, 9)), x : x + int(random.integers(1, 9))] = True
    return mask


def sample(masks: list[Tensor], size: Size, grey: int, **fields: Any) -> Sample:
    crops = tuple(crop(mask) for mask in masks)
    boxes = torch.tensor([mask_box(c) for c in crops], dtype=torch.float32).reshape(-1, 4)
    objects = Objects(boxes, torch.arange(len(masks)), crops)
    image = torch.full((3, *size), grey, dtype=torch.uint8)
    return Sample(image, ImageInfo(1, "1.png", View.whole(size)), objects, **fields)


def rectangle(size: Size, top: int, left: int, bottom: int, right: int) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize("seed", range(30))
def test_cutting_a_crop_is_cropping_the_part_of_the_mask(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = blob(random, (17, 23))
    top, left = int(random.integers(-4, 17)), int(random.integers(-4, 23))
    bottom, right = top + int(random.integers(1, 20)), left + int(random.integers(1, 20))
    canvas = torch.zeros(60, 60, dtype=torch.bool)
    canvas[20:37, 20:43] = mask
    expected = crop(canvas[20 + top : 20 + bottom, 20 + left : 20 + right])
    found = cut_crop(crop(mask), (left, top, right, bottom))
    assert found.origin == expected.origin
    assert torch.equal(found.pixels, expected.pixels)


@pytest.mark.parametrize("seed", range(30))
def test_hiding_a_crop_is_cropping_what_is_not_covered(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask, cover = blob(random, (12, 15)), blob(random, (12, 15))
    expected, found = crop(mask & ~cover), hide_crop(crop(mask), cover)
    assert found.origin == expected.origin
    assert torch.equal(found.pixels, expected.pixels)


@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_what_a_window_shows_is_a_part_of_the_whole(
    horizontal: bool, vertical: bool, turned: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    polygon = [[3.3, 2.1, 36.7, 9.5, 28.2, 27.9, 8.8, 20.4]]
    whole = View((30, 40), (75, 100), (0, 0, 100, 75))
    view = View((30, 40), (75, 100), (21, 10, 81, 47), horizontal, vertical, turned)
    axes = [axis for axis, flip in ((-2, vertical), (-1, horizontal)) if flip]
    quarters = int(turned)  # to the left, as NumPy turns
    image = view_image(Image.fromarray(pixels), whole)[:, 10:47, 21:81].flip(axes)
    expected_image = np.rot90(image.numpy(), quarters, (1, 2))
    assert np.array_equal(view_image(Image.fromarray(pixels), view).numpy(), expected_image)
    part = full(view_mask(polygon, whole), (75, 100))[10:47, 21:81].flip(axes)
    mask = torch.from_numpy(np.rot90(part.numpy(), quarters).copy())
    assert view.size == tuple(mask.shape)
    expected, found = crop(mask), view_mask(polygon, view)
    assert torch.equal(mask, full(found, view.size))
    # The box of the polygon, cut at the window, encloses the mask as closely as before.
    xs, ys = polygon[0][::2], polygon[0][1::2]
    box = view_boxes(torch.tensor([[min(xs), min(ys), max(xs), max(ys)]]), view)[0]
    tight = torch.tensor(mask_box(found), dtype=torch.float32)
    assert (box - tight).abs().max() <= 1.5
    assert found.origin == expected.origin
    assert torch.equal(found.pixels, expected.pixels)


def test_quarter_turns_are_all_as_frequent_and_mirror_nothing() -> None:
    config = replace(PLAIN, quarter_turns=True)
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8))
    upright = view_image(pixels, View.whole((30, 40))).numpy()
    turns = [np.rot90(upright, k, (1, 2)) for k in range(4)]
    counts = [0] * 4
    for seed in range(400):
        view = train_view((30, 40), config, np.random.default_rng(seed))
        assert not view.reflected
        seen = view_image(pixels, view).numpy()
        assert view.size == seen.shape[1:]
        found = [k for k in range(4) if np.array_equal(seen, turns[k])]
        counts[found[0]] += 1
    assert min(counts) > 70
    # A turned view has no way back, and says so in all that is computed with it.
    turned = View((30, 40), (30, 40), (0, 0, 40, 30), turned=True)
    assert np.isnan(turned.inverse.scale).all()
    assert turned.inverse.size == (40, 30)


def test_a_turned_window_has_the_size_that_is_set() -> None:
    config = DataConfig(size=(30, 50), scale_factor=2.0, quarter_turns=True)
    sizes = {train_view((90, 90), config, np.random.default_rng(s)).size for s in range(20)}
    assert sizes == {(30, 50)}


def test_resizing_is_pillows_but_for_rounding() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    image = Image.fromarray(pixels)
    for size in ((45, 60), (37, 113), (200, 150), (9, 9)):
        view = View((90, 120), size, (0, 0, *size[::-1]))
        expected = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
        found = view_image(image, view).permute(1, 2, 0).numpy()
        assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("original", [(480, 640), (640, 480), (50, 50)])
def test_jitter_scales_within_its_range_and_cuts_to_the_size(original: Size) -> None:
    config = DataConfig(size=(100, 150), jitter=(0.1, 2.0))
    usual = min(100 / min(original), 150 / max(original))
    factors = []
    for seed in range(300):
        view = train_view(original, config, np.random.default_rng(seed))
        factors.append(view.inverse.scale[0] / usual)
        left, top, right, bottom = view.window
        assert 0 <= left < right <= view.resized[1]
        assert 0 <= top < bottom <= view.resized[0]
        assert min(view.size) == min(min(view.resized), 100)
        assert max(view.size) == min(max(view.resized), 150)
    assert 0.09 < min(factors) < 0.2
    assert 1.9 < max(factors) < 2.05


def test_jitter_keeps_boxes_masks_and_semantic_map_together(coco_folder: Path) -> None:
    dataset = load(coco_folder, JITTER, semantic=True)
    seen = 0
    for epoch in range(40):
        dataset.set_epoch(epoch)
        for found in (dataset[i] for i in range(4)):
            assert found.objects is not None
            assert found.semantic is not None
            height, width = found.image.shape[1:]
            assert height <= 30
            assert width <= 40
            assert found.semantic.shape == (height, width)
            painted = torch.zeros(height, width, dtype=torch.bool)
            for mask, box in zip(found.objects.masks, found.objects.boxes, strict=True):
                assert (box - torch.tensor(mask_box(mask))).abs().max() <= 1
                assert (box >= 0).all()
                assert (box <= torch.tensor([width, height] * 2)).all()
                painted |= full(mask, (height, width))
                seen += 1
            free = found.semantic.eq(2) | found.semantic.eq(IGNORE)
            assert torch.equal(~free, painted)
    assert seen > 100


def test_a_window_beside_all_objects_gives_an_empty_sample(coco_folder: Path) -> None:
    dataset = load(coco_folder, replace(PLAIN, jitter=(4.0, 4.0)), semantic=True)
    empty = 0
    for epoch in range(30):
        dataset.set_epoch(epoch)
        found = dataset[2]
        assert found.objects is not None
        empty += not len(found.objects.labels)
        targets = collate([found]).targets
        assert targets is not None
        assert targets.counts == (len(found.objects.masks),)
    assert 0 < empty < 30


def test_objects_cut_to_almost_nothing_go() -> None:
    size = (20, 40)
    masks = [rectangle(size, 2, 2, 12, left) for left in (22, 12)]
    given = sample([*masks, rectangle(size, 15, 15, 17, 16)], size, 0).objects
    assert given is not None
    cover = rectangle(size, 0, 3, 20, 40)  # leaves 10 of 200, 10 of 100 and 0 of 2 pixels
    assert hidden(given, cover).labels.tolist() == [0, 1]
    cover[:, 2:3] = True
    cover[2:6, 2] = False  # leaves 4 of 200 and of 100 pixels
    assert hidden(given, cover).labels.tolist() == []
    assert keep_visible(given, [200, 100, 2]).boxes.equal(given.boxes)
    left = hidden(given, rectangle(size, 0, 6, 20, 40))
    assert left.boxes.tolist() == [[2, 2, 6, 12], [2, 2, 6, 12]]


def test_pasted_objects_hide_what_is_below_them() -> None:
    size = (30, 40)
    below = [rectangle(size, 5, 5, 20, 20), rectangle(size, 0, 30, 10, 40)]
    above = rectangle(size, 10, 10, 18, 32)
    before, source = sample(below, size, 10), sample([above], size, 200)
    after = paste_objects(before, source, np.random.default_rng(0))
    assert after.objects is not None
    assert torch.equal(after.image[0] == 200, above)
    assert after.objects.labels.tolist() == [0, 1, 0]
    masks = [full(mask, size) for mask in after.objects.masks]
    assert torch.equal(masks[0], below[0] & ~above)
    assert torch.equal(masks[1], below[1])
    assert torch.equal(masks[2], above)
    assert after.objects.boxes[0].tolist() == [5, 5, 20, 20]
    assert before.image.unique().tolist() == [10]


def test_a_pasted_object_keeps_its_place_in_the_source_image() -> None:
    big, little = (40, 50), (20, 15)
    for size, other in ((big, little), (little, big), (big, big)):
        pixels = torch.randint(0, 256, (3, *other), dtype=torch.uint8)
        inner = rectangle(
            other, other[0] // 2 - 3, other[1] // 2 - 2, other[0] // 2 + 3, other[1] // 2 + 3
        )
        source = replace(sample([inner], other, 0), image=pixels)
        pasted = 0
        for seed in range(20):
            random = np.random.default_rng(seed)
            after = paste_objects(sample([], size, 7), source, random)
            assert after.objects is not None
            for mask in after.objects.masks:
                pasted += 1
                area = full(mask, size)
                assert (after.image[:, ~area] == 7).all()
                if int(area.sum()) == int(inner.sum()):
                    assert torch.equal(after.image[:, area], pixels[:, inner])
        assert pasted >= 5


def test_a_fully_hidden_object_is_removed_and_others_keep_their_order() -> None:
    size = (30, 40)
    below = [rectangle(size, 5, 5, 20, 20), rectangle(size, 12, 12, 14, 14)]
    source = sample([rectangle(size, 10, 10, 18, 32)], size, 200)
    after = paste_objects(sample(below, size, 10), source, np.random.default_rng(0))
    assert after.objects is not None
    assert after.objects.labels.tolist() == [0, 0]
    assert len(after.objects.masks) == 2


def test_stuff_maps_are_pasted_with_the_objects() -> None:
    size = (30, 40)
    above = rectangle(size, 10, 10, 18, 32)
    before = sample([], size, 10, semantic=torch.full(size, 3))
    source = sample([above], size, 200, semantic=torch.full(size, IGNORE))
    after = paste_objects(before, source, np.random.default_rng(0))
    assert after.semantic is not None
    assert torch.equal(after.semantic == IGNORE, above)
    assert after.semantic[~above].eq(3).all()
    assert before.semantic is not None
    assert before.semantic.eq(3).all()


def test_nothing_is_pasted_from_or_breaks_on_images_without_objects() -> None:
    size = (30, 40)
    empty, one = sample([], size, 10), sample([rectangle(size, 5, 5, 20, 20)], size, 200)
    assert paste_objects(one, empty, np.random.default_rng(0)) is one
    assert paste_objects(empty, empty, np.random.default_rng(0)) is empty
    after = paste_objects(empty, one, np.random.default_rng(0)).objects
    assert after is not None
    assert after.labels.tolist() == [0]


def test_crowds_are_not_pasted_and_stay_ignored_where_nothing_hides_them() -> None:
    size = (30, 40)
    crowd = crop(rectangle(size, 0, 20, 30, 40))
    before, source = sample([], size, 10), sample([rectangle(size, 10, 10, 18, 32)], size, 200)
    assert before.objects is not None
    assert source.objects is not None
    before = replace(before, objects=replace(before.objects, crowds=(crowd,)))
    after = paste_objects(before, source, np.random.default_rng(0))
    assert after.objects is not None
    expected = rectangle(size, 0, 20, 30, 40) & ~rectangle(size, 10, 10, 18, 32)
    assert torch.equal(covered(after.objects.crowds, size), expected)
    source = replace(source, objects=replace(source.objects, crowds=(crowd,)))
    after = paste_objects(sample([], size, 10), source, np.random.default_rng(0))
    assert after.objects is not None
    assert after.objects.crowds == ()


@pytest.mark.parametrize("name", ["dsb2018_le360", "coco600_400px"])
def test_semantic_target_agrees_with_masks_after_pasting(name: str, data_dir: Path) -> None:
    config = DataConfig(
        size=(200, 200), jitter=(0.1, 2.0), copy_paste=1.0, stuff_maps="none", vertical_flip=0.5
    )
    dataset = load(data_dir / name, config, semantic=True)
    background = len(dataset.classes)
    for index in range(40):
        found = dataset[index]
        assert found.objects is not None
        assert found.semantic is not None
        size = found.image.shape[1], found.image.shape[2]
        single = [full(mask, size) for mask in found.objects.masks]
        for mask, box in zip(found.objects.masks, found.objects.boxes, strict=True):
            assert (box[2:] > box[:2]).all()
            assert full(mask, size).any()
        claimed = covered(found.objects.masks, size)
        crowd = covered(found.objects.crowds, size)
        labels = {int(label) for label in found.semantic[claimed].unique()}
        assert labels <= set(found.objects.labels.tolist())
        assert found.semantic[crowd & ~claimed].eq(IGNORE).all()
        assert found.semantic[~crowd & ~claimed].eq(background).all()
        alone = torch.stack(single).sum(0) == 1 if single else torch.zeros(size).bool()
        for mask, label in zip(single, found.objects.labels.tolist(), strict=True):
            assert found.semantic[mask & alone].eq(label).all()


@forking
def test_the_same_seed_gives_the_same_sample_in_any_worker(coco_folder: Path) -> None:
    config = replace(
        JITTER, copy_paste=0.7, color_jitter=(0.4, 0.4, 0.4), unreadable="skip", size=(60, 80)
    )
    (coco_folder / "train/2.png").write_bytes(b"broken")
    dataset = load(coco_folder, config, semantic=True)
    seen = set()
    for epoch in range(3):
        dataset.set_epoch(epoch)
        runs: list[list[Batch]] = [
            list(
                train_loader(
                    dataset, OptimConfig(batch_size=2, seed=3), replace(config, workers=w)
                )[0]
            )
            for w in (0, 2)
        ]
        for a, b in zip(*runs, strict=True):
            assert torch.equal(a.images, b.images)
            assert a.targets is not None
            assert b.targets is not None
            assert torch.equal(a.targets.boxes, b.targets.boxes)
            assert torch.equal(a.targets.masks.pixels, b.targets.masks.pixels)
            assert a.skipped == b.skipped
            seen.add(a.images.float().mean().item())
    assert len(seen) == 6


def test_a_sample_has_the_size_that_is_foretold(coco_folder: Path) -> None:
    dataset = load(coco_folder, replace(JITTER, copy_paste=1.0, color_jitter=(0.4, 0.4, 0.4)))
    for epoch in range(5):
        dataset.set_epoch(epoch)
        for index in range(4):
            assert dataset.sample_size(Draw(index)) == dataset[index].image.shape[1:]


def test_colours_change_and_nothing_else(coco_folder: Path) -> None:
    plain = load(coco_folder, PLAIN)[0]
    changed = load(coco_folder, replace(PLAIN, color_jitter=(0.5, 0.5, 0.5)))[0]
    assert changed.image.dtype == torch.uint8
    assert not torch.equal(changed.image, plain.image)
    assert plain.objects is not None
    assert changed.objects is not None
    assert torch.equal(changed.objects.boxes, plain.objects.boxes)
    brightest = load(coco_folder, replace(PLAIN, color_jitter=(1.0, 0.0, 0.0)))
    means = []
    for epoch in range(20):
        brightest.set_epoch(epoch)
        means.append(brightest[0].image.float().mean().item())
    assert min(means) < 0.6 * plain.image.float().mean() < 1.2 * plain.image.float().mean()
    assert max(means) > 1.2 * plain.image.float().mean()


@pytest.mark.parametrize("fault", ["broken", "missing", "other size"])
def test_an_unusable_image_stops_or_another_takes_its_place(fault: str, coco_folder: Path) -> None:
    path = coco_folder / "train/2.png"
    if fault == "missing":
        path.unlink()
    elif fault == "broken":
        path.write_bytes(b"broken")
    else:
        Image.new("RGB", (41, 30)).save(path)
    with pytest.raises(DataError, match=r"2\.png"):
        load(coco_folder, PLAIN)[1]
    dataset = load(coco_folder, replace(PLAIN, unreadable="skip"))
    batch = collate([dataset[i] for i in range(4)])
    assert len(batch.info) == 4
    assert 2 not in [info.id for info in batch.info]
    assert batch.skipped
    assert all("2.png" in reason for reason in batch.skipped)
    assert batch.to("cpu").skipped == batch.skipped
    assert dataset[0].skipped == ()
    with pytest.raises(DataError, match=r"2\.png"):  # a score needs every image
        load(coco_folder, replace(PLAIN, unreadable="skip"), train=False)[1]


def test_a_folder_without_any_usable_image_stops(coco_folder: Path) -> None:
    dataset = load(coco_folder, replace(PLAIN, unreadable="skip"))
    for image in (coco_folder / "train").iterdir():
        image.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"100 images in a row cannot be used; .*\.png"):
        dataset[0]


def test_large_jpegs_are_read_smaller_and_look_the_same(
    tmp_path: Path, content: Any, write: Callable[..., Path]
) -> None:
    random = np.random.default_rng(0)
    rough = Image.fromarray(random.integers(0, 255, (30, 40, 3), np.uint8))
    for entry in content["images"]:
        entry |= {"width": 800, "height": 600, "file_name": f"{entry['id']}.jpg"}
    content["annotations"] = content["annotations"][:2]
    write(content, tmp_path / "annotations/instances_train.json", tmp_path / "train")
    for entry in content["images"]:
        image = rough.resize((800, 600), Image.Resampling.BICUBIC)
        image.save(tmp_path / "train" / entry["file_name"], quality=95)
    small = replace(PLAIN, size=(75, 100))
    found = load(tmp_path, small)[0].image.int()
    expected = load(tmp_path, small, train=False)[0].image.int()
    assert found.shape == expected.shape
    assert (found - expected).abs().float().mean() < 1.5
    Image.new("RGB", (400, 300)).save(tmp_path / "train/1.jpg")
    with pytest.raises(DataError, match=r"1.jpg: is 400 x 300, .* says 800 x 600"):
        load(tmp_path, small)[0]


def test_runs_and_polygons_are_cut_alike(coco_folder: Path) -> None:
    file = coco_folder / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    drawn = load(coco_folder, replace(PLAIN, jitter=(2.0, 2.0)))
    for annotation in content["annotations"]:
        mask = decode(annotation["segmentation"], (30, 40)).numpy()
        flat = mask.ravel(order="F").astype(np.int8)
        edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
        counts = np.diff([0, *edges, flat.size]).tolist()
        annotation["segmentation"] = {"size": [30, 40], "counts": counts}
    file.write_text(json.dumps(content))
    encoded = load(coco_folder, replace(PLAIN, jitter=(2.0, 2.0)))
    for index in range(4):
        a, b = drawn[index].objects, encoded[index].objects
        assert a is not None
        assert b is not None
        assert torch.equal(a.boxes, b.boxes)
        assert all(map(torch.equal, (m.pixels for m in a.masks), (m.pixels for m in b.masks)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jitter": (2.0, 0.1)}, r"data\.jitter"),
        ({"jitter": (0.0, 1.0)}, r"data\.jitter"),
        ({"jitter": (0.1, 2.0), "scales": (640,)}, r"data\.jitter and data\.scales"),
        ({"copy_paste": 1.5}, r"data\.copy_paste: 1\.5"),
        ({"color_jitter": (0.0, 2.0, 0.0)}, r"data\.color_jitter"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataConfig(**settings)


def test_a_view_that_shows_everything_changes_no_mask() -> None:
    mask = crop(rectangle((30, 40), 0, 3, 12, 40))
    assert view_crop(mask, View((30, 40), (30, 40), (0, 0, 40, 30))) == mask
