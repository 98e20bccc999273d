"""Polygons within another of their annotation are found, however long their outlines are."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np

from scnet.data.holes import hole_fault


def ring(radius: float, corners: int, x: float = 0.0) -> list[float]:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + radius * np.cos(angles), radius * np.sin(angles)], 1).ravel().tolist()


def entry(*polygons: list[float]) -> dict[str, Any]:
    return {"segmentation": list(polygons)}


def test_a_polygon_within_another_is_found() -> None:
    entries = [entry(ring(9, 30), ring(3, 200)), entry(ring(9, 30), ring(3, 200, x=8))]
    assert "of those looked at with several polygons 1 of 2 annotations has one" in hole_fault(
        entries
    )
    assert not hole_fault(entries[1:])
    # A slip among many is not worth a note to all who train.
    assert not hole_fault([entries[0], *[entries[1]] * 124])


def test_long_outlines_take_little_memory() -> None:
    """All corners beside all edges of outlines of 4,000 points are arrays of 128 MB."""
    long = entry(ring(9, 4000), ring(8, 4000))
    tracemalloc.start()
    try:
        assert hole_fault([long])
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
