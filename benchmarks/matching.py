"""Memory and time to match the anchors of a training step with the objects of its images.

    python benchmarks/matching.py [--images 1] [--objects 100]

The anchors are those of an image of 800 x 1344; the memory is what Linux counts as the process's
own, at its most, over what it was before.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from scnet.bench.machine import processor
from scnet.config import RPNConfig
from scnet.model.rpn import STRIDES, anchor_shapes, make_anchors
from scnet.model.sampling import match, overlaps
from scnet.types import MaskCrops, Targets

HEIGHT, WIDTH = 800, 1344


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--objects", type=int, default=100, help="in each image")
    args = parser.parse_args()
    config = RPNConfig()
    maps = [(-(-HEIGHT // stride), -(-WIDTH // stride)) for stride in STRIDES]
    anchors, targets = make_anchors(maps, anchor_shapes(config)), objects(args.images, args.objects)
    valid = torch.ones(args.images, len(anchors), dtype=torch.bool)
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is what there is now
    before, start = status("VmRSS"), time.perf_counter()
    positive, negative = config.positive_iou, config.negative_iou
    overlap = overlaps(anchors[None], valid, targets)
    match(overlap, positive, negative, minimum=negative, low_quality=True)
    seconds = time.perf_counter() - start
    print(
        f"{processor()}; {len(anchors):,} anchors, {args.images} x {args.objects} objects: "
        f"{(status('VmHWM') - before) / 1e6:.0f} MB more, {seconds:.2f} s"
    )


def objects(images: int, number: int) -> Targets:
    """Return so many boxes of all sizes in each image."""
    random = torch.Generator().manual_seed(0)
    corner = torch.rand(images, number, 2, generator=random) * 700
    boxes = torch.cat([corner, corner + 20 + torch.rand(corner.shape, generator=random) * 200], 2)
    nothing = torch.zeros(images, number, dtype=torch.int64)
    masks = MaskCrops(torch.zeros(0, dtype=torch.uint8), torch.zeros(0, 2).long(), ())
    return Targets(boxes, nothing, nothing == 0, nothing, masks, (number,) * images)


def status(name: str) -> int:
    """Return a figure of the process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


if __name__ == "__main__":
    main()
