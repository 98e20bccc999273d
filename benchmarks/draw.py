"""Time of drawing objects on a large photo, beside the plain way over the whole image.

    python benchmarks/draw.py [--objects 300] [--rounds 5] [--plain 10]

Both ways draw in turn. The plain way takes so long that it draws a few objects alone, and its time
is scaled; it chooses no colours and draws no boxes and labels. Seconds are those of the clock and
of the processor: where other programs run, the second tells more.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image

from scnet.ops.rle import RLE, decode, encode
from scnet.pictures.colours import PALETTE
from scnet.pictures.overlay import overlay

SIZE = (3000, 4000)
RADII = {"small (40 px)": 20, "large (600 px)": 300}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plain", type=int, default=10, help="objects of the plain way")
    args = parser.parse_args()
    photo = _photo()
    for name, radius in RADII.items():
        masks, boxes = _objects(radius, args.objects)
        names, scores = ["cat", "dog"] * args.objects, [0.9] * args.objects
        options = {"boxes": boxes, "names": names[: args.objects], "scores": scores}
        drawn, plain = [], []
        for _ in range(args.rounds):
            drawn.append(_timed(partial(overlay, photo, masks, **options)))
            plain.append(_timed(partial(_plainly, photo, masks[: args.plain])))
        scale = args.objects / args.plain
        print(
            f"{args.objects} objects, {name}: {_median(drawn)}; plain way {_median(plain, scale)}"
        )
    picture = overlay(photo, masks, **options)
    for level in (1, 6):
        times = [_timed(partial(picture.save, io.BytesIO(), "PNG", compress_level=level))]
        print(f"writing the picture as PNG, level {level}: {_median(times)}")


def _plainly(photo: Image.Image, masks: list[RLE]) -> Image.Image:
    """Tint whole masks over the whole image, one after the other."""
    canvas = np.array(photo)
    for i, rle in enumerate(masks):
        mask = decode(rle, SIZE).numpy()
        inner = mask.copy()
        for _ in range(round(max(SIZE) / 600)):
            wide = np.pad(inner, 1)
            inner = inner & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
        colour = np.array(PALETTE[i % len(PALETTE)])
        canvas[inner] = (canvas[inner] * 0.55 + colour * 0.45).astype(np.uint8)
        canvas[mask & ~inner] = colour
    return Image.fromarray(canvas)


def _photo() -> Image.Image:
    """Return noise with the smoothness of a photo."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    smooth = Image.fromarray(noise).resize(SIZE[::-1], Image.Resampling.BICUBIC)
    grain = np.random.default_rng(1).integers(-4, 5, (*SIZE, 3))
    return Image.fromarray((np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8))


def _objects(radius: int, number: int) -> tuple[list[RLE], list[tuple[int, int, int, int]]]:
    """Return wavy discs anywhere, with their boxes."""
    random = np.random.default_rng(0)
    canvas, masks, boxes = np.zeros(SIZE, np.uint8), [], []
    for _ in range(number):
        r = round(radius * random.uniform(0.8, 1.2))
        x, y = (int(random.integers(r, side - r)) for side in SIZE[::-1])
        dy, dx = np.mgrid[-r:r, -r:r] + 0.5
        disc = np.hypot(dx, dy) < r * (0.9 + 0.1 * np.sin(7 * np.arctan2(dy, dx)))
        canvas[y - r : y + r, x - r : x + r] = disc
        masks.append(encode(torch.from_numpy(canvas)))
        boxes.append((x - r, y - r, x + r, y + r))
        canvas[y - r : y + r, x - r : x + r] = 0
    return masks, boxes


def _timed(draw: Callable[[], object]) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    draw()
    return time.perf_counter() - clock, time.process_time() - processor


def _median(times: list[tuple[float, float]], scale: float = 1) -> str:
    clock, processor = (statistics.median(t) * scale for t in zip(*times, strict=True))
    return f"{clock:.2f} s (processor {processor:.2f} s)"


if __name__ == "__main__":
    main()
