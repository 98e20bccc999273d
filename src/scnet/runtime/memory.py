"""How much memory a process uses, and whether it keeps what freed tensors had."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import torch

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_MOST_KEPT = 2**31 - 1  # bytes


def keep_freed() -> None:
    """Let this process keep memory that tensors on the CPU no longer need, up to 2 GB.

    By default glibc gives large blocks back to the system at once and asks for new ones, page by
    page, for the next tensor; a tensor of 70 MB then takes 17 ms before anything is computed. Does
    nothing but on Linux with glibc, and nothing on GPUs, where PyTorch keeps memory anyway.
    """
    _set(_MMAP_MAX, 0, _MOST_KEPT)


def release_freed() -> None:
    """Return to glibc's own way, and give back what is free."""
    _set(_MMAP_MAX, 65536, 128 * 1024)
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def peak_memory() -> float:
    """Return the most memory used so far in GB: of the GPU, or of the process without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status")
    if status.is_file():  # `getrusage` would count what the process was started from
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _set(option: int, most: int, kept: int) -> None:
    library = _glibc()
    if library is not None:
        library.mallopt(option, most)
        library.mallopt(_TRIM_THRESHOLD, kept)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None  # musl has none
