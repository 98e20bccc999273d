"""Freed memory is kept when asked, and given back when asked."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from scnet.runtime.memory import KeptMemory, peak_memory

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


# A "prediction" fills 64 MB five times. Prints the pages asked for by the tenth one, and how much
# memory the process has before, after all of them, and after the end that is asked for.
KEEP = """
import resource, sys
import torch
from scnet.runtime.memory import KeptMemory

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("VmRSS")) * 1024

def work():
    with kept.using(1):
        for _ in range(5):
            torch.ones(2**24)

torch.ones(2**24)
before = resident()
kept = KeptMemory(eval(sys.argv[1]))
for _ in range(9):
    work()
count = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
count = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - count
after = resident()
if sys.argv[2] == "release":
    kept.release()
elif sys.argv[2] == "end":
    del kept
print(count, after - before, resident() - before)
"""
PAGES = 5 * 2**26 // 4096  # of a prediction that keeps nothing, without huge pages


def kept_by(limit: str, end: str = "") -> list[int]:
    """Return the pages asked for, and the growth after predictions and after the end."""
    command = [sys.executable, "-c", KEEP, limit, end]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return list(map(int, out.split()))


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
@pytest.mark.parametrize("limit", ["None", "2**30"])
def test_predictions_take_the_memory_of_those_before(limit: str) -> None:
    pages, grown, _ = kept_by(limit)
    assert pages < PAGES / 2  # some tensors find their memory in pieces
    assert grown > 2**25


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
@pytest.mark.parametrize("limit", ["0", "2**23"])
def test_no_more_than_the_limit_is_kept(limit: str) -> None:
    _, grown, _ = kept_by(limit)
    assert grown < 2**24


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
@pytest.mark.parametrize("end", ["release", "end"])
def test_what_is_kept_goes_when_asked_and_with_its_model(end: str) -> None:
    _, grown, left = kept_by("None", end)
    assert grown > 2**25
    assert left < 2**24


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="keep_memory is -1"):
        KeptMemory(-1)
