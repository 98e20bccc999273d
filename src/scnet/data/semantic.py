"""Targets of the semantic branch: stuff maps from disk, or the instance masks as one map."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from scnet.data.images import DataError, open_image
from scnet.ops.masks import Crop
from scnet.types import IGNORE, Size

NOT_LABELLED = 255  # value of a stuff map where nothing is known
COCO_STUFF = 183  # classes of COCO's stuffthingmaps, gaps included, as HTC's release counts them
SCANNED = 2000  # a folder of up to so many maps is read to find the number of classes


@dataclass(frozen=True)
class StuffMaps:
    """A folder of PNG maps with the stem of the image's name."""

    folder: Path
    num_classes: int
    names: Mapping[int, str] = field(default_factory=dict)  # of values, as a list beside it says

    def path(self, file_name: str) -> Path | None:
        """Return the map of an image; None if it has none."""
        for name in (Path(file_name).with_suffix(".png"), Path(file_name).stem + ".png"):
            if (self.folder / name).is_file():
                return self.folder / name
        return None

    def read(self, file_name: str, size: Size) -> Int[Tensor, "H W"]:
        """Return the map of an image resized to `size`; all IGNORE if the image has none."""
        path = self.path(file_name)
        if path is None:
            return torch.full(size, IGNORE, dtype=torch.int16)
        values = _read_map(path, size).astype(np.int16)
        values[values == NOT_LABELLED] = IGNORE
        if values.max() >= self.num_classes:
            raise DataError(
                f"{path}: holds class {values.max()}, but there are {self.num_classes} classes; "
                "correct the map or the list of categories"
            )
        return torch.from_numpy(values)


def find_stuff_maps(setting: str, image_root: Path, annotations: Path) -> StuffMaps | None:
    """Return the stuff maps that the setting `data.stuff_maps` names or that lie beside the images.

    Raises:
        DataError: the folder that was named holds no maps.
    """
    if setting == "none":
        return None
    if setting == "auto":
        folder = next(filter(_holds_maps, _usual_places(image_root)), None)
        if folder is None:
            return None
        return _with_classes(folder, annotations.parent)
    given = Path(setting).expanduser()
    for folder in (given / image_root.name, given):
        if _holds_maps(folder):
            return _with_classes(folder, annotations.parent)
    raise DataError(
        f'data.stuff_maps: no PNG files in {given}; give their folder, "auto" or "none"'
    )


def paint(
    objects: Iterable[tuple[Crop, int]], crowds: Sequence[Crop], background: int, size: Size
) -> Int[Tensor, "H W"]:
    """Paint masks with their label onto a background, small over large, crowds as IGNORE."""
    canvas = torch.full(size, background, dtype=torch.int16)
    for crop in crowds:
        _paint(canvas, crop, IGNORE)
    for crop, label in sorted(objects, key=lambda o: -int(o[0].pixels.sum())):
        _paint(canvas, crop, label)
    return canvas


def _paint(canvas: Int[Tensor, "H W"], crop: Crop, value: int) -> None:
    """Set the pixels of a mask; its margin may lie outside the image."""
    x, y = crop.origin
    left, top = max(0, -x), max(0, -y)
    inside = crop.pixels[top : canvas.shape[0] - y, left : canvas.shape[1] - x].bool()
    place = canvas[y + top : y + top + inside.shape[0], x + left : x + left + inside.shape[1]]
    place[inside] = value


def _usual_places(image_root: Path) -> Iterable[Path]:
    for base in (image_root.parent, image_root.parent.parent):
        yield from sorted(base.glob(f"semantic*_{image_root.name}"))
        yield base / "stuffthingmaps" / image_root.name
        yield from (d / image_root.name for d in sorted(base.glob("annotations/stuffthingmaps*")))


def _holds_maps(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob("*.png"), None) is not None


def _with_classes(folder: Path, annotations: Path) -> StuffMaps:
    """Return maps with their classes: a list beside them says these, else their largest value."""
    file = _list_of(folder, annotations)
    if file is None:
        return StuffMaps(folder, _count_classes(folder))
    names = _read_list(file)
    known = {value: name for value, name in names.items() if isinstance(name, str)}
    return StuffMaps(folder, max(names) + 1, known)


def _list_of(folder: Path, annotations: Path) -> Path | None:
    """Return the list of the classes of a folder of maps; None if there is none."""
    prefix = folder.name.split("_")[0]
    for place in (annotations, folder.parent, folder):
        for file in sorted(place.glob("*categories.json")):
            if file.name.startswith(prefix) or place == folder:
                return file
    return None


def _count_classes(folder: Path) -> int:
    if "stuffthingmaps" in str(folder):
        return COCO_STUFF
    maps = sorted(folder.glob("*.png"))
    if len(maps) > SCANNED:
        # As many as a map can hold; unused ones cost a little of the last layer.
        return NOT_LABELLED
    largest = (int(m[m != NOT_LABELLED].max(initial=0)) for m in map(_read_map, maps))
    return max(largest) + 1


def _read_list(file: Path) -> dict[int, object]:
    """Return the name of each value; None where the list has none.

    Raises:
        DataError: it is no list, or an empty one.
    """
    try:
        listed = json.loads(file.read_text())
        found = {int(e.get("train_id", i)): e.get("name") for i, e in enumerate(listed)}
        if not found:
            raise ValueError("it is empty")
        return found
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{file}: not a list of categories: {error}") from None


def _read_map(
    path: Path, size: Size | None = None
) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    try:
        with open_image(path) as image:
            if image.mode not in ("L", "P"):
                raise ValueError(f"mode {image.mode}; expected 8-bit grey or palette values")
            return np.array(
                image.resize((size[1], size[0]), Image.Resampling.NEAREST) if size else image
            )
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: not a stuff map: {error}") from None
