"""Mean and spread over seeds, whether a difference is decided, how far distributions are apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Array = np.ndarray

# Standard errors, by the number of values, beyond which a mean lies by chance in 5 % of cases; of
# more values as of ten, which decides a little less.
T_95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


class Spread(NamedTuple):
    """Mean and sample standard deviation of some values."""

    mean: float
    sd: float | None  # None for a single value
    n: int

    @property
    def decided(self) -> bool:
        """Whether the mean, of differences, is not zero by a t-test at 5 % (Student 1908)."""
        if self.sd is None or self.mean == 0:
            return False
        return abs(self.mean) >= T_95[min(self.n, max(T_95))] * self.sd / math.sqrt(self.n)

    def as_json(self) -> dict[str, float | None]:
        """Return all of it for JSON."""
        return {**self._asdict(), "decided": self.decided}


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return the mean and spread of values; None where there is none or one is undefined.

    >>> spread([1.0, 2.0, 3.0])
    Spread(mean=2.0, sd=1.0, n=3)
    """
    known = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), sd, len(known))


def paired(
    values: Mapping[int, float | None], baseline: Mapping[int, float | None]
) -> Spread | None:
    """Return mean and spread of the differences at the seeds that both have.

    What a seed does to both, such as the order of images, cancels out.
    """
    pairs = [(values[seed], baseline[seed]) for seed in values if seed in baseline]
    return spread(None if a is None or b is None else a - b for a, b in pairs)


def earth_movers(a: Float[Array, "n"], b: Float[Array, "m"]) -> float | None:
    """Return the mean absolute difference of the quantile functions of two samples.

    It equals the area between their distribution functions, which is how it is computed. None
    where a sample is empty.
    """
    if not len(a) or not len(b):
        return None
    a, b = np.sort(a), np.sort(b)
    both = np.sort(np.concatenate([a, b]))
    shares = [np.searchsorted(x, both[:-1], side="right") / len(x) for x in (a, b)]
    return float((np.abs(shares[0] - shares[1]) * np.diff(both)).sum())


def share_below(values: Float[Array, "n"], limit: float) -> float | None:
    """Return the share of values below a limit, 0..1; None where there are none."""
    return float((values < limit).mean()) if len(values) else None
