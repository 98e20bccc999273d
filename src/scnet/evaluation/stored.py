"""Results in a COCO file, of any detector, scored without running one."""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scnet.config import Config, DataConfig, override
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.forms import ORIGINAL
from scnet.data.layout import SplitName
from scnet.data.parse import parse_json
from scnet.data.reading import entries, read_images
from scnet.data.same_classes import note_of
from scnet.data.wording import of_all
from scnet.evaluation.asking import AskedMatching, Metric, about, asking, say_notes
from scnet.evaluation.scoring import KINDS, Result
from scnet.evaluation.scoring import score as score_results
from scnet.evaluation.summary import Score
from scnet.settings import ConfigError

MAX_DETECTIONS = 100  # COCO's
IDS = ("image_id", "category_id")
FIELDS = {"bbox": "bbox", "segm": "segmentation"}


def evaluate_results(
    file: str | os.PathLike[str],
    data: str | os.PathLike[str],
    split: SplitName = "val",
    *,
    max_detections: int | None = None,
    score: Score | None = None,
    iou: float | None = None,
    report: str | os.PathLike[str] | None = None,
    pictures: int | None = None,
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    quiet: bool = True,
    metric: Metric = "coco",
    thresholds: Sequence[float] | None = None,
) -> Result:
    """Return the figures of a COCO result file, as `run.evaluate` does of a model.

    Boxes and masks are scored where the results have them. `max_detections` caps the results of an
    image and class, 100 if not given; in the matching metric those of an image, and none if not
    given. `settings` say how the annotations are read, such as `{"data": {"crowd": "objects"}}`.
    `quiet` keeps to itself what was made of the annotations, and of how many images there is no
    result. Results of one category that the data lack are taken for the only class of the data,
    with a warning or, not quiet, a note; "same_class" in the figures says so.

    Raises:
        ConfigError: a setting is none of the data.
        ValueError: the file holds no COCO results, or they are not of these data.
    """
    asked = asking(score, iou, report, pictures, overwrite, metric, thresholds)
    if asked:
        asked.check()
    config = _data_config(settings or {})
    results = read_results(Path(file))
    dataset = load_dataset(Path(data), split, config, train=False)
    results = _numbered(results, dataset)
    results, taken = _of_only_class(results, dataset)
    kept = {"same_class": taken} if taken else {}
    _refuse_other_images(Path(file), results, dataset)
    if taken:
        _say_taken(Path(file), taken, quiet)
    if not quiet:
        say_notes(dataset)
        _say_missing(Path(file), results, dataset)
    if isinstance(asked, AskedMatching):
        matched = asked.answer(dataset.ground_truth, results, max_detections, quiet)
        if not quiet:
            _say_limit(Path(file), results, dataset)
        return matched | {"skipped": 0} | kept
    kinds = [k for k in KINDS if any(FIELDS[k] in entry for entry in results)] or KINDS
    cap = max_detections or MAX_DETECTIONS
    result = score_results(dataset.ground_truth, results, max_detections=cap, kinds=kinds)
    result |= {"skipped": 0} | kept
    if asked is None:
        return result
    said = about(dataset, str(data), split, taken, results=str(file))
    return asked.answer(result, dataset, dataset.ground_truth, results, cap, said)


def _numbered(results: list[dict[str, Any]], dataset: CocoDataset) -> list[dict[str, Any]]:
    """Return results whose ids are those of the data; `scnet predict` writes text ids as text."""
    if not any(isinstance(entry.get(name), str) for entry in results for name in IDS):
        return results
    content = read_images(dataset.annotation_file).json
    for key, name in zip(("images", "categories"), IDS, strict=True):
        numbers = {one[ORIGINAL]: one["id"] for one in entries(content, key) if ORIGINAL in one}
        results = [
            {**entry, name: numbers.get(old, old)}
            if isinstance(old := entry.get(name), str)
            else entry
            for entry in results
        ]
    return results


