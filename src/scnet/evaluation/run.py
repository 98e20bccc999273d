"""Run a model over a data set and score what it finds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from rich.console import Console
from rich.progress import track

from scnet.config import Config
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.layout import SplitName
from scnet.data.loader import eval_loader
from scnet.evaluation.scoring import score
from scnet.inference.detections import Detections
from scnet.inference.model import Model, load
from scnet.inference.place import place
from scnet.ops.rle import to_rle
from scnet.runtime.distributed import gather, rank, world_size
from scnet.types import Batch, Found

Result = dict[str, Any]


@runtime_checkable
class Finder(Protocol):
    """A `Detector` or a `Model`: finds what is in a batch."""

    @property
    def config(self) -> Config: ...
    @property
    def device(self) -> torch.device: ...
    def detect(
        self, batch: Batch, *, min_score: float = 0.0, max_detections: int | None = None
    ) -> Found: ...


def evaluate(
    model: Model | str | os.PathLike[str],
    data: str | os.PathLike[str],
    split: SplitName = "val",
    *,
    max_detections: int | None = None,
    batch_size: int = 1,
    quiet: bool = True,
) -> Result:
    """Return the COCO figures of a model on a split of a data set.

    Args:
        model: a loaded model, or what `load` takes.
        max_detections: most objects per image, for the model and for the score;
            None keeps the model's own.
        batch_size: images that pass through the network together.
        quiet: False shows how far it is.

    Returns:
        `{"bbox": {"AP": .., ...}, "segm": {...}, "per_class": {...}, "images": n, "seconds": s}`,
        AP as fractions.

    Raises:
        DataError: something wrong with the data, or its classes are not the model's.

    Example:
        >>> evaluate(scnet.load("runs/cells"), "my_data")["segm"]["AP"]  # doctest: +SKIP
    """
    model = model if isinstance(model, Model) else load(model)
    dataset = load_dataset(Path(data), split, model.config.data, train=False, classes=model.classes)
    return evaluate_dataset(
        model, dataset, batch_size=batch_size, max_detections=max_detections, quiet=quiet
    )[0]


def evaluate_dataset(
    finder: Finder,
    dataset: CocoDataset,
    *,
    batch_size: int = 1,
    max_detections: int | None = None,
    quiet: bool = True,
) -> tuple[Result, list[Detections]]:
    """Return the figures and what was found in each image, in the order of the data set.

    The processes of a training share the images; each returns the whole.
    """
    start = time.perf_counter()
    mine = range(rank(), len(dataset), world_size())
    images = track(
        detect_dataset(finder, dataset, batch_size, max_detections, mine),
        "evaluating",
        len(mine),
        console=Console(stderr=True),
        transient=True,
        disable=quiet or rank() > 0,
    )
    by_image: dict[int, Detections] = {}
    for of_process in gather(dict(zip(mine, images, strict=True))):
        by_image |= of_process
    found = [by_image[i] for i in range(len(dataset))]
    results = [
        entry
        for record, detections in zip(dataset.images, found, strict=True)
        for entry in detections.to_coco(record.id)
    ]
    most = max_detections or finder.config.model.box.max_detections
    result = score(dataset.ground_truth, results, max_detections=most) if rank() == 0 else {}
    return gather(result)[0] | {"seconds": round(time.perf_counter() - start, 3)}, found


def detect_dataset(
    finder: Finder,
    dataset: CocoDataset,
    batch_size: int = 1,
    max_detections: int | None = None,
    images: Sequence[int] | None = None,
) -> Iterator[Detections]:
    """Yield what is found in all images, or in those given, in order.

    Labels get the category ids of the data set.
    """
    for batch in eval_loader(dataset, batch_size, dataset.config, images):
        batch = batch.to(finder.device)
        found = finder.detect(batch, max_detections=max_detections)
        yield from place(found, batch, dataset.classes, dataset.category_ids)


def truth_as_detections(dataset: CocoDataset, index: int) -> Detections:
    """Return the ground truth of an image as if found, with score 1; crowds are left out."""
    record = dataset.images[index]
    objects = [a for a in record.annotations if not a.crowd]
    return Detections(
        boxes=torch.tensor([a.box for a in objects]).view(-1, 4),
        scores=torch.ones(len(objects)),
        labels=torch.tensor([a.label for a in objects], dtype=torch.long),
        rle=[to_rle(a.segmentation, record.size) for a in objects],
        size=record.size,
        classes=dataset.classes,
        category_ids=dataset.category_ids,
        path=str(dataset.image_root / record.file_name),
    )
