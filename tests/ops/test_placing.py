"""Masks placed on an image: run lengths equal pasting in every pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference
from torch import Tensor

from scnet.ops import placing
from scnet.ops.placing import paste, run_lengths
from scnet.ops.rle import encode
from scnet.types import Size

coordinate = st.one_of(st.integers(-20, 60), st.floats(-20, 60, width=32))


@settings(max_examples=500, deadline=None)
@given(
    box=st.tuples(coordinate, coordinate, coordinate, coordinate),
    size=st.tuples(st.integers(1, 45), st.integers(1, 45)),
    seed=st.integers(0, 1000),
    side=st.sampled_from([1, 2, 7, 28]),
    threshold=st.sampled_from([0.2, 0.5, 0.9]),
)
def test_run_lengths_equal_pasting_and_encoding(
    box: tuple[float, ...], size: Size, seed: int, side: int, threshold: float
) -> None:
    random = torch.Generator().manual_seed(seed)
    masks = torch.rand(3, side, side, generator=random)
    masks[1] = masks[1].round()  # exact 0 and 1 meet at exactly a half
    masks[2] = 1
    boxes = torch.tensor([box] * 3, dtype=torch.float32)
    pasted = paste(masks, boxes, size, threshold).numpy().astype(np.uint8)
    expected = [reference.encode(np.asfortranarray(m)) for m in pasted]
    found = run_lengths(masks, boxes, size, threshold)
    assert [r["counts"] for r in found] == [e["counts"].decode() for e in expected]
    assert all(r["size"] == list(size) for r in found)


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 30, 20),  # the whole image: all columns are one run
        (5, 0, 25, 20),  # full height
        (4, 4, 4, 9),  # no width
        (9, 4, 4, 9),  # turned over
        (7, 7, 8, 8),  # one pixel
        (7.4, 7.4, 7.6, 7.6),  # less than a pixel, around a centre
        (-20, -20, -5, -5),  # outside
        (-10, -10, 60, 60),  # larger than the image
        (float("nan"), 0, 5, 5),
        (0, 0, float("inf"), 5),
    ],
)
def test_run_lengths_of_unusual_boxes_equal_pasting(box: tuple[float, ...]) -> None:
    masks, boxes = torch.ones(1, 28, 28), torch.tensor([box], dtype=torch.float32)
    pasted = paste(masks, boxes, (20, 30))
    assert run_lengths(masks, boxes, (20, 30)) == [encode(pasted[0])]


def test_a_full_mask_fills_its_box_and_nothing_else() -> None:
    pasted = paste(torch.ones(1, 28, 28), torch.tensor([[3.0, 4.0, 9.0, 6.0]]), (10, 12))
    expected = torch.zeros(1, 10, 12, dtype=torch.bool)
    expected[0, 4:6, 3:9] = True
    assert torch.equal(pasted, expected)


def test_no_masks_give_no_run_lengths() -> None:
    assert run_lengths(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)) == []
    assert paste(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)).shape == (0, 5, 6)


def smooth(number: int, seed: int = 0) -> Tensor:
    """Return masks as a network makes them, most of them with one object."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(number, 1, 5, 5, generator=random) * 4
    return F.interpolate(coarse, size=(28, 28), mode="bicubic")[:, 0].sigmoid()


def any_boxes(number: int, size: Size, seed: int = 0) -> Tensor:
    """Return boxes of all sizes, some across the border, flat or of one pixel."""
    random = torch.Generator().manual_seed(seed)
    limits = torch.tensor([size[1], size[0]])
    center = torch.rand(number, 2, generator=random) * limits
    side = limits * torch.rand(number, 2, generator=random) ** 3
    boxes = torch.cat((center - side / 2, center + side / 2), 1)
    boxes[::7] = boxes[::7].round()
    boxes[3::50, 2] = boxes[3::50, 0]
    boxes[4::50, 2:] = boxes[4::50, :2] + 1
    boxes[5::50] += limits.repeat(2) * 2
    return boxes


@pytest.mark.parametrize("columns", [16384, 37])
def test_run_lengths_of_2000_boxes_equal_pasting(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "COLUMNS_AT_ONCE", columns)
    size, number = (150, 230), 2000 if columns > 100 else 100
    masks, boxes = smooth(number), any_boxes(number, size)
    found = run_lengths(masks, boxes, size)
    assert found == [encode(mask) for mask in paste(masks, boxes, size)]


def test_pasting_is_bilinear_resizing() -> None:
    masks, size = smooth(20), (60, 90)
    boxes = any_boxes(20, size).clamp(min=0)
    boxes[:, 2:] = boxes[:, :2] + (boxes[:, 2:] - boxes[:, :2]).clamp(min=3)
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(90) + 0.5, indexing="ij")
    for mask, box, pasted in zip(masks, boxes, paste(masks, boxes, size), strict=True):
        grid = torch.stack(((x - box[0]) / (box[2] - box[0]), (y - box[1]) / (box[3] - box[1])), -1)
        values = F.grid_sample(mask[None, None], grid[None] * 2 - 1, align_corners=False)[0, 0]
        clear = (values - 0.5).abs() > 1e-4  # elsewhere rounding decides
        assert torch.equal(pasted[clear], values[clear] >= 0.5)
