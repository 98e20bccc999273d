"""What is hidden by better masks goes, and hides nothing itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scnet.ops.rle import encode
from scnet.ops.visible import visible

SIZE = (20, 30)


def block(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def kept(masks: list[torch.Tensor], least: float) -> list[int]:
    return visible([encode(mask) for mask in masks], SIZE, least)


@pytest.mark.parametrize(("least", "expected"), [(0.39, [0, 1]), (0.4, [0, 1]), (0.41, [0])])
def test_an_object_stays_from_its_share_on(least: float, expected: list[int]) -> None:
    # 40 of the second mask's 100 pixels are free.
    assert kept([block(0, 0, 10, 16), block(0, 10, 10, 20)], least) == expected


def test_what_goes_hides_nothing() -> None:
    first, second, third = block(0, 0, 10, 10), block(0, 1, 10, 12), block(0, 10, 10, 13)
    assert kept([first, second, third], 0.5) == [0, 2]


def test_several_together_hide_an_object() -> None:
    masks = [block(0, 0, 10, 4), block(0, 6, 10, 10), block(0, 0, 10, 10)]
    assert kept(masks, 0.21) == [0, 1]
    assert kept(masks, 0.2) == [0, 1, 2]


def test_empty_masks_and_copies_go_and_neighbours_stay() -> None:
    empty = torch.zeros(SIZE, dtype=torch.bool)
    one, beside = block(3, 3, 9, 9), block(3, 9, 9, 15)
    assert kept([empty, one, one, beside], 1e-6) == [1, 3]
    assert kept([], 0.5) == []


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_painting_whole_images_gives(seed: int) -> None:
    random = np.random.default_rng(seed)
    masks = [torch.from_numpy(random.random(SIZE) < random.random() * 0.4) for _ in range(12)]
    taken, expected = torch.zeros(SIZE, dtype=torch.bool), []
    for place, mask in enumerate(masks):
        if (mask & ~taken).sum() >= 0.5 * mask.sum() and mask.any():
            taken |= mask
            expected.append(place)
    assert kept(masks, 0.5) == expected
    assert 0 < len(expected) < 12
