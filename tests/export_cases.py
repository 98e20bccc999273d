"""Data sets as tools, cameras and people leave them, each with what is said of it.

A case changes a sound data set: eight images in training and four in validation, of 64 x 48, three
objects in each. What counts is the kind; each is there in several shapes.
"""

from __future__ import annotations

import copy
import json
import shutil
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image

from scnet.ops.rle import decode, encode

Coco = dict[str, Any]
Files = dict[str, Coco]  # content of each split
SIZE = (48, 64)
SPLITS = {"train": 8, "val": 4}
PLACES = ((6, 5, 16, 12), (30, 8, 20, 14), (12, 26, 18, 16))  # x, y, width, height of the objects
OBJECTS = SPLITS["train"] * len(PLACES)


class Case(NamedTuple):
    """A change of the sound data set, and what is said then."""

    change: Callable[[Files, Path], None]  # of the content, and of the folder
    checked: str  # what `scnet check-data` says
    trained: str  # what a training says, as it starts or as it refuses to
    stops: bool = False  # both
    objects: int = OBJECTS  # learnt from, where it starts
    settings: Mapping[str, Any] = MappingProxyType({})  # of the data


def sound(folder: Path) -> Files:
    """Write the images of the sound data set; return its annotations."""
    files: Files = {}
    for split, number in SPLITS.items():
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for i in range(1, number + 1):
            random = np.random.default_rng([i, number])
            pixels = random.integers(60, 100, (*SIZE, 3), dtype=np.uint8)
            for place, (x, y, w, h) in enumerate(PLACES):
                pixels[y : y + h, x : x + w] = 130 + 40 * place
                annotations.append(_object(len(annotations) + 1, i, place % 2 + 1, (x, y, w, h)))
            Image.fromarray(pixels).save(folder / split / f"{i:03d}.png")
            images.append(
                {"id": i, "file_name": f"{i:03d}.png", "height": SIZE[0], "width": SIZE[1]}
            )
        categories = [{"id": 1, "name": "cell"}, {"id": 2, "name": "debris"}]
        files[split] = {"images": images, "annotations": annotations, "categories": categories}
    return files


def write(files: Files, folder: Path) -> None:
    """Write the annotations of each split where COCO has them."""
    (folder / "annotations").mkdir(exist_ok=True)
    for split, content in files.items():
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def _object(number: int, image: int, category: int, box: tuple[int, ...]) -> Coco:
    x, y, w, h = box
    outline = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [outline],
    }


# Changes ------------------------------------------------------------------------------------------


def entries(change: Callable[[int, Coco], Any], key: str = "annotations") -> Any:
    """Return a change of each entry of a list in all splits, given its place."""

    def apply(files: Files, folder: Path) -> None:
        for content in files.values():
            for place, entry in enumerate(content[key]):
                change(place, entry)

    return apply


def crowd(wanted: Callable[[int], bool], value: Any = 1) -> Any:
    """Return a change that flags the objects at some places, with run lengths as brushes write."""

    def change(place: int, entry: Coco) -> None:
        if wanted(place):
            packed = dict(encode(decode(entry["segmentation"], SIZE)))
            entry |= {"iscrowd": value, "segmentation": packed}

    return entries(change)


def names(change: Callable[[str], str]) -> Any:
    """Return a change of the file names of all images."""

    def rename(_: int, entry: Coco) -> None:
        entry["file_name"] = change(entry["file_name"])

    return entries(rename, "images")


def categories(split: str, *names: str) -> Any:
    """Return a change of the names of a split's categories."""

    def apply(files: Files, folder: Path) -> None:
        for category, name in zip(files[split]["categories"], names, strict=True):
            category["name"] = name

    return apply


def broken(number: int, segmentation: Any) -> Any:
    """Return a change that breaks the masks of so many objects of the training."""

    def apply(files: Files, folder: Path) -> None:
        for entry in files["train"]["annotations"][:number]:
            entry["segmentation"] = segmentation

    return apply


