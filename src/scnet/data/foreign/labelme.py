"""labelme: a JSON file an image, beside it, with shapes as lists of points in pixels.

The folder stands for the annotation file; folders named for splits in it are the splits. Shapes of
one group_id and label are parts of one object.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image

from scnet.data.foreign.place import Place, lines_of, measured
from scnet.data.images import MAX_PIXELS, DataError
from scnet.data.parse import parse_json
from scnet.ops.rle import decode, encode
from scnet.types import Size

Shape = Mapping[str, Any]
Points = list[list[float]]

_DRAWN = ("polygon", "rectangle", "circle", "mask")  # shapes with an area
_PROBED = 3  # JSON files of a folder that are read to know whether labelme wrote it
_CORNERS = 64  # of a circle
_BESIDE = ("images", "../images", "..")
_INNER = ("labels", "annotations", "json")


def splits(path: Path, words: dict[str, tuple[str, ...]]) -> dict[str, Place]:
    """Return the splits of a folder of labelme's files."""
    if not path.is_dir():
        return {}
    if _holds_files(path):
        word = next((split for split, names in words.items() if path.name in names), "train")
        return {word: Place(path, _roots(path))}
    found = {}
    for split, names in words.items():
        folders = (path / inner for name in names for inner in (name, f"labels/{name}"))
        folder = next(filter(_holds_files, folders), None)
        if folder:
            found[split] = Place(folder, _roots(folder))
    inside = next((f for f in (path / name for name in _INNER) if _holds_files(f)), None)
    return found or ({"train": Place(inside, _roots(inside))} if inside else {})


