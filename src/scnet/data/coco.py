"""COCO annotation files to samples. Classes and their number come from the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from scnet.config import DataConfig
from scnet.data.annotations import (
    Annotation,
    AnnotationFile,
    ImageRecord,
    checked_content,
    numbered,
    read_annotations,
)
from scnet.data.categories import ClassError
from scnet.data.contents import Contents
from scnet.data.copy_paste import paste_objects
from scnet.data.faults import box_fault, is_crowd, is_finite
from scnet.data.images import DataError, read_image, read_pixels, shrinking, upright_size
from scnet.data.layout import Split, SplitName, find_split, locate_images
from scnet.data.overlap import double_entries, repeated_notes
from scnet.data.repeats import Draw, draws, repeat_factors
from scnet.data.resizing import size_action
from scnet.data.semantic import StuffMaps, find_stuff_maps, paint
from scnet.data.sides import Swaps, find_swaps
from scnet.data.survey import contrast_warning, count_bands
from scnet.data.transforms import (
    Objects,
    Sample,
    cuts,
    draw_mask,
    eval_view,
    keep_visible,
    mask_area,
    train_view,
    view_boxes,
    view_crop,
    view_image,
    view_map,
    view_mask,
)
from scnet.data.wording import counted
from scnet.ops.rle import area, box, to_rle
from scnet.types import ImageInfo, Pixels, Size, View

__all__ = ["CocoDataset", "DataError", "Split", "find_split", "load_dataset", "read_image"]

TRIES = 100  # images in a row that may be unusable where such are skipped


class CocoDataset(Dataset[Sample]):
    """The images of one annotation file, as the network sees them in training or at inference.

    Random choices depend on `seed`, the epoch and the image alone. Which process reads an image
    does not matter.
    """

    def __init__(
        self,
        source: AnnotationFile,
        image_root: Path,
        config: DataConfig,
        *,
        train: bool,
        semantic: bool = False,
        stuff: StuffMaps | None = None,
        swaps: Swaps | None = None,
    ) -> None:
        self.annotation_file = source.path
        self.image_root = image_root
        self.classes = tuple(source.categories.values())
        self.category_ids = tuple(source.categories)
        self.images = source.images
        self.dropped = source.dropped
        self.changed = source.changed
        self.notes = source.notes
        self.area_fault = source.area_fault
        self.taken = source.taken
        self.config = config
        self.train = train
        self.semantic = semantic
        self.stuff = stuff
        self.swaps = swaps
        self.seed = 0
        self.epoch = 0

    @property
    def semantic_classes(self) -> int | None:
        """Return the number of classes of the stuff maps; None if there are none."""
        return self.stuff.num_classes if self.stuff else None

    @property
    def contents(self) -> Contents:
        """Return what there is to learn from, and what is left out."""
        crowd = self.images[0].columns.crowd
        ignored = len(self.dropped.keys() & self.changed.keys())  # kept as regions too
        return Contents(
            int((~crowd).sum()), int(crowd.sum()) - ignored, tuple(self.dropped.values())
        )

    @cached_property
    def bands(self) -> int:
        """Return the number of bands of the images as they are read.

        Raises:
            DataError: all are taken, and no image tells how many there are.
        """
        if self.config.bands != "all":
            return 3 if self.config.bands is None else len(self.config.bands)
        return count_bands(self.paths, self.config)

    @property
    def paths(self) -> list[Path]:
        """Return where the images are."""
        return [self.image_root / record.file_name for record in self.images]

    @cached_property
    def contrast_warning(self) -> str:
        """Return what to say of images that show little, as their numbers are scaled; or empty."""
        return contrast_warning(self.paths, self.config)

    @property
    def aspect_ratios(self) -> list[float]:
        """Return width / height of each image."""
        return [record.size[1] / record.size[0] for record in self.images]

    @cached_property
    def ground_truth(self) -> dict[str, Any]:
        """Return the content of the annotation file as an evaluator takes it.

        Read again when first asked for, since training needs no second copy of it in every
        process. Where broken annotations lie is a crowd region. An area that is missing or no
        number is that of the mask, and so are all where those of the file are something else; so is
        the broken box of a crowd region. Evaluators count ids
        that are missing, zero or double as unmatched: where there are such, all are numbered anew.
        """
        content = checked_content(
            self.annotation_file,
            self.classes,
            self.config,
            self.image_root,
            self.taken or None,
        ).json
        kept = [
            self.changed.get(place, annotation)
            for place, annotation in enumerate(content["annotations"])
            if place not in self.dropped or self._is_region(place)
        ]
        sizes = {record.id: record.size for record in self.images}
        for annotation in kept:
            if self.area_fault:
                annotation.pop("area", None)
            _complete(annotation, sizes[annotation["image_id"]])
        numbered(kept)
        return {**content, "annotations": kept}

    def _is_region(self, place: int) -> bool:
        """Return whether an annotation that was dropped is a crowd region of a known class."""
        changed = self.changed.get(place, {})
        number = changed.get("category_id")
        return isinstance(number, int) and number in self.category_ids

    def set_epoch(self, epoch: int) -> None:
        """Draw other random numbers; call before the epoch's loader starts."""
        self.epoch = epoch

    def sample_size(self, draw: Draw) -> Size:
        """Return the height and width that a sample has in this epoch, without reading it."""
        return train_view(self.images[draw.image].size, self.config, self._random(draw)).size

    def draws(self) -> list[Draw]:
        """Return the looks at images that this epoch has, not yet in a random order."""
        return draws(self.repeats, self.seed, self.epoch)

    @property
    def looks(self) -> int:
        """Return how many looks at images an epoch has."""
        return round(float(self.repeats.sum()))

    @cached_property
    def repeats(self) -> Float64[np.ndarray, "n"]:
        """Return how often each image is seen in an epoch on average."""
        return repeat_factors(self.images, self.config)

    def _random(self, draw: Draw) -> np.random.Generator:
        """Return what a sample's random numbers come from, the same in any process."""
        turn = (draw.turn,) if draw.turn else ()
        return np.random.default_rng((self.seed, self.epoch, draw.image, *turn))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        if not self.train:
            record = self.images[index]
            view = eval_view(record.size, self.config)
            return Sample(view_image(self._read(record).values, view), self._info(record, view))
        return self.look(Draw(index))

    def look(self, draw: Draw) -> Sample:
        """Return an image as it is seen in training, at one of this epoch's looks at it."""
        random = self._random(draw)
        sample = self._usable(draw.image, random)
        if self.config.copy_paste and random.random() < self.config.copy_paste:
            source = self._usable(int(random.integers(len(self))), random)
            sample = paste_objects(sample, source, random)
            sample = replace(sample, skipped=sample.skipped + source.skipped)
        if self.semantic and not self.stuff:
            sample = replace(sample, semantic=self._painted(sample))
        return sample

    def _usable(self, index: int, random: np.random.Generator) -> Sample:
        """Return a sample of an image, or of another drawn at random where it cannot be used."""
        skipped: list[str] = []
        while True:
            try:
                return replace(self._view(self.images[index], random), skipped=tuple(skipped))
            except DataError as error:
                if self.config.unreadable == "stop":
                    way_out = "--data.unreadable skip leaves such images out"
                    raise DataError(f"{error}; {way_out}") from error
                skipped.append(str(error))
                if len(skipped) == TRIES:
                    raise DataError(f"{TRIES} images in a row cannot be used; {error}") from error
            index = int(random.integers(len(self)))

    def _view(self, record: ImageRecord, random: np.random.Generator) -> Sample:
        """Return an image as it is seen, with its objects, and its stuff map if there are any."""
        view = train_view(record.size, self.config, random)
        image = view_image(self._read(record, view.resized).values, view)
        objects = _objects(record.annotations, view, cuts(self.config))
        stuff = None
        if self.semantic and self.stuff:
            stuff = view_map(self.stuff.read(record.file_name, view.resized), view)
        if view.reflected and self.swaps is not None:
            objects = replace(objects, labels=self.swaps.labels[objects.labels])
            stuff = stuff if stuff is None else self.swaps.of_map(stuff)
        return Sample(image, self._info(record, view), objects, stuff)

    def picture(self, index: int) -> Image.Image:
        """Return an image as it is read, to be looked at: its first three bands."""
        return self._read(self.images[index]).picture

    def _read(self, record: ImageRecord, target: Size | None = None) -> Pixels:
        """Return an image, perhaps smaller than it is if it shall be resized to `target`."""
        path = self.image_root / record.file_name
        shrink = shrinking(record.size, target) if target else 1
        pixels = read_pixels(path, self.config, shrink)
        found = pixels.shape[:2] if shrink == 1 else upright_size(path)
        if found != record.size:
            raise DataError(_size_message(path, found, record.size, self.annotation_file))
        bands = pixels.shape[2]
        if bands != self.bands:
            raise DataError(
                f"{path}: has {counted(bands, 'band')}, but the first image has {self.bands}; "
                "choose those that all have, such as --data.bands '[1,2,3]'"
            )
        return pixels

    def _info(self, record: ImageRecord, view: View) -> ImageInfo:
        return ImageInfo(record.id, str(self.image_root / record.file_name), view)

    def _painted(self, sample: Sample) -> Int[Tensor, "H W"]:
        """Return the instance masks on a background of its own class."""
        assert sample.objects is not None
        height, width = sample.image.shape[1:]
        labelled = zip(sample.objects.masks, sample.objects.labels.tolist(), strict=True)
        return paint(labelled, sample.objects.crowds, len(self.classes), (height, width))


