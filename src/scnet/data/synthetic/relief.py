"""Shaded objects with an outline and a relief, as the generated data set is made of.

Every outline is a radius for each angle, so one distance (0 in the middle, 1 on the outline) serves
the mask, the rim and the bevel of all of them. The relief is a height field lit from one side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw, ImageFilter

Array = np.ndarray
Random = np.random.Generator

OTHERS = ("polygon", "star", "rectangle", "blob", "leaf")


@dataclass(frozen=True)
class Light:
    azimuth: float  # radians; where the light comes from
    elevation: float  # radians above the plane
    ambient: float  # brightness of what faces away
    gloss: float  # strength of highlights


@dataclass(frozen=True)
class Sprite:
    """A shaded object in a square of its own."""

    brightness: Float[Array, "S S"]  # to be multiplied with a colour
    shine: Float[Array, "S S"]  # to be added
    alpha: Float[Array, "S S"]  # 1 inside, between 0 and 1 along the edge

    @property
    def mask(self) -> Bool[Array, "S S"]:
        return self.alpha > 0.5


def sprite(rng: Random, side: int, kind: str, light: Light, plain: bool = False) -> Sprite:
    """Draw an object of about `side` pixels across; `kind` is "disc" or one of `OTHERS`."""
    size = side + 6
    y, x = np.mgrid[:size, :size].astype(np.float32) - (size - 1) / 2
    turn = rng.uniform(0, 2 * np.pi)
    angle = np.arctan2(y, x) + np.float32(turn)
    radius = np.minimum(outline(rng, kind, angle) * (side / 2), size / 2 - 1)
    distance = np.hypot(x, y)
    alpha = np.clip(radius - distance + 0.5, 0, 1)
    height = _profile(rng, distance / radius, side)
    if not plain:
        height += _embossing(rng, size) * rng.uniform(0.02, 0.06) * side
    height += noise(rng, (size, size), rng.uniform(6, 24)) * rng.uniform(0, 0.006) * side
    brightness, shine = _lit(height, light)
    stains = 1 + rng.uniform(0.02, 0.12) * noise(rng, (size, size), rng.uniform(2, 6))
    return Sprite(brightness * stains, shine, alpha)


def outline(rng: Random, kind: str, angle: Float[Array, "S S"]) -> Float[Array, "S S"]:
    """Return the radius, at most about 1, at each angle."""
    if kind == "disc":
        wear = float(rng.choice([0.0, 0.006, 0.015]))
        return np.asarray(_ellipse(angle, rng.uniform(0.88, 1)) * _worn(rng, angle, wear))
    if kind == "polygon":
        return _polygon(angle, int(rng.integers(3, 7)))
    if kind == "star":
        points, depth = rng.integers(4, 8), rng.uniform(0.25, 0.5)
        return np.asarray(1 - depth * np.abs((angle * points / np.pi) % 2 - 1))
    if kind == "rectangle":
        return _rectangle(angle, rng.uniform(0.25, 0.9))
    if kind == "leaf":
        return np.asarray(_ellipse(angle, rng.uniform(0.25, 0.5)) * _worn(rng, angle, 0.02))
    return np.asarray(0.75 * _worn(rng, angle, 0.13))


def noise(rng: Random, shape: tuple[int, int], cells: float) -> Float[Array, "H W"]:
    """Return smooth noise of unit deviation with about `cells` bumps along the longer side."""
    scale = cells / max(shape)
    grid = rng.standard_normal([max(2, round(n * scale)) for n in shape]).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize(shape[::-1], Image.Resampling.BICUBIC))


def blur(values: Float[Array, "H W"], radius: float) -> Float[Array, "H W"]:
    """Blur values between 0 and 1."""
    image = Image.fromarray((values.clip(0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(radius))), np.float32) / 255


def _ellipse(angle: Array, aspect: float) -> Array:
    return np.asarray(aspect / np.hypot(aspect * np.cos(angle), np.sin(angle)))


def _polygon(angle: Array, corners: int) -> Array:
    sector = 2 * np.pi / corners
    return np.asarray(np.cos(sector / 2) / np.cos(angle % sector - sector / 2))


def _rectangle(angle: Array, aspect: float) -> Array:
    across, along = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    reach = np.minimum(1 / np.maximum(across, 1e-6), aspect / np.maximum(along, 1e-6))
    return np.asarray(reach / np.hypot(1, aspect))


def _worn(rng: Random, angle: Array, amount: float) -> Array:
    """Return a radius that wavers around 1, as the edge of a hammered coin does."""
    waves = np.arange(2, 8)
    sizes = amount * rng.standard_normal(len(waves)) * 2 / waves**0.7
    phases = rng.uniform(0, 2 * np.pi, len(waves))
    steps = np.linspace(-np.pi, 3 * np.pi, 512)
    radius = 1 + (sizes[:, None] * np.cos(waves[:, None] * steps + phases[:, None])).sum(0)
    return np.asarray(np.interp(angle, steps, radius.clip(0.5, 1.3)), np.float32)


def _profile(rng: Random, distance: Array, side: int) -> Array:
    """Return the height of a disc with a bevelled edge, often a rim, sometimes rings or a dome."""
    width = rng.uniform(0.04, 0.12)
    height = rng.uniform(0.02, 0.07) * np.clip((1 - distance) / width, 0, 1)
    if rng.random() < 0.7:
        place = rng.uniform(0.82, 0.94)
        height += rng.uniform(0.005, 0.03) * np.exp(
            -(((distance - place) / rng.uniform(0.03, 0.07)) ** 2)
        )
    if rng.random() < 0.08:
        height += 0.008 * np.sin(distance * rng.uniform(12, 30))
    if rng.random() < 0.4:
        height += rng.uniform(-0.1, 0.2) * (1 - np.minimum(distance, 1) ** 2)
    return height * side


def _embossing(rng: Random, size: int) -> Array:
    """Return a raised figure: a head, limbs or a legend of short strokes, blurred by wear."""
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    figure = (_head, _limbs, _marks)[rng.integers(3)]
    figure(rng, draw, size)
    if rng.random() < 0.5:
        _legend(rng, draw, size)
    worn = np.asarray(
        image.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.004, 0.02))), np.float32
    )
    rough = noise(rng, (size, size), 10.0) * 0.2 + noise(rng, (size, size), 28.0) * 0.12
    return worn / 255 * (1 + 1.5 * rough) + rng.uniform(0, 0.5) * rough


def _head(rng: Random, draw: Any, size: int) -> None:
    x, y = size * rng.uniform(0.42, 0.58, 2)
    rx, ry = size * rng.uniform(0.16, 0.28), size * rng.uniform(0.2, 0.3)
    side = rng.choice([-1, 1])
    draw.polygon(
        [(x - rx / 2, y), (x + rx / 2, y), (x + rx * 0.8, size * 0.85), (x - rx, size * 0.85)],
        fill=150,
    )
    draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=190)
    draw.polygon(
        [
            (x + side * rx * 0.8, y - ry * 0.3),
            (x + side * rx * 1.35, y + ry * 0.2),
            (x + side * rx * 0.8, y + ry * 0.4),
        ],
        fill=190,
    )
    for _ in range(rng.integers(4, 14)):  # hair
        cx, cy = x - side * rx * rng.uniform(-0.4, 1.2), y + ry * rng.uniform(-1.1, 0.4)
        r = size * rng.uniform(0.02, 0.07)
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), outline=255, width=max(1, size // 40))
    eye = x + side * rx * 0.45
    draw.line((eye - size * 0.04, y, eye + size * 0.04, y), fill=60, width=max(1, size // 30))


def _limbs(rng: Random, draw: Any, size: int) -> None:
    joint = size * rng.uniform(0.4, 0.6, 2)
    for _ in range(rng.integers(4, 9)):
        end = size / 2 + size * 0.33 * rng.uniform(-1, 1, 2)
        draw.line(
            (*joint, *end),
            fill=int(rng.integers(120, 255)),
            width=max(2, int(size * rng.uniform(0.03, 0.1))),
        )
        joint = end if rng.random() < 0.6 else size * rng.uniform(0.4, 0.6, 2)


def _marks(rng: Random, draw: Any, size: int) -> None:
    for _ in range(rng.integers(3, 12)):
        x, y = size / 2 + size * 0.3 * rng.uniform(-1, 1, 2)
        r = size * rng.uniform(0.03, 0.16)
        start = rng.uniform(0, 360)
        width = max(1, int(size * rng.uniform(0.02, 0.05)))
        draw.arc(
            (x - r, y - r, x + r, y + r), start, start + rng.uniform(90, 360), fill=220, width=width
        )


def _legend(rng: Random, draw: Any, size: int) -> None:
    first = rng.uniform(0, 2 * np.pi)
    for angle in np.arange(first, first + rng.uniform(1, 6), 0.25):
        x, y = size / 2 + size * 0.39 * np.array([np.cos(angle), np.sin(angle)])
        dx, dy = size * 0.03 * rng.uniform(-1, 1, 2)
        draw.line((x - dx, y - dy, x + dx, y + dy), fill=230, width=max(1, size // 40))


def _lit(height: Array, light: Light) -> tuple[Array, Array]:
    """Return diffuse brightness and highlights of a height field in pixels."""
    down, right = np.gradient(height.astype(np.float32))
    flat = np.cos(light.elevation)
    x, y, z = flat * np.cos(light.azimuth), flat * np.sin(light.azimuth), np.sin(light.elevation)
    length = np.sqrt(right**2 + down**2 + 1)
    diffuse = np.clip((z - x * right - y * down) / length, 0, None) / z
    half = np.sqrt((1 + z) / 2)  # the viewer is straight above: half way between light and viewer
    towards = (half - (x * right + y * down) / (2 * half)) / length
    brightness = light.ambient + (1 - light.ambient) * diffuse
    return brightness, light.gloss * np.clip(towards, 0, 1) ** 40