def with_category(split: str, **category: Any) -> Any:
    def apply(files: Files, folder: Path) -> None:
        files[split]["categories"].append(category)

    return apply


def without_class(split: str, number: int) -> Any:
    """Return a change of a split as of a converter that lists what occurs alone."""

    def apply(files: Files, folder: Path) -> None:
        content = files[split]
        content["categories"] = [c for c in content["categories"] if c["id"] != number]
        kept = [a for a in content["annotations"] if a["category_id"] != number]
        content["annotations"] = kept

    return apply


def moved(names: Callable[[Path], Path]) -> Any:
    """Return a change that moves every image file."""

    def apply(files: Files, folder: Path) -> None:
        for split in files:
            for file in sorted((folder / split).iterdir()):
                target = names(file)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.rename(target)

    return apply


def pixels(change: Callable[[Any], Any], suffix: str = ".tif") -> Any:
    """Return a change of what all image files hold; they become TIFF."""

    def apply(files: Files, folder: Path) -> None:
        for split, content in files.items():
            for entry in content["images"]:
                file = folder / split / entry["file_name"]
                array = np.asarray(Image.open(file))
                file.unlink()
                entry["file_name"] = file.with_suffix(suffix).name
                _save(change(array), file.with_suffix(suffix))

    return apply


def _save(array: Any, file: Path) -> None:
    if file.suffix == ".tif":
        tifffile.imwrite(file, array, photometric="minisblack")
    else:
        Image.fromarray(array).save(file)


def both(*changes: Any) -> Any:
    def apply(files: Files, folder: Path) -> None:
        for change in changes:
            change(files, folder)

    return apply


def polygons(change: Callable[[float, float], tuple[float, float]]) -> Any:
    """Return a change of every point of all masks."""

    def apply(place: int, entry: Coco) -> None:
        entry["segmentation"] = [
            [
                value
                for x, y in zip(outline[::2], outline[1::2], strict=True)
                for value in change(x, y)
            ]
            for outline in entry["segmentation"]
        ]

    return entries(apply)


def boxes(change: Callable[[float, float, float, float], tuple[float, ...]]) -> Any:
    """Return a change of every box."""
    return entries(lambda place, entry: entry.update(bbox=list(change(*entry["bbox"]))))


def _rows(place: int, entry: Coco) -> None:
    """Count run lengths along the rows."""
    mask = decode(entry["segmentation"], SIZE)
    turned = dict(encode(mask.T.contiguous()))
    entry["segmentation"] = {"size": list(SIZE), "counts": turned["counts"]}


def _turned_photos(files: Files, folder: Path) -> None:
    """Store the images on their side with a tag that says so; marks stay upright."""
    for split, content in files.items():
        for entry in content["images"]:
            file = folder / split / entry["file_name"]
            image = Image.open(file).transpose(Image.Transpose.ROTATE_90)
            exif = Image.Exif()
            exif[0x0112] = 6
            image.save(file, exif=exif)
            entry["width"], entry["height"] = image.size


def _twice(files: Files, folder: Path) -> None:
    content = files["train"]["annotations"]
    for entry in content[:4]:
        content.append({**copy.deepcopy(entry), "id": len(content) + 1})


def _two_classes(files: Files, folder: Path) -> None:
    content = files["train"]["annotations"]
    for entry in content[:3]:
        other = {"id": len(content) + 1, "category_id": 3 - entry["category_id"]}
        content.append({**copy.deepcopy(entry), **other})


