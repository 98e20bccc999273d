"""The validation images of a training: which they are, and what is found in them, as written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scnet.config import Config
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.layout import NoSplitError
from scnet.evaluation.run import Result, truth_as_detections
from scnet.inference.detections import Detections
from scnet.runtime.files import whole_file
from scnet.training.log import Log

FIGURES = "eval.json"
SHOWN = 0.5  # lowest score in the pictures


def load_val_set(config: Config, log: Log) -> CocoDataset | None:
    """Return the images to validate on; None, saying so, where the data set has none.

    Raises:
        DataError: something wrong with them.
    """
    try:
        return load_dataset(
            config.data.path, "val", config.data, train=False, classes=config.classes
        )
    except NoSplitError as error:
        log.say(f"no evaluation during training: {error}")
        return None


def write_figures(result: Result, step: int, folder: Path) -> None:
    """Write all figures of the last evaluation, and its step, whole or not at all."""
    with whole_file(folder / FIGURES) as new:
        new.write_text(json.dumps({"step": step, **result}, indent=1) + "\n", encoding="utf-8")


def draw_samples(
    val_set: CocoDataset, found: Sequence[Detections | None], number: int, file: Path
) -> None:
    """Draw so many images, spread evenly, twice: ground truth, and what was found.

    None stands for images that cannot be used.
    """
    from scnet.pictures.overlay import grid, overlay

    usable = [(i, detections) for i, detections in enumerate(found) if detections is not None]
    count = min(number, len(usable))
    if not count:
        return
    images, captions = [], []
    for k in range(count):
        i, detections = usable[round(k * (len(usable) - 1) / max(1, count - 1))]
        truth = truth_as_detections(val_set, i)
        picture = val_set.picture(i)
        images += [overlay(picture, truth.rle), replace(detections, image=picture).plot(SHOWN)]
        captions += [f"ground truth: {len(truth)} objects", f"found, score from {SHOWN:g}"]
    file.parent.mkdir(exist_ok=True)
    grid(images, captions, columns=2).save(file)
