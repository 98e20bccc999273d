"""How much memory a process uses, and whether it keeps what freed tensors had."""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_TRIM_USUAL, _MMAP_USUAL = 128 * 1024, 65536
_MOST_KEPT = 2**31 - 1  # bytes
_SPREAD = 2  # of what predictions leave free, over what the first one does: memory is in pieces
_USAGE = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "used", "free")

_lock = threading.RLock()
_whole_process = False  # `keep_freed` is in force
_under_way = 0  # uses of `KeptMemory`


def keep_freed() -> None:
    """Let this process keep memory that tensors on the CPU no longer need, up to 2 GB.

    By default glibc gives large blocks back to the system at once and asks for new ones, page by
    page, for the next tensor; a tensor of 70 MB then takes 17 ms before anything is computed. Does
    nothing but on Linux with glibc, and nothing on GPUs, where PyTorch keeps memory anyway.
    """
    global _whole_process
    _whole_process = True
    _set(0, _MOST_KEPT)


def release_freed() -> None:
    """Return to glibc's own way, and give back what is free."""
    global _whole_process
    _whole_process = False
    _set(_MMAP_USUAL, _TRIM_USUAL)
    _trim(0)


@contextmanager
def keeping_freed() -> Iterator[None]:
    """Let this process keep freed memory for a while, as `keep_freed` does."""
    before = _whole_process
    keep_freed()
    try:
        yield
    finally:
        if not before:
            release_freed()


class KeptMemory:
    """What a model on the CPU keeps of its memory from one prediction to the next, up to a limit.

    glibc's settings are those of the process. During a prediction all allocations, in other threads
    too, come from kept memory. Between predictions only the limit holds, until nobody keeps
    anything any more. Nothing is set before the first prediction. The limit is on the free memory
    of the whole process. As with `keep_freed`, only glibc can be told; while `keep_freed` is in
    force there is no limit.
    """

    def __init__(self, limit: int | None) -> None:
        """Keep `limit` bytes; with None twice what the first prediction leaves free."""
        if limit is not None and limit < 0:
            raise ValueError(f"keep_memory is {limit}; it is a number of bytes, 0 keeps nothing")
        self.limit = limit
        self._of_image = 0.0

    @contextmanager
    def using(self, images: int) -> Iterator[None]:
        """Let a prediction of so many images take its memory from what is kept."""
        if self.limit == 0 or _whole_process:
            yield
            return
        self._enter()
        try:
            yield
        finally:
            self._leave(images)

    def release(self) -> None:
        """Give back what is kept; the next prediction keeps anew."""
        with _lock:
            _holders.discard(self)
        _settle()

    def _enter(self) -> None:
        global _under_way
        with _lock:
            _under_way += 1
            if self not in _holders:
                _holders.add(self)
                weakref.finalize(self, _settle).atexit = False
            _set(0, _MOST_KEPT)

    def _leave(self, images: int) -> None:
        global _under_way
        with _lock:
            _under_way -= 1
            if _under_way or _whole_process:
                return
            free = _free()
            self._of_image = self._of_image or _SPREAD * free / images
            most = self._of_image * images if self.limit is None else self.limit
            _set(_MMAP_USUAL, min(int(most), _MOST_KEPT))
            if free > most:
                _trim(min(int(most), _MOST_KEPT))


_holders: weakref.WeakSet[KeptMemory] = weakref.WeakSet()


def _settle() -> None:
    """Give back what is free, and return to glibc's own way where nobody keeps anything."""
    with _lock:
        if _under_way or _whole_process:
            return
        if not list(_holders):
            _set(_MMAP_USUAL, _TRIM_USUAL)
        _trim(0)


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


class _Usage(ctypes.Structure):
    """`struct mallinfo2` of malloc.h, in bytes."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (*_USAGE, "top"))


def _free() -> int:
    """Return the bytes that glibc holds free; 0 where it cannot say."""
    library = _glibc()
    if library is None or not hasattr(library, "mallinfo2"):  # older than 2.33
        return 0
    library.mallinfo2.restype = _Usage
    return int(library.mallinfo2().free)


def _trim(kept: int) -> None:
    library = _glibc()
    if library is not None:
        library.malloc_trim(ctypes.c_size_t(kept))


def _set(maps: int, kept: int) -> None:
    library = _glibc()
    if library is not None:
        library.mallopt(_MMAP_MAX, maps)
        library.mallopt(_TRIM_THRESHOLD, kept)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None  # musl has none
