"""Freed memory is kept when asked, and given back when asked."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from scnet.runtime.memory import peak_memory

# How often a process has to ask the system for a page over five large tensors: as it is, and
# keeping what it freed. In a process of its own, whose memory is not in pieces.
COUNT = """
import resource
import torch
from scnet.runtime.memory import keep_freed

def faults():
    for _ in range(10):  # the first ones still find memory in pieces
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_large_tensors_take_the_place_of_those_before() -> None:
    command = [sys.executable, "-c", COUNT]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    asked, kept = map(int, out.split())
    assert kept < asked / 10


def test_peak_memory_grows_with_what_is_used() -> None:
    before = peak_memory()
    large = torch.ones(int((before + 0.2) * 1e9 / 4))
    assert peak_memory() >= large.numel() * 4 / 1e9 > 0
