"""Time and memory of a training step, ours beside torchvision's Mask R-CNN.

    SCNET_DATA=FOLDER python benchmarks/train_step.py --rounds 9 --json train_step.json

A step is forward, losses, backward and the update by SGD. Every model sees the same photos of
COCO, stretched to the size of the benchmark, and the same objects. torchvision's Mask R-CNN is set
to what ours does: ResNet-50 whose stem and first stage are frozen and whose batch norm stands
still, 80 classes and background, 2000 proposals of a level before NMS and 1000 of an image after
it, 256 anchors and 512 RoIs per image in the losses. It starts from our weights, so that both
sample like proposals.

Models take turns in one process, so that what else the machine does falls on all alike; memory is
measured in a process of its own for each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN

from scnet import recipes
from scnet.bench.machine import processor, timed
from scnet.bench.peer import from_ours
from scnet.config import DataConfig, replace_at
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import read_image
from scnet.data.loader import collate
from scnet.data.semantic import paint
from scnet.data.transforms import Objects, Sample
from scnet.inference.model import AUTOCAST
from scnet.model.detector import Detector
from scnet.ops.masks import crop_segmentation
from scnet.runtime.memory import keep_freed, peak_memory, release_freed
from scnet.training.optim import make_optimizer
from scnet.types import Batch, ImageInfo, Size, View

OBJECTS = range(5, 16)  # in each photo; COCO has seven on average
TORCHVISION = "torchvision mask_rcnn"
MODELS = (TORCHVISION, "mask_rcnn", "cascade_mask_rcnn", "htc", "scnet")
COMPILED = ", compiled"  # backbone and pyramid
RATE = 1e-5  # so low that weights, and with them the work, stay as they are

Step = Callable[[], Tensor]  # returns the sum of the losses


def main() -> None:
    """Measure every size and batch that was asked for; print a table and write JSON."""
    args = _arguments()
    console = Console(width=120)
    device = torch.cuda.get_device_name() if args.device == "cuda" else processor()
    threads = f"{torch.get_num_threads()} threads, " if args.device == "cpu" else ""
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    console.print(f"{device}, {threads}{versions}, {args.precision}")
    records = []
    for size in args.sizes:
        for number in args.batch:
            rows = measure(args, size, number)
            records += rows
            console.print(table(rows, f"{size[0]} x {size[1]}, {number} images"))
    if args.json:
        content = {**vars(args), "device": device, "versions": versions, "records": records}
        Path(args.json).write_text(json.dumps(content, indent=1, default=str))


def measure(args: argparse.Namespace, size: Size, number: int) -> list[dict[str, Any]]:
    """Return the time of each round, and the peak of memory, of every model."""
    batch = photos(size, number).to(args.device)
    models = [*args.models, *(f"{name}{COMPILED}" for name in args.models if args.compile)]
    memory = dict.fromkeys(models, 0.0)
    if args.memory:
        context = multiprocessing.get_context("spawn")
        for name in models:
            with context.Pool(1) as pool:
                memory[name] = pool.apply(peak, (name, size, number, args))
    steps = {name: make_step(name, batch, args) for name in models}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(args.warmup + args.rounds):
        for name, step in steps.items():
            _settle(name, args.device)
            taken = seconds_of(step, args.device)
            if turn >= args.warmup:
                seconds[name].append(taken)
        print(f"{size[0]} x {size[1]}: round {turn + 1} of {args.warmup + args.rounds}", flush=True)
    shape = {"size": size, "batch": number}
    return [{"model": n, **shape, "seconds": s, "gb": memory[n]} for n, s in seconds.items()]


def seconds_of(step: Step, device: str) -> float:
    """Return the seconds of a step."""
    taken, total = timed(step, torch.device(device))
    if not torch.isfinite(total):
        raise FloatingPointError(f"the loss is {total.item()}, so its time means nothing")
    return taken


def peak(name: str, size: Size, number: int, args: argparse.Namespace) -> float:
    """Return the most memory, in GB, of a process that takes three steps; on CUDA the device's."""
    step = make_step(name, photos(size, number).to(args.device), args)
    _settle(name, args.device)
    for _ in range(3):
        step()
    return peak_memory()


def make_step(name: str, batch: Batch, args: argparse.Namespace) -> Step:
    """Return a training step of a model on a batch."""
    name, _, compiles = name.partition(COMPILED[0])
    detector = make_detector("mask_rcnn" if name == TORCHVISION else name)
    losses: Callable[[], dict[str, Tensor]]
    if name == TORCHVISION:
        model: nn.Module = make_torchvision(detector).to(args.device)
        learnt = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(learnt, RATE, momentum=0.9, weight_decay=1e-4)
        images, targets = list(batch.images / 255), torchvision_targets(batch)
        compiled = [model.backbone]

        def losses() -> dict[str, Tensor]:
            return model(images, targets)
    else:
        model = detector.to(args.device).to(memory_format=torch.channels_last)
        optimizer = make_optimizer(detector, detector.config.optim)
        optimizer.param_groups[0]["lr"] = RATE
        compiled = [detector.backbone, detector.fpn]

        def losses() -> dict[str, Tensor]:
            return detector.loss(batch)

    model.train()
    for part in compiled if compiles else ():
        part.compile()
    dtype = AUTOCAST[args.precision]

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(args.device, dtype, enabled=dtype != torch.float32):
            total = torch.stack(list(losses().values())).sum()
        total.backward()
        optimizer.step()
        return total.detach()

    return step


