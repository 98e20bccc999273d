"""A generated data set in COCO layout: overlapping discs and other shapes on cluttered grounds.

It exists so that a small model can be trained and tried within minutes, anywhere, and still meet
what makes instance segmentation hard: objects that touch and hide each other, low contrast, uneven
light. Discs carry a relief, as coins do; half of the images are grey. Masks are what is visible.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw
from torch import from_numpy

from scnet.data.synthetic.relief import OTHERS, Array, Light, Random, Sprite, blur, noise, sprite
from scnet.ops.rle import area, box, encode
from scnet.runtime.files import whole_folder
from scnet.types import Size

VERSION = 1  # of the pictures: the same settings and version give the same files
CLASSES = ("disc", "other")
SPLITS = ("train", "val")
HIDDEN = 0.45  # the share of an object that others may hide; one that would hide more is left out
SMALLEST = 40  # pixels; an object that shows fewer is not annotated

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Placed:
    x: float
    y: float
    side: int


def generate(
    folder: str | Path, *, train: int = 150, val: int = 30, size: Size = (384, 384), seed: int = 0
) -> Path:
    """Write the data set below `folder` and return it; the same set found there is used again.

    Raises:
        FileExistsError: the folder holds something else.
    """
    folder = Path(folder)
    made = {"version": VERSION, "train": train, "val": val, "size": list(size), "seed": seed}
    if folder.is_dir() and any(folder.iterdir()):
        if _settings(folder) == made:
            return folder
        raise FileExistsError(f"{folder}: not empty and not this data set; give another folder")
    with whole_folder(folder) as part:
        for number, (split, count) in enumerate(zip(SPLITS, (train, val), strict=True)):
            _write_split(part, split, count, size, [seed, number], made)
    return folder


def scene(rng: Random, size: Size) -> tuple[UInt8[Array, "H W D"], list[tuple[int, Array]]]:
    """Draw one image, grey (D = 1) or in colour (D = 3); return class and mask of each object."""
    coins = rng.random() < 0.5  # a calm dark ground and mostly discs, of one material
    channels = 1 if rng.random() < (0.75 if coins else 0.4) else 3
    places = _grid(rng, size) if coins and rng.random() < 0.6 else _scattered(rng, size)
    light = _light(rng)
    board = Board(_ground(rng, size, channels, calm=coins), np.full(size, -1))
    tone, depth = rng.uniform(0.35, 0.8), rng.uniform(0, 1)
    discs = rng.uniform(0.85, 1) if coins else rng.uniform(0.3, 0.7)
    for place in places:
        kind = "disc" if rng.random() < discs else str(rng.choice(OTHERS))
        item = sprite(rng, place.side, kind, light, plain=not coins and rng.random() < 0.4)
        colour = _colour(rng, channels, tone if coins else rng.uniform(0.1, 0.95))
        if board.has_room(place, item):
            board.shade(place, item, light, depth)
            board.paint(place, item, colour, int(kind != "disc"))
    return _developed(rng, board.canvas), board.objects()


@dataclass
class Board:
    """An image in the making, and which object is visible at each of its pixels."""

    canvas: Float[Array, "H W D"]
    owner: Int[Array, "H W"]  # number of the object; -1 = ground
    labels: list[int] = field(default_factory=list)
    full: list[int] = field(default_factory=list)  # pixels of each object before others hid it

    def __post_init__(self) -> None:
        self.visible = np.zeros(0, np.int64)  # pixels of each object now

    def has_room(self, place: Placed, item: Sprite) -> bool:
        """Say whether the object would leave enough of all others in sight."""
        height, width = self.owner.shape
        if not (0 <= place.x < width and 0 <= place.y < height):
            return False
        covered = self._covered(place, item)
        left = self.visible - covered
        return not ((covered > 0) & (left < (1 - HIDDEN) * np.array(self.full))).any()

    def shade(self, place: Placed, item: Sprite, light: Light, depth: float) -> None:
        """Darken the ground on the side away from the light."""
        reach = depth * place.side * 0.12 / np.tan(light.elevation)
        x, y = place.x - reach * np.cos(light.azimuth), place.y - reach * np.sin(light.azimuth)
        there, here = self._window(Placed(x, y, place.side), item)
        dark = blur(item.alpha, 1 + place.side * 0.03)[here]
        self.canvas[there] *= 1 - 0.7 * depth * dark[..., None]

    def paint(self, place: Placed, item: Sprite, colour: Float[Array, "D"], label: int) -> None:
        """Lay the object on the canvas."""
        covered = self._covered(place, item)
        there, here = self._window(place, item)
        alpha, shine = item.alpha[here][..., None], item.shine[here][..., None]
        look = item.brightness[here][..., None] * colour + shine
        self.canvas[there] += (look - self.canvas[there]) * alpha
        mask = item.mask[here]
        self.owner[there][mask] = len(self.labels)
        self.labels.append(label)
        self.full.append(int(mask.sum()))
        self.visible = np.append(self.visible - covered, self.full[-1])

    def objects(self) -> list[tuple[int, Array]]:
        """Return class and visible mask of each object of which enough is in sight."""
        shown = np.flatnonzero(self.visible >= SMALLEST)
        return [(self.labels[i], self.owner == i) for i in shown]

    def _covered(self, place: Placed, item: Sprite) -> Int[Array, "N"]:
        there, here = self._window(place, item)
        numbers = self.owner[there][item.mask[here]]
        return np.bincount(numbers + 1, minlength=len(self.labels) + 1)[1:]

    def _window(self, place: Placed, item: Sprite) -> tuple[Window, Window]:
        """Return which part of the image lies under which part of the sprite."""
        side, parts = len(item.alpha), []
        for middle, length in zip((place.y, place.x), self.owner.shape, strict=True):
            start = round(middle - side / 2)
            first, last = max(start, 0), max(min(start + side, length), 0)
            parts.append((slice(first, last), slice(first - start, max(last - start, 0))))
        return (parts[0][0], parts[1][0]), (parts[0][1], parts[1][1])


def _light(rng: Random) -> Light:
    return Light(
        azimuth=rng.uniform(0, 2 * np.pi),
        elevation=rng.uniform(0.5, 1.1),
        ambient=rng.uniform(0.1, 0.5),
        gloss=rng.uniform(0, 0.35),
    )


def _grid(rng: Random, size: Size) -> list[Placed]:
    """Return places in rows and columns, each a little off, of like but not equal sizes."""
    rows, columns = rng.integers(2, 6), rng.integers(3, 7)
    cell = min(size[0] / rows, size[1] / columns)
    spread = rng.uniform(0.1, 0.35)
    places = []
    for row in range(rows):
        for column in range(columns):
            side = cell * rng.uniform(0.6, 0.82) * (1 + spread * rng.uniform(-1, 1))
            x, y = (rng.normal(0.5, 0.06, 2) + np.array([column, row])) * (
                size[1] / columns,
                size[0] / rows,
            )
            places.append(Placed(x, y, int(np.clip(side, 16, 110))))
    return [p for p in places if rng.random() < 0.96]


def _scattered(rng: Random, size: Size) -> list[Placed]:
    """Return places at random; from image to image sizes differ more than within one."""
    typical, spread = np.exp(rng.uniform(np.log(24), np.log(80))), rng.uniform(0.1, 0.6)
    room = 0.8 * size[0] * size[1] / typical**2
    count = int(np.clip(rng.uniform(0.2, 1) * room, 5, 30))
    sides = np.clip(typical * np.exp(rng.normal(0, spread, count)), 16, 110)
    return [Placed(rng.uniform(0, size[1]), rng.uniform(0, size[0]), int(side)) for side in sides]


def _ground(rng: Random, size: Size, channels: int, calm: bool) -> Float[Array, "H W D"]:
    """Return what lies below the objects; calm = a dark board, else cluttered."""
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j].astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    ramp = np.clip((x * np.cos(turn) + y * np.sin(turn)) / 2 + 0.3 * noise(rng, size, 3.0), 0, 1.5)
    tone = rng.uniform(0.04, 0.35 if calm else 0.85)
    values = tone + rng.uniform(0, 0.5 if calm else 0.3) * ramp
    for cells, amount in ((4.0, 0.06), (16.0, 0.04), (64.0, 0.03), (192.0, 0.02)):
        values += rng.uniform(0, amount * (0.5 if calm else 1.5)) * noise(rng, size, cells)
    values += _lines(rng, size, int(rng.integers(0, 5 if calm else 40)), 0.08 if calm else 0.3)
    canvas = np.repeat(values[..., None], channels, axis=2)
    if channels == 3:
        canvas = canvas * _colour(rng, 3, 0.8)
        for channel in range(3):
            canvas[..., channel] += rng.uniform(0, 0.05) * noise(rng, size, 5.0)
    return canvas.clip(0, 1)


def _lines(rng: Random, size: Size, count: int, contrast: float) -> Float[Array, "H W"]:
    """Return scratches and faint flat figures, as values to add."""
    image = Image.new("L", size[::-1], 128)
    draw = ImageDraw.Draw(image)
    for _ in range(count):
        points = rng.uniform(-0.1, 1.1, (3, 2)) * size[::-1]
        tone = int(rng.integers(0, 256))
        if rng.random() < 0.15:
            draw.polygon([tuple(p) for p in points], fill=tone)
        else:
            draw.line([tuple(p) for p in points[:2]], fill=tone, width=int(rng.integers(1, 5)))
    soft = blur(np.asarray(image, np.float32) / 255, rng.uniform(0.5, 1.5))
    return (soft - 128 / 255) * contrast


def _colour(rng: Random, channels: int, tone: float) -> Float[Array, "D"]:
    tint = rng.uniform(-0.3, 0.3, channels) if channels == 3 else np.zeros(1)
    return np.asarray(tone * rng.uniform(0.85, 1.15) * (1 + tint - tint.mean()), np.float32)


def _developed(rng: Random, canvas: Float[Array, "H W D"]) -> UInt8[Array, "H W D"]:
    """Return the picture a camera makes of it: uneven light, contrast, blur and noise."""
    size = canvas.shape[:2]
    canvas = canvas * (1 + rng.uniform(0, 0.25) * noise(rng, size, 2.0))[..., None].clip(0.4, 1.8)
    canvas = rng.uniform(0.75, 1.15) * canvas.clip(0, None) ** rng.uniform(0.75, 1.3)
    canvas = canvas + rng.uniform(-0.03, 0.06)
    radius = float(rng.choice([0.0, 0.5, 0.9]))
    if radius:
        canvas = np.stack([blur(channel, radius) for channel in np.moveaxis(canvas, 2, 0)], axis=2)
    canvas = canvas + rng.uniform(0, 0.04) * rng.standard_normal(canvas.shape, np.float32)
    return (canvas.clip(0, 1) * 255).astype(np.uint8)


def _write_split(
    folder: Path, split: str, count: int, size: Size, seed: list[int], made: dict[str, Any]
) -> None:
    (folder / split).mkdir()
    (folder / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        pixels, objects = scene(np.random.default_rng([*seed, number]), size)
        name = f"{number:06d}.jpg"
        picture = pixels[..., 0] if pixels.shape[2] == 1 else pixels
        Image.fromarray(picture).save(folder / split / name, quality=92)
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        for label, mask in objects:
            annotations.append(_annotation(len(annotations) + 1, number, label, mask))
    values = {
        "info": {"description": "generated by scnet", "generated": made},
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)],
        "images": images,
        "annotations": annotations,
    }
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(values))


def _annotation(number: int, image: int, label: int, mask: Array) -> dict[str, Any]:
    rle = encode(from_numpy(mask))
    x1, y1, x2, y2 = box(rle)
    return {
        "id": number,
        "image_id": image,
        "category_id": label + 1,
        "segmentation": rle,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": area(rle),
        "iscrowd": 0,
    }


def _settings(folder: Path) -> Any:
    """Return what the data set in `folder` was generated with; None if it was not."""
    try:
        text = (folder / "annotations" / f"instances_{SPLITS[-1]}.json").read_text()
        return json.loads(text)["info"]["generated"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
