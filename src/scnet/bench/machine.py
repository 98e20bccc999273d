"""What the machine can do, measured, and what it is."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scnet.inference.model import AUTOCAST, Precision


def describe(device: torch.device) -> dict[str, str]:
    """Return names and versions that a figure needs beside it."""
    import timm
    import torchvision

    from scnet.version import __version__

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} threads"
    return {
        "device": name + threads,
        "versions": f"python {platform.python_version()}, scnet {__version__}, torch "
        f"{torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}",
    }


def processor() -> str:
    """Return the name of the processor and its number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


class Rates:
    """Operations a second of a convolution and of a matrix product, as networks have them.

    Measured again in each round, beside the models, since other work changes them.
    """

    def __init__(self, device: torch.device, precision: Precision) -> None:
        dtype = AUTOCAST[precision]
        self.device = device
        self.flops: dict[str, list[float]] = {"convolution": [], "matrix product": []}
        x = torch.randn(1, 256, 200, 336, device=device, dtype=dtype)
        weight = torch.randn(256, 256, 3, 3, device=device, dtype=dtype)
        x, weight = (t.to(memory_format=torch.channels_last) for t in (x, weight))
        a = torch.randn(1000, 12544, device=device, dtype=dtype)
        b = torch.randn(1024, 12544, device=device, dtype=dtype)
        self._work: dict[str, tuple[Callable[[], Tensor], float]] = {
            "convolution": (lambda: F.conv2d(x, weight, padding=1), 2.0 * 9 * 256**2 * 200 * 336),
            "matrix product": (lambda: F.linear(a, b), 2.0 * 1000 * 12544 * 1024),
        }

    @torch.inference_mode()
    def measure(self) -> None:
        """Measure both once more."""
        repeat = 10 if self.device.type == "cuda" else 1
        for name, (work, operations) in self._work.items():
            work()
            seconds, _ = timed(functools.partial(_repeat, work, repeat), self.device)
            self.flops[name].append(operations * repeat / seconds)


def _repeat(work: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        work()


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Return the seconds that some work takes, the device's included, and its result."""
    wait(device)
    start = time.perf_counter()
    result = work()
    wait(device)
    return time.perf_counter() - start, result


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
