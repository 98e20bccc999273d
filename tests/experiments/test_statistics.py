"""Spread, and the distance of distributions against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scnet.experiments.statistics import Spread, earth_movers, paired, share_below, spread

samples = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1))


@given(samples, samples)
def test_earth_movers_is_the_mean_difference_of_quantiles(a: np.ndarray, b: np.ndarray) -> None:
    """By brute force: repeat both to the same number, sort, and take differences."""
    both = np.sort(np.repeat(a, len(b))), np.sort(np.repeat(b, len(a)))
    distance = earth_movers(a, b)
    assert distance == pytest.approx(np.abs(both[0] - both[1]).mean(), abs=1e-12)


def test_earth_movers_of_a_shift_is_the_shift() -> None:
    values = np.linspace(0.5, 0.8, 50)
    assert earth_movers(values, values + 0.1) == pytest.approx(0.1)
    assert earth_movers(values, values) == 0
    assert earth_movers(values, values[:0]) is None


@pytest.mark.parametrize(
    ("values", "decided"),
    [
        ((1.0,), False),
        ((1.0, 1.0), True),
        ((0.0, 0.0), False),
        ((-2.0, -2.1, -1.9), True),
        ((1.0, 3.0, -1.0), False),
    ],
)
def test_a_mean_far_from_zero_for_its_spread_is_decided(
    values: tuple[float, ...], decided: bool
) -> None:
    assert spread(values).decided is decided


def test_the_limit_itself_is_decided() -> None:
    limit = 3.182 / math.sqrt(4)  # 97.5 % of Student's t with three degrees of freedom
    assert Spread(limit, 1.0, 4).decided
    assert not Spread(limit - 1e-9, 1.0, 4).decided


def test_few_values_need_more_than_many() -> None:
    assert not Spread(1.0, 1.0, 3).decided
    assert Spread(1.0, 1.0, 10).decided
    assert Spread(1.0, 1.0, 50).decided


def test_what_is_undefined_leaves_the_spread_undefined() -> None:
    assert spread([1.0, None]) is None
    assert spread([]) is None
    assert paired({0: 1.0}, {1: 2.0}) is None


def test_share_below_leaves_the_limit_out() -> None:
    assert share_below(np.array([0.5, 0.6, 0.7, 0.9]), 0.6) == 0.25
    assert share_below(np.array([]), 0.6) is None
