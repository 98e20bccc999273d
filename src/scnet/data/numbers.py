"""Numbers of any kind and bands of any number to the 8 bits that a network is given.

What value is black and what white says `data.range`; which bands are taken says `data.bands`. Both
are settings of the data and of the model that learnt from them, so that training, evaluation and
prediction read alike.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scnet.data.errors import DataError
from scnet.data.wording import counted

Limits = tuple[float, float]
Rule = Literal["full", "minmax", "percentile"] | Limits
Bands = Literal["all"] | tuple[int, ...] | None

PERCENTILES = (0.1, 99.9)  # of a band's values, with the rule "percentile"
COUNTED = 1_000_000  # values of a band, evenly spread, over which those are taken
NARROW = 1 / 8  # of the range; an image that uses less has lost most of its contrast
CUT = 0.1  # share of values beyond the range that is worth a word
NEAR_ONE = 1.1  # floating point up to here is taken as 0..1
ADVICE = "train with --data.range percentile, minmax or '[LOW,HIGH]'"
WHITE = 65535.0  # of integers of more than 8 bits


class Numbers(NamedTuple):
    """The numbers of an image file as they stand there."""

    values: NDArray[Any]  # (H, W, D)
    white: float | None = WHITE  # None = 1, or the largest value where that is more
    pages: bool = False  # whether the bands are pages of a stack


def require_bands(count: int, bands: Bands, *, pages: bool) -> None:
    """Refuse to leave out bands or pages that nobody chose, and to take some that are not there.

    Raises:
        DataError: says how many there are, and the setting that helps.
    """
    kind = "page" if pages else "band"
    there = counted(count, kind)
    if bands is None and (count not in (1, 3) or (pages and count > 1)):
        some = [1, 2, min(3, count)]
        raise DataError(
            f"has {there}; without a choice only 1 (grey) or 3 of one page (RGB) are read: "
            f"in training choose {kind}s, counted from 1, with --data.bands '{_list(some)}', "
            "or take all with --data.bands all"
        )
    if isinstance(bands, tuple) and max(bands) > count:
        raise DataError(
            f"has {there}, but data.bands is {_list(bands)}; choose from 1 to {count}, or take all "
            "with --data.bands all"
        )


def choose(numbers: Numbers, bands: Bands) -> Numbers:
    """Return the bands that are asked for.

    Raises:
        DataError: as `require_bands`.
    """
    require_bands(numbers.values.shape[2], bands, pages=numbers.pages)
    if not isinstance(bands, tuple):
        return numbers
    return numbers._replace(values=numbers.values[..., [band - 1 for band in bands]])


def to_bytes(numbers: Numbers, rule: Rule) -> NDArray[np.uint8]:
    """Return numbers as 0..255; what is not finite becomes the lower limit."""
    values = numbers.values
    if rule == "full" and values.dtype == np.uint8 and numbers.white == 255:
        return values
    exact = np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64
    result = np.empty(values.shape, np.uint8)
    for band in range(values.shape[2]):
        low, high = limits(values[..., band], numbers.white, rule)
        plain = np.nan_to_num(values[..., band].astype(exact), nan=low, posinf=low, neginf=low)
        scale = 255 / (high - low) if high > low else 0.0
        result[..., band] = np.clip((plain - low) * scale + 0.5, 0, 255)
    return result


def limits(band: NDArray[Any], white: float | None, rule: Rule) -> Limits:
    """Return the values of a band that become 0 and 255."""
    if not isinstance(rule, str):
        return rule
    if rule == "percentile":
        step = max(1, int(np.sqrt(band.size / COUNTED)))
        band = band[::step, ::step]
    finite = _finite(band)
    if not finite.size:
        return 0.0, 1.0
    if rule == "percentile":
        low, high = np.percentile(finite, PERCENTILES)
        if high > low:
            return float(low), float(high)
    if rule != "full":  # and where all but a few pixels are the same
        return float(finite.min()), float(finite.max())
    return 0.0, max(float(finite.max()), 1.0) if white is None else white


def contrast_fault(numbers: Numbers, rule: Rule) -> str:
    """Return what is lost of an image in scaling its numbers, and what to do; empty if little."""
    lost = _lost(numbers, rule)
    return f"{lost}; {ADVICE}" if lost else ""


def dim_fault(least: float, most: float, rule: Rule) -> str:
    """Return the same of an image of 8 bits, given its lowest and highest value.

    One of a single value, such as an empty field, has no contrast to lose.
    """
    dim = rule == "full" and 0 < most - least < NARROW * 255
    return f"{_little(least, most, 0.0, 255.0)}; {ADVICE}" if dim else ""


def _little(least: float, most: float, low: float, high: float) -> str:
    share = (min(most, high) - max(least, low)) / (high - low)
    return (
        f"its values, {least:g}..{most:g}, use {share:.1%} of the range {low:g}..{high:g}, which "
        "leaves little contrast"
    )


def _lost(numbers: Numbers, rule: Rule) -> str:
    values = numbers.values
    if rule in ("minmax", "percentile") or values.dtype == np.bool_:
        return ""
    if rule == "full" and values.dtype == np.uint8:
        return ""
    finite = _finite(values)
    if not finite.size:
        return "none of its values is finite"
    low, high = limits(values, numbers.white, rule)
    least, most = float(finite.min()), float(finite.max())
    if least < low or most > high:
        cut = float(((finite < low) | (finite > high)).mean())
        if cut > CUT:
            there = f"{least:g}..{most:g}"
            return f"{cut:.0%} of its values, {there}, lie outside {low:g}..{high:g} and are cut"
    share = (min(most, high) - max(least, low)) / (high - low)
    if most == least or share >= NARROW:
        own = rule == "full" and numbers.white is None and most > NEAR_ONE
        scaled = "white is the largest value of each image, whatever it is in the next"
        return f"its values, {least:g}..{most:g}, have no range of their own: {scaled}" * own
    return _little(least, most, low, high)


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    flat = values.reshape(-1)
    return flat[np.isfinite(flat)] if values.dtype.kind == "f" else flat


def _list(bands: tuple[int, ...] | list[int]) -> str:
    return str(list(bands)).replace(" ", "")
