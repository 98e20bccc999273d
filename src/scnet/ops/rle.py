"""Run lengths of binary masks as COCO writes them, read with suspicion.

A mask is written as the lengths of its runs of 0 and 1 in turn, starting with 0, down the columns.
COCO files hold them as a list of numbers, packed into text, or as polygons. `runs` turns all three
into checked numbers; everything else starts from there. A reader that trusts the numbers runs past
the end of its memory on a broken file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from faster_coco_eval.core import mask as coco_mask
from jaxtyping import Bool, Int, Integer, UInt8
from torch import Tensor

from scnet.types import Size

RLE = dict[str, Any]  # {"size": [height, width], "counts": packed text}, ready for JSON
Runs = Int[np.ndarray, "n"]

_LOWEST, _HIGHEST = 48, 111  # codes of the characters of packed text
_ONGOING = "P"  # from this character on a number goes on
_FIRST_RUN = re.compile("[P-o]*[0-O]")

TEXT = {str, bytes}
AT_ONCE = 2_000  # masks that are checked together; more leave the caches


def decode(segmentation: Any, size: Size) -> Bool[Tensor, "H W"]:
    """Return the mask of polygons or run lengths, packed or not, in an image of `size`.

    Raises:
        ValueError: the segmentation is malformed or made for another size.
    """
    lengths = runs(segmentation, size)
    pixels = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return torch.from_numpy(np.ascontiguousarray(pixels.reshape(size[1], size[0]).T))


def to_rle(segmentation: Any, size: Size) -> RLE:
    """Return the packed run lengths of a segmentation in any of COCO's forms.

    >>> to_rle([[1, 1, 4, 1, 4, 4, 1, 4]], (5, 7))
    {'size': [5, 7], 'counts': '632000>'}
    """
    return to_rles([segmentation], [size])[0]


def to_rles(segmentations: Sequence[Any], sizes: Sequence[Size]) -> list[RLE]:
    """Return the packed run lengths of many segmentations, each in any of COCO's forms.

    What is packed already is checked together, and stays as it is.

    Raises:
        ValueError: a segmentation is malformed or made for another size.
    """
    packed = list(map(_is_packed, segmentations, sizes))
    texts = [s["counts"] for s in itertools.compress(segmentations, packed)]
    shapes = np.array(list(itertools.compress(sizes, packed))).reshape(-1, 2)
    sound = all(
        sound_areas(texts[start : start + AT_ONCE], shapes[start : start + AT_ONCE]) is not None
        for start in range(0, len(texts), AT_ONCE)
    )
    return [
        {"size": list(size), "counts": given["counts"]}
        if sound and is_packed
        else _to_rle(given, size)
        for given, size, is_packed in zip(segmentations, sizes, packed, strict=True)
    ]


def encode(mask: Bool[Tensor, "H W"] | UInt8[Tensor, "H W"]) -> RLE:
    """Return the packed run lengths of a mask."""
    pixels = np.asfortranarray(mask.cpu().numpy().astype(np.uint8))
    return _text(coco_mask.encode(pixels))


def pack(lengths: Runs, size: Size) -> RLE:
    """Return run lengths in COCO's packed form."""
    loose = {"size": [int(side) for side in size], "counts": lengths.tolist()}
    return loose | {"counts": coco_mask.frPyObjects(loose, *size)["counts"].decode("ascii")}


def area(rle: Mapping[str, Any]) -> int:
    """Return the number of pixels of a mask."""
    return int(runs(rle, tuple(rle["size"]))[1::2].sum())


