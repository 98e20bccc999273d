"""Files and folders of other formats, known by what they hold, each with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

AS_COCO = "export the data as COCO instead"

Test = Callable[[Any], bool]


def _has(*keys: str) -> Test:
    return lambda value: isinstance(value, dict) and all(key in value for key in keys)


def _first(key: str, test: Test) -> Test:
    """Return a test of the first entry of a list under a key."""
    return lambda value: (
        isinstance(value, dict)
        and isinstance(value.get(key), list)
        and bool(value[key])
        and test(value[key][0])
    )


def _of_list(test: Test) -> Test:
    return lambda value: isinstance(value, list) and bool(value) and test(value[0])


def _any_value(test: Test) -> Test:
    return lambda value: (
        isinstance(value, dict) and bool(value) and test(next(iter(value.values())))
    )


# What the content of a JSON file shows, what it is, and what to do; the first that fits counts.
_CONTENTS: tuple[tuple[Test, str, str], ...] = (
    (
        _first("annotations", _has("segments_info")),
        "a COCO panoptic file, whose masks are in PNG files",
        "give the instances file of the same data",
    ),
    (
        _first("annotations", _has("caption")),
        "a COCO captions file",
        "give the instances file of the same data",
    ),
    (
        _of_list(lambda e: _has("image_id")(e) and ("score" in e or "segmentation" in e)),
        "a list of detections (COCO results), not annotations",
        "give the annotation file",
    ),
    (
        _has("videos", "annotations"),
        "annotations of videos (YouTube-VIS)",
        "convert the frames to images with COCO annotations",
    ),
    (
        _has("shapes", "imagePath"),
        "labelme's file of one image",
        "give the folder that it is in, which is read as it is",
    ),
    (
        _has("_via_img_metadata"),
        "a project of VGG Image Annotator",
        'choose "Export annotations (COCO format)" there',
    ),
    (
        _any_value(_has("filename", "regions")),
        "VGG Image Annotator's own form",
        'choose "Export annotations (COCO format)" there',
    ),
    (
        _has("imgHeight", "imgWidth", "objects"),
        "Cityscapes' file of one image",
        "convert the data to COCO (cityscapesscripts, mmdet's tools/dataset_converters)",
    ),
    (
        _has("objects", "size"),
        "Supervisely's file of one image",
        'use "Export to COCO" in Supervisely',
    ),
    (
        lambda v: _has("item", "annotations")(v) or _has("image", "annotations", "dataset")(v),
        "V7 Darwin's file of one image",
        "export the data as COCO in V7",
    ),
    (
        _of_list(lambda e: _has("annotations", "data")(e) or _has("completions")(e)),
        "Label Studio's own JSON",
        'export as "COCO" in Label Studio',
    ),
    (
        _of_list(_has("data")),
        "a list of Label Studio's tasks",
        'export as "COCO" in Label Studio',
    ),
    (
        _of_list(
            lambda e: (
                (_has("image", "annotations")(e) and "height" not in e) or _has("imagefilename")(e)
            )
        ),
        "CreateML's form, which has boxes alone",
        AS_COCO + ", with masks",
    ),
    (
        _of_list(
            lambda e: _has("data_row")(e) or _has("Labeled Data")(e) or _has("External ID")(e)
        ),
        "Labelbox's own export",
        "convert it with Labelbox's coco_exporter",
    ),
    (
        _of_list(lambda e: _has("name", "labels")(e)),
        "a list of frames as BDD100K and Scalabel write it",
        "convert it with scalabel.label.to_coco",
    ),
    (
        _of_list(_has("file_name", "annotations")),
        "a list of detectron2's dataset dicts",
        "save it with detectron2.data.datasets.convert_to_coco_json",
    ),
    (
        _of_list(_has("images", "annotations")),
        "a list of COCO files",
        "write each to a file of its own",
    ),
    (_has("assets", "tags"), "a project of VoTT", AS_COCO),
    (_has("assets", "name", "sourceConnection"), "a project of VoTT", AS_COCO),
    (
        lambda v: isinstance(v, dict) and v.get("type") == "FeatureCollection",
        "GeoJSON",
        "convert it to COCO in pixels of each image",
    ),
    (
        _has("infos", "categories", "items"),
        "Datumaro's form",
        "run datum convert -f coco_instances",
    ),
    (
        lambda v: _has("image", "annotations")(v) and isinstance(v["image"], dict),
        "a file of one image as SA-1B has them, without classes",
        "join them to one COCO file",
    ),
)


def known_content(content: Any) -> str | None:
    """Return what parsed JSON is that is not COCO annotations, and what to do; None if unknown."""
    for test, what, action in _CONTENTS:
        if test(content):
            return f"not COCO annotations: it is {what}; {action}"
    return None


# Glob patterns of what a folder holds, what that is, and what to do.
_FOLDERS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("SegmentationObject/*.png",), "Pascal VOC with object masks as PNG", "convert it to COCO"),
    (
        ("*_gtFine_polygons.json", "*/*_gtFine_polygons.json", "gtFine/*/*/*_gtFine_polygons.json"),
        "Cityscapes",
        "convert it to COCO with mmdet's tools/dataset_converters/cityscapes.py",
    ),
    (
        ("ann/*.json", "*/ann/*.json"),
        "a project of Supervisely",
        'use "Export to COCO" in Supervisely',
    ),
    (("annotations.xml",), "CVAT's own export", 'export the task as "COCO 1.0" in CVAT'),
    (("*.tfrecord*", "*/*.tfrecord*"), "TFRecord", AS_COCO),
    (("obj.names", "obj.data"), "YOLO 1.1 of CVAT, boxes alone", 'export as "COCO 1.0" in CVAT'),
    (("*.parquet", "data/*.parquet"), "a data set in Parquet files", "convert it to COCO JSON"),
    (("*.ndjson",), "newline-delimited JSON, as Labelbox writes it", AS_COCO),
    (("_createml.json", "*/*_annotations.createml.json"), "CreateML, boxes alone", AS_COCO),
    (("via_project*.json",), "a project of VGG Image Annotator", "export it as COCO there"),
    (("*.json.gz", "annotations/*.json.gz"), "packed annotation files", "unpack them with gunzip"),
    (("*/_annotations.csv", "_annotations.csv"), "a CSV of boxes alone", AS_COCO + ", with masks"),
    (
        ("Annotations/*.xml", "*.xml", "*/*.xml"),
        "Pascal VOC, boxes alone",
        AS_COCO + ", with masks",
    ),
    (
        ("masks/*.png", "*/masks/*.png", "mask/*.png"),
        "masks as images",
        "convert them to COCO JSON",
    ),
    (("*.zip",), "a packed data set", "unpack it"),
)


def known_folder(folder: Path) -> str | None:
    """Return what a folder without COCO files holds, and what to do; None if that is unknown."""
    for patterns, what, action in _FOLDERS:
        found = next((f for pattern in patterns for f in folder.glob(pattern)), None)
        if found is not None:
            return f"no COCO annotations: {what} (such as {found.relative_to(folder)}); {action}"
    return None
