"""Time and memory to read an annotation file, for each annotation and for COCO's 860,000.

    python benchmarks/annotations.py [--number 100000] [--rounds 3] [--workers N]

The file is like COCO's: seven objects an image in no order, 23 points each in hundredths of a
pixel, some in several polygons, one in a hundred a crowd region in run lengths. Memory is what
stays when the file is read, counted by tracemalloc. With workers: what each of so many forked
processes that go through all annotations has for itself then, which it shares with no other.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scnet.bench.machine import processor
from scnet.config import DataConfig
from scnet.data.annotations import AnnotationFile, read_annotations
from scnet.data.reading import read_json

COCO = 860_001  # annotations of train2017
PER_IMAGE = 7
HEIGHT, WIDTH = 480, 640


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--number", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "instances_train.json"
        file.write_text(json.dumps(content(args.number, np.random.default_rng(0))))
        size = file.stat().st_size
        print(f"{processor()}; {args.number:,} annotations of {size / args.number:.0f} bytes")
        parsed = fastest(lambda: read_json(file), args.rounds)
        whole = fastest(lambda: read(file), args.rounds)
        kept = kept_bytes(lambda: read(file))
        own = own_bytes(read(file), args.workers) if args.workers else []
    for name, seconds in (("JSON alone", parsed), ("everything", whole)):
        each = seconds / args.number
        print(f"{name:12}{1e6 * each:8.1f} us each  {COCO * each:6.1f} s for COCO")
    for name, number in (("memory", kept), *(("a worker", number) for number in own)):
        each = number / args.number
        print(f"{name:12}{each:8.0f} B  each  {COCO * each / 1e6:6.0f} MB for COCO")


def read(file: Path) -> AnnotationFile:
    """Read a file as a training does."""
    return read_annotations(file, None, DataConfig())


def fastest(work: Callable[[], Any], rounds: int) -> float:
    """Return the seconds of the fastest round."""
    seconds = []
    for _ in range(rounds):
        gc.collect()
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def kept_bytes(work: Callable[[], Any]) -> int:
    """Return how many bytes stay in use for what is returned."""
    gc.collect()
    tracemalloc.start()
    kept = work()
    gc.collect()
    number, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return number


def own_bytes(found: AnnotationFile, workers: int) -> list[int]:
    """Return how many bytes of its own each worker takes to go through all annotations."""
    processes = multiprocessing.get_context("fork")  # as the loader starts them on Linux
    barrier, sizes = processes.Barrier(workers), processes.SimpleQueue()
    started = [
        processes.Process(target=go_through, args=(found, barrier, sizes)) for _ in range(workers)
    ]
    for process in started:
        process.start()
    own = [sizes.get() for _ in started]
    for process in started:
        process.join()
    return own


def go_through(found: AnnotationFile, barrier: Any, sizes: Any) -> None:
    """Make every annotation once, in no order; put into `sizes` by how much the memory grew."""
    gc.disable()  # it would copy the objects of all modules, which are not meant here
    order = np.random.default_rng(0).permutation(len(found.images)).tolist()
    list(found.images[0].annotations)  # copies what every Python process copies once
    barrier.wait()
    before = private_bytes()
    for image in order:
        found.images[image].annotations  # noqa: B018
    barrier.wait()  # before that, some of it may be shared with a worker that has less
    sizes.put(private_bytes() - before)
    barrier.wait()


def private_bytes() -> int:
    """Return what of this process's memory no other has."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private"))


def content(number: int, random: np.random.Generator) -> dict[str, Any]:
    """Return annotations as COCO has them."""
    images = [
        {"id": 7 * i + 9, "file_name": f"{i:012d}.jpg", "height": HEIGHT, "width": WIDTH}
        for i in range(-(-number // PER_IMAGE))
    ]
    owners = random.integers(len(images), size=number).tolist()
    return {
        "images": images,
        "annotations": [
            {
                **(crowd(random) if i % 100 == 99 else polygons(random)),
                "id": i + 1,
                "image_id": images[owner]["id"],
                "category_id": i % 80 + 1,
            }
            for i, owner in enumerate(owners)
        ],
        "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(80)],
    }


def polygons(random: np.random.Generator) -> dict[str, Any]:
    """Return an object: points around a centre, a fifth of the time in two polygons."""
    side = float(np.exp(random.normal(4, 1.1)).clip(2.9, 400))
    parts = [outline(side, random) for _ in range(1 + (random.random() < 0.2))]
    points = np.concatenate(parts)
    low, high = points.min(0), points.max(0)
    return {
        "segmentation": [part.ravel().tolist() for part in parts],
        "area": float(np.prod(high - low) * 0.6),
        "iscrowd": 0,
        "bbox": np.round([*low, *(high - low)], 2).tolist(),
    }


def outline(side: float, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return the points of a polygon; a small one is a square, which covers pixels for sure."""
    corner = random.random(2) * (WIDTH - side, HEIGHT - side)
    if side < 6:
        return np.round(corner + side * np.array([[0, 0], [1, 0], [1, 1], [0, 1]]), 2)
    count = int(random.lognormal(2.8, 0.5)) + 3
    angles = np.sort(random.random(count)) * 2 * np.pi
    circle = np.stack([np.cos(angles), np.sin(angles)], 1) * random.uniform(0.6, 1, (count, 1))
    return np.round(corner + side / 2 * (1 + circle), 2)


def crowd(random: np.random.Generator) -> dict[str, Any]:
    """Return a region in plain run lengths."""
    cuts = np.unique(random.integers(1, HEIGHT * WIDTH, size=300))
    lengths = np.diff(cuts, prepend=0, append=HEIGHT * WIDTH).tolist()
    return {
        "segmentation": {"counts": lengths, "size": [HEIGHT, WIDTH]},
        "area": sum(lengths[1::2]),
        "iscrowd": 1,
        "bbox": [0, 0, WIDTH, HEIGHT],
    }


if __name__ == "__main__":
    main()
