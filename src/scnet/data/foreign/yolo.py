"""YOLO segmentation: a text file an image, a line an object, corners as parts of the image's size.

    data.yaml            names, and the image folders of the splits
    images/train/a.jpg
    labels/train/a.txt   "0 0.1 0.1 0.3 0.1 0.3 0.3": the number of a class, then x and y in turn

Roboflow has train/images and train/labels instead. The labels' folder stands for the split; all
else is found from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from scnet.data.foreign.place import Place, image_files, lines_of, measured
from scnet.data.images import DataError
from scnet.types import Size

_NAMES = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
_CLASSES = ("classes.txt", "obj.names")
_ABOVE = 3  # folders above the labels that may hold the names
_BEYOND = 1.5  # a coordinate from here on is no part of an image that sticks out a bit
_BOX, _TRIANGLE = 4, 6  # numbers behind that of the class
_SEGMENTATION = "export the data as YOLO segmentation or COCO, with masks"


def splits(path: Path, words: dict[str, tuple[str, ...]]) -> dict[str, Place]:
    """Return the splits of a YOLO data set, given by its folder, its YAML file or a labels' folder.

    Raises:
        DataError: it is one, but cannot be read.
    """
    if path.is_file():
        return _of_yaml(path, words) if _config(path) else {}
    if file := _yaml_in(path):
        return _of_yaml(file, words)
    if _is_labels(path) and image_files(_images_of(path)):
        word = next((s for s, ws in words.items() if {path.name, path.parent.name} & {*ws}), None)
        return {word or "train": Place(path, (_images_of(path),))}
    if _classes_in(path) and _is_labels(labels := path / "labels"):
        return {"train": Place(labels, (_images_of(labels),))}
    return {}


def read(labels: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the labels of a folder as the content of a COCO file, and what there is to say.

    Raises:
        DataError: they are no masks, or broken.
    """
    names, images = _names(labels), _images_of(labels)
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": number, "name": name} for number, name in names.items()]
    counts: Counter[str] = Counter()
    listed = set()
    for file in image_files(images):
        name = file.relative_to(images)
        listed.add(label := labels / name.with_suffix(".txt"))
        height, width = measured(file)
        number = len(content["images"]) + 1
        entry = {"id": number, "file_name": name.as_posix(), "width": width, "height": height}
        content["images"].append(entry)
        if not label.is_file():
            counts["images without a label file, taken as without objects"] += 1
            continue
        for annotation in _annotations(label, (height, width), names):
            kind = "segmentation" if "segmentation" in annotation else "box"
            counts[kind] += 1
            annotation |= {"id": len(content["annotations"]) + 1, "image_id": number}
            content["annotations"].append(annotation)
    if not content["images"]:
        raise DataError(f"{labels}: no images in {images}; put them there")
    without = [
        file for file in labels.rglob("*.txt") if file not in listed and file.stem != "classes"
    ]
    counts["label files without an image, left out"] = len(without)
    return content, _notes(labels, counts, content["annotations"])


def _notes(labels: Path, counts: Counter[str], annotations: Sequence[dict[str, Any]]) -> list[str]:
    boxes, masks = counts.pop("box", 0), counts.pop("segmentation", 0)
    if boxes and not masks:
        raise DataError(
            f"{labels}: YOLO labels of boxes alone ({boxes:,}), while instance segmentation learns "
            f"from masks; {_SEGMENTATION}"
        )
    notes = [f"YOLO segmentation, read as it is; polygons: {masks:,}"]
    if boxes:
        notes.append(f"labels that are boxes without a mask: {boxes:,} of {boxes + masks:,}")
    corners = {len(a["segmentation"][0]) for a in annotations if "segmentation" in a}
    if corners == {8}:
        notes.append("every polygon has four corners: these may be oriented boxes, not masks")
    return notes + [f"{what}: {number:,}" for what, number in counts.items() if number]


