"""Rows over seeds, and their differences to a baseline, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from scnet.experiments.statistics import Spread, paired, spread
from scnet.experiments.tables import Row

BySeed = Mapping[int, float | None]


@runtime_checkable
class Measured(Protocol):
    """A training and its figures, in per cent, by the name of their column."""

    @property
    def recipe(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def parameters(self) -> int: ...
    @property
    def memory_gb(self) -> float: ...
    @property
    def seconds(self) -> float: ...
    def figure(self, column: str) -> float | None: ...


@dataclass(frozen=True)
class Compared:
    """A row with what its trainings gave."""

    row: Row
    outcomes: tuple[Measured, ...]  # one for each seed
    figures: dict[str, Spread | None]  # by column
    gains: dict[str, Spread | None]  # differences to the baseline, by column; empty without one


def compare(
    rows: Sequence[Row], outcomes: Mapping[str, Sequence[Measured]], columns: Sequence[str]
) -> list[Compared]:
    """Return every row over the seeds; `outcomes` by the name of the recipe at paper size."""
    return [_compare(row, outcomes, columns) for row in rows]


def by_seed(outcomes: Sequence[Measured], column: str) -> BySeed:
    """Return a figure for each seed."""
    return {outcome.seed: outcome.figure(column) for outcome in outcomes}


def verdict(compared: Compared, baseline: str, column: str) -> str:
    """Return a sentence that says whether a difference exceeds its spread."""
    gain = compared.gains[column]
    name = "box AP" if column == "box AP" else f"mask {column}"
    start = f"{compared.row.label} against {baseline}, {name}"
    if gain is None:
        return f"{start}: undefined in this data set."
    if gain.sd is None:
        return f"{start}: {gain.mean:+.2f}, not decided by a single seed."
    text = f"{start}: {gain.mean:+.2f} ± {gain.sd:.2f} over {gain.n} seeds, "
    if not gain.decided:
        return f"{text}not decided."
    return f"{text}{'higher' if gain.mean > 0 else 'lower'} by more than its spread."


def as_json(compared: Compared) -> dict[str, Any]:
    """Return the figures of a row for JSON."""
    first = compared.outcomes[0]
    return {
        "label": compared.row.label,
        "recipe": first.recipe,
        "baseline": compared.row.baseline,
        "parameters": first.parameters,
        "figures": {name: value and value._asdict() for name, value in compared.figures.items()},
        "gains": {name: value and value.as_json() for name, value in compared.gains.items()},
        "seeds": {o.seed: _of_seed(o, list(compared.figures)) for o in compared.outcomes},
    }


def _of_seed(outcome: Measured, columns: Sequence[str]) -> dict[str, float | None]:
    figures = {column: outcome.figure(column) for column in columns}
    return {**figures, "memory_gb": outcome.memory_gb, "seconds": outcome.seconds}


def _compare(
    row: Row, outcomes: Mapping[str, Sequence[Measured]], columns: Sequence[str]
) -> Compared:
    own = outcomes[row.recipe]
    figures = {column: spread(by_seed(own, column).values()) for column in columns}
    gains: dict[str, Spread | None] = {}
    if row.baseline is not None:
        base = outcomes[row.baseline]
        gains = {c: paired(by_seed(own, c), by_seed(base, c)) for c in columns}
    return Compared(row, tuple(own), figures, gains)
