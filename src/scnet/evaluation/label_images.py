"""The images of a data set as label maps of objects and of predictions, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from scnet.evaluation.inputs import Json, ResultRows, evaluable, result_rows
from scnet.evaluation.label_maps import LabelMap, label_map, overlapping, share_inside
from scnet.evaluation.label_matching import Overlaps
from scnet.evaluation.matching import Numbers, rows_of_images
from scnet.types import Size


class Masks(NamedTuple):
    """Masks of an image with their classes."""

    shapes: list[Any]  # run lengths
    labels: Numbers


class Scored(NamedTuple):
    """What there is in an image, and what was found."""

    size: Size
    objects: Masks  # the smallest first
    regions: Masks  # crowd regions
    predictions: Masks  # by falling score
    scores: Float[np.ndarray, "m"]


class Cut(NamedTuple):
    """Which results count, and how many do not."""

    rows: Numbers  # of those that do, by image; in an image by falling score
    below: int  # the score threshold
    beyond: int  # the limit of an image
    lowest: Float[np.ndarray, "_"]  # score in each image that has as many as it may


class Mapped(NamedTuple):
    """What became of the masks of an image."""

    overlaps: Overlaps
    hidden_objects: int  # without a pixel of their own
    hidden_predictions: int
    shared_by_objects: int  # pixels in the masks of several
    shared_by_predictions: int


@dataclass(frozen=True, eq=False)
class DataSet:
    """Annotations and results, checked and numbered from 1 in the order of the ids of images."""

    ids: list[Any]  # of the images
    sizes: list[Size]
    annotations: list[Json]
    found: ResultRows


def read(truth: Json, results: Sequence[Json]) -> DataSet:
    """Check and read annotations and results with masks, as COCO lays them out.

    Raises:
        ValueError: there are no masks, a result names an unknown image or class or is malformed.
    """
    for entries, name in ((truth["annotations"], "annotations"), (results, "results")):
        if entries and not any(entry.get("segmentation") for entry in entries):
            raise ValueError(
                f"the {name} have no masks, which the matching metric compares; "
                "the coco metric measures boxes, too"
            )
    images = sorted(truth["images"], key=lambda image: image["id"])
    return DataSet(
        [image["id"] for image in images],
        [(image["height"], image["width"]) for image in images],
        evaluable(truth, with_masks=True)["annotations"],
        result_rows(results, truth, ["segm"]).scored("segm"),
    )


def cut(data: DataSet, score: float, limit: int | None) -> Cut:
    """Return which results count: the best of each image, of this score or a higher one."""
    rows = data.found.rows
    order = np.lexsort((-rows[:, 5], rows[:, 0]))
    image, scores = rows[order, 0], rows[order, 5]
    rank = np.arange(len(order)) - np.searchsorted(image, image)
    within = rank < (limit or len(order) + 1)
    passed = scores >= score
    return Cut(
        order[within & passed],
        int((within & ~passed).sum()),
        int((~within).sum()),
        scores[rank + 1 == (limit or 0)],
    )


def mapped(data: DataSet, kept: Numbers) -> Iterator[Mapped]:
    """Yield what becomes of each image with the results in these rows."""
    return map(_mapped, _images(data, kept))


def _images(data: DataSet, kept: Numbers) -> Iterator[Scored]:
    rows, number = data.found.rows, len(data.sizes)
    place = np.array([a["image_id"] for a in data.annotations], np.int64) - 1
    found = rows_of_images(rows[kept, 0].astype(np.int64) - 1, number)
    there = rows_of_images(place, number)
    for image in range(number):
        annotations = [data.annotations[i] for i in there[image].tolist()]
        chosen = kept[found[image]]
        shapes = [data.found.masks[i] for i in chosen.tolist()]
        yield Scored(
            data.sizes[image],
            _smallest_first([a for a in annotations if not a["iscrowd"]]),
            _smallest_first([a for a in annotations if a["iscrowd"]]),
            Masks(shapes, rows[chosen, 6].astype(np.int64) - 1),
            rows[chosen, 5],
        )


def _smallest_first(annotations: Sequence[Json]) -> Masks:
    from hotcoco import mask

    shapes = [a["segmentation"] for a in annotations]
    areas = np.asarray(mask.area(shapes)) if shapes else np.zeros(0)
    order = np.argsort(areas, kind="stable")
    labels = np.array([a["category_id"] for a in annotations], np.int64) - 1
    return Masks([shapes[i] for i in order.tolist()], labels[order])


def _mapped(image: Scored) -> Mapped:
    objects = label_map(image.objects.shapes, image.size)
    predictions = label_map(image.predictions.shapes, image.size)
    there, found = np.flatnonzero(objects.areas), np.flatnonzero(predictions.areas)
    pairs = overlapping(objects, predictions)
    in_regions = _in_regions(predictions, image.predictions.labels, image.regions)
    overlaps = Overlaps(
        image.objects.labels[there],
        image.predictions.labels[found],
        image.scores[found],
        pairs._replace(
            object=np.searchsorted(there, pairs.object),
            prediction=np.searchsorted(found, pairs.prediction),
        ),
        in_regions[0, found],
        in_regions[1, found],
    )
    hidden = len(objects.areas) - len(there), len(predictions.areas) - len(found)
    return Mapped(overlaps, *hidden, objects.shared, predictions.shared)


def _in_regions(predictions: LabelMap, labels: Numbers, regions: Masks) -> Float[np.ndarray, "2 n"]:
    """Return how much of each prediction lies in one crowd region, of any class and of its own."""
    most = np.zeros((2, len(labels)))
    for mask, label in zip(regions.shapes, regions.labels.tolist(), strict=True):
        share = share_inside(predictions, mask)
        most = np.maximum(most, (share, np.where(labels == label, share, 0)))
    return most