def box(rle: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return the tight xyxy box of a mask, zeros if it is empty."""
    size = tuple(rle["size"])
    return extent(runs(rle, size), size) or (0, 0, 0, 0)


def extent(lengths: Runs, size: Size) -> tuple[int, int, int, int] | None:
    """Return the tight xyxy box of run lengths; None if they hold nothing."""
    laid = _laid(lengths, size[0])
    return laid.box if laid else None


def foreground(
    lengths: Runs, size: Size
) -> tuple[UInt8[np.ndarray, "h w"], tuple[int, int]] | None:
    """Return a mask inside its tight box, and the box's x and y; None if the mask is empty.

    Nothing but the box is unrolled, so a small object in a large image costs little. The mask lies
    in memory column by column.
    """
    laid = _laid(lengths, size[0])
    if laid is None:
        return None
    left, top, right, bottom = laid.box
    high, width = bottom - top, right - left
    edges = np.zeros(2 * len(laid.first) + 2, np.int64)
    edges[1:-1:2] = (laid.first - left) * high + laid.tops - top
    edges[2:-1:2] = (laid.last - left) * high + laid.bottoms - top
    edges[-1] = width * high
    ones = np.arange(len(edges) - 1, dtype=np.uint8) % 2
    columns = np.repeat(ones, np.diff(edges)).reshape(width, high)
    return columns.T, (left, top)


class _Laid(NamedTuple):
    """Where the runs that are set lie."""

    first: Runs  # columns in which they begin
    last: Runs  # and end
    tops: Runs  # rows in which they begin
    bottoms: Runs  # and end, exclusive
    box: tuple[int, int, int, int]


def _laid(lengths: Runs, height: int) -> _Laid | None:
    ends = np.cumsum(lengths)
    filled = np.flatnonzero(lengths[1::2])
    if not len(filled):
        return None
    starts, stops = ends[2 * filled], ends[2 * filled + 1]
    first, last = starts // height, (stops - 1) // height
    tops, bottoms = starts - first * height, stops - last * height
    # A run that goes on in the next column has the lowest row of one and the highest of the other.
    whole = bool((last > first).any())
    top, bottom = (0, height) if whole else (int(tops.min()), int(bottoms.max()))
    return _Laid(first, last, tops, bottoms, (int(first[0]), top, int(last[-1]) + 1, bottom))


def runs(segmentation: Any, size: Size) -> Runs:
    """Return the lengths of the runs of a segmentation in any of COCO's forms.

    Raises:
        ValueError: the segmentation is malformed or made for another size.
    """
    if isinstance(segmentation, Mapping):
        return _rle_runs(segmentation, size)
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str | bytes):
        return _unpack(_drawn(segmentation, size)["counts"])
    raise ValueError(f"segmentation is {_short(segmentation)}; expected polygons or run lengths")


def sound_areas(
    packed: Sequence[str], sizes: Int[np.ndarray, "n 2"]
) -> Int[np.ndarray, "n"] | None:
    """Return the pixels of each mask; None unless all are well-formed and fill images of `sizes`.

    Reads thousands at once, many times as fast as `runs`, which says what is wrong with one.
    """
    from hotcoco.mask import area as areas

    if not packed:
        return np.zeros(0, np.int64)
    code = np.frombuffer("".join(packed).encode(), np.uint8)
    if not all(packed) or code.min() < _LOWEST or code.max() > _HIGHEST:
        return None
    first = [_FIRST_RUN.match(text) for text in packed]
    if not all(first) or any(text[-1] >= _ONGOING for text in packed):
        return None
    lengths = np.array([found.end() if found else 0 for found in first])
    starts = np.cumsum([0, *(len(text) for text in packed[:-1])])
    empty = _values(code - _LOWEST, starts, starts + lengths - 1)
    # The area is the sum of every second run. With two runs of 0 in the place of the first, it is
    # that of the others: a run is written as the change from the run before last.
    others = [f"00{text[end:]}" for text, end in zip(packed, lengths.tolist(), strict=True)]
    shapes = sizes.tolist()
    try:
        filled, more = (
            areas([{"size": size, "counts": t} for size, t in zip(shapes, texts, strict=True)])
            for texts in (packed, others)
        )
    except ValueError:  # a run is negative, too long or leaves the image
        return None
    return filled.astype(np.int64) if (empty + more + filled == sizes.prod(axis=1)).all() else None


def _is_packed(segmentation: Any, size: Size) -> bool:
    """Return whether a segmentation looks like packed run lengths for an image of this size."""
    return (
        isinstance(segmentation, Mapping)
        and isinstance(segmentation.get("counts"), str)
        and list(segmentation.get("size", ())) == list(size)
    )


def _to_rle(segmentation: Any, size: Size) -> RLE:
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str | bytes):
        return _text(_drawn(segmentation, size))
    return pack(runs(segmentation, size), size)


def check_polygons(polygons: Sequence[Any], size: Size) -> None:
    """Raise ValueError, saying why, unless the polygons can be drawn in an image of `size`."""
    if not polygons:
        raise ValueError("segmentation has no polygon")
    for polygon in polygons:
        if not isinstance(polygon, Sequence | np.ndarray) or isinstance(polygon, str):
            raise ValueError(f"polygon is {_short(polygon)}; expected a list of x and y in turn")
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                f"polygon has {len(polygon)} numbers; expected x and y of three points or more"
            )
        points = _numbers(polygon).reshape(-1, 2)
        # Drawing a line to a vertex far away, as broken files have, takes memory without end.
        if (np.abs(points) > reach(max(size))).any():
            raise ValueError(
                f"polygon reaches {_farthest(points)}, far outside the image of {_wh(size)}"
            )


def reach(longer_side: Any) -> Any:
    """Return how far from the origin a polygon may go in an image; for numbers and arrays."""
    return 2 * longer_side + 100


def _drawn(polygons: Sequence[Any], size: Size) -> Mapping[str, Any]:
    """Return the packed run lengths of polygons, as bytes."""
    check_polygons(polygons, size)
    parts = coco_mask.frPyObjects([np.asarray(p, np.float64).tolist() for p in polygons], *size)
    drawn: Mapping[str, Any] = coco_mask.merge(parts)
    return drawn


def _rle_runs(rle: Mapping[str, Any], size: Size) -> Runs:
    if "counts" not in rle or "size" not in rle:
        raise ValueError("run lengths need the keys counts and size")
    made_for = rle["size"]
    if not isinstance(made_for, Sequence) or list(made_for) != list(size):
        raise ValueError(
            f"run lengths are for height and width {made_for}, the image has {list(size)}"
        )
    counts = rle["counts"]
    lengths = _unpack(counts) if isinstance(counts, str | bytes) else _whole(_numbers(counts))
    if (lengths < 0).any():
        raise ValueError(f"run lengths hold a negative run ({lengths.min()})")
    total = sum(lengths.tolist())  # Python's integers: a sum that wraps around could look right
    if total != size[0] * size[1]:
        raise ValueError(
            f"run lengths cover {total} pixels, the image of {_wh(size)} has {size[0] * size[1]}"
        )
    return lengths


def _unpack(counts: str | bytes) -> Runs:
    """Return the numbers of packed text.

    Each is written in groups of five bits, low first, as the change from the run before last.
    """
    code = (
        np.frombuffer(counts.encode() if isinstance(counts, str) else counts, np.uint8).astype(
            np.int64
        )
        - 48
    )
    if not len(code) or ((code < 0) | (code > 63)).any() or code[-1] & 32:
        raise ValueError(
            "packed run lengths are empty, cut off or hold a character that does not belong there"
        )
    last = np.flatnonzero(code < 32)  # bit 5 says that the number goes on
    first = np.concatenate(([0], last[:-1] + 1))
    digits = last - first + 1
    if (digits > 7).any():
        raise ValueError("packed run lengths hold a number of more than 32 bits")
    lengths = _values(code, first, last)
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths


def _values(
    code: Integer[np.ndarray, "c"], first: Int[np.ndarray, "n"], last: Int[np.ndarray, "n"]
) -> Int[np.ndarray, "n"]:
    """Return the numbers that groups of five bits, from `first` to `last`, stand for."""
    digits = last - first + 1
    values: Runs = (code[first] & 31).astype(np.int64)
    for place in range(1, int(digits.max(initial=1))):
        longer = np.flatnonzero(digits > place)
        values[longer] |= (code[first[longer] + place] & 31).astype(np.int64) << (5 * place)
    values -= np.where(code[last] & 16, 1 << (5 * digits), 0)  # bit 4 of the last group is the sign
    return values


def _numbers(values: Any) -> Any:
    try:
        # NumPy would read text as a number.
        if isinstance(values, Sequence) and not TEXT.isdisjoint(map(type, values)):
            raise TypeError("text")
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{_short(values)} holds something that is not a number") from None
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{_short(values)} is not a flat list of finite numbers")
    return array


def _whole(values: Any) -> Runs:
    if (values != np.floor(values)).any() or (np.abs(values) > 2**40).any():
        raise ValueError("run lengths are not whole numbers of a sensible size")
    return np.asarray(values, np.int64)


def _text(rle: Mapping[str, Any]) -> RLE:
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _farthest(points: Any) -> str:
    x, y = points[np.abs(points).max(axis=1).argmax()]
    return f"({x:g}, {y:g})"


def _wh(size: Size) -> str:
    return f"{size[1]} x {size[0]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
