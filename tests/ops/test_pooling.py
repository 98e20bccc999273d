"""Pooling on the CPU equals torchvision's in value and gradient, wherever the RoIs lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align as reference

import scnet.ops.roi_align as module
from scnet.ops import pooling
from scnet.ops.pooling import (
    make_pooler,
    pyramid_level,
    sorted_by_level,
)
from scnet.ops.roi_align import pool
from scnet.types import RoIs

HEIGHT, WIDTH, STRIDES = 96, 128, (4, 8, 16, 32)
PLACES = {
    "inside": (20.0, 30, 61, 55),
    "across the left": (-30.0, 10, 31, 40),
    "across the bottom": (30.0, 70, 60, 190),
    "across all": (-50.0, -40, 200, 140),
    "outside": (300.0, 200, 350, 280),
    "outside before": (-90.0, -80, -20, -10),
    "at the border": (128.0, 96, 140, 120),
    "half a cell before": (-8.0, -8, 0, 0),
    "everything": (0.0, 0, 128, 96),
    "pixel": (33.0, 44, 34, 45),
    "last pixel": (127.0, 95, 128, 96),
    "a point": (50.0, 50, 50, 50),
    "a line": (10.0, 50, 90, 50),
    "inverted": (60.0, 60, 30, 20),
    "whole cells": (16.0, 16, 128, 72),
    "half cells": (20.0, 20, 132, 76),
}


@pytest.fixture(autouse=True, params=["sparse product", "torchvision's kernel"])
def _path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test as on a CPU, and as on a GPU."""
    if request.param != "sparse product":
        monkeypatch.setattr(pooling, "_is_sparse_faster", lambda features: False)


def roi_align(x: Tensor, rois: RoIs, side: int, stride: int) -> Tensor:
    return make_pooler([x], [stride]).pool(rois, side)


def pool_pyramid(pyramid: Sequence[Tensor], rois: RoIs) -> Tensor:
    return make_pooler(pyramid, STRIDES).pool(rois, 7)


