"""COCO annotation files to samples. Classes and their number come from the file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from scnet.config import DataConfig
from scnet.data.faults import annotation_fault, category_fault, image_fault, structure_faults
from scnet.data.images import DataError, read_image
from scnet.data.layout import Split, SplitName, find_split, pick_image_root
from scnet.data.semantic import StuffMaps, find_stuff_maps, paint
from scnet.data.transforms import (
    Objects,
    Sample,
    View,
    eval_view,
    train_view,
    view_boxes,
    view_image,
    view_map,
    view_mask,
)
from scnet.ops.masks import area, to_rle
from scnet.types import ImageInfo, Size

__all__ = ["CocoDataset", "DataError", "Split", "find_split", "load_dataset", "read_image"]


class Annotation(NamedTuple):
    """One object of an image, in original pixels."""

    box: tuple[float, float, float, float]  # xyxy, cut at the image's border; zeros for a crowd region
    label: int
    segmentation: Any  # polygons as arrays, or run lengths
    crowd: bool  # marks a region where nothing is learnt


@dataclass(frozen=True)
class ImageRecord:
    """One image of an annotation file."""

    id: int
    file_name: str  # inside the image folder
    size: Size
    annotations: tuple[Annotation, ...]

    @property
    def empty(self) -> bool:
        """Return whether the image has no object to learn from."""
        return all(a.crowd for a in self.annotations)


class CocoDataset(Dataset[Sample]):
    """The images of one annotation file, as the network sees them in training or at inference.

    What is random depends on `seed`, the epoch and the image alone, not on which process reads it.
    """

    def __init__(
        self,
        annotation_file: Path,
        image_root: Path,
        categories: Mapping[int, str],
        images: Sequence[ImageRecord],
        config: DataConfig,
        *,
        train: bool,
        semantic: bool = False,
        stuff: StuffMaps | None = None,
        dropped: frozenset[int] = frozenset(),
    ) -> None:
        self.annotation_file = annotation_file
        self.image_root = image_root
        self.classes = tuple(categories.values())
        self.category_ids = tuple(categories)
        self.images = list(images)
        self.config = config
        self.train = train
        self.semantic = semantic
        self.stuff = stuff
        self.dropped = dropped  # positions in the file of the annotations left out as broken
        self.seed = 0
        self.epoch = 0

    @property
    def semantic_classes(self) -> int | None:
        """Return the number of classes of the stuff maps; None if there are none."""
        return self.stuff.num_classes if self.stuff else None

    @property
    def aspect_ratios(self) -> list[float]:
        """Return width / height of each image."""
        return [record.size[1] / record.size[0] for record in self.images]

    @cached_property
    def ground_truth(self) -> dict[str, Any]:
        """Return the content of the annotation file as an evaluator takes it.

        Read again when first asked for, since training needs no second copy of it in every process. Left out are
        annotations dropped as broken; numbered anew are annotations without a positive id of their own, which
        evaluators count as unmatched.
        """
        content = _read_json(self.annotation_file)
        kept = [a for i, a in enumerate(content["annotations"]) if i not in self.dropped]
        sizes = {record.id: record.size for record in self.images}
        for annotation in kept:
            annotation.setdefault("iscrowd", 0)
            if "area" not in annotation:
                annotation["area"] = area(to_rle(annotation["segmentation"], sizes[annotation["image_id"]]))
        ids = {a.get("id") for a in kept}
        if len(ids) < len(kept) or not all(isinstance(i, int) and i > 0 for i in ids):
            for number, annotation in enumerate(kept, start=1):
                annotation["id"] = number
        return {**content, "annotations": kept}

    def set_epoch(self, epoch: int) -> None:
        """Draw other random numbers; call before the epoch's loader starts."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        record = self.images[index]
        path = self.image_root / record.file_name
        image = read_image(path)
        if image.size != record.size[::-1]:
            raise DataError(_size_message(path, image.size, record.size, self.annotation_file))
        info = ImageInfo(record.id, str(path), record.size)
        if not self.train:
            view = eval_view(record.size, self.config)
            return Sample(view_image(image, view), info, view.scale)
        random = np.random.default_rng((self.seed, self.epoch, index))
        view = train_view(record.size, self.config, random)
        objects = _objects([a for a in record.annotations if not a.crowd], view)
        semantic = self._semantic(record, objects, view) if self.semantic else None
        return Sample(view_image(image, view), info, view.scale, objects, semantic)

    def _semantic(self, record: ImageRecord, objects: Objects, view: View) -> torch.Tensor:
        """Return the semantic target: the stuff map, or the instance masks on a background of its own class."""
        if self.stuff:
            return view_map(self.stuff.read(record.file_name, view.size), view)
        crowds = [view_mask(a.segmentation, view) for a in record.annotations if a.crowd]
        labelled = zip(objects.masks, objects.labels.tolist(), strict=True)
        return paint(labelled, crowds, len(self.classes), view.size)