def make_detector(name: str) -> Detector:
    """Return a recipe with random weights, the same for all of its parts that recipes share."""
    torch.manual_seed(0)
    config = recipes.find(name)
    return Detector(replace_at(config, "model.backbone.weights", "none"))


def make_torchvision(ours: Detector) -> MaskRCNN:
    """Return torchvision's Mask R-CNN with our settings and weights, for images as they are."""
    model = from_ours(ours)
    model.transform._skip_resize = True
    return model


def photos(size: Size, number: int) -> Batch:
    """Return the first photos with a usual number of objects, stretched to one size."""
    root = os.environ.get("SCNET_DATA", "")
    path = Path(root) / "coco600_400px"
    if not root or not path.is_dir():
        raise SystemExit("SCNET_DATA must name the folder that holds coco600_400px")
    dataset = load_dataset(path, "train", DataConfig(), train=True)
    usual = [i for i, x in enumerate(dataset.images) if len(x.annotations) in OBJECTS]
    return collate([_sample(dataset, i, size) for i in usual[:number]])


def _sample(dataset: CocoDataset, index: int, size: Size) -> Sample:
    record = dataset.images[index]
    real = [a for a in record.annotations if not a.crowd]
    view = View.whole(record.size, size)
    objects = Objects(
        torch.tensor([a.box for a in real]) * torch.tensor(view.inverse.scale * 2),
        torch.tensor([a.label for a in real]),
        tuple(crop_segmentation(a.segmentation, record.size, size) for a in real),
    )
    labelled = zip(objects.masks, objects.labels.tolist(), strict=True)
    semantic = paint(labelled, [], len(dataset.classes), size)
    path = dataset.image_root / record.file_name
    image = torch.from_numpy(np.array(read_image(path).resize(size[::-1]))).permute(2, 0, 1)
    return Sample(image, ImageInfo(record.id, str(path), view), objects, semantic)


def torchvision_targets(batch: Batch) -> list[dict[str, Tensor]]:
    """Return the objects of each image with masks of full size; class 0 is background there."""
    assert batch.targets is not None
    targets, (height, width) = batch.targets, batch.images.shape[-2:]
    crops = targets.masks
    masks = torch.zeros(len(crops.sizes), height, width, dtype=torch.uint8)
    parts = crops.pixels.split([h * w for h, w in crops.sizes])
    for mask, part, size, (x, y) in zip(
        masks, parts, crops.sizes, crops.origin.tolist(), strict=True
    ):
        inner = part.view(size)[1:-1, 1:-1]  # without the margin, which may lie outside
        mask[y + 1 : y + size[0] - 1, x + 1 : x + size[1] - 1] = inner
    masks = masks.to(batch.images.device)
    boxes, labels = targets.boxes[targets.valid], targets.labels[targets.valid]
    names, values = ("boxes", "labels", "masks"), (boxes, labels + 1, masks)
    by_image = zip(*(value.split(targets.counts) for value in values), strict=True)
    return [dict(zip(names, parts, strict=True)) for parts in by_image]


def table(rows: list[dict[str, Any]], title: str) -> Table:
    """Return the median of each model, its spread, and its ratio to the first."""
    result = Table("model", title=title)
    for column in ("s/step, median", "min - max", "of the first", "images/s", "peak GB"):
        result.add_column(column, justify="right")
    for row in rows:
        seconds = row["seconds"]
        middle = statistics.median(seconds)
        # The ratio of a round is free of what changes between rounds.
        ratios = [a / b for a, b in zip(seconds, rows[0]["seconds"], strict=True)]
        result.add_row(
            row["model"],
            f"{middle:.3f}",
            f"{min(seconds):.3f} - {max(seconds):.3f}",
            f"{statistics.median(ratios):.2f}",
            f"{row['batch'] / middle:.2f}",
            f"{row['gb']:.2f}" if row["gb"] else "",
        )
    return result


def _arguments() -> argparse.Namespace:
    def size(text: str) -> Size:
        height, width = text.split("x")
        return int(height), int(width)

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=AUTOCAST)
    parser.add_argument("--batch", type=int, nargs="+", default=[2], help="images in a step")
    parser.add_argument(
        "--sizes", type=size, nargs="+", default=[(512, 512), (800, 1333)], metavar="HxW"
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument(
        "--compile", action="store_true", help="also with backbone and pyramid compiled"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=2, help="rounds before those that count")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def _settle(name: str, device: str) -> None:
    """Keep freed memory, as a training of ours does on a CPU, or run as torchvision's users do."""
    if device == "cpu":
        (release_freed if name.startswith(TORCHVISION) else keep_freed)()


if __name__ == "__main__":
    main()
