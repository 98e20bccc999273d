"""A generated data set in COCO layout: overlapping discs and other shapes on cluttered grounds.

It exists so that a small model can be trained and tried within minutes, anywhere, and still meet
what makes instance segmentation hard: objects that touch and hide each other, low contrast, uneven
light. Discs carry a relief, as coins do; half of the images are grey. Masks are what is visible.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw
from torch import from_numpy

from scnet.data.relief import OTHERS, Array, Light, Random, Sprite, blur, noise, sprite
from scnet.ops.rle import area, box, encode
from scnet.types import Size

VERSION = 1  # of the pictures: the same settings and version give the same files
CLASSES = ("disc", "other")
SPLITS = ("train", "val")
VISIBLE = 0.45  # of an object that may be hidden by others before the next is put elsewhere
SMALLEST = 40  # pixels; what shows less of itself is not annotated


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
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for number, (split, count) in enumerate(zip(SPLITS, (train, val), strict=True)):
            _write_split(part, split, count, size, [seed, number], made)
        if folder.is_dir():
            folder.rmdir()
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def scene(rng: Random, size: Size) -> tuple[UInt8[Array, "H W D"], list[tuple[int, Array]]]:
    """Draw one image, grey (D = 1) or in colour (D = 3), and return it with class and mask of each object."""
    coins = rng.random() < 0.5
    grey = rng.random() < (0.75 if coins else 0.4)
    light = Light(rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.1), rng.uniform(0.1, 0.5), rng.uniform(0, 0.35))
    canvas = _ground(rng, size, 1 if grey else 3, calm=coins)
    owner = np.full(size, -1)
    labels: list[int] = []
    full: list[int] = []
    places = _grid(rng, size) if coins and rng.random() < 0.6 else _scattered(rng, size)
    tone, depth = rng.uniform(0.35, 0.8), rng.uniform(0, 1)
    share = rng.uniform(0.85, 1) if coins else rng.uniform(0.3, 0.7)
    for place in places:
        kind = "disc" if rng.random() < share else str(rng.choice(OTHERS))
        item = sprite(rng, place.side, kind, light, plain=not coins and rng.random() < 0.4)
        window = _window(place, item, size)
        if window is None or _hides_too_much(owner, full, item, window):
            continue
        colour = _colour(rng, canvas.shape[2], tone if coins else rng.uniform(0.1, 0.95))
        _shade(canvas, place, item, light, depth)
        _paint(canvas, owner, len(labels), item, window, colour)
        labels.append(CLASSES.index("disc" if kind == "disc" else "other"))
        full.append(int(item.mask[window[1]].sum()))
    masks = [(label, owner == i) for i, label in enumerate(labels)]
    return _developed(rng, canvas), [(label, m) for label, m in masks if m.sum() >= SMALLEST]


def _grid(rng: Random, size: Size) -> list[Placed]:
    """Return places in rows and columns, each a little off, of like but not equal sizes."""
    rows, columns = rng.integers(2, 6), rng.integers(3, 7)
    cell = min(size[0] / rows, size[1] / columns)
    spread = rng.uniform(0.1, 0.35)
    places = []
    for row in range(rows):
        for column in range(columns):
            side = cell * rng.uniform(0.62, 0.72) * (1 + spread * rng.uniform(-1, 1))
            x, y = (rng.normal(0.5, 0.06, 2) + (column, row)) * (size[1] / columns, size[0] / rows)
            places.append(Placed(x, y, int(np.clip(side, 16, 110))))
    return [p for p in places if rng.random() < 0.96]


def _scattered(rng: Random, size: Size) -> list[Placed]:
    """Return places at random; from image to image sizes differ more than within one."""
    typical, spread = np.exp(rng.uniform(np.log(24), np.log(80))), rng.uniform(0.1, 0.6)
    room = 0.8 * size[0] * size[1] / typical**2
    count = int(np.clip(rng.uniform(0.2, 1) * room, 5, 30))
    sides = np.clip(typical * np.exp(rng.normal(0, spread, count)), 16, 110)
    return [
        Placed(rng.uniform(0, size[1]), rng.uniform(0, size[0]), int(side)) for side in sides
    ]


def _ground(rng: Random, size: Size, channels: int, calm: bool) -> Float[Array, "H W D"]:
    """Return what lies below the objects; calm = a dark board, else cluttered."""
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j].astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    ramp = np.clip((x * np.cos(turn) + y * np.sin(turn)) / 2 + 0.3 * noise(rng, size, 3), 0, 1.5)
    tone = rng.uniform(0.04, 0.35 if calm else 0.85)
    values = tone + rng.uniform(0, 0.5 if calm else 0.3) * ramp
    for cells, amount in ((4, 0.06), (16, 0.04), (64, 0.03), (192, 0.02)):
        values += rng.uniform(0, amount * (0.5 if calm else 1.5)) * noise(rng, size, cells)
    values += _lines(rng, size, int(rng.integers(0, 5 if calm else 40)), 0.08 if calm else 0.3)
    canvas = np.repeat(values[..., None], channels, axis=2)
    if channels == 3:
        canvas = canvas * _colour(rng, 3, 0.8)
        for channel in range(3):
            canvas[..., channel] += rng.uniform(0, 0.05) * noise(rng, size, 5)
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


Window = tuple[tuple[slice, slice], tuple[slice, slice]]  # in the image, in the sprite


def _window(place: Placed, item: Sprite, size: Size, shift: tuple[float, float] = (0, 0)) -> Window | None:
    """Return where the sprite lies in the image; None if its middle lies outside."""
    if not (0 <= place.x < size[1] and 0 <= place.y < size[0]):
        return None
    side = len(item.alpha)
    parts = []
    for middle, offset, length in ((place.y, shift[1], size[0]), (place.x, shift[0], size[1])):
        start = round(middle + offset - side / 2)
        first, last = max(start, 0), min(start + side, length)
        parts.append((slice(first, last), slice(first - start, last - start)))
    return (parts[0][0], parts[1][0]), (parts[0][1], parts[1][1])


def _hides_too_much(owner: Int[Array, "H W"], full: list[int], item: Sprite, window: Window) -> bool:
    there, here = window
    covered = np.bincount(owner[there][item.mask[here]] + 1, minlength=len(full) + 1)[1:]
    left = np.bincount(owner.ravel() + 1, minlength=len(full) + 1)[1:] - covered
    return bool((left[covered > 0] < (1 - VISIBLE) * np.array(full)[covered > 0]).any())


def _paint(
    canvas: Float[Array, "H W D"], owner: Int[Array, "H W"], number: int, item: Sprite,
    window: Window, colour: Float[Array, "D"],
) -> None:
    """Lay the sprite on the canvas and write `number` where it is visible."""
    there, here = window
    alpha = item.alpha[here][..., None]
    look = item.brightness[here][..., None] * colour + item.shine[here][..., None]
    canvas[there] = canvas[there] * (1 - alpha) + look * alpha
    owner[there][item.mask[here]] = number


def _shade(canvas: Float[Array, "H W D"], place: Placed, item: Sprite, light: Light, depth: float) -> None:
    """Darken the ground on the side away from the light."""
    reach = depth * place.side * 0.12 / np.tan(light.elevation)
    shift = (-reach * np.cos(light.azimuth), -reach * np.sin(light.azimuth))
    window = _window(place, item, canvas.shape[:2], shift)
    if window is not None:
        there, here = window
        dark = blur(item.alpha, 1 + place.side * 0.03)[here]
        canvas[there] *= 1 - 0.7 * depth * dark[..., None]


def _developed(rng: Random, canvas: Float[Array, "H W D"]) -> UInt8[Array, "H W D"]:
    """Return the picture a camera makes of it: uneven light, contrast, blur and noise."""
    size = canvas.shape[:2]
    canvas = canvas * (1 + rng.uniform(0, 0.25) * noise(rng, size, 2))[..., None].clip(0.4, 1.8)
    canvas = rng.uniform(0.75, 1.15) * canvas.clip(0, None) ** rng.uniform(0.75, 1.3)
    canvas = canvas + rng.uniform(-0.03, 0.06)
    radius = rng.choice([0.0, 0.5, 0.9])
    if radius:
        canvas = np.stack([blur(channel, radius) for channel in np.moveaxis(canvas, 2, 0)], axis=2)
    canvas = canvas + rng.uniform(0, 0.04) * rng.standard_normal(canvas.shape, np.float32)
    return (canvas.clip(0, 1) * 255).astype(np.uint8)


def _write_split(
    folder: Path, split: str, count: int, size: Size, seed: list[int], made: dict[str, Any]
) -> None:
    (folder / split).mkdir()
    (folder / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
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