def read(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the files of a folder as the content of a COCO file, and what there is to say.

    Raises:
        DataError: a file is broken, or names an image that is not there.
    """
    files = {file: content for file in _files(folder) if (content := _content(file))}
    names = _names(folder, files.values())
    numbers = {name: number for number, name in enumerate(names, start=1)}
    found: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
    }
    counts: Counter[str] = Counter()
    for number, (file, content) in enumerate(files.items(), start=1):
        name = _image_name(file, content)
        height, width = _size(file, content, name)
        entry = {"id": number, "file_name": name, "width": width, "height": height}
        found["images"].append(entry)
        for label, parts in _objects(content["shapes"], file, (height, width), counts):
            annotation = {"id": len(found["annotations"]) + 1, "image_id": number, "iscrowd": 0}
            annotation |= {"category_id": numbers[label], **_mask(parts, file)}
            found["annotations"].append(annotation)
    counts["JSON files that are not labelme's, left out"] = len(_files(folder)) - len(files)
    notes = [f"labelme, read as it is; objects: {len(found['annotations']):,}"]
    return found, notes + [f"{what}: {number:,}" for what, number in counts.items() if number]


def _objects(
    shapes: Any, file: Path, size: Size, counts: Counter[str]
) -> Iterator[tuple[str, list[Any]]]:
    """Yield the label and the parts of each object, as outlines or as boolean masks."""
    groups: dict[Any, tuple[str, list[Any]]] = {}
    for place, shape in enumerate(shapes, start=1):
        where = f"{file}: shape {place}"
        kind, label = _kind(shape), _label(shape)
        outline = _part(kind, shape, size, where)
        if outline is None:
            counts[f"shapes of the kind {kind}, which have no mask, left out"] += 1
            continue
        group = shape.get("group_id")
        key = (label, repr(group)) if group is not None else place
        counts["shapes joined to others of their group_id"] += key in groups
        groups.setdefault(key, (label, []))[1].append(outline)
    yield from groups.values()


def _part(kind: str, shape: Shape, size: Size, where: str) -> Any:
    """Return the outline or the mask of a shape, None if it has no area."""
    if kind not in _DRAWN:
        return None
    points = _points(shape, where)
    if kind == "mask":
        return _decoded(shape, points, size, where)
    if kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        turns = (2 * math.pi * i / _CORNERS for i in range(_CORNERS))
        (x, y), _ = points
        return [[x + radius * math.cos(t), y + radius * math.sin(t)] for t in turns]
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        return [[left, top], [right, top], [right, bottom], [left, bottom]]
    return points


def _points(shape: Shape, where: str) -> Points:
    points = shape.get("points")
    try:
        found = [[float(x), float(y)] for x, y in points or ()]
        if not found or not all(map(math.isfinite, chain.from_iterable(found))):
            raise ValueError
    except (TypeError, ValueError):
        raise DataError(f"{where}: points are no list of x and y; draw it again") from None
    return found


def _decoded(shape: Shape, points: Points, size: Size, where: str) -> Bool[np.ndarray, "h w"]:
    """Return a mask that is kept as a PNG image of what is inside its box."""
    try:
        data = base64.b64decode(shape["mask"])
        pixels = np.asarray(Image.open(BytesIO(data)).convert("L")) > 0
        whole = np.zeros(size, bool)
        left, top = (round(v) for v in points[0])
        whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    except Exception as error:  # decoders of broken images raise anything
        raise DataError(f"{where}: its mask cannot be read: {error}; draw it again") from None
    return whole


def _mask(parts: list[Any], file: Path) -> dict[str, Any]:
    """Return segmentation and box of an object; as run lengths where a part is a mask."""
    masks = [part for part in parts if isinstance(part, np.ndarray)]
    outlines = [part for part in parts if not isinstance(part, np.ndarray)]
    if masks:
        try:
            pixels = np.logical_or.reduce([*masks, *(_drawn(o, masks[0].shape) for o in outlines)])
        except ValueError as error:
            raise DataError(f"{file}: {error}; draw it again") from None
        ys, xs = (np.flatnonzero(pixels.any(axis)).tolist() or [0, -1] for axis in (1, 0))
        box = [xs[0], ys[0], xs[-1] + 1 - xs[0], ys[-1] + 1 - ys[0]]
        return {"segmentation": encode(torch.from_numpy(pixels)), "bbox": box}
    xs, ys = ([point[axis] for outline in outlines for point in outline] for axis in (0, 1))
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"segmentation": [list(chain.from_iterable(o)) for o in outlines], "bbox": box}


def _drawn(outline: Points, size: Size) -> Bool[np.ndarray, "h w"]:
    return np.asarray(decode([list(chain.from_iterable(outline))], size))


def _kind(shape: Shape) -> str:
    return str(shape.get("shape_type") or "polygon")


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def _label(shape: Shape) -> str:
    return str(shape.get("label")).strip()


def _names(folder: Path, contents: Any) -> list[str]:
    """Return the names of classes: those of labels.txt, or all that occur here and beside."""
    for file in (folder / "labels.txt", folder.parent / "labels.txt"):
        if file.is_file():
            listed = [line for line in map(str.strip, lines_of(file)) if not line.startswith("_")]
            return list(dict.fromkeys([*listed, *sorted(_labels(contents))]))
    beside = (f for f in folder.parent.glob("*/*.json") if f.parent != folder)
    others = (content for file in beside if (content := _content(file)))
    return sorted(_labels(contents) | _labels(others))


def _labels(contents: Any) -> set[str]:
    return {
        _label(shape)
        for content in contents
        for shape in content["shapes"]
        if _kind(shape) in _DRAWN
    }


def _content(file: Path) -> dict[str, Any] | None:
    """Return what labelme wrote into a file; None if the file is another's."""
    try:
        found = parse_json(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}; check the file") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON: {error}; write or download it again") from None
    shapes = found.get("shapes") if isinstance(found, dict) else None
    known = isinstance(shapes, list) and all(isinstance(shape, dict) for shape in shapes)
    return {k: v for k, v in found.items() if k != "imageData"} if known else None


def _holds_files(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    files = _files(folder)[:_PROBED]
    return any(b'"shapes"' in (data := f.read_bytes()) and b'"imagePath"' in data for f in files)


def _roots(folder: Path) -> tuple[Path, ...]:
    beside = ((folder / name).resolve() for name in _BESIDE)
    swapped = folder.parent.parent / "images" / folder.name
    return tuple(dict.fromkeys([folder, *(d for d in (*beside, swapped) if d.is_dir())]))


def _image_name(file: Path, content: Mapping[str, Any]) -> str:
    """Return the image's name, without folders, which may be those of another machine."""
    given = content.get("imagePath")
    if isinstance(given, str) and given:
        return PurePosixPath(given.replace("\\", "/")).name
    beside = (f.name for f in sorted(file.parent.glob(f"{file.stem}.*")) if f != file)
    return next(beside, f"{file.stem}.png")


def _size(file: Path, content: Mapping[str, Any], name: str) -> Size:
    """Return the size that the file gives, else that of the image."""
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if type(height) is int and type(width) is int and min(height, width) > 0:
        if height * width > MAX_PIXELS:
            raise DataError(f"{file}: {width} x {height} is no size of an image; correct it")
        return height, width
    for root in _roots(file.parent):
        if (root / name).is_file():
            return measured(root / name)
    raise DataError(f"{file}: no imageHeight and imageWidth; put {name} beside it")
