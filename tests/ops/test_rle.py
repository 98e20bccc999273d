"""Run lengths against pycocotools, and against files that lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as reference

from scnet.ops.rle import area, box, decode, encode, runs, sound_areas, to_rle, to_rles
from scnet.types import Size

masks = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1)
)


def loose(mask: np.ndarray) -> dict[str, Any]:
    """Return unpacked run lengths by the plainest loop."""
    counts, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


@given(masks)
def test_encode_equals_pycocotools(mask: np.ndarray) -> None:
    expected = reference.encode(np.asfortranarray(mask))
    assert encode(torch.from_numpy(mask))["counts"] == expected["counts"].decode()


@given(masks)
def test_decode_inverts_encode(mask: np.ndarray) -> None:
    rle = encode(torch.from_numpy(mask))
    for counts in (rle["counts"], rle["counts"].encode()):
        again = decode({"size": rle["size"], "counts": counts}, mask.shape)
        assert torch.equal(again, torch.from_numpy(mask).bool())


@given(masks)
def test_unpacked_and_packed_run_lengths_mean_the_same(mask: np.ndarray) -> None:
    assert torch.equal(decode(loose(mask), mask.shape), torch.from_numpy(mask).bool())
    assert to_rle(loose(mask), mask.shape) == encode(torch.from_numpy(mask))


@given(masks)
def test_area_and_box_equal_pycocotools(mask: np.ndarray) -> None:
    rle = encode(torch.from_numpy(mask))
    x, y, w, h = reference.toBbox(rle).tolist()
    assert area(rle) == reference.area(rle)
    if mask.any():
        assert box(rle) == (x, y, x + w, y + h)
    else:
        assert box(rle) == (0, 0, 0, 0)


def test_polygons_are_drawn_as_pycocotools_draws_them() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        polygons = (random.random((random.integers(1, 4), 10)) * 60 - 10).tolist()
        expected = reference.merge(reference.frPyObjects(polygons, 40, 50))
        assert encode(decode(polygons, (40, 50)))["counts"] == expected["counts"].decode()


def test_long_runs_survive_packing() -> None:
    size = (30000, 20000)
    counts = [0, 1, 299_999_999, 5, 299_999_995]
    rle = to_rle({"size": list(size), "counts": counts}, size)
    assert runs(rle, size).tolist() == counts


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ({"size": [4, 5], "counts": [5, -3, 18]}, "negative run"),
        ({"size": [4, 5], "counts": [5, 3]}, "cover 8 pixels, the image of 5 x 4 has 20"),
        ({"size": [4, 5], "counts": [5, 3, 1000]}, "cover 1008 pixels"),
        ({"size": [4, 5], "counts": [2**62, 2**62, 2**62, 2**62, 20]}, "sensible size"),
        ({"size": [4, 5], "counts": [5.5, 14.5]}, "whole numbers"),
        ({"size": [4, 5], "counts": ["a"]}, "not a number"),
        ({"size": [4, 5], "counts": [[20]]}, "flat list"),
        ({"size": [5, 4], "counts": [20]}, r"height and width \[5, 4\], the image has \[4, 5\]"),
        ({"size": [4, 5], "counts": ""}, "empty, cut off"),
        ({"size": [4, 5], "counts": "PP"}, "cut off"),
        ({"size": [4, 5], "counts": "5 3"}, "does not belong"),
        ({"size": [4, 5], "counts": "oooooooooooooo0"}, "more than 32 bits"),
        ({"size": [4, 5], "counts": "53"}, "cover 8 pixels"),
        ({"size": [4, 5], "counts": "5O<"}, "negative run"),
        ({"size": [4, 5], "counts": "\xe95"}, "does not belong"),
        ({"counts": [20]}, "need the keys"),
        ({"size": 7, "counts": [20]}, "height and width"),
        ({"size": [4, 5], "counts": None}, "not a flat list"),
        ([], "no polygon"),
        ([1, 1, 4, 1, 4, 4], "expected a list of x and y"),
        ([[1, 1, 4, 1]], "has 4 numbers"),
        ([[1, 1, 4, 1, 4, 4, 2]], "has 7 numbers"),
        ([[1, 1, 4, 1, 4, float("nan")]], "finite"),
        ([[1, 1, 4, 1, 4, 1e9]], "far outside the image"),
        ([[1, 1, 4, 1, 4, "x"]], "not a number"),
        (None, "expected polygons or run lengths"),
        ("PP", "expected polygons or run lengths"),
    ],
)
def test_malformed_segmentations_are_refused(segmentation: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(segmentation, (4, 5))


@given(st.text(max_size=12), st.integers(1, 9), st.integers(1, 9))
def test_any_text_is_read_or_refused(counts: str, height: int, width: int) -> None:
    try:
        mask = decode({"size": [height, width], "counts": counts}, (height, width))
    except ValueError:
        return
    assert mask.shape == (height, width)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_many_are_sound_if_each_can_be_read(data: st.DataObject) -> None:
    texts, sizes = [], []
    for _ in range(data.draw(st.integers(1, 4))):
        size = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
        mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=36, max_size=36)))
        text = encode(mask[: size[0] * size[1]].view(size))["counts"]
        if data.draw(st.integers(0, 3)) == 0:
            at = data.draw(st.integers(0, len(text)))
            text = text[:at] + data.draw(st.text(st.characters(max_codepoint=130), max_size=3))
        texts.append(text)
        sizes.append(size)

    def can_be_read(text: str, size: Size) -> bool:
        try:
            runs({"size": size, "counts": text}, size)
        except ValueError:
            return False
        return True

    expected = all(map(can_be_read, texts, sizes))
    areas = sound_areas(texts, np.array(sizes))
    assert (areas is not None) == expected
    if areas is not None:
        pairs = zip(texts, sizes, strict=True)
        assert areas.tolist() == [area({"size": size, "counts": text}) for text, size in pairs]


def test_a_number_too_long_is_not_sound() -> None:
    assert sound_areas(["oooooooo0"], np.array([[1, 1]])) is None


def test_many_segmentations_become_what_each_becomes_alone() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], np.uint8)
    forms: list[Any] = [encode(torch.from_numpy(mask)), loose(mask), [[0, 0, 2, 0, 2, 2, 0, 2]]]
    sizes: list[Size] = [mask.shape, mask.shape, (5, 7)]
    alone = [to_rle(form, size) for form, size in zip(forms, sizes, strict=True)]
    assert to_rles(forms * 2, sizes * 2) == alone * 2
    assert to_rles([], []) == []


@pytest.mark.parametrize("bad", ["0", "", "~~", "52:"])
def test_a_bad_one_among_many_is_found(bad: str) -> None:
    good = encode(torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"run lengths|counts|character"):
        to_rles([good, {"size": [2, 3], "counts": bad}, good], [(2, 3)] * 3)
