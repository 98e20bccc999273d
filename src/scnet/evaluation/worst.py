"""The worst mistakes and images of a report: what is said of each, and its picture."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scnet.data.annotations import ImageRecord
from scnet.data.coco import CocoDataset
from scnet.evaluation import counts
from scnet.evaluation.matching import NOTHING, Numbers
from scnet.evaluation.mistakes import FalseFind, Miss, worst
from scnet.evaluation.summary import Judged
from scnet.ops import rle
from scnet.pictures.colours import ORANGE, PALETTE, SKY
from scnet.pictures.outlines import Outline, Window, outlined, window_around

Entry = dict[str, Any]

CONTEXT, LEAST = 2.2, 40  # a crop is so many times as long as its object, and so many pixels
LONGEST, WHOLE = 480, 960  # pixels of the longer side of crops, and of whole images
QUALITY = 88  # of JPEG
THIN, PLAIN, BOLD = 1, 2, 4  # lines of what is around, of its partner, and of the mistake

TRUTH, FOUND, REGION = PALETTE[1], PALETTE[0], (150, 150, 150)
TRUTH_HUE, FOUND_HUE, REGION_HUE = SKY, ORANGE, "#969696"


class Picture(NamedTuple):
    """A picture to be drawn: of a mistake, or of a whole image."""

    name: str
    subject: Any = None  # the shape of the mistake; None for the whole image
    find: int = NOTHING  # that is the mistake, or its partner
    object: int = NOTHING  # likewise
    missed: bool = False  # the object is the mistake


class Gallery:
    """Collects what to show, then reads each image once and draws."""

    def __init__(self, judged: Judged, dataset: CocoDataset) -> None:
        self.judged, self.matches, self.dataset = judged, judged.matches, dataset
        self.places = {record.id: place for place, record in enumerate(dataset.images)}
        self.wanted: dict[int, list[Picture]] = defaultdict(list)

    def misses(self, number: int) -> list[Entry]:
        """Return the largest missed objects."""
        chosen = enumerate(worst(self.judged.mistakes.misses, number), 1)
        return [self._miss(miss, f"miss-{n:02}.jpg") for n, miss in chosen]

    def false_finds(self, number: int) -> list[Entry]:
        """Return the false finds of the highest scores."""
        chosen = enumerate(worst(self.judged.mistakes.false_finds, number), 1)
        return [self._false_find(find, f"false-{n:02}.jpg") for n, find in chosen]

    def images(self, number: int) -> list[Entry]:
        """Return the images with the most mistakes."""
        found = counts.by_image(self.matches, self.judged.score)
        order = np.argsort(-found.errors, kind="stable")[:number].tolist()
        entries = []
        for n, image in enumerate((i for i in order if found.errors[i]), 1):
            name = f"image-{n:02}.jpg"
            self.wanted[image].append(Picture(name))
            entries.append({"picture": name, **self.image(image, found)})
        return entries

    def image(self, image: int, found: counts.ImageCounts) -> Entry:
        """Return which image it is, and its counts."""
        return {**self._source(image), **found.of(image).figures()}

    def draw(self, folder: Path) -> None:
        """Write all pictures that were asked for."""
        for image, pictures in self.wanted.items():
            photo = self.dataset.picture(self.places[self.matches.images[image]])
            for picture in pictures:
                self._draw(photo, image, picture, folder / picture.name)

    def _draw(self, photo: Any, image: int, picture: Picture, file: Path) -> None:
        size = (photo.height, photo.width)
        window: Window = (0, 0, photo.width, photo.height)
        if picture.subject is not None:
            window = window_around(picture.subject, size, CONTEXT, LEAST)
        longest = WHOLE if picture.subject is None else LONGEST
        drawn = outlined(photo, self._outlines(image, picture), window, longest)
        drawn.save(file, quality=QUALITY)

    def _outlines(self, image: int, picture: Picture) -> list[Outline]:
        """Return what to draw, finds on top of objects."""
        matches, score = self.matches, self.judged.score
        finds, objects = matches.finds_by_image[image], matches.objects_by_image[image]
        shown = (matches.finds.score[finds] >= score) | (finds == picture.find)
        finds = finds[shown]
        regions = matches.regions_by_image[image].tolist()
        weights = self._weights(picture, finds, objects)
        return [
            *(Outline(matches.region_shape(i), REGION) for i in regions),
            *(
                Outline(matches.object_shape(i), TRUTH, weight=weight)
                for i, weight in zip(objects.tolist(), weights[1], strict=True)
            ),
            *(
                Outline(matches.find_shape(i), FOUND, dashed=True, weight=weight)
                for i, weight in zip(finds.tolist(), weights[0], strict=True)
            ),
        ]

    def _weights(
        self, picture: Picture, finds: Numbers, objects: Numbers
    ) -> tuple[list[int], list[int]]:
        """Return the weights of the lines of finds and objects."""
        if picture.subject is None:
            missed = self.matches.missed(self.judged.score)[objects]
            false = self.matches.finds.partner[finds] == NOTHING
            return np.where(false, PLAIN, THIN).tolist(), np.where(missed, PLAIN, THIN).tolist()
        of_find, of_object = (PLAIN, BOLD) if picture.missed else (BOLD, PLAIN)
        return (
            np.where(finds == picture.find, of_find, THIN).tolist(),
            np.where(objects == picture.object, of_object, THIN).tolist(),
        )

    def _miss(self, miss: Miss, name: str) -> Entry:
        matches, shape = self.matches, self.matches.object_shape(miss.object)
        picture = Picture(name, shape, miss.near, miss.object, missed=True)
        self.wanted[miss.image].append(picture)
        near = None
        if miss.near != NOTHING:
            score = float(matches.finds.score[miss.near])
            near = {"class": self._class_of_find(miss.near), "score": score, "IoU": miss.iou}
        return {
            "picture": name,
            "class": self._class_of_object(miss.object),
            "kind": miss.kind,
            **self._source(miss.image),
            "annotation_id": self._annotation(miss.object),
            "area": int(matches.areas(np.array([miss.object]))[0]),
            "box": _box(shape),
            "near": near,
        }

    def _false_find(self, false: FalseFind, name: str) -> Entry:
        shape = self.matches.find_shape(false.find)
        self.wanted[false.image].append(Picture(name, shape, false.find, false.near))
        near = None
        if false.near != NOTHING:
            named = self._class_of_object(false.near)
            near = {
                "class": named,
                "annotation_id": self._annotation(false.near),
                "IoU": false.iou,
            }
        return {
            "picture": name,
            "class": self._class_of_find(false.find),
            "kind": false.kind,
            **self._source(false.image),
            "score": float(self.matches.finds.score[false.find]),
            "box": _box(shape),
            "near": near,
        }

    def _source(self, image: int) -> Entry:
        number = self.matches.images[image]
        record: ImageRecord = self.dataset.images[self.places[number]]
        return {"image_id": number, "file_name": record.file_name}

    def _class_of_object(self, row: int) -> str:
        return self.matches.classes[int(self.matches.objects.label[row])]

    def _class_of_find(self, row: int) -> str:
        return self.matches.classes[int(self.matches.finds.label[row])]

    def _annotation(self, row: int) -> Any:
        return self.matches.annotation_ids[int(self.matches.objects.place[row])]


def _box(shape: Any) -> list[float]:
    """Return x, y, width and height."""
    if not isinstance(shape, dict):
        return [float(value) for value in shape]
    left, top, right, bottom = rle.box(shape)
    return [float(value) for value in (left, top, right - left, bottom - top)]