def load_dataset(
    path: str | Path,
    split: SplitName,
    config: DataConfig,
    *,
    train: bool,
    semantic: bool = False,
    classes: tuple[str, ...] | None = None,
    image_root: str | Path | None = None,
    same: Mapping[str, str] | None = None,
) -> CocoDataset:
    """Read a split of a data set: a folder in one of the usual layouts, or a JSON file.

    Args:
        train: mirror and scale at random, and give targets.
        semantic: give targets for the semantic branch too.
        classes: names of a trained model's labels 0, 1, ...; the file must have the same.
        image_root: folder of the images; None looks near the annotations.
        same: names of `classes` by those in the file, where they differ; none there takes the only
            class of the file for the only one of the model, None takes equal names alone.

    Raises:
        DataError: nothing found or something broken; says what, where and what to do.
    """
    found = find_split(path, split)
    skip_empty = train and not config.keep_empty
    folder = Path(image_root) if image_root else None
    source = read_annotations(
        found.annotations,
        classes,
        config,
        skip_empty=skip_empty,
        image_root=folder,
        same=same,
    )
    if folder:
        found = replace(found, image_roots=(folder,))
    if source.area_fault and not train:
        said = f"{source.area_fault}; APs, APm and APl go by those of the masks"
        source = replace(source, notes=(*source.notes, said))
    root, source = _with_images(found, source)
    stuff = find_stuff_maps(config.stuff_maps, root, source.path) if semantic and train else None
    swaps = _swaps(source, config, stuff) if train else None
    return CocoDataset(
        source, root, config, train=train, semantic=semantic, stuff=stuff, swaps=swaps
    )


