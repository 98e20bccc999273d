"""Where to write what: labels beside their objects, clear of each other and of other objects.

Each label tries the places around its object from the best to the least and takes the first that
is free; if there is none it tries a shorter text, then goes without. A large object may carry its
label itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

Array = np.ndarray
Box = tuple[int, int, int, int]
Measure = Callable[[str], tuple[int, int]]  # width and height of a text in pixels

CELL = 4  # pixels; free space is kept on a grid as coarse as this
COVER = 0.3  # the share of a label that may lie on objects
LARGE = 0.1  # the share of the picture from which an object may be written on by all
INSIDE = 0.06  # the share of its own object that a label may hide


@dataclass(frozen=True)
class Shape:
    """A mask cut to its object, and where its first pixel lies in the picture."""

    mask: Bool[Array, "h w"]
    x: int
    y: int

    @property
    def box(self) -> Box:
        return self.x, self.y, self.x + self.mask.shape[1], self.y + self.mask.shape[0]

    @property
    def window(self) -> tuple[slice, slice]:
        x1, y1, x2, y2 = self.box
        return slice(y1, y2), slice(x1, x2)


@dataclass(frozen=True)
class Label:
    owner: int  # number of the object
    text: str
    box: Box


class Space:
    """Which parts of a picture hold objects, and which hold text."""

    def __init__(self, size: tuple[int, int], shapes: Sequence[Shape]) -> None:
        self.size = size  # width, height
        grid = (size[1] // CELL + 2, size[0] // CELL + 2)
        self.objects, self.written = np.zeros(grid, bool), np.zeros(grid, bool)
        for shape in shapes:
            if shape.mask.size > LARGE * size[0] * size[1]:
                continue
            coarse = shape.mask[::CELL, ::CELL]
            top, left = shape.y // CELL, shape.x // CELL
            self.objects[top : top + coarse.shape[0], left : left + coarse.shape[1]] |= coarse

    def is_free(self, box: Box, cover: float) -> bool:
        """Say whether the box lies in the picture, off all text and off objects but for `cover`."""
        inside = min(box) >= 0 and box[2] <= self.size[0] and box[3] <= self.size[1]
        if not inside:
            return False
        cells = _cells(box)
        objects = self.objects[cells]
        return not np.count_nonzero(self.written[cells]) and bool(
            np.count_nonzero(objects) <= cover * objects.size
        )

    def write(self, box: Box) -> None:
        self.written[_cells(box)] = True


def choose_labels(
    texts: Sequence[tuple[str, ...]],
    shapes: Sequence[Shape],
    size: tuple[int, int],
    measure: Measure,
) -> list[Label]:
    """Choose text and place for each object that there is room for.

    `texts` holds for each object what to write, shorter choices after longer ones; `size` is width
    and height of the picture. Objects come in order of importance.
    """
    space, labels = Space(size, shapes), []
    for owner, (choices, shape) in enumerate(zip(texts, shapes, strict=True)):
        found = _first_free(choices, shape, space, measure) if shape.mask.any() else None
        if found is not None:
            space.write(found[1])
            labels.append(Label(owner, *found))
    return labels


def _first_free(
    choices: Sequence[str], shape: Shape, space: Space, measure: Measure
) -> tuple[str, Box] | None:
    area = int(np.count_nonzero(shape.mask))
    for text in choices:
        width, height = measure(text)
        above, around = _above(shape, width, height), _around(shape, width, height)
        inside = list(_inside(shape, width, height)) if width * height <= INSIDE * area else []
        for box, cover in (
            *((box, COVER) for box in above),
            *((box, 1.0) for box in inside if len(shape.mask) > 8 * height),
            *((box, COVER) for box in around),
            *((box, 1.0) for box in inside),
        ):
            if space.is_free(box, cover):
                return text, box
    return None


def _above(shape: Shape, width: int, height: int) -> Iterator[Box]:
    """Yield places on top of the mask."""
    yield from _along(shape.mask[0], shape.x, shape.y - height, width, height)


def _around(shape: Shape, width: int, height: int) -> Iterator[Box]:
    """Yield places that touch the mask's bottom, right and left."""
    x1, _, x2, y2 = shape.box
    yield from _along(shape.mask[-1], x1, y2, width, height)
    for column, left in ((shape.mask[:, -1], x2), (shape.mask[:, 0], x1 - width)):
        top = shape.y + _middle(column) - height // 2
        yield left, top, left + width, top + height


def _along(row: Bool[Array, "w"], x: int, top: int, width: int, height: int) -> Iterator[Box]:
    middle = x + _middle(row)
    for left in (middle - width // 2, middle - width // 5, middle - width + width // 5):
        yield left, top, left + width, top + height


def _inside(shape: Shape, width: int, height: int) -> Iterator[Box]:
    """Yield places on the mask: near its top, then ever further down."""
    for part in (0.0, 0.15, 0.35, 0.6):
        row = int(part * (len(shape.mask) - 1))
        left = shape.x + _middle(shape.mask[row]) - width // 2
        left = min(max(left, shape.x), max(shape.box[2] - width, shape.x))
        yield left, shape.y + row, left + width, shape.y + row + height


def _middle(line: Bool[Array, "n"]) -> int:
    """Return the mean place of the set pixels; half way where there are none."""
    places = np.flatnonzero(line)
    return int(places.sum()) // len(places) if len(places) else len(line) // 2


def _cells(box: Box) -> tuple[slice, slice]:
    x1, y1, x2, y2 = (max(0, v) for v in box)
    return slice(y1 // CELL, -(-y2 // CELL)), slice(x1 // CELL, -(-x2 // CELL))
