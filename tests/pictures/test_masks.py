"""Masks painted within their boxes: the same, pixel by pixel, as over the whole image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scnet.ops.rle import RLE, decode, encode, foreground, runs
from scnet.pictures.colours import PALETTE
from scnet.pictures.masks import TINT, WHOLE, Canvas, eroded
from scnet.pictures.overlay import overlay

Array = np.ndarray[Any, Any]


def inner(mask: Array, steps: int) -> Array:
    """Return the pixels that are more than so many steps from any outside, one step at a time."""
    for _ in range(steps):
        wide = np.pad(mask, 1)
        mask = mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return mask


def plainly(photo: Array, masks: list[Array], colours: list[Any], edge: int) -> Array:
    """Paint masks over the whole image, one after the other."""
    canvas = photo.astype(np.int64)
    for mask, colour in zip(masks, colours, strict=True):
        deep = inner(mask, edge)
        tinted = (canvas * (WHOLE - TINT) + np.array(colour) * TINT + WHOLE // 2) // WHOLE
        canvas = np.where(deep[..., None], tinted, canvas)
        canvas = np.where((mask & ~deep)[..., None], np.array(colour), canvas)
    return canvas


def random_masks(size: tuple[int, int], number: int, seed: int) -> list[Array]:
    """Return blobs with holes, some of them cut by the sides of the image, one without pixels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    masks = [np.zeros(size, bool)]
    for _ in range(number - 1):
        cy, cx, r = random.integers(0, size[0]), random.integers(0, size[1]), random.integers(1, 90)
        masks.append((np.hypot(y - cy, x - cx) < r) & (random.random(size) < 0.999))
    masks[-1] |= random.random(size) < 0.3
    return masks


@pytest.mark.parametrize("edge", [1, 2, 7])
def test_painting_within_boxes_is_painting_over_the_whole_image(edge: int) -> None:
    random = np.random.default_rng(edge)
    photo = random.integers(0, 256, (210, 190, 3), dtype=np.uint8)
    masks = random_masks((210, 190), 12, edge)
    colours = [random.integers(0, 256, 3).tolist() for _ in masks]
    canvas = Canvas.of(Image.fromarray(photo))
    for mask, colour in zip(masks, colours, strict=True):
        piece = foreground(runs(encode(torch.from_numpy(mask)), mask.shape), mask.shape)
        if piece is not None:
            pixels, (x, y) = piece
            canvas.paint(pixels.astype(bool), x, y, tuple(colour), edge)
    assert (np.asarray(canvas.picture) == plainly(photo, masks, colours, edge)).all()


def test_a_picture_is_that_of_whole_masks_from_the_largest_box_on() -> None:
    size = (820, 640)
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    masks = [mask for mask in random_masks(size, 8, 3)[1:-1] if mask.any()]
    rle: list[RLE] = [encode(torch.from_numpy(mask)) for mask in masks]
    picture = np.asarray(overlay(photo, rle, labels=False))
    boxes = [np.ptp(np.nonzero(mask), axis=1) + 1 for mask in masks]
    order = sorted(range(len(masks)), key=lambda i: -int(boxes[i].prod()))
    colours = [edge_colour(picture, masks, order, i) for i in range(len(masks))]
    assert set(colours) <= set(PALETTE)
    expected = plainly(photo, [masks[i] for i in order], [colours[i] for i in order], 1)
    assert (picture == expected).all()


def edge_colour(picture: Array, masks: list[Array], order: list[int], i: int) -> tuple[int, ...]:
    """Return the colour of the edge of a mask, where nothing lies on it."""
    free = masks[i] & ~inner(masks[i], 1)
    for above in order[order.index(i) + 1 :]:
        free &= ~masks[above]
    colours = {tuple(pixel) for pixel in picture[free].tolist()}
    assert len(colours) == 1
    return colours.pop()


@pytest.mark.parametrize("width", [1, 2, 63, 64, 65, 128, 200])
@pytest.mark.parametrize("height", [1, 2, 30])
def test_erosion_on_bits_is_erosion_step_by_step(height: int, width: int) -> None:
    random = np.random.default_rng(width)
    for share in (0.6, 0.97, 1.0):
        mask = random.random((height, width)) < share
        for steps in (0, 1, 3):
            assert (eroded(mask, steps) == inner(mask, steps)).all()


def test_the_tint_hides_less_than_half() -> None:
    assert pytest.approx(0.45, abs=0.005) == TINT / WHOLE


def test_the_colour_below_a_mask_is_that_of_its_pixels() -> None:
    photo = np.zeros((400, 500, 3), np.uint8)
    photo[:, 250:] = (200, 100, 50)
    canvas, mask = Canvas.of(Image.fromarray(photo)), np.ones((400, 250), bool)
    assert canvas.mean(mask, 250, 0) == [200, 100, 50]
    mask[:] = False
    mask[1::2, 1] = True  # between the pixels of a large mask that are looked at
    assert canvas.mean(mask, 250, 0) == [200, 100, 50]


def test_a_mask_unrolled_in_its_box_is_that_of_the_whole_image() -> None:
    random = np.random.default_rng(5)
    for trial in range(300):
        size = tuple(random.integers(1, 9, 2).tolist())
        mask = random.random(size) < random.choice([0.1, 0.5, 0.95])
        rle = encode(torch.from_numpy(mask))
        piece = foreground(runs(rle, size), size)
        if piece is None:
            assert not mask.any()
            continue
        pixels, (x, y) = piece
        rows, columns = np.nonzero(mask)
        assert (y, y + pixels.shape[0]) == (rows.min(), rows.max() + 1), trial
        assert (x, x + pixels.shape[1]) == (columns.min(), columns.max() + 1), trial
        whole = decode(rle, size).numpy()[y : y + pixels.shape[0], x : x + pixels.shape[1]]
        assert (pixels == whole).all()