def load_dataset(
    path: str | Path,
    split: SplitName,
    config: DataConfig,
    *,
    train: bool,
    semantic: bool = False,
    classes: tuple[str, ...] | None = None,
    image_root: str | Path | None = None,
) -> CocoDataset:
    """Read a split of a data set: a folder in one of the usual layouts, or a JSON file.

    Args:
        train: mirror and scale at random, and give targets.
        semantic: give targets for the semantic branch too.
        classes: names the labels 0, 1, ... stand for in a trained model; the file's must be the same.
        image_root: folder of the images; None looks near the annotations.

    Raises:
        DataError: nothing found or something broken; says what, where and what to do.
    """
    found = find_split(path, split)
    file = found.annotations
    content = _read_json(file)
    _stop_at((f"{file}: {fault}" for fault in structure_faults(content)))
    categories = _categories(content, file, classes)
    _stop_at(_image_faults(content, file))
    images, dropped = _records(content, file, list(categories), config.drop_invalid)
    if train and not config.keep_empty:
        images = [record for record in images if not record.empty]
    if not images:
        raise DataError(f"{file}: no images{'' if config.keep_empty else ' with objects'}; give a file that has some")
    root = Path(image_root) if image_root else pick_image_root(found, [r.file_name for r in images])
    stuff = find_stuff_maps(config.stuff_maps, root, file) if semantic and train else None
    return CocoDataset(
        file, root, categories, images, config, train=train, semantic=semantic, stuff=stuff, dropped=dropped
    )


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON: {error}") from None


def _stop_at(faults: Iterable[str]) -> None:
    for fault in faults:
        raise DataError(fault)


def _categories(content: Mapping[str, Any], file: Path, classes: tuple[str, ...] | None) -> dict[int, str]:
    """Return category id to name, in the order of labels."""
    entries = content["categories"]
    _stop_at(f"{file}: category {c.get('id')}: {f}" for c in entries if (f := category_fault(c)))
    found = {c["id"]: c["name"] for c in entries}
    if len(found) < len(entries):
        raise DataError(f"{file}: two categories have the same id; give each its own")
    names = tuple(found.values())
    if classes is None or names == classes:
        return found
    if Counter(names) == Counter(classes) and len(set(names)) == len(names):  # another order is no other meaning
        return dict(sorted(found.items(), key=lambda item: classes.index(item[1])))
    raise DataError(f"{file}: its classes are not those of the model: {_difference(names, classes)}")


def _difference(found: Sequence[str], wanted: Sequence[str]) -> str:
    missing = [n for n in wanted if n not in found]
    extra = [n for n in found if n not in wanted]
    parts = [f"the file has {len(found)}, the model {len(wanted)}"]
    parts += [f"missing {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}"] if missing else []
    parts += [f"unknown to the model {', '.join(extra[:5])}{', ...' if len(extra) > 5 else ''}"] if extra else []
    return "; ".join(parts) + "; use data with the same classes, or train a model on these"


def _image_faults(content: Mapping[str, Any], file: Path) -> Iterable[str]:
    seen: set[int] = set()
    for image in content["images"]:
        name = f"{file}: image {image.get('id')} ({image.get('file_name')})"
        if fault := image_fault(image):
            yield f"{name}: {fault}"
        elif image["id"] in seen:
            yield f"{name}: another image has the same id; give each its own"
        seen.add(image.get("id", 0))


def _records(
    content: Mapping[str, Any], file: Path, category_ids: Sequence[int], drop_invalid: bool
) -> tuple[list[ImageRecord], frozenset[int]]:
    """Return the images with their annotations, and the positions of the annotations dropped as broken."""
    labels = {category: label for label, category in enumerate(category_ids)}
    images = {image["id"]: image for image in content["images"]}
    of_image: dict[int, list[Annotation]] = {image: [] for image in images}
    dropped = set()
    for position, entry in enumerate(content["annotations"]):
        image = images.get(entry.get("image_id"))
        size = (image["height"], image["width"]) if image else None
        fault = annotation_fault(entry, size, entry.get("category_id") in labels)
        if fault and not drop_invalid:
            raise DataError(_annotation_message(file, entry, image, fault))
        if fault or image is None or size is None:
            dropped.add(position)
            continue
        of_image[image["id"]].append(_annotation(entry, size, labels[entry["category_id"]]))
    records = [
        ImageRecord(i, image["file_name"], (image["height"], image["width"]), tuple(of_image[i]))
        for i, image in images.items()
    ]
    return records, frozenset(dropped)


def _annotation(entry: Mapping[str, Any], size: Size, label: int) -> Annotation:
    segmentation = entry["segmentation"]
    if isinstance(segmentation, list):  # an eighth of the memory of Python's numbers
        segmentation = [np.asarray(polygon, np.float64) for polygon in segmentation]
    crowd = bool(entry.get("iscrowd"))
    x, y, width, height = (0, 0, 0, 0) if crowd else entry["bbox"]
    right, bottom = min(x + width, size[1]), min(y + height, size[0])
    return Annotation((max(x, 0), max(y, 0), right, bottom), label, segmentation, crowd)


def _objects(annotations: Sequence[Annotation], view: View) -> Objects:
    boxes = torch.tensor([a.box for a in annotations], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([a.label for a in annotations], dtype=torch.int64)
    masks = tuple(view_mask(a.segmentation, view) for a in annotations)
    return Objects(view_boxes(boxes, view), labels, masks)


def _annotation_message(
    file: Path, entry: Mapping[str, Any], image: Mapping[str, Any] | None, fault: str
) -> str:
    name = f", {image['file_name']}" if image else ""
    return (
        f"{file}: annotation {entry.get('id')} (image {entry.get('image_id')}{name}): {fault}; "
        "remove it or run with --data.drop-invalid"
    )


def _size_message(path: Path, found: tuple[int, int], expected: Size, file: Path) -> str:
    text = f"{path}: is {found[0]} x {found[1]}, but {file} says {expected[1]} x {expected[0]}"
    if found == expected:
        return text + "; annotated without regard to its EXIF orientation: save the image without that tag"
    return text + "; annotations would lie in the wrong place: use the image they were made on"
