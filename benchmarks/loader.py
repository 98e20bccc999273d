"""How fast training data come: images a second, what the time goes into, and what training waits.

    python benchmarks/loader.py DATA [--recipe NAME] [--workers 1 2] [--step] [--set NAME=VALUE]

Everything is timed on the images of the training split, in batches as training makes them. The
breakdown runs in this process; it takes the processor time of the functions that a sample goes
through, each without what it calls of the others, so other work on the machine disturbs little.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
import yaml
from torch.utils.data import DataLoader

from scnet import recipes
from scnet.bench.stopwatch import Stopwatch
from scnet.config import Config, override
from scnet.data import coco, loader, semantic
from scnet.data.coco import CocoDataset, load_dataset
from scnet.model.detector import Detector
from scnet.settings import nested
from scnet.training.run import fit_to_data

# Function that a sample goes through, by where it is looked up, and the name of its stage.
STAGES: tuple[tuple[Any, str, str], ...] = (
    (coco, "read_image", "decode"),
    (coco, "view_image", "resize"),
    (coco, "_objects", "masks"),
    (coco, "paint", "maps"),
    (coco, "view_map", "maps"),
    (semantic, "_read_map", "maps"),
    (coco, "paste_objects", "paste"),
    (loader, "collate", "collate"),
)


def breakdown(dataset: CocoDataset, batch_size: int, images: int) -> dict[str, float]:
    """Return milliseconds of this process an image by stage, `total` among them."""
    order = np.random.default_rng(0).integers(len(dataset), size=images).tolist()
    with Stopwatch(time.process_time) as watch:
        for module, name, stage in STAGES:
            if name in vars(module):
                watch.watch(module, name, stage)
        start = time.process_time()
        for first in range(0, images, batch_size):
            loader.collate([dataset[i] for i in order[first : first + batch_size]])
        total = time.process_time() - start
    stages = {stage: watch.seconds[stage] for stage in watch.seconds}
    stages["other"] = total - sum(stages.values())
    return {name: 1000 * s / images for name, s in {**stages, "total": total}.items()}


def throughput(dataset: CocoDataset, batch_size: int, workers: int, images: int) -> float:
    """Return images a second from so many processes, the start of the processes not counted."""
    batches = _batches(dataset, batch_size, workers, images + 4 * workers * batch_size)
    for _ in range(2 * max(1, workers)):
        next(batches)
    start, seen = time.perf_counter(), 0
    for batch in batches:
        seen += len(batch.info)
        if seen >= images:
            break
    return seen / (time.perf_counter() - start)


def waiting(config: Config, dataset: CocoDataset, workers: int, steps: int) -> tuple[float, float]:
    """Return seconds a training step and the share of them spent waiting for data."""
    optim = config.optim
    detector = Detector(config).train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.0)
    total = waited = 0.0
    batches = _batches(dataset, optim.batch_size, workers, (steps + 3) * optim.batch_size)
    for step in range(steps + 3):
        start = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        loss = torch.stack(list(detector.loss(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 3:
            total += time.perf_counter() - start
            waited += ready - start
    return total / steps, waited / total


def _batches(dataset: CocoDataset, batch_size: int, workers: int, images: int) -> Iterator[Any]:
    order = np.random.default_rng(0).integers(len(dataset), size=images).tolist()
    batches = [order[i : i + batch_size] for i in range(0, images, batch_size)]
    return iter(
        DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=loader.collate)
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="scnet_lite")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--images", type=int, default=400, help="to time for each figure")
    parser.add_argument("--step", action="store_true", help="time training steps too")
    parser.add_argument("--set", nargs="*", default=[], help="fields of `data`, as NAME=VALUE")
    args = parser.parse_args()
    config = recipes.find(args.recipe)
    for setting in args.set:
        name, _, value = setting.partition("=")
        config = override(config, nested(f"data.{name}", yaml.safe_load(value)))
    has_semantic = config.model.semantic is not None
    dataset = load_dataset(args.data, "train", config.data, train=True, semantic=has_semantic)
    config = override(fit_to_data(config, dataset), nested("model.backbone.weights", "none"))
    size = config.optim.batch_size
    torch.set_num_threads(1)
    print(
        f"{args.data.name}, {args.recipe} {' '.join(args.set)}: {config.data.size} px, batches of "
        f"{size}; python {platform.python_version()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, pillow {PIL.__version__}, numpy {np.__version__}"
    )
    breakdown(dataset, size, 2 * size)  # files come from memory, as from an epoch on
    stages = breakdown(dataset, size, args.images)
    print("  ms an image: " + ", ".join(f"{k} {v:.2f}" for k, v in stages.items()))
    for workers in args.workers:
        rate = throughput(dataset, size, workers, args.images)
        print(f"  {workers} workers: {rate:.0f} images/s, {rate / max(1, workers):.0f} a worker")
    if args.step:
        torch.set_num_threads(2)
        for workers in args.workers:
            seconds, share = waiting(config, dataset, workers, 12)
            print(f"  {workers} workers: {seconds:.2f} s a step, {share:.1%} of it waiting")


if __name__ == "__main__":
    main()
