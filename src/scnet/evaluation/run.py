"""Run a model over a data set and score what it finds."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from rich.console import Console
from rich.progress import track

from scnet.config import Config
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import DataError
from scnet.data.layout import SplitName
from scnet.data.loader import eval_loader
from scnet.data.same_classes import OF_MODEL, note_of
from scnet.data.wording import counted
from scnet.evaluation.asking import AskedMatching, Metric, about, asking, say_notes
from scnet.evaluation.reading import reading_of
from scnet.evaluation.scoring import score as score_results
from scnet.evaluation.summary import Score
from scnet.inference.detections import Detections, place
from scnet.inference.model import Model, load
from scnet.ops.rle import to_rle
from scnet.runtime.distributed import gather, rank, world_size
from scnet.types import Batch, Found

Result = dict[str, Any]
Outcome = Detections | str  # what was found in an image, or why it cannot be used


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
    settings: Mapping[str, Any] | None = None,
    quiet: bool = True,
    score: Score | None = None,
    iou: float | None = None,
    report: str | os.PathLike[str] | None = None,
    pictures: int | None = None,
    overwrite: bool = False,
    name: str = "",
    metric: Metric = "coco",
    thresholds: Sequence[float] | None = None,
    same_class: Mapping[str, str] | None = None,
) -> Result:
    """Return the COCO figures of a model on a split of a data set, or those of another metric.

    Args:
        model: a loaded model, or what `load` takes.
        max_detections: most objects per image, for the model and for the score;
            None keeps the model's own.
        batch_size: images that pass through the network together.
        settings: how the annotations are read, such as `{"data": {"boxes": "corners"}}`. What the
            model was trained with holds for those data alone.
        quiet: False shows how far it is.
        score: count true and false finds and misses at this score threshold, too; "best" takes that
            of the highest F1. With a report and without a score it is 0.5.
        iou: IoU of masks from which a find is an object in these counts; 0.5 if not given.
        report: a new folder for a page with all figures and pictures of the worst mistakes.
        overwrite: the report may replace another one.
        pictures: of the worst misses, and of the worst false finds, on that page; 12 if not given.
        name: of the model on that page, where it is given loaded.
        metric: "matching" compares label maps as StarDist does, from a score of 0.5 if none is
            given; "best" is then that of the highest mean AP of this metric.
        thresholds: IoUs of the matching metric; 0.5, 0.55, ..., 0.9 if not given.
        same_class: the model's names of classes that have others in the data, such as `{"cell":
            "nucleus"}`. Without any, the only class of the data is taken for the only one of the
            model, with a warning or, not quiet, a note.

    Returns:
        `{"bbox": {"AP": .., ...}, "segm": {...}, "per_class": {...}, "images": n, "skipped": n,
        "seconds": s}`, AP as fractions. With `data.unreadable` "skip" in the model's config, images
        that cannot be used are left out and counted as skipped. With a score or a report also
        "counts", as `evaluation.summary.SUMMARY` says. Figures of the matching metric are those of
        `evaluation.label_metric.RESULT`, and "skipped". "same_class" is there where classes were
        taken for others, and says which.

    Raises:
        ValueError: an option has no effect, or the model finds nothing of so low a score.
        FileExistsError: the folder of the report exists and holds what shall stay.
        DataError: something wrong with the data, or its classes are not the model's.
        ConfigError: a setting that is the model's, or does not exist.

    Example:
        >>> evaluate(scnet.load("runs/cells"), "my_data")["segm"]["AP"]  # doctest: +SKIP
    """
    asked = asking(score, iou, report, pictures, overwrite, metric, thresholds)
    if not isinstance(model, Model):
        name = name or os.fspath(model)
    model = model if isinstance(model, Model) else load(model)
    if asked:
        asked.check(model.config.model.box.score_threshold)
    config, notes = reading_of(model.config.data, data, settings)
    dataset = load_dataset(
        Path(data), split, config, train=False, classes=model.classes, same=same_class or {}
    )
    taken = {"same_class": dataset.taken} if dataset.taken else {}
    if not quiet:
        say_notes(dataset, notes)
    elif taken and not same_class:
        said = note_of(dataset.taken, OF_MODEL)
        warnings.warn(f"{dataset.annotation_file}: {said}", stacklevel=2)
    if dataset.contrast_warning:
        warnings.warn(dataset.contrast_warning, stacklevel=2)
    cap = max_detections or model.config.model.box.max_detections
    if isinstance(asked, AskedMatching):
        start = time.perf_counter()
        found, faults = _look(model, dataset, batch_size, max_detections, quiet)
        result = asked.answer(*looked_at(dataset, found), cap, quiet)
        return result | {"skipped": len(faults), "seconds": _since(start)} | taken
    result, found = evaluate_dataset(
        model, dataset, batch_size=batch_size, max_detections=max_detections, quiet=quiet
    )
    result |= taken
    if asked is None:
        return result
    recipe = model.config.recipe
    whose = about(dataset, str(data), split, dataset.taken, model=name or recipe, recipe=recipe)
    return asked.answer(result, dataset, *looked_at(dataset, found), cap, whose)


def evaluate_dataset(
    finder: Finder,
    dataset: CocoDataset,
    *,
    batch_size: int = 1,
    max_detections: int | None = None,
    quiet: bool = True,
) -> tuple[Result, list[Detections | None]]:
    """Return the figures and what was found in each image, in the order of the data set.

    An image that cannot be used stops the evaluation. With `data.unreadable` "skip" it is left out
    with its objects, counted and warned of; None stands in its place. The processes of a training
    share the images; each returns the whole.

    Raises:
        DataError: an image cannot be used, or none can.
    """
    start = time.perf_counter()
    found, faults = _look(finder, dataset, batch_size, max_detections, quiet)
    result: Result = {}
    if rank() == 0:
        most = max_detections or finder.config.model.box.max_detections
        result = _figures(dataset, found, most)
    result = gather(result)[0]
    return result | {"skipped": len(faults), "seconds": _since(start)}, found


def _look(
    finder: Finder,
    dataset: CocoDataset,
    batch_size: int,
    max_detections: int | None,
    quiet: bool,
) -> tuple[list[Detections | None], list[str]]:
    """Return what was found in each image, and why the others cannot be used."""
    _require_bands(finder, dataset)
    mine = range(rank(), len(dataset), world_size())
    images = track(
        _outcomes(finder, dataset, batch_size, max_detections, mine),
        "evaluating",
        len(mine),
        console=Console(stderr=True),
        transient=True,
        disable=quiet or rank() > 0,
    )
    by_image: dict[int, Outcome] = {}
    for of_process in gather(dict(zip(mine, images, strict=True))):
        by_image |= of_process
    outcomes = [by_image[i] for i in range(len(dataset))]
    found = [None if isinstance(outcome, str) else outcome for outcome in outcomes]
    faults = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if faults and len(faults) == len(outcomes):
        raise DataError(f"none of the {len(faults)} images can be used; {faults[0]}")
    if rank() == 0:
        _warn_of(faults, len(outcomes))
    return found, faults


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)


def _require_bands(finder: Finder, dataset: CocoDataset) -> None:
    """Refuse images of more or fewer bands than the model was trained on."""
    bands = finder.config.model.backbone.bands
    if dataset.bands != bands:
        raise DataError(
            f"{dataset.annotation_file}: its images have {counted(dataset.bands, 'band')}, but the "
            f"model was trained on {bands}; use data with as many"
        )


def detect_dataset(
    finder: Finder,
    dataset: CocoDataset,
    batch_size: int = 1,
    max_detections: int | None = None,
    images: Sequence[int] | None = None,
) -> Iterator[Detections]:
    """Yield what is found in all images, or in those given, in order.

    Labels get the category ids of the data set.

    Raises:
        DataError: an image cannot be used.
    """
    for outcome in _outcomes(finder, dataset, batch_size, max_detections, images):
        if isinstance(outcome, str):
            raise DataError(outcome)
        yield outcome


def _outcomes(
    finder: Finder,
    dataset: CocoDataset,
    batch_size: int,
    max_detections: int | None,
    images: Sequence[int] | None,
) -> Iterator[Outcome]:
    for batch, faults in eval_loader(dataset, batch_size, dataset.config, images):
        placed: Iterator[Detections] = iter(())
        if batch is not None:
            batch = batch.to(finder.device)
            found = finder.detect(batch, max_detections=max_detections)
            least = finder.config.model.mask.least_visible
            placed = iter(place(found, batch, dataset.classes, dataset.category_ids, least))
        for fault in faults:
            yield fault or next(placed)


def _figures(
    dataset: CocoDataset, found: Sequence[Detections | None], max_detections: int
) -> Result:
    """Return the figures over the images that were looked at."""
    return score_results(*looked_at(dataset, found), max_detections=max_detections)


def looked_at(
    dataset: CocoDataset, found: Sequence[Detections | None]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the ground truth and the results of the images that were looked at."""
    looked = [(r.id, f) for r, f in zip(dataset.images, found, strict=True) if f is not None]
    ids = {image for image, _ in looked}
    truth = dataset.ground_truth
    images = [image for image in truth["images"] if image["id"] in ids]
    annotations = [a for a in truth["annotations"] if a["image_id"] in ids]
    results = [entry for image, detections in looked for entry in detections.to_coco(image)]
    return {**truth, "images": images, "annotations": annotations}, results


def _warn_of(faults: Sequence[str], images: int) -> None:
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        warnings.warn(
            f"{len(faults)} of {images} images left out of the evaluation: {faults[0]}{more}",
            stacklevel=4,
        )


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
