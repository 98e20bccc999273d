"""Freed memory is kept when asked, and given back when asked."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from scnet.ops.memory import peak_memory

# How often a process has to ask the system for a page over five large tensors: as it is, keeping
# what it freed, and no longer keeping it. In a process of its own, whose memory is not in pieces.
COUNT = """
import resource
import torch
from scnet.ops.memory import keep_freed, release_freed

def faults():
    torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed()
print(faults())
release_freed()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_large_tensors_take_the_place_of_those_before() -> None:
    command = [sys.executable, "-c", COUNT]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    asked, kept, released = map(int, out.split())
    assert kept < asked / 10
    assert released > asked / 2


def test_peak_memory_grows_with_what_is_used() -> None:
    before = peak_memory()
    large = torch.ones(int((before + 0.2) * 1e9 / 4))
    assert peak_memory() >= large.numel() * 4 / 1e9 > 0
