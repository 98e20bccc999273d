"""How the cost of prediction grows: with the image, proposals, objects found, batch and threads.

    python benchmarks/scaling.py --recipe scnet --images 'photos/*.jpg' -o scaling

Each panel changes one thing of 800 x 1333, 1000 proposals, 100 objects, one image at a time. All
points of a panel take turns; memory is measured in a process of its own for each. Writes
`scaling.json` and `scaling.png`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scnet import bench
from scnet.bench import Contender, Setting
from scnet.bench.machine import describe, timed
from scnet.inference.gather import image_files
from scnet.pictures.colours import BLUE
from scnet.runtime.device import pick_device

IMAGES = 4  # that take turns


@dataclass(frozen=True)
class Point:
    """One measurement of a panel."""

    x: float
    setting: Setting


@dataclass(frozen=True)
class Panel:
    """What is changed, and to what."""

    title: str
    unit: str
    points: Sequence[Point]


def main() -> None:
    """Measure every panel, write figures and draw them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recipe", default="scnet")
    parser.add_argument("--images", nargs="+", default=[])
    parser.add_argument("--size", default="800x1333")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("-o", "--output", default="scaling", help="files, without suffix")
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    base = Setting(
        models=(args.recipe,),
        images=tuple(image_files(args.images)[:IMAGES]) if args.images else (),
        size=(height, width),
        device=args.device,
        precision=args.precision,
    )
    record: dict[str, Any] = {**describe(pick_device(args.device)), "recipe": args.recipe}
    record |= {"size": args.size, "rounds": args.rounds, "precision": args.precision}
    record["panels"] = [measure(panel, args) for panel in panels(base)]
    Path(f"{args.output}.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(record, Path(f"{args.output}.png"))
    print(f"wrote {args.output}.json and {args.output}.png")


def panels(base: Setting) -> list[Panel]:
    """Return what is measured."""
    height, width = base.size
    scales = (0.35, 0.5, 0.7, 1.0, 1.4)
    sizes = [(round(height * s), round(width * s)) for s in scales]
    threads = [n for n in (1, 2, 4, 8, 16) if n <= (os.cpu_count() or 1)]
    every = [
        Panel(
            "image",
            "megapixels",
            [Point(h * w / 1e6, replace(base, size=(h, w))) for h, w in sizes],
        ),
        Panel(
            "proposals",
            "boxes read by the box stages",
            [Point(n, replace(base, proposals=n)) for n in (100, 300, 1000, 2000)],
        ),
        Panel(
            "objects",
            "objects found, each with its mask",
            [Point(n, replace(base, detections=n)) for n in (1, 50, 100, 200, 400)],
        ),
        Panel("batch", "images at once", [Point(n, replace(base, batch=n)) for n in (1, 2, 4)]),
    ]
    if pick_device(base.device).type == "cpu" and len(threads) > 1:
        points = [Point(n, replace(base, threads=n)) for n in threads]
        every.append(Panel("threads", "threads", points))
    return every


def measure(panel: Panel, args: argparse.Namespace) -> dict[str, Any]:
    """Return the median seconds an image and the most memory of each point."""
    with tempfile.TemporaryDirectory() as folder:
        ready = [prepare(point, Path(folder) / str(i)) for i, point in enumerate(panel.points)]
        seconds: list[list[float]] = [[] for _ in panel.points]
        for turn in range(-1, args.rounds):
            for point, (run, files), taken in zip(panel.points, ready, seconds, strict=True):
                value = one_round(point.setting, run, files, turn)
                if turn >= 0:
                    taken.append(value)
        memory = [
            bench.peak_of(point.setting.models[0], point.setting, files[: point.setting.batch])
            if args.memory
            else 0.0
            for point, (_, files) in zip(panel.points, ready, strict=True)
        ]
    middle = [round(statistics.median(taken), 3) for taken in seconds]
    print(panel.title, middle, memory, flush=True)
    return {
        "title": panel.title,
        "unit": panel.unit,
        "x": [point.x for point in panel.points],
        "seconds": seconds,
        "gb": memory,
    }


def prepare(point: Point, folder: Path) -> tuple[Contender, list[Path]]:
    """Return a model that is ready to run, and its images."""
    folder.mkdir()
    setting = point.setting
    files = bench.prepare(replace(setting, rounds=IMAGES), folder)
    return bench.contender(setting.models[0], setting, pick_device(setting.device), files), files


def one_round(setting: Setting, run: Contender, files: Sequence[Path], turn: int) -> float:
    """Return the seconds an image."""
    before = torch.get_num_threads()
    if setting.threads:
        torch.set_num_threads(setting.threads)
    several = bench.batch_of(files, turn, setting.batch)
    seconds, _ = timed(functools.partial(run, several), pick_device(setting.device))
    torch.set_num_threads(before)
    return seconds / setting.batch


def draw(record: dict[str, Any], file: Path) -> None:
    """Draw a column for each thing that is changed: time above, memory below."""
    every = record["panels"]
    rows = 2 if any(any(panel["gb"]) for panel in every) else 1
    figure = Figure(figsize=(2.6 * len(every), 2.7 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, len(every), squeeze=False, sharey="row")
    for column, panel in enumerate(every):
        middle = [statistics.median(taken) for taken in panel["seconds"]]
        values = [(middle, "seconds an image"), (panel["gb"], "most memory, GB")][:rows]
        for row, (y, name) in enumerate(values):
            axes = grid[row][column]
            axes.plot(panel["x"], y, color=BLUE, marker="o", markersize=4)
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=max(panel["x"]) >= 2))
            axes.grid(axis="y", color="#e5e5e5")
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlabel(panel["unit"] if row == rows - 1 else "")
            axes.set_ylabel(name if column == 0 else "")
        spread = [(min(taken), max(taken)) for taken in panel["seconds"]]
        low, high = zip(*spread, strict=True)
        grid[0][column].fill_between(panel["x"], low, high, color=BLUE, alpha=0.2, linewidth=0)
        grid[0][column].set_title(panel["title"], fontsize=10, loc="left")
    for axes in grid[:, 0]:  # after all are drawn, as a row shares its scale
        axes.set_ylim(bottom=0)
    figure.suptitle(f"{record['recipe']}, {record['device']}", fontsize=10, x=0.01, ha="left")
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
