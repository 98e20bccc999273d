"""The usual mistakes of annotation files, found by what makes boxes, masks and images agree.

A file is judged as a whole. Where one other reading of its numbers makes nearly all annotations
agree that disagree as they are read, that reading is what was meant, and is named with the settings
that read it so. Everything that is judged stays as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from scnet.config import DataConfig
from scnet.data.errors import DataError
from scnet.data.faults import Entry, size_of
from scnet.data.geometry import (
    PARTS,
    SLACK,
    Corners,
    Marks,
    Reading,
    agree,
    box_corners,
    ious,
    polygon_corners,
)
from scnet.data.scaling import reach, scaled_boxes
from scnet.data.screening import Sheet
from scnet.data.verdict import COORDINATES, FEW, LEAST, RUN_LENGTHS, Verdict

WORTH = 0.5  # share of what disagrees that a reading must explain to be spoken of
GLANCE = 10_000  # annotations that are looked at before all are
PACKED_GLANCE = 500  # of these with run lengths, which take time
CHOSEN = 2_000  # annotations that readings are compared on
CLOSE = 0.75  # mean IoU of boxes and masks in the right reading
# Of an image that some mark reaches, where all are given in parts of it; and where nothing else
# speaks for that, as polygons and their boxes agree in any parts.
SPREAD, WIDE_SPREAD = 0.2, 0.8
# Marks of so many annotations and images that all end at 100 pixels are percent.
CORNERED, CORNERED_IMAGES = 20, 3
TIE = 0.02  # of mean IoU, and of the annotations, between readings that fit as well


class Fit(NamedTuple):
    """How well annotations agree with themselves in one reading."""

    reading: Reading
    agrees: Bool[np.ndarray, "n"]
    iou: float  # mean of box and mask
    changes: int  # things that differ from how the file is read


def judge(
    sheet: Sheet, entries: Sequence[Entry], sizes: Int64[np.ndarray, "i 2"], reading: Reading
) -> Verdict | None:
    """Return how a file contradicts itself in a reading; None if it hardly does.

    Args:
        sheet: what the entries hold, as they stand in the file.
        entries: annotations.
        sizes: height and width of each image.
        reading: how the file will be read.
    """
    step = max(1, len(entries) // GLANCE)
    glance = Marks.of(sheet, entries, sizes, step).some(PACKED_GLANCE)
    wrong = ~_agrees(glance, reading, *_corners(glance, reading))
    if wrong.sum() <= FEW * len(glance):
        return None
    marks = Marks.of(sheet, entries, sizes)
    wrong = ~_agrees(marks, reading, *_corners(marks, reading))
    if not wrong.any():
        return None
    found = Verdict(len(marks), tuple(marks.place[wrong].tolist()), reading)
    found = _explained(found, marks, wrong)
    return found if found.certain else _scaled(found, marks, wrong)


def judge_file(
    entries: Sequence[Entry], images: Mapping[int, Entry], config: DataConfig
) -> Verdict | None:
    """Return how annotations contradict themselves as the settings read them.

    Args:
        entries: annotations, as they stand in the file.
        images: sound entries of images, by id.
    """
    places = {number: place for place, number in enumerate(images)}
    sizes = np.array([size_of(image) for image in images.values()], np.int64).reshape(-1, 2)
    return judge(Sheet.of(entries, places, {}), entries, sizes, Reading.of(config))


def stop_at(
    verdict: Verdict | None,
    file: Path,
    entries: Sequence[Entry],
    images: Mapping[int, Entry],
    config: DataConfig,
) -> None:
    """Stop at a file that has been misread for certain, unless the settings allow that.

    Raises:
        DataError: says how it contradicts itself, and what to do.
    """
    if verdict and verdict.certain and config.contradictions == "stop":
        raise DataError(f"{file}: {'; '.join(verdict.message(entries, images))}")


def _explained(found: Verdict, marks: Marks, wrong: Bool[np.ndarray, "n"]) -> Verdict:
    """Return the verdict with what explains most of what is wrong, if anything does."""
    chosen = np.unique(np.linspace(0, len(marks) - 1, CHOSEN).astype(np.int64))
    some = marks.rows(chosen)
    fits = [_fit(some, reading, found.reading) for reading in _readings(marks, found.reading)]
    best = [fits[i].reading for i in _best(fits, wrong[chosen])]
    whole = [_fit(marks, reading, found.reading) for reading in best]
    explained = min((int((fit.agrees & wrong).sum()) for fit in whole), default=0)
    if explained < max(LEAST, WORTH * found.wrong):
        return found
    return replace(
        found,
        meant=tuple(best),
        agreeing=min(int(fit.agrees.sum()) for fit in whole),
        explained=explained,
        close=min(fit.iou for fit in whole) >= CLOSE,
        hint=_reach(best, found.reading, marks),
    )


def _reach(best: Sequence[Reading], read: Reading, marks: Marks) -> str:
    """Return how far pixels would reach out of images where they are taken for parts of a side."""
    parts = any(reading.coordinates in PARTS for reading in best)
    if not parts or read.coordinates != "pixels":
        return ""
    return reach(_corners(marks, read)[1], marks.size)


def _scaled(found: Verdict, marks: Marks, wrong: Bool[np.ndarray, "n"]) -> Verdict:
    """Return the verdict with another size of images for which marks were made, if that fits."""
    boxes, masks = _corners(marks, found.reading)
    scaled = scaled_boxes(boxes, masks, marks.size)
    if scaled and found.reading.boxes != "masks":
        fits = scaled.agrees & np.isfinite(boxes).all(1)
        overlap = ious(scaled.boxes[fits], masks[fits], marks.size[fits])
        better = replace(
            found,
            meant=(found.reading._replace(boxes="masks"),),
            agreeing=int(scaled.agrees.sum()),
            explained=int((scaled.agrees & wrong).sum()),
            close=bool(fits.any() and overlap.mean() >= CLOSE),
            how=scaled.how,
        )
        if better.certain:
            return better
    return found if found.meant else replace(found, hint=reach(masks, marks.size))


def _best(fits: Sequence[Fit], wrong: Bool[np.ndarray, "n"]) -> list[int]:
    """Return which readings explain most, by the least change; several where none is better."""
    explained = [int((fit.agrees & wrong).sum()) for fit in fits]
    most = max(explained, default=0)
    if not most:
        return []
    near = [i for i, number in enumerate(explained) if number >= most - TIE * len(wrong)]
    if plain := [i for i in near if fits[i].reading == Reading()]:
        return plain
    least = min(fits[i].changes for i in near)
    near = [i for i in near if fits[i].changes == least]
    closest = max(fits[i].iou for i in near)
    return [i for i in near if fits[i].iou >= closest - TIE]


def _readings(marks: Marks, base: Reading) -> Iterator[Reading]:
    """Yield all readings that differ for what the file holds."""
    polygons = bool(np.isfinite(marks.extents).any())
    boxes = bool(np.isfinite(marks.boxes).any())
    own = (None, *COORDINATES) if polygons and boxes else (None,)
    orders = ("xywh", "corners", "centres") if boxes and base.boxes != "masks" else (base.boxes,)
    ways = tuple(RUN_LENGTHS) if marks.packed else (base.run_lengths,)
    for order, all_, of_boxes, way in itertools.product(orders, COORDINATES, own, ways):
        mirrored = polygons and all_ == "upward" and of_boxes is None  # nothing would show that
        if of_boxes != all_ and not mirrored:
            yield Reading(order, all_, of_boxes, way)


def _fit(marks: Marks, reading: Reading, base: Reading) -> Fit:
    """Return how well marks agree in a reading that may differ from how they are read."""
    boxes, masks = _corners(marks, reading)
    agrees = _agrees(marks, reading, boxes, masks)
    compared = agrees & np.isfinite(boxes).all(1)
    overlap = ious(boxes[compared], masks[compared], marks.size[compared])
    iou = float(overlap.mean()) if compared.any() else float(agrees.any())
    return Fit(reading, agrees, iou, _distance(reading, base))


def _corners(marks: Marks, reading: Reading) -> tuple[Corners, Corners]:
    """Return where boxes and masks lie in a reading."""
    masks = polygon_corners(marks.extents, marks.size, reading.coordinates)
    if marks.packed:
        rows = list(marks.packed)
        masks[rows] = marks.measured(reading.run_lengths)[rows]
    if reading.boxes == "masks":
        return masks, masks
    return box_corners(marks.boxes, marks.size, reading.boxes, reading.of_boxes), masks


def _agrees(
    marks: Marks, reading: Reading, boxes: Corners, masks: Corners
) -> Bool[np.ndarray, "n"]:
    """Return which annotations agree in a reading; none where the file as a whole speaks for no."""
    shown = reading.coordinates == "normalised" or reading.of_boxes not in PARTS
    spread = SPREAD if shown else WIDE_SPREAD
    drawn = np.where(np.isfinite(marks.extents[:, 2:]), masks[:, 2:], np.nan)
    read = reading.boxes != "masks"
    if (
        _far_off(drawn, marks, reading.coordinates, spread)
        or (read and _far_off(boxes[:, 2:], marks, reading.of_boxes, SPREAD))
        or _exceeds(marks.extents, reading.coordinates)
        or (read and _exceeds(marks.boxes, reading.of_boxes))
    ):
        return np.zeros(len(marks), bool)
    return agree(boxes, masks, marks.size)


def _exceeds(numbers: Float64[np.ndarray, "n 4"], coordinates: str) -> bool:
    """Return whether numbers as they stand are too large to be percent or thousandths."""
    if coordinates not in ("percent", "thousandths"):
        return False
    far = numbers[np.isfinite(numbers).all(1)].max(1, initial=0)
    return bool(len(far) and (far > PARTS[coordinates] * (1 + SLACK)).mean() > FEW)


def _distance(reading: Reading, base: Reading) -> int:
    """Return in how many things readings differ; the same change of boxes and polygons is one."""
    boxes = reading.of_boxes != base.of_boxes
    polygons = reading.coordinates != base.coordinates
    alike = reading.of_boxes == reading.coordinates
    coordinates = (boxes or polygons) if alike else boxes + polygons
    ways = reading.run_lengths != base.run_lengths
    return coordinates + (reading.boxes != base.boxes) + ways


def _far_off(
    far: Float64[np.ndarray, "n 2"], marks: Marks, coordinates: str, spread: float
) -> bool:
    """Return whether marks fill so little of their images that their coordinates are others.

    `far` are their right and lower ends, NaN where there are none.
    """
    if coordinates in PARTS:
        with np.errstate(invalid="ignore"):
            reached = np.fmax.reduce(far / marks.size[:, ::-1], axis=0, initial=0)
        return bool(reached.max() > 0 and (reached < spread).any())
    reached = np.fmax.reduce(far, axis=0, initial=0)
    if not ((reached > 100 * WIDE_SPREAD) & (reached <= 100)).all():
        return False
    known = np.isfinite(far).all(1)
    enough = known.sum() >= CORNERED and len(np.unique(marks.image[known])) >= CORNERED_IMAGES
    return bool(enough and (marks.size[known] >= 200).all())
