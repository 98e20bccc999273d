"""Outlines on a part of an image: where they lie, what marks them, what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scnet.ops.rle import encode
from scnet.pictures.colours import PALETTE
from scnet.pictures.outlines import Outline, outlined, window_around

BLUE = PALETTE[1]


def block(top: int, left: int, height: int, width: int) -> dict[str, Any]:
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return encode(mask)


def coloured(picture: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray((np.asarray(picture) == BLUE).all(2))


def drawn(*outlines: Outline, window: tuple[int, int, int, int] = (0, 0, 80, 60)) -> Image.Image:
    return outlined(Image.new("RGB", (80, 60), (90, 90, 90)), outlines, window, 480)


@pytest.mark.parametrize("shape", [block(10, 20, 20, 30), [20.0, 10.0, 30.0, 20.0]])
def test_an_outline_lies_on_the_edge_of_its_mask_or_box(shape: Any) -> None:
    line = coloured(drawn(Outline(shape, BLUE, weight=2)))
    rows, columns = np.nonzero(line)
    ends = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
    assert np.abs(np.array(ends) / 6 - (10, 30, 20, 50)).max() < 0.5
    assert not line[15 * 6 : 25 * 6, 25 * 6 : 45 * 6].any()


def test_weight_widens_the_line_and_dashes_break_it() -> None:
    shape = block(10, 20, 20, 30)
    thin, bold = (coloured(drawn(Outline(shape, BLUE, weight=w))).sum() for w in (1, 4))
    assert 3 * thin < bold < 5 * thin
    dashed = coloured(drawn(Outline(shape, BLUE, dashed=True, weight=4))).sum()
    assert 0.3 * bold < dashed < 0.7 * bold


def test_what_lies_outside_the_window_is_not_drawn() -> None:
    window = (40, 20, 80, 60)
    assert not coloured(drawn(Outline(block(0, 0, 15, 30), BLUE), window=window)).any()
    picture = drawn(Outline(block(10, 20, 20, 30), BLUE, weight=2), window=window)
    line = coloured(picture)
    assert picture.size == (480, 480)
    assert line.any()
    assert not line[125:, 125:].any()
    assert not line[:110, :110].any()  # the edge of the picture is no edge of the object


def test_an_object_of_no_pixels_leaves_the_picture_as_it_is() -> None:
    for nothing in (block(0, 0, 0, 0), [3.0, 3.0, 0.0, 5.0]):
        assert not coloured(drawn(Outline(nothing, BLUE, weight=4))).any()
        assert window_around(nothing, (60, 80), 2.0, 10) == (0, 0, 80, 60)


def test_a_window_is_a_square_inside_the_image_around_its_object() -> None:
    assert window_around(block(20, 30, 10, 20), (60, 80), 2.0, 10) == (20, 5, 60, 45)
    assert window_around(block(0, 0, 4, 4), (60, 80), 2.0, 20) == (0, 0, 20, 20)
    assert window_around(block(56, 76, 4, 4), (60, 80), 2.0, 20) == (60, 40, 80, 60)
    assert window_around(block(0, 0, 60, 80), (60, 80), 2.0, 10) == (0, 0, 80, 60)