def _of_only_class(
    results: list[dict[str, Any]], dataset: CocoDataset
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return results of one unknown category as those of the only class of the data.

    And which class was taken for which category; nothing where that is not so.
    """
    numbers = [entry.get("category_id") for entry in results]
    first = numbers[0] if numbers else None
    if len(dataset.classes) > 1 or not isinstance(first, int | float | str):
        return results, {}
    (number,) = dataset.category_ids
    if first == number or any(other != first for other in numbers):
        return results, {}
    results = [{**entry, "category_id": number} for entry in results]
    return results, {dataset.classes[0]: f"category {first}"}


def _say_taken(file: Path, taken: Mapping[str, str], quiet: bool) -> None:
    said = f"{file}: {note_of(taken, 'the results')}"
    if quiet:
        warnings.warn(said, stacklevel=3)
    else:
        print(f"note: {said}", file=sys.stderr)


def _refuse_other_images(file: Path, results: list[dict[str, Any]], dataset: CocoDataset) -> None:
    """Stop where results name other images than the data have under their ids.

    Raises:
        ValueError: names the first of them.
    """
    if not any("file_name" in entry for entry in results):
        return
    images = dataset.ground_truth["images"]
    listed: dict[float, str] = {image["id"]: image["file_name"] for image in images}
    found: dict[float, str] = {image.id: image.file_name for image in dataset.images}
    for entry in results:
        number, name = entry.get("image_id"), entry.get("file_name")
        if not isinstance(name, str) or not isinstance(number, int | float) or number not in listed:
            continue
        known = (listed[number], found[number])  # the file's name may be spelled otherwise
        if _last_part(name) not in map(_last_part, known):
            raise ValueError(
                f"{file}: results are of other images: image {number} is {name} there, "
                f"{listed[number]} in {dataset.annotation_file}; give the split that was predicted"
            )


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _say_missing(file: Path, results: list[dict[str, Any]], dataset: CocoDataset) -> None:
    """Say of how many images there is no result: none found, or never looked at."""
    ids = (entry.get("image_id") for entry in results)
    seen = {number for number in ids if isinstance(number, int | float | str)}
    missing = sum(image.id not in seen for image in dataset.images)
    if missing:
        print(
            f"note: {file}: no result for {of_all(missing, len(dataset.images), 'image')}, "
            "which count as looked at without finding anything",
            file=sys.stderr,
        )


def _say_limit(file: Path, results: list[dict[str, Any]], dataset: CocoDataset) -> None:
    """Say of how many images there are as many results as a usual limit of a model allows."""
    numbers = Counter(Counter(entry.get("image_id") for entry in results).values())
    if numbers and max(numbers) == MAX_DETECTIONS:
        full = of_all(numbers[MAX_DETECTIONS], len(dataset.images), "image", "has")
        print(
            f"note: {file}: {full} {MAX_DETECTIONS} results and none more, the usual limit of a "
            "model; where there are more objects than that, predict with a higher one",
            file=sys.stderr,
        )


def _data_config(settings: Mapping[str, Any]) -> DataConfig:
    if other := [name for name in settings if name != "data"]:
        raise ConfigError(f"{other[0]}: results in a file have settings of data alone")
    return override(Config(), settings).data


def read_results(file: Path) -> list[dict[str, Any]]:
    """Return the content of a COCO result file; `scoring.score` checks it entry by entry.

    Raises:
        ValueError: it is no list of results.
    """
    try:
        content = parse_json(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not valid JSON: {error}") from error
    if isinstance(content, dict) and "annotations" in content:
        raise ValueError(
            f"{file}: is an annotation file; expected results, a list of "
            "{image_id, category_id, bbox, segmentation, score}"
        )
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise ValueError(
            f"{file}: expected results, a list of "
            "{image_id, category_id, bbox, segmentation, score}"
        )
    return content