def maps(
    stride: int, channels: int = 6, batch: int = 2, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return random features that want a gradient."""
    random = torch.Generator().manual_seed(stride)
    shape = (batch, channels, HEIGHT // stride, WIDTH // stride)
    return torch.randn(shape, generator=random).to(dtype).requires_grad_()


def random_rois(number: int, batch: int = 2) -> RoIs:
    """Return RoIs in all images, some across the borders, in no order."""
    random = torch.Generator().manual_seed(number)
    points = torch.rand(number, 2, 2, generator=random) * 1.6 - 0.3
    boxes = (points * torch.tensor([WIDTH, HEIGHT])).sort(dim=1).values.flatten(1)
    return RoIs(boxes, torch.randint(batch, (number,), generator=random))


def inside(rois: RoIs) -> RoIs:
    """Cut RoIs at the border, as those of a detector are."""
    return RoIs(rois.boxes.clamp(min=0).minimum(torch.tensor([WIDTH, HEIGHT] * 2)), rois.image)


def inside_rois(number: int) -> RoIs:
    return inside(random_rois(number))


def placed(place: str) -> RoIs:
    return RoIs(torch.tensor([PLACES[place]]), torch.tensor([1]))


def plain(features: Tensor, rois: RoIs, side: int, stride: int) -> Tensor:
    indexed = torch.cat([rois.image[:, None], rois.boxes], 1).to(features)
    return reference(features, indexed, side, 1 / stride, sampling_ratio=0, aligned=True)


def plain_pyramid(pyramid: Sequence[Tensor], rois: RoIs, side: int) -> Tensor:
    level = pyramid_level(rois.boxes, len(pyramid))
    pooled = torch.stack([plain(x, rois, side, n) for x, n in zip(pyramid, STRIDES, strict=True)])
    return pooled[level, torch.arange(len(level))]


def assert_same(ours: Tensor, theirs: Tensor, inputs: Sequence[Tensor]) -> None:
    """Compare two poolings of the same features and their gradients."""
    assert_close(ours, theirs)
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0)).to(ours)
    for mine, other in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        strict=True,
    ):
        assert_close(mine, other)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    atol = 1e-5 * float(theirs.detach().abs().max()) if theirs.numel() else 0
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


@pytest.mark.parametrize("side", [1, 7, 14])
@pytest.mark.parametrize("stride", [4, 8])
def test_pooling_equals_torchvision(side: int, stride: int) -> None:
    x, rois = maps(stride), random_rois(200)
    assert_same(roi_align(x, rois, side, stride), plain(x, rois, side, stride), [x])


@pytest.mark.parametrize("place", PLACES)
def test_pooling_equals_torchvision_at(place: str) -> None:
    x, rois = maps(4), placed(place)
    assert_same(roi_align(x, rois, 7, 4), plain(x, rois, 7, 4), [x])


@pytest.mark.parametrize("fine", [7, 14, 21])
def test_mean_equals_pooling_then_averaging(fine: int) -> None:
    x, rois = maps(8), random_rois(100)
    composed = F.adaptive_avg_pool2d(plain(x, rois, fine, 8), 7)
    assert_same(make_pooler([x], [8]).pool(rois, 7, fine), composed, [x])


def test_each_roi_is_pooled_from_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "FINEST_SIDE", 8)  # small images have RoIs of all levels then
    pyramid, rois = [maps(stride) for stride in STRIDES], inside_rois(200)
    rois.boxes[:40] /= 8
    rois.boxes[40] = torch.tensor([0, 0, WIDTH, HEIGHT])
    assert len(pyramid_level(rois.boxes, 4).unique()) == 4
    ours = pool_pyramid(pyramid, rois)
    assert_same(ours, plain_pyramid(pyramid, rois, 7), pyramid)


@pytest.mark.parametrize("limit", [1, 3000])
def test_chunks_do_not_change_the_result(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", limit)
    pyramid, rois = [maps(stride) for stride in STRIDES], inside_rois(40)
    ours = pool_pyramid(pyramid, rois)
    assert_same(ours, plain_pyramid(pyramid, rois, 7), pyramid)
    x = pyramid[1]
    assert_same(roi_align(x, rois, 14, 8), plain(x, rois, 14, 8), [x])


def test_gradient_is_the_derivative() -> None:
    x, rois = maps(32, channels=2, dtype=torch.float64), random_rois(5)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 3, 32), x)


@pytest.mark.parametrize("number", [0, 1])
def test_every_level_has_a_gradient(number: int) -> None:
    pyramid, rois = [maps(stride) for stride in STRIDES], inside_rois(number)
    pooled = pool_pyramid(pyramid, rois)
    assert pooled.shape == (number, 6, 7, 7)
    pooled.sum().backward()
    assert all(x.grad is not None and x.grad.shape == x.shape for x in pyramid)


def test_no_rois_give_a_gradient_of_zero() -> None:
    x = maps(8)
    pooled = make_pooler([x], [8]).pool(random_rois(0), 7, 14)
    assert pooled.shape == (0, 6, 7, 7)
    pooled.sum().backward()
    assert x.grad is not None
    assert not x.grad.any()


def test_a_frozen_level_gets_no_gradient() -> None:
    pyramid, rois = [maps(stride) for stride in STRIDES], inside_rois(50)
    pyramid[0].requires_grad_(False)
    pool_pyramid(pyramid, rois).sum().backward()
    assert pyramid[0].grad is None
    assert pyramid[1].grad is not None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept_without_gradients(mode: Callable[[], torch.no_grad]) -> None:
    x, rois = maps(8), random_rois(20)
    with mode():
        pooled = roi_align(x, rois, 7, 8)
    assert not pooled.requires_grad
    assert_close(pooled, plain(x, rois, 7, 8).detach())


def test_memory_format_does_not_matter() -> None:
    x, rois = maps(8), random_rois(20)
    last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.testing.assert_close(roi_align(last, rois, 7, 8), roi_align(x, rois, 7, 8))


def test_half_precision_is_pooled_in_float32() -> None:
    x, rois = maps(8, dtype=torch.bfloat16), random_rois(50)
    pooled = roi_align(x, rois, 7, 8)
    assert pooled.dtype == torch.float32
    assert_close(pooled, plain(x.float(), rois, 7, 8))
    pooled.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16


def test_rois_are_sorted_by_level_in_order() -> None:
    levels = sorted_by_level(inside(random_rois(200)).boxes, 4)
    assert sum(levels.counts) == 200
    for level, rows in enumerate(torch.split(levels.order, list(levels.counts))):
        assert (levels.level[rows] == level).all()
        assert rows.tolist() == sorted(rows.tolist())


@pytest.mark.parametrize(
    "sizes", [[(8, 12), (4, 6), (2, 3), (1, 2)], [(1, 1)] * 6, [(5, 3), (9, 7)]]
)
def test_levels_on_a_canvas_do_not_touch(sizes: list[tuple[int, int]]) -> None:
    maps = [torch.full((1, 1, *size), i + 1.0) for i, size in enumerate(sizes)]
    canvas = pooling._packed(maps)[0, 0]
    for (y, x), level in zip(pooling._corners(sizes), maps, strict=True):
        height, width = level.shape[2:]
        assert (canvas[y : y + height, x : x + width] == level).all()
    assert canvas.sum() == sum(level.sum() for level in maps)


def test_a_box_that_is_not_a_number_pools_to_zero() -> None:
    rois = RoIs(torch.tensor([[float("nan"), 0, 30, 40]]), torch.tensor([0]))
    assert not pool([maps(8)], None, rois, (7, 7), [8]).any()


def legacy(features: Tensor, rois: RoIs, side: int, stride: int) -> Tensor:
    """RoIAlign as torchvision's detectors call it."""
    indexed = torch.cat([rois.image[:, None], rois.boxes], 1).to(features)
    return reference(features, indexed, side, 1 / stride, sampling_ratio=2)


@pytest.mark.parametrize("side", [1, 7, 14])
def test_legacy_pooling_equals_torchvision(side: int) -> None:
    x, rois = maps(8), random_rois(200)
    ours = make_pooler([x], [8], "legacy").pool(rois, side)
    assert_same(ours, legacy(x, rois, side, 8), [x])


@pytest.mark.parametrize("place", PLACES)
def test_legacy_pooling_equals_torchvision_at(place: str) -> None:
    x, rois = maps(4), placed(place)
    ours = make_pooler([x], [4], "legacy").pool(rois, 7)
    assert_same(ours, legacy(x, rois, 7, 4), [x])


def test_legacy_mean_equals_pooling_then_averaging() -> None:
    x, rois = maps(8), random_rois(50)
    composed = F.adaptive_avg_pool2d(legacy(x, rois, 14, 8), 7)
    assert_same(make_pooler([x], [8], "legacy").pool(rois, 7, 14), composed, [x])


def test_each_legacy_roi_is_pooled_from_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "FINEST_SIDE", 8)
    pyramid, rois = [maps(stride) for stride in STRIDES], inside_rois(200)
    rois.boxes[:40] /= 8
    # Thinner than a cell and at the border, which they reach beyond when they are widened.
    thin = torch.tensor([[127, 40, 128, 60], [126.3, 0, 128, 96], [30, 95.2, 90, 96], [128] * 4])
    rois.boxes[40:44] = thin.minimum(torch.tensor([WIDTH, HEIGHT] * 2))
    level = pyramid_level(rois.boxes, 4)
    assert len(level.unique()) == 4
    theirs = torch.stack([legacy(x, rois, 7, n) for x, n in zip(pyramid, STRIDES, strict=True)])
    ours = make_pooler(pyramid, STRIDES, "legacy").pool(rois, 7)
    assert_same(ours, theirs[level, torch.arange(200)], pyramid)
    assert not torch.allclose(ours, pool_pyramid(pyramid, rois), atol=1e-2)


def test_a_legacy_box_that_is_not_a_number_pools_to_zero() -> None:
    rois = RoIs(torch.tensor([[float("nan"), 0, 30, 40]]), torch.tensor([0]))
    assert not pool([maps(8)], None, rois, (7, 7), [8], 2).any()
