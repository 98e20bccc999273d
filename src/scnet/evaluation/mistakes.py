"""What kind of mistake each false find and each miss is, and which are the worst.

The kinds of false finds are those of TIDE (Bolya et al. 2020, sec. 2.2), told apart in the order of
its code. A miss is named after the false find that covers it; TIDE calls what is left "missed",
which is split here into objects that are found below the score threshold and those that are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from scnet.evaluation.matching import NOTHING, Matches, Numbers

BACKGROUND_IOU = 0.1  # below it a find has nothing to do with an object (TIDE, sec. 2.2)
OF_AN_IMAGE = 3  # most mistakes of one image among the worst, which are to show different things

WRONG_CLASS, BAD_LOCATION = "wrong class", "bad location"
WRONG_BOTH, DUPLICATE, BACKGROUND = "wrong class and location", "duplicate", "background"
LOW_SCORE, NOT_FOUND = "low score", "not found"
FALSE_KINDS = (WRONG_CLASS, BAD_LOCATION, WRONG_BOTH, DUPLICATE, BACKGROUND)
MISS_KINDS = (WRONG_CLASS, BAD_LOCATION, LOW_SCORE, NOT_FOUND)


class FalseFind(NamedTuple):
    find: int
    image: int
    kind: str
    near: int  # the object it overlaps most of those that make it this kind, or NOTHING
    iou: float  # with that object


class Miss(NamedTuple):
    object: int
    image: int
    kind: str
    near: int  # the find that overlaps it most of those that make it this kind, or NOTHING
    iou: float  # with that find


class Mistakes(NamedTuple):
    false_finds: list[FalseFind]  # by falling score
    misses: list[Miss]  # by falling area


Mistake = TypeVar("Mistake", FalseFind, Miss)


class _Scene(NamedTuple):
    """An image: finds that passed the threshold, objects, and how they lie to each other."""

    image: int
    finds: Numbers
    objects: Numbers
    overlap: Float[np.ndarray, "n m"]
    same: Bool[np.ndarray, "n m"]  # the class is the same


def mistakes(matches: Matches, score: float) -> Mistakes:
    """Return all mistakes at a score threshold, the worst first."""
    false_finds: list[FalseFind] = []
    misses: list[Miss] = []
    missed = matches.missed(score)
    for image in range(len(matches.images)):
        scene = _scene(matches, image, score)
        false_finds += _false_finds(matches, scene)
        misses += _misses(matches, scene, missed)
    areas = matches.areas(np.array([miss.object for miss in misses], np.int64))
    largest = np.argsort(-areas, kind="stable").tolist()
    return Mistakes(sorted(false_finds), [misses[i] for i in largest])


def kinds(found: Sequence[FalseFind] | Sequence[Miss], names: Sequence[str]) -> dict[str, int]:
    """Return how many there are of each kind."""
    count = Counter(mistake.kind for mistake in found)
    return {name: count[name] for name in names}


def worst(found: Sequence[Mistake], number: int) -> list[Mistake]:
    """Return the first `number`, but a few of each image."""
    seen: Counter[int] = Counter()
    chosen: list[Mistake] = []
    for mistake in found:
        if len(chosen) == number:
            break
        seen[mistake.image] += 1
        if seen[mistake.image] <= OF_AN_IMAGE:
            chosen.append(mistake)
    return chosen


def _scene(matches: Matches, image: int, score: float) -> _Scene:
    finds, objects = matches.finds_by_image[image], matches.objects_by_image[image]
    finds = finds[matches.finds.score[finds] >= score]
    same = matches.finds.label[finds][:, None] == matches.objects.label[objects]
    return _Scene(image, finds, objects, matches.overlaps(finds, objects), same)


def _false_finds(matches: Matches, scene: _Scene) -> list[FalseFind]:
    false = matches.finds.partner[scene.finds] == NOTHING
    return [
        _false_find(matches.iou, scene, row, int(find))
        for row, find in enumerate(scene.finds)
        if false[row]
    ]


def _false_find(iou: float, scene: _Scene, row: int, find: int) -> FalseFind:
    overlap, same = scene.overlap[row], scene.same[row]
    right, right_iou = _most(overlap * same)
    wrong, wrong_iou = _most(overlap * ~same)
    if BACKGROUND_IOU <= right_iou < iou:
        kind, near, shared = BAD_LOCATION, right, right_iou
    elif wrong_iou >= iou:
        kind, near, shared = WRONG_CLASS, wrong, wrong_iou
    elif right_iou >= iou:
        kind, near, shared = DUPLICATE, right, right_iou
    elif wrong_iou >= BACKGROUND_IOU:
        kind, near, shared = WRONG_BOTH, wrong, wrong_iou
    else:
        return FalseFind(find, scene.image, BACKGROUND, NOTHING, 0.0)
    return FalseFind(find, scene.image, kind, int(scene.objects[near]), shared)


def _misses(matches: Matches, scene: _Scene, missed: Bool[np.ndarray, "k"]) -> list[Miss]:
    false = matches.finds.partner[scene.finds] == NOTHING
    return [
        _miss(matches, scene, column, int(thing), false)
        for column, thing in enumerate(scene.objects)
        if missed[thing]
    ]


def _miss(
    matches: Matches, scene: _Scene, column: int, thing: int, false: Bool[np.ndarray, "n"]
) -> Miss:
    overlap, same = scene.overlap[:, column] * false, scene.same[:, column]
    wrong, wrong_iou = _most(overlap * ~same)
    right, right_iou = _most(overlap * same)
    if wrong_iou >= matches.iou:
        return Miss(thing, scene.image, WRONG_CLASS, int(scene.finds[wrong]), wrong_iou)
    if right_iou >= BACKGROUND_IOU:
        return Miss(thing, scene.image, BAD_LOCATION, int(scene.finds[right]), right_iou)
    low = int(matches.objects.partner[thing])
    if low != NOTHING:
        shared = float(matches.overlaps(np.array([low]), np.array([thing]))[0, 0])
        return Miss(thing, scene.image, LOW_SCORE, low, shared)
    return Miss(thing, scene.image, NOT_FOUND, NOTHING, 0.0)


def _most(overlap: Float[np.ndarray, "k"]) -> tuple[int, float]:
    if not len(overlap):
        return NOTHING, 0.0
    place = int(overlap.argmax())
    return place, float(overlap[place])
