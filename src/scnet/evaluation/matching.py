"""Which find is which object: COCO's matching at one IoU, for all scores at once.

Finds are taken by falling score, and each takes the free object of its class that it overlaps most,
if by the asked IoU. So what a find takes depends on finds of higher scores alone, and one matching
of all finds holds at every score threshold: what is below is left out. Crowd regions are no objects
and take any number of finds, which are then neither true nor false. The matching is hotcoco's, as
for AP; a second one without regard to classes serves the confusion matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from scnet.evaluation.inputs import (
    Json,
    ResultRows,
    ScoreName,
    evaluable,
    known_annotations,
    result_rows,
    score_name,
    unique_names,
)
from scnet.runtime.collector import without_collector

Kind = Literal["segm", "bbox"]
Numbers = Int[np.ndarray, "_"]

NOTHING = -1  # in the place of a partner: there is none
REGION = -2  # in the place of a find's partner: it lies on a crowd region


class Finds(NamedTuple):
    """What was found, by falling score; what is beyond the cap of detections is not among it."""

    place: Numbers  # in the results
    image: Numbers  # in `Matches.images`
    label: Numbers
    score: Float[np.ndarray, "n"]  # of the box, or of the mask where masks are matched
    partner: Numbers  # the object it is, NOTHING or REGION
    partner_of_any_class: Numbers  # the same where classes do not count


class Objects(NamedTuple):
    """What there is to find, in the order of the file."""

    place: Numbers  # in the annotations
    image: Numbers
    label: Numbers
    partner: Numbers  # the find it is, or NOTHING


@dataclass(frozen=True, eq=False)
class Matches:
    """All finds and objects of a data set, each with its partner."""

    classes: tuple[str, ...]
    images: tuple[Any, ...]  # ids
    finds: Finds
    objects: Objects
    regions: Objects  # crowd regions
    find_shapes: Sequence[Any]  # run lengths or x, y, width, height; by place in the results
    object_shapes: Sequence[Any]  # by place in the annotations
    annotation_ids: Sequence[Any]  # as the file has them, by place in the annotations
    kind: Kind
    iou: float  # from which a find is an object
    max_detections: int  # of an image and class
    beyond: int  # finds left out for it
    # which score of a find counts: "mask_score" where masks are matched and some result has one
    score_name: ScoreName = "score"

    @cached_property
    def finds_by_image(self) -> list[Numbers]:
        return rows_of_images(self.finds.image, len(self.images))

    @cached_property
    def objects_by_image(self) -> list[Numbers]:
        return rows_of_images(self.objects.image, len(self.images))

    @cached_property
    def regions_by_image(self) -> list[Numbers]:
        return rows_of_images(self.regions.image, len(self.images))

    def find_shape(self, find: int) -> Any:
        return self.find_shapes[int(self.finds.place[find])]

    def object_shape(self, row: int) -> Any:
        return self.object_shapes[int(self.objects.place[row])]

    def region_shape(self, row: int) -> Any:
        return self.object_shapes[int(self.regions.place[row])]

    def overlaps(self, finds: Numbers, objects: Numbers) -> Float[np.ndarray, "n m"]:
        """Return the IoU of each find with each object, all of one image."""
        from hotcoco import mask

        if not len(finds) or not len(objects):
            return np.zeros((len(finds), len(objects)))
        found = [self.find_shapes[i] for i in self.finds.place[finds].tolist()]
        there = [self.object_shapes[i] for i in self.objects.place[objects].tolist()]
        return np.asarray(mask.iou(found, there, [False] * len(there)))

    def areas(self, objects: Numbers) -> Numbers:
        """Return the area of each object's mask in pixels; of its box where boxes are matched."""
        from hotcoco import mask

        shapes = [self.object_shapes[i] for i in self.objects.place[objects].tolist()]
        if self.kind == "segm" and shapes:
            return np.asarray(mask.area(shapes)).astype(np.int64)
        return np.array([round(width * height) for _, _, width, height in shapes], np.int64)

    def missed(self, score: float) -> Bool[np.ndarray, "m"]:
        """Return whether no find of at least this score is an object, for each."""
        scores = np.append(self.finds.score, -np.inf)  # NOTHING has the last
        missed: Bool[np.ndarray, "m"] = scores[self.objects.partner] < score
        return missed


