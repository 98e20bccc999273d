"""Cropped masks pool like whole ones; masks placed on an image equal the plain way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

import scnet.ops.masks as module
from scnet.ops.masks import (
    Crop,
    crop,
    crop_segmentation,
    crop_targets,
    flip_crop,
    join_crops,
)
from scnet.ops.rle import decode, encode
from scnet.types import Size

SIZE = (40, 56)
BORDERS = {
    "inside": (10, 12, 30, 28),
    "left": (0, 12, 9, 28),
    "right": (41, 12, 56, 28),
    "top": (10, 0, 30, 11),
    "bottom": (10, 22, 30, 40),
    "corner": (44, 30, 56, 40),
    "everything": (0, 0, 56, 40),
    "pixel": (55, 0, 56, 1),
}


def blob(region: tuple[int, int, int, int], seed: int = 0) -> Tensor:
    """Return a ragged mask that reaches all four sides of a region."""
    x0, y0, x1, y1 = region
    mask = torch.zeros(SIZE, dtype=torch.bool)
    random = torch.Generator().manual_seed(seed)
    mask[y0:y1, x0:x1] = torch.rand(y1 - y0, x1 - x0, generator=random) < 0.7
    mask[y0, x0] = mask[y1 - 1, x1 - 1] = True
    return mask


def random_boxes(number: int, size: Size, seed: int = 0) -> Tensor:
    """Return boxes inside an image, some of which touch its borders."""
    random = torch.Generator().manual_seed(seed)
    limits = torch.tensor([size[1], size[0]])
    points = torch.rand(number, 2, 2, generator=random) * 1.3 - 0.15
    points = (points.clamp(0, 1) * limits).sort(dim=1).values
    return points.flatten(1)


def uncrop(piece: Crop, size: Size) -> Tensor:
    """Return the whole mask."""
    mask = torch.zeros(size[0] + 2, size[1] + 2, dtype=torch.bool)
    x, y = piece.origin[0] + 1, piece.origin[1] + 1
    mask[y : y + piece.pixels.shape[0], x : x + piece.pixels.shape[1]] = piece.pixels.bool()
    return mask[1:-1, 1:-1]


def pool(masks: Tensor, boxes: Tensor, side: int) -> Tensor:
    rois = torch.cat((torch.zeros(len(boxes), 1), boxes), dim=1)
    return roi_align(masks[None, None].float(), rois, side, sampling_ratio=0, aligned=True)


@pytest.mark.parametrize("place", BORDERS)
def test_crop_pools_like_the_whole_mask(place: str) -> None:
    mask, boxes = blob(BORDERS[place]), random_boxes(300, SIZE)
    piece = crop(mask)
    shifted = boxes - torch.tensor(piece.origin * 2)
    torch.testing.assert_close(
        pool(piece.pixels, shifted, 28), pool(mask, boxes, 28), atol=2e-5, rtol=0
    )


@pytest.mark.parametrize("place", BORDERS)
def test_crop_of_every_form_is_the_same(place: str) -> None:
    mask = blob(BORDERS[place])
    direct, from_rle = crop(mask), crop_segmentation(encode(mask), SIZE, SIZE)
    assert torch.equal(direct.pixels, from_rle.pixels)
    assert direct.origin == from_rle.origin
    assert torch.equal(uncrop(direct, SIZE), mask)


def test_crop_of_nothing_is_one_empty_pixel() -> None:
    nothing = torch.zeros(SIZE, dtype=torch.bool)
    for piece in (crop(nothing), crop_segmentation(encode(nothing), SIZE, (20, 20))):
        assert piece.pixels.tolist() == [[0]]


def test_joined_crops_lie_one_after_another() -> None:
    pieces = [crop(blob(region)) for region in BORDERS.values()]
    joined = join_crops(pieces)
    parts = joined.pixels.split([height * width for height, width in joined.sizes])
    for piece, pixels, size, origin in zip(
        pieces, parts, joined.sizes, joined.origin.tolist(), strict=True
    ):
        assert torch.equal(pixels.view(size), piece.pixels)
        assert tuple(origin) == piece.origin


def test_a_large_object_among_many_small_ones_costs_its_own_pixels_alone() -> None:
    small, large = torch.zeros(9, 9, dtype=torch.uint8), torch.ones(999, 999, dtype=torch.uint8)
    joined = join_crops([Crop(large, (0, 0))] + [Crop(small, (0, 0))] * 1000)
    assert joined.pixels.numel() == 999**2 + 1000 * 9**2


def test_no_crops_join_to_an_empty_value() -> None:
    joined = join_crops([])
    assert joined.pixels.shape == (0,)
    assert joined.origin.shape == (0, 2)
    assert joined.sizes == ()


@pytest.mark.parametrize("at_once", [2**25, 5000, 1])
def test_targets_equal_pooling_of_whole_masks(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POOLED_AT_ONCE", at_once)
    masks = [blob(region) for region in BORDERS.values()]
    boxes = random_boxes(400, SIZE)
    index = torch.arange(400) % len(masks)
    targets = crop_targets(join_crops([crop(m) for m in masks]), index, boxes, 28)
    for i, mask in enumerate(masks):
        pooled = pool(mask, boxes[index == i], 28)[:, 0]
        clear = (pooled - 0.5).abs() > 1e-4  # elsewhere rounding decides
        assert torch.equal(targets[index == i][clear], (pooled >= 0.5).float()[clear])
        assert clear.float().mean() > 0.9


def test_targets_of_no_boxes_are_empty() -> None:
    none, one = join_crops([]), join_crops([crop(blob(BORDERS["inside"]))])
    index = torch.zeros(0, dtype=torch.int64)
    assert crop_targets(one, index, torch.zeros(0, 4), 28).shape == (0, 28, 28)
    assert crop_targets(none, index, torch.zeros(0, 4), 28).shape == (0, 28, 28)


@pytest.mark.parametrize("target", [(20, 28), (80, 112), (57, 61), (3, 4)])
def test_resized_crop_is_the_crop_of_the_resized_mask(target: Size) -> None:
    for region in BORDERS.values():
        mask = blob(region)
        rows = ((torch.arange(target[0]) + 0.5) * SIZE[0] / target[0]).long()
        columns = ((torch.arange(target[1]) + 0.5) * SIZE[1] / target[1]).long()
        expected = mask[rows][:, columns]
        assert torch.equal(uncrop(crop_segmentation(encode(mask), SIZE, target), target), expected)


def test_polygons_are_drawn_at_the_target_size() -> None:
    polygon = [[3.5, 2.0, 50.25, 8.0, 30.0, 39.0]]
    doubled = [[2 * v for v in polygon[0]]]
    target = (80, 112)
    drawn = uncrop(crop_segmentation(polygon, SIZE, target), target)
    assert torch.equal(drawn, decode(doubled, target))


@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("vertical", [False, True])
def test_flipped_crop_is_the_crop_of_the_flipped_mask(horizontal: bool, vertical: bool) -> None:
    axes = [axis for axis, flip in ((0, vertical), (1, horizontal)) if flip]
    for region in BORDERS.values():
        mask = blob(region)
        flipped = flip_crop(crop(mask), SIZE, horizontal=horizontal, vertical=vertical)
        expected = crop(mask.flip(axes))
        assert torch.equal(flipped.pixels, expected.pixels)
        assert flipped.origin == expected.origin
