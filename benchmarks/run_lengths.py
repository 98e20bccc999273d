"""Masks of a 12-megapixel image, from probabilities to COCO's run lengths: time and memory.

    python benchmarks/run_lengths.py [--size 3000x4000] [--rounds 7]

Masks are 28 x 28 and smooth, as networks give them; boxes have sides of 2 % to 60 % of the image's.
"Pasted" makes the bitmap of every mask and encodes it with pycocotools' C code, as is usual; it
takes the masks one at a time, since all their bitmaps at once need gigabytes.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scnet.bench.machine import processor
from scnet.ops.placing import paste, run_lengths
from scnet.ops.rle import RLE, encode
from scnet.runtime.memory import peak_memory
from scnet.types import Size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="3000x4000")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    size = (height, width)
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}; {size}")
    for number in (100, 1000):
        masks, boxes = draw(number, size)
        covered = float((boxes[:, 2:] - boxes[:, :2]).prod(1).sum()) / 1e6
        ways: dict[str, Callable[[], list[RLE]]] = {
            "run lengths": functools.partial(run_lengths, masks, boxes, size),
            "pasted": functools.partial(pasted, masks, boxes, size),
        }
        extra = {name: extra_memory(way) for name, way in ways.items()}
        assert ways["run lengths"]() == ways["pasted"]()
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(args.rounds):
            for name, way in ways.items():
                if number > 100 and name == "pasted" and turn:
                    continue  # takes half a minute, and once says enough
                start = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - start)
        print(f"{number} masks, boxes of {covered:.0f} megapixels together")
        for name, taken in seconds.items():
            middle, memory = statistics.median(taken), 1000 * extra[name]
            spread = f"{min(taken):.3f} - {max(taken):.3f}"
            print(f"  {name}: {middle:.3f} s ({spread}), {memory:.0f} MB more")


def draw(number: int, size: Size) -> tuple[Tensor, Tensor]:
    """Return masks and boxes."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(number, 1, 5, 5, generator=random) * 3 + 1
    masks = F.interpolate(coarse, size=(28, 28), mode="bicubic")[:, 0].sigmoid()
    limits = torch.tensor([size[1], size[0]])
    side = limits * (0.02 + 0.58 * torch.rand(number, 2, generator=random) ** 2)
    corner = torch.rand(number, 2, generator=random) * limits - side / 2
    return masks, torch.cat((corner, corner + side), 1)


def pasted(masks: Tensor, boxes: Tensor, size: Size) -> list[RLE]:
    """Return the run lengths of bitmaps."""
    pairs = zip(masks.split(1), boxes.split(1), strict=True)
    return [encode(paste(mask, box, size)[0]) for mask, box in pairs]


def extra_memory(work: Callable[[], Any]) -> float:
    """Return how much the memory of this process grows at most, in GB; 0 where that is unknown."""
    refs = Path("/proc/self/clear_refs")
    if not refs.exists():
        return 0.0
    refs.write_text("5")  # forget the peak so far
    before = peak_memory()
    work()
    return peak_memory() - before


if __name__ == "__main__":
    main()
