"""Annotations of the tests' data set in other forms, each with the notes that say so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from scnet.ops.rle import decode, encode

Coco = dict[str, Any]
Change = Callable[[Coco], Any]
OBJECTS = 4  # annotations of the fixture that are polygons; one more is a crowd region


def each(key: str, field: str, change: Callable[[Any], Any]) -> Change:
    """Return a change of one field of every entry of a list."""

    def apply(content: Coco) -> None:
        for entry in content[key]:
            entry[field] = change(entry[field])

    return apply


def polygons(change: Callable[[list[Any]], Any]) -> Change:
    """Return a change of every mask that is drawn."""
    return each("annotations", "segmentation", lambda s: change(s) if isinstance(s, list) else s)


def both(*changes: Change) -> Change:
    return lambda content: [change(content) for change in changes]


def points(polygon: list[Any]) -> list[list[Any]]:
    return [list(pair) for pair in zip(polygon[::2], polygon[1::2], strict=True)]


def packed(change: Callable[[dict[str, Any]], Any]) -> Change:
    """Return a change of every mask, which is turned into packed run lengths before."""
    return each(
        "annotations",
        "segmentation",
        lambda s: change(dict(encode(decode(s, (30, 40))))),
    )


def listed(key: str, of: Callable[[Any], Any]) -> Change:
    """Return a change that puts another thing in the place of a list."""
    return lambda content: content.update({key: of(content[key])})


def by_image(found: list[Any]) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {}
    for entry in found:
        table.setdefault(str(entry.pop("image_id")), []).append(entry)
    return table


def corners(box: list[Any]) -> dict[str, Any]:
    x, y, w, h = box
    return {"xmin": x, "ymin": y, "xmax": x + w, "ymax": y + h}


URL = "http://x.org/train/{}?a=1"
IMAGE_IDS = both(each("images", "id", str), each("annotations", "image_id", str))

# What is changed, and the notes that say it, each with its number of entries.
TAKEN: dict[str, tuple[Change, list[str]]] = {
    "ids of images are text": (
        IMAGE_IDS,
        ["4 images: the id is text", "5 annotations: image_id is text"],
    ),
    "ids of images are text, references are not": (
        each("images", "id", str),
        ["4 images: the id is text"],
    ),
    "ids of images are long text": (
        both(
            each("images", "id", lambda i: f"15417151614{i:02d}"),
            each("annotations", "image_id", lambda i: f"15417151614{i:02d}"),
        ),
        ["4 images: the id is text", "5 annotations: image_id is text"],
    ),
    "ids of images are names": (
        both(
            each("images", "id", "img_{}".format),
            each("annotations", "image_id", "img_{}".format),
        ),
        ['4 images: the id is text, numbered from 1 in the order of the file ("img_1" is 1)'],
    ),
    "ids with zeros in front that would be the same": (
        both(
            each("images", "id", lambda i: "0" * i + "7"),
            each("annotations", "image_id", lambda i: "0" * i + "7"),
        ),
        ["4 images: the id is text, numbered from 1"],
    ),
    "ids of more digits than 64 bit hold": (
        both(
            each("images", "id", lambda i: f"{10**30 + i}"),
            each("annotations", "image_id", lambda i: f"{10**30 + i}"),
        ),
        ["4 images: the id is text, numbered from 1"],
    ),
    "ids with a decimal point": (
        both(each("images", "id", float), each("annotations", "image_id", float)),
        ["4 images: the id is text or has a decimal point", "5 annotations: image_id"],
    ),
    "categories' ids are text": (
        each("annotations", "category_id", str),
        ["5 annotations: category_id is text"],
    ),
    "categories' ids are letters": (
        both(
            each("categories", "id", {9: "a", 7: "b"}.get),
            each("annotations", "category_id", {9: "a", 7: "b"}.get),
        ),
        ["2 categories: the id is text, numbered from 1", "5 annotations: category_id"],
    ),
    "names for ids of categories": (
        each("annotations", "category_id", {9: "coin", 7: "ring"}.get),
        ["5 annotations: category_id is a name, taken as the id that it belongs to"],
    ),
    "categories are names alone": (
        both(
            each("annotations", "category_id", {9: "coin", 7: "ring"}.get),
            listed("categories", lambda found: [c["name"] for c in found]),
        ),
        ["2 categories: categories are names alone", "5 annotations: category_id is a name"],
    ),
    "names of files for ids of images": (
        each("annotations", "image_id", "{}.png".format),
        ["5 annotations: image_id is a file_name, taken as the id that it belongs to"],
    ),
    "images without ids": (
        both(
            listed("images", lambda found: [i for i in found if i.pop("id")]),
            each("annotations", "image_id", "{}.png".format),
        ),
        ["4 images: the id is missing, numbered from 1", "5 annotations: image_id is a file_name"],
    ),
    "ids of annotations are text": (
        each("annotations", "id", lambda i: f"a{i}"),
        ["5 annotations: the id is text, numbered from 1"],
    ),
    "sizes are text": (
        both(each("images", "width", str), each("images", "height", "{}.0".format)),
        ["4 images: width is text", "4 images: height is text"],
    ),
    "sizes have a decimal point": (each("images", "width", float), ["4 images: width is"]),
    "boxes are text": (
        each("annotations", "bbox", str),
        ["5 annotations: bbox is text, taken as [x, y, width, height]"],
    ),
    "boxes hold text": (
        each("annotations", "bbox", lambda b: [str(v) for v in b]),
        ["5 annotations: bbox holds text"],
    ),
    "boxes are objects": (
        each("annotations", "bbox", lambda b: dict(zip("xywh", b, strict=True))),
        ["5 annotations: bbox is an object"],
    ),
    "boxes are objects of corners": (
        each("annotations", "bbox", corners),
        ["5 annotations: bbox is an object"],
    ),
    "boxes are lists in a list": (
        each("annotations", "bbox", lambda b: [b]),
        ["5 annotations: bbox is a list within a list"],
    ),
    "crowd flags are text": (
        each("annotations", "iscrowd", str),
        ["5 annotations: iscrowd is text"],
    ),
    "crowd flags are words": (
        each("annotations", "iscrowd", lambda v: "True" if v else "false"),
        ["5 annotations: iscrowd is text"],
    ),
    "crowd flags are truth values": (each("annotations", "iscrowd", bool), []),
    "areas are text": (each("annotations", "area", str), ["5 annotations: area is text"]),
    "annotations are an object": (
        listed("annotations", lambda found: {str(a["id"]): a for a in found}),
        ["5 annotations: annotations is an object"],
    ),
    "annotations are an object that has the ids": (
        listed("annotations", lambda found: {str(a.pop("id")): a for a in found}),
        ["5 annotations: annotations is an object", "5 annotations: the id is text"],
    ),
    "annotations are lists of each image": (
        listed("annotations", by_image),
        ["5 annotations: annotations is an object", "5 annotations: image_id is text"],
    ),
    "images are an object": (
        listed("images", lambda found: {str(i.pop("id")): i for i in found}),
        ["4 images: images is an object", "4 images: the id is text"],
    ),
    "categories are names by id": (
        listed("categories", lambda found: {str(c["id"]): c["name"] for c in found}),
        ["2 categories: categories is an object", "2 categories: the id is text"],
    ),
    "categories are ids by name": (
        listed("categories", lambda found: {c["name"]: c["id"] for c in found}),
        ["2 categories: categories is an object"],
    ),
    "names with blanks": (
        each("categories", "name", " {} ".format),
        ["2 categories: the name has blanks around it"],
    ),
    "flat polygons": (
        polygons(lambda s: s[0]),
        [f"{OBJECTS} annotations: segmentation is one flat list, taken as [[x, y, ...]]"],
    ),
    "flat polygons of text": (
        polygons(lambda s: [str(v) for v in s[0]]),
        [f"{OBJECTS} annotations: segmentation is one flat list"],
    ),
    "polygons of text": (
        polygons(lambda s: [[f"{v}.0" for v in p] for p in s]),
        [f"{OBJECTS} annotations: segmentation holds text"],
    ),
    "one list of points": (
        polygons(lambda s: points(s[0])),
        [f"{OBJECTS} annotations: segmentation is a list of points"],
    ),
    "points by name": (
        polygons(lambda s: [{"x": x, "y": y} for x, y in points(s[0])]),
        [f"{OBJECTS} annotations: segmentation is a list of points"],
    ),
    "polygons of points": (
        polygons(lambda s: [points(p) for p in s]),
        [f"{OBJECTS} annotations: segmentation has lists within lists"],
    ),
    "contours of OpenCV": (
        polygons(lambda s: [[[p] for p in points(s[0])]]),
        [f"{OBJECTS} annotations: segmentation has lists within lists"],
    ),
    "a level too deep": (
        polygons(lambda s: [s]),
        [f"{OBJECTS} annotations: segmentation has lists within lists"],
    ),
    "x and y apart": (
        polygons(lambda s: {"all_points_x": s[0][::2], "all_points_y": s[0][1::2]}),
        [f"{OBJECTS} annotations: segmentation is lists of all_points_x and all_points_y"],
    ),
    "GeoJSON": (
        polygons(lambda s: {"type": "Polygon", "coordinates": [points(s[0])]}),
        [f"{OBJECTS} annotations: segmentation is GeoJSON"],
    ),
    "masks are text": (
        each("annotations", "segmentation", json.dumps),
        ["5 annotations: segmentation is text, read as JSON"],
    ),
    "masks are text by Python": (
        polygons(str),
        [f"{OBJECTS} annotations: segmentation is text, read as JSON"],
    ),
    "bytes written by repr": (
        packed(lambda r: {**r, "counts": str(r["counts"].encode())}),
        ["5 annotations: segmentation holds run lengths that were bytes"],
    ),
    "run lengths in a list": (
        packed(lambda r: [r]),
        ["5 annotations: segmentation is run lengths in a list"],
    ),
    "size of run lengths is text": (
        packed(lambda r: {**r, "size": "[30, 40]"}),
        ["5 annotations: segmentation holds run lengths whose size"],
    ),
    "size of run lengths holds text": (
        packed(lambda r: {**r, "size": ["30", 40.0]}),
        ["5 annotations: segmentation holds run lengths whose size"],
    ),
    "counts are text of a list": (
        lambda c: c["annotations"][4]["segmentation"].update(counts="[600, 300, 300]"),
        ["1 annotation: segmentation holds run lengths whose size or counts"],
    ),
    "counts hold text": (
        lambda c: c["annotations"][4]["segmentation"].update(counts=["600", "300", 300.0]),
        ["1 annotation: segmentation holds run lengths whose size or counts"],
    ),
    "no sizes": (
        both(each("images", "width", lambda _: 0), each("images", "height", lambda _: None)),
        ["4 images: width and height are missing, read from the image files"],
    ),
    "names of files in coco_url": (
        listed(
            "images",
            lambda found: [{"coco_url": URL.format(i.pop("file_name")), **i} for i in found],
        ),
        ["4 images: file_name is missing, taken from the end of coco_url"],
    ),
    "names of files under another key": (
        listed("images", lambda found: [{"filename": i.pop("file_name"), **i} for i in found]),
        ["4 images: file_name is missing, taken from filename"],
    ),
}