def match(
    truth: Json,
    results: Sequence[Json],
    *,
    kind: Kind | None = None,
    iou: float = 0.5,
    max_detections: int = 100,
) -> Matches:
    """Match results with an annotation file, both as COCO lays them out.

    `kind` says what must overlap, masks or boxes; None takes masks unless there are none.
    `max_detections` caps the detections of each image and class, as in `scoring.score`.

    Raises:
        ValueError: as `scoring.score`.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou is {iou}; expected above 0 and up to 1")
    if max_detections < 1:
        raise ValueError(f"max_detections is {max_detections}; at least one is needed")
    with without_collector():
        return _match(truth, results, kind or kind_of(truth, results), iou, max_detections)


def kind_of(truth: Json, results: Sequence[Json]) -> Kind:
    """Return "segm" unless no annotation or no result has a mask."""
    both = [e for e in (truth["annotations"], results) if e]
    masks = all(any(entry.get("segmentation") for entry in entries) for entries in both)
    return "segm" if masks else "bbox"


def _match(truth: Json, results: Sequence[Json], kind: Kind, iou: float, cap: int) -> Matches:
    rows = result_rows(results, truth, [kind]).scored(kind)
    numbered = evaluable(truth, with_masks=kind == "segm")
    annotations = numbered["annotations"]
    in_class = _partners(numbered, rows, kind, iou, cap)
    kept = np.flatnonzero(in_class.seen)
    any_class = _partners(numbered, _some(rows, kept), kind, iou, max(1, len(kept)), classes=False)
    order = np.argsort(-rows.rows[kept, 5], kind="stable")
    rank = np.full(len(rows.rows), NOTHING)  # of each result among the finds
    rank[kept[order]] = np.arange(len(order))
    partners = _renumbered(in_class.of_objects, rank)
    crowd = np.array([a["iscrowd"] for a in annotations], bool)
    return Matches(
        classes=tuple(unique_names(truth["categories"])),
        images=tuple(sorted(image["id"] for image in truth["images"])),
        finds=_finds(rows, kept, order, crowd, in_class.of_finds[kept], any_class.of_finds),
        objects=_objects(annotations, np.flatnonzero(~crowd), partners),
        regions=_objects(annotations, np.flatnonzero(crowd), partners),
        find_shapes=rows.masks if kind == "segm" else rows.rows[:, 1:5].tolist(),
        object_shapes=[a["segmentation" if kind == "segm" else "bbox"] for a in annotations],
        annotation_ids=[a.get("id") for a in known_annotations(truth)],
        kind=kind,
        iou=iou,
        max_detections=cap,
        beyond=len(rows.rows) - len(kept),
        score_name=score_name(results, kind),
    )


def _finds(
    rows: ResultRows,
    kept: Numbers,
    order: Numbers,
    crowd: Any,
    in_class: Numbers,
    any_class: Numbers,
) -> Finds:
    """Return the results that were kept, in order; their partners are places of annotations."""
    number = np.where(crowd, REGION, np.cumsum(~crowd) - 1)  # of each annotation
    place = kept[order]
    chosen = rows.rows[place]
    return Finds(
        place,
        chosen[:, 0].astype(np.int64) - 1,
        chosen[:, 6].astype(np.int64) - 1,
        chosen[:, 5],
        _renumbered(in_class[order], number),
        _renumbered(any_class[order], number),
    )


class _Partners(NamedTuple):
    seen: np.ndarray[Any, Any]  # whether a result is within the cap
    of_finds: Numbers  # place of an annotation, or NOTHING
    of_objects: Numbers  # place of a result, or NOTHING


def _partners(
    truth: Json, found: ResultRows, kind: Kind, iou: float, cap: int, classes: bool = True
) -> _Partners:
    """Let hotcoco match; the places are those in `truth` and `found`."""
    from hotcoco import COCO, COCOeval

    objects = COCO(truth)
    masks = found.masks if kind == "segm" else None
    evaluator = COCOeval(objects, objects.load_res(found.rows, segmentation=masks), kind)
    evaluator.params.iou_thrs, evaluator.params.max_dets = [iou], [cap]
    evaluator.params.area_rng, evaluator.params.area_rng_lbl = [[0, 1e10]], ["all"]
    evaluator.params.use_cats = classes
    evaluator.evaluate()
    seen = np.zeros(len(found.rows), bool)
    of_finds = np.full(len(found.rows), NOTHING)
    of_objects = np.full(len(truth["annotations"]), NOTHING)
    for cell in filter(None, evaluator.eval_imgs):
        ids = np.array(cell["dtIds"], np.int64) - 1
        seen[ids] = True
        of_finds[ids] = np.array(cell["dtMatches"][0], np.int64) - 1
        there = np.array(cell["gtIds"], np.int64) - 1
        of_objects[there] = np.array(cell["gtMatches"][0], np.int64) - 1
    return _Partners(seen, of_finds, of_objects)


def _some(found: ResultRows, chosen: Numbers) -> ResultRows:
    masks = [found.masks[i] for i in chosen.tolist()] if found.masks else []
    return ResultRows(found.rows[chosen], found.areas[chosen], masks, found.mask_scores[chosen])


def _renumbered(places: Numbers, numbers: Numbers) -> Numbers:
    """Return the number at each place, and NOTHING for it."""
    chosen: Numbers = np.append(numbers, NOTHING)[places]
    return chosen


def _objects(annotations: Sequence[Json], places: Numbers, partners: Numbers) -> Objects:
    chosen = [annotations[i] for i in places.tolist()]
    return Objects(
        places,
        np.array([a["image_id"] for a in chosen], np.int64) - 1,
        np.array([a["category_id"] for a in chosen], np.int64) - 1,
        partners[places],
    )


def rows_of_images(images: Numbers, count: int) -> list[Numbers]:
    """Return for each image which rows are its, in their order."""
    order = np.argsort(images, kind="stable")
    return np.split(order, np.searchsorted(images[order], np.arange(1, count)))
