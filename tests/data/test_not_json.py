"""A file that is no JSON is called what it is, or read where its text is only packed otherwise."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from scnet.config import DataConfig
from scnet.data.check import check
from scnet.data.images import DataError
from scnet.data.reading import read_content, read_json

TEXT = json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]})
NAMES = '{"images": [{"file_name": "%s"}, {"file_name": "%s"}]}'

# What a file holds, and what must be said about it.
NAMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty; write or download it again"),
    "blank": (b" \n\n", "it is empty"),
    "zeros": (b"\0" * 600, "it holds zeros alone"),
    "cut": (TEXT[:60].encode(), "it ends in the middle, at line 1, column"),
    "cut in text": (TEXT[:5].encode(), "it ends in the middle, at line 1"),
    "web page": (b"\n<!DOCTYPE html><html>", "it is a web page, not the file; download it again"),
    "page without type": (b"<html><body>404", "it is a web page"),
    "LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "it is a Git LFS pointer; fetch the file with git lfs pull",
    ),
    "VOC": (b"<annotation><object/></annotation>", "it is XML; VOC has a file an image"),
    "CVAT": (
        b'<?xml version="1.0"?><annotations><version>1.1</version></annotations>',
        'it is XML; it is CVAT\'s own form: export the task as "COCO 1.0"',
    ),
    "ZIP": (b"PK\x03\x04\x14\0", "it is a ZIP archive; unpack it"),
    "image": (b"\x89PNG\r\n\x1a\n\0", "it is an image; give the annotation file"),
    "broken gzip": (b"\x1f\x8b\x08\0\0", "its gzip data are broken"),
    "lines": (b'{"image": 1}\n{"image": 2}\n', "it is JSON Lines, an object a line"),
    "two documents": (f"{TEXT} {TEXT}".encode(), "it holds two JSON documents"),
    "a list twice": (
        b'{"images": [{"annotations": 1}], "annotations": [1], "annotations" : [2]}',
        "it has annotations twice; join the two",
    ),
    "comment": (b'{\n// made by hand\n"images": []}', "there is a comment at line 2, column 1"),
    "comment behind": (f"{TEXT} # the end".encode(), "a comment stands behind the content"),
    "comma": (b'{"images": [1, 2, ],}', "there is a comma too many at line 1"),
    "printed": (b"{'images': []}", "Python wrote it with print at line 1, column 2"),
    "printed value": (b'{"images": None}', "Python wrote it with print at line 1, column 12"),
    "GBK": ((NAMES % ("细胞_1.png", "细胞_2.png")).encode("gbk"), "looks like GBK, of Chinese"),
    "Shift JIS": (
        (NAMES % ("細胞の画像.png", "テスト.png")).encode("shift_jis"),
        "it is not in UTF-8, and ",
    ),
    "Latin": (
        (NAMES % ("für_1.png", "naïve_é.png")).encode("cp1252"),
        "looks like CP1252, of Western Windows; save it as UTF-8: iconv -f CP1252 -t UTF-8",
    ),
}


@pytest.mark.parametrize("case", NAMED)
def test_what_is_no_json_is_called_what_it_is(case: str, tmp_path: Path) -> None:
    data, reason = NAMED[case]
    file = tmp_path / "instances_train.json"
    file.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_json(file)
    assert str(caught.value).startswith(f"{file}: not JSON: ")
    assert reason in str(caught.value)
    [error] = check(file).errors
    assert error.reason.startswith("not JSON: ")
    assert error.action


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
@pytest.mark.parametrize("packed", [False, True])
def test_other_unicode_and_gzip_are_read(encoding: str, packed: bool, tmp_path: Path) -> None:
    text = NAMES % ("细胞.png", "für.png")
    data = text.encode(encoding)
    (file := tmp_path / "a.json").write_bytes(gzip.compress(data) if packed else data)
    assert read_json(file) == json.loads(text)


# What the content of a JSON file is, and what it must be called.
STRANGERS: dict[str, tuple[Any, str]] = {
    "results": (
        [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
        "a list of detections (COCO results), not annotations; give the annotation file",
    ),
    "results without scores": (
        [{"image_id": 1, "category_id": 1, "segmentation": {"size": [1, 1], "counts": "1"}}],
        "a list of detections",
    ),
    "labelme": (
        {"shapes": [], "imagePath": "a.png"},
        "labelme's file of one image; give the folder that it is in",
    ),
    "VIA project": ({"_via_img_metadata": {}}, "a project of VGG Image Annotator"),
    "VIA": ({"a.png123": {"filename": "a.png", "regions": []}}, "VGG Image Annotator's own form"),
    "Cityscapes": ({"imgHeight": 1, "imgWidth": 1, "objects": []}, "Cityscapes' file"),
    "Supervisely": (
        {"size": {"height": 1, "width": 1}, "objects": [{"classTitle": "a"}]},
        "Supervisely's file of one image",
    ),
    "V7": ({"version": "2.0", "item": {}, "annotations": []}, "V7 Darwin's file"),
    "Label Studio": ([{"id": 1, "annotations": [], "data": {}}], "Label Studio's own JSON"),
    "CreateML": ([{"image": "a.png", "annotations": []}], "CreateML's form"),
    "Labelbox": ([{"External ID": "a.png", "Label": {}}], "Labelbox's own export"),
    "BDD100K": ([{"name": "a.jpg", "labels": []}], "a list of frames as BDD100K"),
    "detectron2": ([{"file_name": "a.jpg", "annotations": []}], "detectron2's dataset dicts"),
    "several": ([{"images": [], "annotations": []}], "a list of COCO files"),
    "VoTT": ({"assets": {}, "tags": []}, "a project of VoTT"),
    "GeoJSON": ({"type": "FeatureCollection", "features": []}, "GeoJSON"),
    "Datumaro": ({"infos": {}, "categories": {}, "items": []}, "Datumaro's form"),
    "SA-1B": ({"image": {"image_id": 1}, "annotations": []}, "a file of one image as SA-1B"),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_files_of_other_formats_are_known_by_name(case: str, tmp_path: Path) -> None:
    content, name = STRANGERS[case]
    file = tmp_path / "instances_train.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_content(file, DataConfig())
    assert str(caught.value).startswith(f"{file}: not COCO annotations: it is ")
    assert name in str(caught.value)
    [error] = check(file).errors
    assert error.action in str(caught.value)