def _apple(files: Files, folder: Path) -> None:
    for file in [*(folder / "train").iterdir()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")


def _shared_image(files: Files, folder: Path) -> None:
    shutil.copy(folder / "train" / "003.png", folder / "val" / "002.png")


def _same_image_twice(files: Files, folder: Path) -> None:
    shutil.copy(folder / "train" / "003.png", folder / "train" / "005.png")


def _entries_twice(files: Files, folder: Path) -> None:
    images = files["train"]["images"]
    images.append({**images[2], "id": 99})


def _test_list(files: Files, folder: Path) -> None:
    content = {"images": files["val"]["images"][:2], "categories": files["val"]["categories"]}
    shutil.copytree(folder / "val", folder / "test")
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_test.json").write_text(json.dumps(content))


def _unlisted(files: Files, folder: Path) -> None:
    content = files["train"]
    content["images"] = content["images"][:5]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] <= 5]


def _no_objects(split: str) -> Any:
    return lambda files, folder: files[split].update(annotations=[])


def _renumbered(files: Files, folder: Path) -> None:
    content = files["val"]
    content["categories"] = [{"id": 7, "name": "debris"}, {"id": 4, "name": "cell"}]
    for entry in content["annotations"]:
        entry["category_id"] = {1: 4, 2: 7}[entry["category_id"]]


def _same_names(files: Files, folder: Path) -> None:
    for content in files.values():
        content["categories"][1]["name"] = "cell"


def _ambiguous(files: Files, folder: Path) -> None:
    for camera in ("a", "b"):
        (folder / "train" / camera).mkdir()
        shutil.copy(folder / "train" / "004.png", folder / "train" / camera / "004.png")
    (folder / "train" / "004.png").unlink()


def _inner(box: list[int]) -> list[int]:
    x, y, w, h = box
    return [x + 3, y + 3, x + 3, y + h - 3, x + w - 3, y + h - 3, x + w - 3, y + 3]


def _halves(box: list[int]) -> list[list[int]]:
    """Return a corner piece, and a piece inside the box of it but not inside it."""
    x, y, w, h = box
    corner = [x, y, x + w, y, x + w, y + 3, x + 3, y + 3, x + 3, y + h, x, y + h]
    return [corner, [x + 5, y + 5, x + w - 1, y + 5, x + w - 1, y + h - 1, x + 5, y + h - 1]]


def _bands(number: int) -> Callable[[Any], Any]:
    return lambda rgb: np.stack([rgb[..., i % 3] for i in range(number)], -1).astype(np.uint8)


def _sixteen_bit(full: int) -> Callable[[Any], Any]:
    return lambda rgb: (rgb[..., 0].astype(np.float64) / 255 * full).astype(np.uint16)


CROWD = "annotations of class cell are crowd regions"