def _annotations(label: Path, size: Size, names: dict[int, str]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a label file, with corners in pixels."""
    for place, line in enumerate(lines_of(label), start=1):
        where = f"{label}: line {place}"
        number, *values = _numbers(line, where)
        if not number.is_integer() or int(number) not in names:
            raise DataError(
                f"{where}: class {number:g} has no name; "
                f"name it in data.yaml, which has {len(names)} names"
            )
        yield {"category_id": int(number), "iscrowd": 0, **_shape(values, size, where)}


def _numbers(line: str, where: str) -> list[float]:
    try:
        return [float(value) for value in line.split()]
    except ValueError:
        raise DataError(
            f"{where}: {line.strip()[:40]!r} is no YOLO label; "
            "expected the number of a class, then x and y in turn"
        ) from None


def _shape(values: Sequence[float], size: Size, where: str) -> dict[str, Any]:
    """Return box and polygon, or the box alone, of the numbers behind that of the class."""
    if len(values) != _BOX and (len(values) < _TRIANGLE or len(values) % 2):
        what = "x, y, width, height and a score, as predictions have" if len(values) == 5 else ""
        raise DataError(
            f"{where}: has {len(values)} numbers behind the class{', ' * bool(what)}{what}; "
            "expected x and y of three corners or more"
        )
    if not all(abs(value) <= _BEYOND for value in values):  # not true of nan either
        raise DataError(
            f"{where}: {max(values, key=abs):g} is not a part of the image's size; "
            "divide x by the width and y by the height"
        )
    height, width = size
    pixels = [v * (height if i % 2 else width) for i, v in enumerate(values)]
    if len(values) == _BOX:
        x, y, w, h = pixels
        return {"bbox": [x - w / 2, y - h / 2, w, h]}
    xs, ys = pixels[::2], pixels[1::2]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"bbox": box, "segmentation": [pixels]}


def _config(file: Path) -> dict[str, Any] | None:
    """Return what a YAML file of a YOLO data set says, None if it is none."""
    if file.suffix.lower() not in (".yaml", ".yml"):
        return None
    try:
        found = yaml.safe_load(file.read_text("utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    known = (
        isinstance(found, dict) and {"names", "nc"} & found.keys() and {"train", "val"} & {*found}
    )
    return found if known else None


def _yaml_in(folder: Path) -> Path | None:
    """Return the YAML file of a YOLO data set in a folder."""
    usual = [folder / name for name in _NAMES]
    others = sorted(f for f in folder.glob("*.y*ml") if f not in usual) if folder.is_dir() else []
    return next((f for f in (*usual, *others) if f.is_file() and _config(f)), None)


def _classes_in(folder: Path) -> Path | None:
    return next((f for name in _CLASSES if (f := folder / name).is_file()), None)


def _of_yaml(file: Path, words: dict[str, tuple[str, ...]]) -> dict[str, Place]:
    """Return the splits that a YAML file names."""
    config = _config(file) or {}
    if "kpt_shape" in config:
        raise DataError(f"{file}: YOLO labels of key points, without masks; {_SEGMENTATION}")
    found = {}
    for split, names in words.items():
        given = next((config[name] for name in names if config.get(name)), None)
        if isinstance(given, list) and len(given) == 1:
            given = given[0]
        if given is None:
            continue
        if not isinstance(given, str) or given.endswith(".txt"):
            raise DataError(
                f"{file}: {split} is {given!r:.60}, several folders or a list of images; "
                "give one folder of images"
            )
        images = _folder(file, config.get("path"), given)
        if images is None and split == "test":  # Roboflow names it whether it is there or not
            continue
        if images is None:
            raise DataError(f"{file}: {split}: there is no folder {given}; correct its path")
        labels = _labels_of(images)
        if next(labels.glob("**/*.txt"), None) is None:
            raise DataError(f"{file}: {split}: no label files for {images}; put them in labels/")
        _names(labels)
        found[split] = Place(labels, (images,))
    return found


def _folder(file: Path, base: Any, given: str) -> Path | None:
    """Return an image folder that a YAML file names, perhaps on another machine; None if gone."""
    parts = [p for p in PurePosixPath(given.replace("\\", "/")).parts if p not in ("..", ".", "/")]
    bases = [file.parent / base] if isinstance(base, str) else []
    for folder in (*bases, file.parent):
        for start in range(len(parts)):
            found = folder.joinpath(*parts[start:])
            if found.is_dir():
                return found / "images" if (found / "images").is_dir() else found
    return None


def _labels_of(images: Path) -> Path:
    """Return the labels' folder of an image folder: `labels` for the last `images` in its path."""
    return _swapped(images, "images", "labels")


def _images_of(labels: Path) -> Path:
    return _swapped(labels, "labels", "images")


def _swapped(path: Path, old: str, new: str) -> Path:
    parts = list(path.parts)
    if old not in parts:
        return path
    place = len(parts) - 1 - parts[::-1].index(old)
    found = Path(*parts[:place], new, *parts[place + 1 :])
    return found if found.is_dir() else path  # labels may lie beside the images


def _is_labels(folder: Path) -> bool:
    """Return whether a folder holds labels of YOLO."""
    named = any(_yaml_in(f) or _classes_in(f) for f in (folder, *list(folder.parents)[:_ABOVE]))
    inner = (folder / "labels").is_dir()
    return named and not inner and next(folder.glob("**/*.txt"), None) is not None


def _names(labels: Path) -> dict[int, str]:
    """Return the names of the classes by number, from the nearest file above that has them."""
    for folder in (labels, *list(labels.parents)[:_ABOVE]):
        if file := _yaml_in(folder):
            return _listed((_config(file) or {}).get("names"), file)
        if file := _classes_in(folder):
            return _listed(lines_of(file), file)
    raise DataError(f"{labels}: no data.yaml with the names of classes above; put it there")


def _listed(names: Any, file: Path) -> dict[int, str]:
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(type(key) is int for key in names):
        raise DataError(f"{file}: names is no list of names; write one for each class")
    return {number: str(name) for number, name in names.items()}
