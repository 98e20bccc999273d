"""Freed memory is kept when asked, and given back when asked."""

from __future__ import annotations

import sys

import pytest
import torch

from scnet.ops.memory import keep_freed, peak_memory, release_freed


def faults() -> int:
    """Return how often this process had to ask the system for a page, over some large tensors."""
    import resource

    torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_large_tensors_take_the_place_of_those_before() -> None:
    try:
        release_freed()
        asked = faults()
        keep_freed()
        # Another thread may have taken a part of what was freed, so that one tensor in five needs
        # new pages.
        assert faults() < asked / 3
    finally:
        release_freed()


def test_peak_memory_grows_with_what_is_used() -> None:
    before = peak_memory()
    large = torch.ones(int((before + 0.2) * 1e9 / 4))
    assert peak_memory() >= large.numel() * 4 / 1e9 > 0