def _swaps(source: AnnotationFile, config: DataConfig, stuff: StuffMaps | None) -> Swaps:
    """Return which classes change places in mirrored images.

    Raises:
        DataError: the setting names a class that there is not.
    """
    mirrors = config.flip > 0 or config.vertical_flip > 0
    try:
        return find_swaps(
            config.flip_swaps, tuple(source.categories.values()), stuff, mirrors=mirrors
        )
    except ClassError as error:
        raise DataError(f"{source.path}: {error}") from None


def _with_images(split: Split, source: AnnotationFile) -> tuple[Path, AnnotationFile]:
    """Return the folder of the images, and the file with the names that they have there."""
    found = locate_images(split, [record.file_name for record in source.images])
    for record in source.images:
        if fault := found.faults.get(record.file_name):
            where = f"{source.path}: image {record.id} ({record.file_name})"
            raise DataError(f"{where}: {fault}; correct the entry")
    bounds = [(record.first, record.end) for record in source.images]
    doubles = repeated_notes(source.images[0].columns, bounds)
    images = [
        replace(record, file_name=found.names.get(record.file_name, record.file_name))
        for record in source.images
    ]
    doubles += double_entries([record.file_name for record in images])
    return found.root, replace(source, images=images, notes=(*source.notes, *found.notes, *doubles))


def _objects(annotations: Sequence[Annotation], view: View, visible: bool) -> Objects:
    """Return objects and crowd regions as they are seen; `visible` leaves out those cut off."""
    single = [a for a in annotations if not a.crowd]
    boxes = torch.tensor([a.box for a in single], dtype=torch.float32).reshape(-1, 4)
    boxes = view_boxes(boxes, view)
    crowds = tuple(view_mask(a.segmentation, view) for a in annotations if a.crowd)
    if visible:  # objects far outside need not be drawn
        seen = (boxes[:, 2:] > boxes[:, :2]).all(1)
        boxes, single = boxes[seen], [a for a, s in zip(single, seen.tolist(), strict=True) if s]
    labels = torch.tensor([a.label for a in single], dtype=torch.int64)
    drawn = [draw_mask(a.segmentation, view) for a in single]
    objects = Objects(boxes, labels, tuple(view_crop(crop, view) for crop in drawn), crowds)
    return keep_visible(objects, [mask_area(crop) for crop in drawn]) if visible else objects


def _complete(annotation: dict[str, Any], size: Size) -> None:
    """Let an annotation that was read as sound have all that an evaluator asks for."""
    annotation["iscrowd"] = int(is_crowd(annotation))
    if not is_finite(annotation.get("area")):
        annotation["area"] = area(to_rle(annotation["segmentation"], size))
    if annotation["iscrowd"] and box_fault(annotation, size):
        left, top, right, bottom = box(to_rle(annotation["segmentation"], size))
        annotation["bbox"] = [left, top, right - left, bottom - top]


def _size_message(path: Path, found: Size, expected: Size, file: Path) -> str:
    """Return what is wrong with an image of another size, and what to do."""
    given = f"{file} says {expected[1]} x {expected[0]}"
    wrong = "annotations would lie in the wrong place"
    if found == expected[::-1]:
        wrong = "width and height are exchanged"
    action = size_action(found, expected)
    return f"{path}: is {found[1]} x {found[0]}, but {given}; {wrong}; {action}"
