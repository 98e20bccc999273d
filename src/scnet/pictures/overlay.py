"""Pictures: found objects on their image, several images side by side.

Every object has a colour of its own, unlike those of its neighbours, from hues that colour-blind
readers can tell apart. Masks are painted one at a time, cut to their object (`masks.py`). Labels
stand beside objects where there is room (`labels.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont

from scnet.ops.rle import RLE, foreground, runs
from scnet.pictures.colours import INK, PALETTE, PAPER, Colour
from scnet.pictures.labels import Label, Shape, choose_labels
from scnet.pictures.masks import Canvas

Array = np.ndarray

READABLE = 800  # pixels of the longer side below which an image is enlarged, up to four times
ALIKE = 150  # difference of red, green and blue together below which a mask would not stand out


def overlay(
    image: Any,
    rle: Sequence[RLE],
    *,
    boxes: Any = None,
    names: Sequence[str] | None = None,
    scores: Sequence[float] | None = None,
    one_class: bool = False,
    labels: bool = True,
) -> Image.Image:
    """Draw objects on an image: masks, and class and score of each where there is room.

    `image` is a PIL image or an (H, W, 3) uint8 array of the size of the masks. Small images come
    back enlarged. With `boxes` (N, 4; xyxy) rectangles are drawn as well. Where all objects are of
    one class, its name stands below the picture and the labels hold the scores alone.
    """
    photo = _rgb(image)
    scale = min(4, max(1, round(READABLE / max(photo.size))))
    if scale > 1:
        size = (photo.width * scale, photo.height * scale)
        photo = photo.resize(size, Image.Resampling.BICUBIC)
    canvas = Canvas.of(photo)
    shapes = [_shape(mask, scale) for mask in rle]
    colours = [PALETTE[i] for i in _colour_numbers(canvas, shapes)]
    line = max(1, round(max(photo.size) / 600))
    for i in sorted(range(len(shapes)), key=lambda i: -shapes[i].mask.size):
        canvas.paint(shapes[i].mask, shapes[i].x, shapes[i].y, colours[i], line)
    picture = canvas.picture
    if boxes is not None:
        _draw_boxes(picture, np.asarray(boxes, np.float64) * scale, colours, line)
    texts = _texts(len(rle), None if one_class else names, scores)
    if labels and texts:
        _draw_labels(picture, texts, shapes, colours)
    return _with_caption(picture, _counted(names or [], one_class))


def grid(
    images: Sequence[Image.Image],
    captions: Sequence[str] = (),
    columns: int = 3,
    width: int = 720,
) -> Image.Image:
    """Lay pictures out in rows, each at most `width` pixels wide, under its caption."""
    cells = [_fitted(image, width) for image in images]
    font, gap = _font(22), 12
    head = 36 if any(captions) else 0
    columns = max(1, min(columns, len(cells)))
    rows = [cells[first : first + columns] for first in range(0, len(cells), columns)]
    tops = np.cumsum(
        [gap] + [max(cell.height for cell in row) + head + gap for row in rows]
    ).tolist()
    sheet = Image.new("RGB", (columns * (width + gap) + gap, tops[-1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, cell in enumerate(cells):
        left, top = gap + i % columns * (width + gap), tops[i // columns]
        if head:
            draw.text((left, top + 5), _shortened(captions[i], font, width), INK, font)
        sheet.paste(cell, (left, top + head))
    return sheet


def samples_picture(
    samples: Sequence[tuple[Any, Sequence[RLE], Sequence[str], str]], columns: int = 3
) -> Image.Image:
    """Show up to six annotated images, each given as image, masks, class names and caption."""
    chosen = samples[:6]
    pictures = [overlay(image, rle, names=names) for image, rle, names, _ in chosen]
    return grid(pictures, [caption for *_, caption in chosen], columns)


def _shape(rle: RLE, scale: int) -> Shape:
    """Return a mask cut to its object, enlarged."""
    size = tuple(rle["size"])
    piece = foreground(runs(rle, size), size)
    if piece is None:
        return Shape(np.zeros((0, 0), bool), 0, 0)
    mask, (x, y) = piece
    return Shape(_enlarged(mask, scale), x * scale, y * scale)


def _colour_numbers(canvas: Canvas, shapes: Sequence[Shape]) -> list[int]:
    """Choose a colour for each object: one that no neighbour has, unlike what it will lie on.

    The choice goes round the palette, so that all colours occur.
    """
    boxes = np.array([shape.box for shape in shapes], np.float64).reshape(-1, 4)
    reach = 0.15 * (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)[:, None] + 4
    low, high = boxes[:, :2] - reach, boxes[:, 2:] + reach
    palette, chosen = np.array(PALETTE), np.zeros(len(boxes), np.int64)
    for i, shape in enumerate(shapes):
        near = ((low[:i] < high[i]) & (high[:i] > low[i])).all(1)
        used = np.bincount(chosen[:i][near], minlength=len(palette)).astype(float)
        if shape.mask.any():
            below = canvas.mean(shape.mask, shape.x, shape.y)
            used += 0.5 * (np.abs(palette - below).sum(1) < ALIKE)
        turn = (np.arange(len(palette)) + i) % len(palette)
        chosen[i] = turn[used[turn].argmin()]
    return [int(number) for number in chosen]


def _enlarged(mask: UInt8[Array, "h w"], scale: int) -> Bool[Array, "h2 w2"]:
    """Enlarge a mask with rounded steps instead of square ones."""
    if scale == 1:
        return mask.astype(bool)
    image = Image.fromarray(np.pad(mask, 1) * np.uint8(255))
    large = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    return np.asarray(large)[scale:-scale, scale:-scale] > 127


def _draw_boxes(picture: Image.Image, boxes: Array, colours: Sequence[Colour], line: int) -> None:
    draw = ImageDraw.Draw(picture)
    for (x1, y1, x2, y2), colour in zip(boxes.tolist(), colours, strict=True):
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=line)


def _texts(
    count: int, names: Sequence[str] | None, scores: Sequence[float] | None
) -> list[tuple[str, ...]]:
    """Return what to write beside each object: in full, and shorter where room is scarce."""
    if scores is None:
        return [] if names is None else [(name,) for name in names]
    short = [f"{score:.2f}" for score in scores]
    if names is None:
        return [(text,) for text in short]
    return [(f"{name} {text}", name) for name, text in zip(names, short, strict=True)]


def _draw_labels(
    picture: Image.Image,
    texts: Sequence[tuple[str, ...]],
    shapes: Sequence[Shape],
    colours: Sequence[Colour],
) -> None:
    font = _font(max(13, round(max(picture.size) / 55)))
    draw = ImageDraw.Draw(picture)

    def measure(text: str) -> tuple[int, int]:
        return round(font.getlength(text) + 6), round(font.size * 1.25)

    for label in choose_labels(texts, shapes, picture.size, measure):
        _draw_label(draw, label, colours[label.owner], font)


def _draw_label(draw: Any, label: Label, colour: Colour, font: Any) -> None:
    x1, y1, x2, y2 = label.box
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 115
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=colour)
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    draw.text(middle, label.text, (0, 0, 0) if bright else (255, 255, 255), font, anchor="mm")


def _counted(names: Sequence[str], one_class: bool) -> str:
    return f"{names[0]}: {len(names)}" if one_class and names else ""


def _with_caption(picture: Image.Image, text: str) -> Image.Image:
    if not text:
        return picture
    font = _font(max(14, round(max(picture.size) / 50)))
    strip = round(font.size * 1.8)
    sheet = Image.new("RGB", (picture.width, picture.height + strip), PAPER)
    sheet.paste(picture)
    middle = picture.height + strip / 2
    ImageDraw.Draw(sheet).text((font.size / 2, middle), text, INK, font, anchor="lm")
    return sheet


def _fitted(image: Image.Image, width: int) -> Image.Image:
    scale = min(width / image.width, 0.8 * width / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _shortened(text: str, font: Any, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _rgb(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image if image.mode == "RGB" else image.convert("RGB")
    return Image.fromarray(np.asarray(image)).convert("RGB")


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
