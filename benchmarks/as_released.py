"""What "38 % faster" rests on: masks by the steps of the paper's implementation, beside ours.

    python benchmarks/as_released.py [--size 800x1333] [--rounds 9] [--device auto]

In MMDetection 2.x (`CascadeRoIHead.simple_test`), where the paper's code was released, every mask
branch pools the detections anew, and where there are several the probabilities of all classes
are copied to the host, averaged there by NumPy and copied back. SCNet has one branch, and needs
none of it. Here all branches read what was pooled once, only each detection's class is computed,
and the average stays on the device. Each model runs both ways, all taking turns in one process.
HTC is left out: its release pools once, but averages on the host, too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from rich.console import Console
from rich.table import Table
from torch import Tensor

from scnet.bench import Ours, Setting, batch_of, contender, prepare
from scnet.bench.machine import describe, timed
from scnet.model.box_stage import BoxStage
from scnet.model.features import RoIFeatures
from scnet.model.mask_branch import FoundMasks, MaskBranches
from scnet.runtime.device import pick_device
from scnet.types import RoIs

CASCADE, SCNET = "cascade_mask_rcnn_semantic", "scnet"
NAIVE, EFFECTIVE = "naive_sample_consistency", "table2_consistency"
PUBLISHED = {(SCNET, CASCADE): "1.38", (EFFECTIVE, NAIVE): "1.44"}  # images/s, Tables 1 and 3


def main() -> None:
    """Time all models both ways; print seconds and ratios of speeds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="800x1333")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    device = pick_device(args.device)
    names = tuple(dict.fromkeys(name for pair in PUBLISHED for name in pair))
    setting = Setting(models=names, size=(height, width), rounds=args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        files = prepare(setting, Path(folder))
        runs = {name: contender(name, setting, device, files) for name in names}
        seconds: dict[tuple[str, bool], list[float]] = {(n, r): [] for n in names for r in WAYS}
        for turn in range(-1, args.rounds):
            for (name, released), taken in seconds.items():
                run = runs[name]
                assert isinstance(run, Ours)
                _switch(run.model.fast.head.roi_heads.masks, released)
                once, _ = timed(partial(run, batch_of(files, turn, 1)), device)
                if turn >= 0:
                    taken.append(once)
    machine = describe(device)
    print(f"{machine['device']}; {machine['versions']}; {args.size}, {args.rounds} rounds")
    console = Console(width=110)
    console.print(_times(seconds))
    console.print(_ratios(seconds))


WAYS = {False: "ours", True: "as released"}


def as_released(
    branches: MaskBranches,
    features: RoIFeatures,
    rois: RoIs,
    labels: Int[Tensor, "R"],
    boxes: Sequence[BoxStage],
) -> FoundMasks:
    """Return what `MaskBranches.find` does, by the steps of the release."""
    hidden = {}
    if branches.relays is not None:
        for stage in set(branches.config.fed_by):
            hidden[stage] = boxes[stage].hidden(features(rois, boxes[stage].side))
    masks = []
    for branch, stage in enumerate(branches.config.fed_by):
        pooled = features(rois, branches.side)
        masks.append(branches(branch, pooled, hidden.get(stage), None).sigmoid())
    if len(masks) > 1:
        mean = np.mean([mask.cpu().numpy() for mask in masks], axis=0)
        masks = [rois.boxes.new_tensor(mean)]
    chosen = masks[0][torch.arange(len(labels), device=labels.device), labels]
    return FoundMasks(chosen, None)


def _switch(branches: MaskBranches, released: bool) -> None:
    """Let a model make its masks in the one way or the other."""
    branches.__dict__.pop("find", None)
    if released:
        branches.__dict__["find"] = partial(as_released, branches)


def _times(seconds: dict[tuple[str, bool], list[float]]) -> Table:
    table = Table("s an image, median (min - max)", *WAYS.values())
    for name in dict.fromkeys(name for name, _ in seconds):
        columns = [seconds[name, released] for released in WAYS]
        cells = [f"{statistics.median(c):.3f} ({min(c):.3f} - {max(c):.3f})" for c in columns]
        table.add_row(name, *cells)
    return table


def _ratios(seconds: dict[tuple[str, bool], list[float]]) -> Table:
    table = Table("ratio of speeds, median of rounds", *WAYS.values(), "published")
    for (fast, slow), published in PUBLISHED.items():
        cells = []
        for released in WAYS:
            pairs = zip(seconds[slow, released], seconds[fast, released], strict=True)
            cells.append(f"{statistics.median(a / b for a, b in pairs):.2f}")
        table.add_row(f"{fast} : {slow}", *cells, published)
    return table


if __name__ == "__main__":
    main()