CASES: dict[str, Case] = {
    # Crowd regions that are none: brushed masks, polygons with holes.
    "all objects are flagged as crowds": Case(
        crowd(lambda place: True), CROWD, r"data\.crowd", stops=True
    ),
    "most objects of a class are flagged": Case(
        crowd(lambda place: place % 3 != 1), CROWD, r"data\.crowd", stops=True
    ),
    "all are flagged by a word": Case(
        crowd(lambda place: True, "true"), CROWD, r"data\.crowd", stops=True
    ),
    "the flags mean objects": Case(
        crowd(lambda place: True),
        "with iscrowd 1 taken as objects",
        "24 annotations with iscrowd 1 taken as objects",
        settings={"crowd": "objects"},
    ),
    "a few are crowds": Case(
        crowd(lambda place: place in (2, 7)),
        "2 of 24 annotations are crowd regions",
        r"22 objects; 2 crowd regions",
        objects=22,
    ),
    "a flag that means nothing": Case(
        entries(lambda place, entry: entry.update(iscrowd=2)),
        "iscrowd is 2; expected 0, or 1",
        "iscrowd is 2; expected 0, or 1",
        stops=True,
    ),
    # Nothing to learn from.
    "all masks are outside, and dropped": Case(
        broken(OBJECTS, [[900, 900, 950, 900, 950, 950]]),
        "polygon reaches .*, far outside the image",
        "no object to learn from: .*24 left out .*outside the image",
        stops=True,
        settings={"drop_invalid": True},
    ),
    "many are dropped": Case(
        broken(5, [[900, 900, 950, 900, 950, 950]]),
        "polygon reaches .*, far outside the image",
        "warning: .*5 of 24",
        objects=OBJECTS - 5,
        settings={"drop_invalid": True},
    ),
    "no annotations at all": Case(
        _no_objects("train"), *["no object to learn from"] * 2, stops=True
    ),
    "validation has no objects": Case(_no_objects("val"), "4 images have no object", r"24 objects"),
    # Classes of several files.
    "a root without objects": Case(
        both(
            entries(lambda place, entry: entry.update(supercategory="things"), "categories"),
            *(with_category(split, id=0, name="things", supercategory="none") for split in SPLITS),
        ),
        r"note: .*left out \(a supercategory or background without objects\): things",
        r"left out \(a supercategory or background without objects\): things",
    ),
    "two ids of one name": Case(
        _same_names, "2 categories have the name cell", "categories of one name are one class: cell"
    ),
    "a class that validation lacks": Case(
        without_class("val", 2),
        "class of the train split not listed here: debris",
        "1 class without objects here: debris",
    ),
    "other ids and order in validation": Case(_renumbered, "", "24 objects"),
    "a class of another case in validation": Case(
        categories("val", "Cell", "debris"),
        r"Cell \(8 objects\) .*did you mean cell",
        r"Cell \(8 annotations\) .*did you mean cell",
    ),
    "a class with a letter more": Case(
        categories("val", "cells", "debris"),
        r"cells \(8 objects\) .*did you mean cell",
        r"cells \(8 annotations\) .*did you mean cell",
    ),
    "a class that training lacks": Case(
        with_category("val", id=3, name="bubble"),
        "bubble .* is not in the train split",
        "not a class of the model.*bubble",
    ),
    "classes of another case in one file": Case(
        both(*(categories(split, "cell", "Cell") for split in SPLITS)),
        *["classes differ in spelling alone: cell and Cell"] * 2,
    ),
    "a blank of no width in a name": Case(
        both(*(categories(split, "cell", "cell\u200b") for split in SPLITS)),
        "2 categories have the name cell",
        "categories of one name are one class: cell",
    ),
    "decomposed accents in a name": Case(
        both(categories("train", "Zell\u00e9", "x"), categories("val", "Zelle\u0301", "x")),
        "1 category: the name has .*left out",
        r"2 classes \(Zell\u00e9, x\)(.|\n)*1 category: the name has",
    ),
    "a background without objects": Case(
        both(*(with_category(split, id=0, name="__background__") for split in SPLITS)),
        "note: .*left out .*: __background__; nothing to do",
        r"2 classes \(cell, debris\)(.|\n)*left out .*: __background__",
    ),
    "a name of blanks": Case(
        both(*(categories(split, "cell", " ") for split in SPLITS)),
        *["category 2: name is blank"] * 2,
        stops=True,
    ),
    # Geometry that contradicts itself.
    "boxes as corners": Case(
        boxes(lambda x, y, w, h: (x, y, x + w, y + h)),
        *[r"16 of 24 .*set --data\.boxes corners"] * 2,
        stops=True,
    ),
    "boxes as corners, read so": Case(
        boxes(lambda x, y, w, h: (x, y, x + w, y + h)),
        "corners",
        "corners",
        settings={"boxes": "corners"},
    ),
    "boxes by their centres": Case(
        boxes(lambda x, y, w, h: (x + w / 2, y + h / 2, w, h)),
        *[r"set --data\.boxes centres"] * 2,
        stops=True,
    ),
    "a right file, read as corners": Case(
        lambda files, folder: None,
        *[r"set --data\.boxes xywh"] * 2,
        stops=True,
        settings={"boxes": "corners"},
    ),
    "masks and boxes in parts of the sides": Case(
        both(
            polygons(lambda x, y: (x / SIZE[1], y / SIZE[0])),
            boxes(lambda x, y, w, h: (x / SIZE[1], y / SIZE[0], w / SIZE[1], h / SIZE[0])),
        ),
        *[r"set --data\.coordinates normalised"] * 2,
        stops=True,
    ),
    "masks in thousandths, boxes in pixels": Case(
        polygons(lambda x, y: (x / SIZE[1] * 1000, y / SIZE[0] * 1000)),
        *[r"set --data\.coordinates thousandths --data\.box-coordinates pixels"] * 2,
        stops=True,
    ),
    "y before x": Case(
        polygons(lambda x, y: (y, x)), *[r"--data\.coordinates swapped"] * 2, stops=True
    ),
    "run lengths along the rows": Case(
        entries(_rows), *[r"set --data\.run-lengths rows"] * 2, stops=True
    ),
    "areas that are none": Case(
        entries(lambda place, entry: entry.update(area=1.0)), "area", "24 objects"
    ),
    "photos on their side, marks upright": Case(_turned_photos, "turn|EXIF", "turn|EXIF"),
    # What was not looked at.
    "annotations twice": Case(
        _twice, "4 annotations are there twice", "4 annotations are there twice", objects=28
    ),
    "objects of two classes": Case(
        _two_classes,
        *["3 annotations have the image, box and mask of one of another class"] * 2,
        objects=27,
    ),
    "files that macOS puts beside images": Case(_apple, "", "24 objects"),
    "files without an entry": Case(
        _unlisted, "3 image files have no entry", "15 objects", objects=15
    ),
    "two entries of one image": Case(
        _entries_twice,
        "image 3 has the same file name",
        "1 image entry has the file of another, such as 003.png",
    ),
    "a list of test images": Case(_test_list, "2 images without annotations", "24 objects"),
    "regions to ignore": Case(
        entries(lambda place, entry: entry.update(ignore=int(place < 2))),
        "2 annotations are marked with ignore",
        "2 annotations are marked with ignore",
    ),
    "difficult objects": Case(
        entries(lambda place, entry: entry.update(difficult=int(place < 2))),
        "2 annotations are marked with difficult",
        "2 annotations are marked with difficult",
    ),
    "a validation image is a training image": Case(
        _shared_image,
        "1 of 4 val images is a training image too",
        "1 of 4 validation images is a training image too",
    ),
    "an image twice in a split": Case(
        _same_image_twice, "1 image file has the content of another", "24 objects"
    ),
    # Finding images.
    "backslashes": Case(
        names(r"images\{}".format), *[r"8 of 8 images found .*images\\001.png -> 001.png"] * 2
    ),
    "paths of a server": Case(
        names(r"..\..\media\upload\4\{}".format), *[r"8 of 8 images found .*upload"] * 2
    ),
    "absolute paths of another machine": Case(
        names(r"C:\data\{}".format), *[r"8 of 8 images found .*C:"] * 2
    ),
    "suffixes in capitals": Case(
        moved(lambda file: file.with_suffix(".PNG")), *[r"8 of 8 images found .*PNG"] * 2
    ),
    "percent signs": Case(
        both(
            names("a%20b_{}".format),
            moved(lambda file: file.with_name(f"a b_{file.name}")),
        ),
        *["8 of 8 images found .*%20"] * 2,
    ),
    "no suffixes": Case(
        names(lambda name: name[:-4]), *["8 of 8 images found .*001 -> 001.png"] * 2
    ),
    "blanks behind names": Case(names("{} ".format), *["8 of 8 images found"] * 2),
    "decomposed accents": Case(
        both(
            names(lambda name: unicodedata.normalize("NFD", f"é{name}")),
            moved(lambda f: f.with_name(unicodedata.normalize("NFC", f"é{f.name}"))),
        ),
        *["8 of 8 images found"] * 2,
    ),
    "a folder more": Case(
        moved(lambda file: file.parent / "default" / file.name),
        *["8 of 8 images found .* default/001"] * 2,
    ),
    "two files of one name": Case(
        _ambiguous, *[r"004\.png may be a/004\.png or b/004\.png"] * 2, stops=True
    ),
    # What is missing is named.
    "classes under another key": Case(
        entries(lambda place, entry: entry.update(category=entry.pop("category_id"))),
        *["annotation 1 .*: category_id is missing"] * 2,
        stops=True,
    ),
    "images under another key": Case(
        entries(lambda place, entry: entry.update(image=entry.pop("image_id"))),
        *["annotation 1 .*: image_id is missing"] * 2,
        stops=True,
    ),
    "lists within another object": Case(
        lambda files, folder: files.update({s: {"data": c} for s, c in files.items()}),
        *["no images, annotations and categories, but data"] * 2,
        stops=True,
    ),
    # A part of an annotation.
    "a polygon of two points beside a good one": Case(
        entries(lambda place, entry: entry["segmentation"].append([1, 2, 3, 4])),
        "a polygon is left out.*the object stays",
        "24 annotations mended.* a polygon is left out",
    ),
    "an empty polygon beside a good one": Case(
        entries(lambda place, entry: entry["segmentation"].append([])),
        "a polygon is left out.*the object stays",
        "24 annotations mended.* a polygon is left out",
    ),
    "a box without a mask among masks": Case(
        entries(lambda place, entry: place == 4 and entry.update(segmentation=[])),
        "1 annotation has a box but no mask",
        "23 objects; 1 left out",
        objects=23,
    ),
    "boxes alone": Case(
        entries(lambda place, entry: entry.pop("segmentation")),
        *["boxes but no masks"] * 2,
        stops=True,
    ),
    "no boxes": Case(
        entries(lambda place, entry: entry.pop("bbox")),
        *["bbox is missing: taken from the mask"] * 2,
    ),
    "holes as polygons": Case(
        entries(lambda place, entry: entry["segmentation"].append(_inner(entry["bbox"]))),
        *["24 of 24 annotations have one within another.*run lengths"] * 2,
    ),
    "parts beside each other": Case(
        both(
            entries(lambda place, entry: entry.pop("area")),
            entries(lambda place, entry: entry.update(segmentation=_halves(entry["bbox"]))),
        ),
        "",
        "24 objects",
    ),
    # Numbers and bands.
    "12 bits in 16": Case(pixels(_sixteen_bit(4095)), r"data\.range", r"data\.range"),
    "8 bits of which few are used": Case(
        pixels(lambda rgb: rgb // 16, ".png"), *[r"leaves little contrast.*data\.range"] * 2
    ),
    "few of 8 bits, spread": Case(
        pixels(lambda rgb: rgb // 16, ".png"), "", "24 objects", settings={"range": "minmax"}
    ),
    "12 bits in 16 as PNG": Case(
        pixels(_sixteen_bit(4095), ".png"), r"data\.range", r"data\.range"
    ),
    "12 bits, read by their range": Case(
        pixels(_sixteen_bit(4095)), "", "24 objects", settings={"range": (0, 4095)}
    ),
    "five bands": Case(pixels(_bands(5)), r"data\.bands", r"data\.bands", stops=True),
    "three bands of five": Case(pixels(_bands(5)), "", "24 objects", settings={"bands": (4, 2, 1)}),
    "two bands": Case(pixels(_bands(2)), r"data\.bands", r"data\.bands", stops=True),
    "three pages": Case(
        pixels(lambda rgb: np.stack([rgb[..., 0]] * 3)), r"data\.bands", r"data\.bands", stops=True
    ),
    "floats from 0 to 4000": Case(
        pixels(lambda rgb: (rgb[..., 0] * 16).astype(np.float32)),
        *[r"have no range of their own.*data\.range"] * 2,
    ),
    "floats from 0 to 1": Case(
        pixels(lambda rgb: (rgb[..., 0] / 255).astype(np.float32)), "", "24 objects"
    ),
}
