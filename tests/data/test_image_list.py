"""Lists of images to predict on: their ids, files and categories."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scnet.data.errors import DataError
from scnet.data.image_list import read_image_list


def images_in(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 6)).save(folder / name)
    return folder


def write(file: Path, images: Any, **more: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"images": images, **more}))
    return file


@pytest.mark.parametrize(
    "name",
    [
        "instances_test2017",
        "image_info_test-dev2017",
        "image_info_test2017",
        "lvis_v1_test",
        "test",
    ],
)
def test_a_name_tells_the_folder_of_the_images(name: str, tmp_path: Path) -> None:
    for split in ("train2017", "val2017", "test2017"):
        images_in(tmp_path / split, "1.png")
    file = write(tmp_path / "annotations" / f"{name}.json", [{"id": 1, "file_name": "1.png"}])
    found = read_image_list(file)
    assert found.root == tmp_path / "test2017"
    assert read_image_list(tmp_path, "test").file == file


def test_a_name_that_tells_nothing_leaves_it_open_and_a_split_decides(tmp_path: Path) -> None:
    for split in ("train", "val"):
        images_in(tmp_path / split, "1.png")
    images_in(tmp_path / "val", "2.png")
    entries = [{"id": n, "file_name": f"{n}.png"} for n in (1, 2)]
    file = write(tmp_path / "mine.json", entries)
    one, two = read_image_list(file).images
    assert one.path is None
    assert "may be train/1.png or val/1.png" in one.fault
    assert two.path == tmp_path / "val" / "2.png"
    assert read_image_list(file, "val").images[0].path == tmp_path / "val" / "1.png"
    with pytest.raises(DataError, match="val split, and not for test"):
        read_image_list(write(tmp_path / "val.json", entries), "test")


def test_the_only_file_of_a_folder_is_taken_where_no_split_is_asked_for(tmp_path: Path) -> None:
    images_in(tmp_path / "images" / "default", "1.png")
    entries = [{"id": 1, "file_name": "1.png"}]
    file = write(tmp_path / "annotations" / "instances_default.json", entries)
    found = read_image_list(tmp_path)
    assert (found.file, found.root) == (file, tmp_path / "images" / "default")
    with pytest.raises(DataError, match="no test split"):
        read_image_list(tmp_path, "test")
    write(tmp_path / "annotations" / "instances_train.json", entries)
    assert read_image_list(tmp_path, "train").file.name == "instances_train.json"


def test_labels_of_another_format_list_their_images(tmp_path: Path) -> None:
    images_in(tmp_path / "images" / "train", "1.png")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "1.txt").write_text("0 .1 .1 .9 .1 .9 .9")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cell]")
    (image,) = read_image_list(tmp_path).images
    assert image.path == tmp_path / "images" / "train" / "1.png"


def test_the_file_itself_is_taken_and_not_that_of_a_split(tmp_path: Path) -> None:
    images_in(tmp_path / "train", "1.png")
    images_in(tmp_path / "val", "2.png")
    write(tmp_path / "annotations/instances_val.json", [{"id": 2, "file_name": "2.png"}])
    entries = [{"id": 1, "file_name": "1.png"}]
    file = write(tmp_path / "annotations" / "instances_train.json", entries)
    assert [image.id for image in read_image_list(file).images] == [1]


def test_every_form_of_a_list_is_read(tmp_path: Path) -> None:
    images_in(tmp_path / "images", "a.png", "b.PNG")
    entries = [{"id": 1, "file_name": "images\\a.png"}, {"id": 2, "file_name": "b.png"}]
    text = json.dumps({"images": entries}).encode()
    for name, data in (("bom", b"\xef\xbb\xbf" + text), ("packed", gzip.compress(text))):
        (tmp_path / f"{name}.json").write_bytes(data)
        found = read_image_list(tmp_path / f"{name}.json")
        assert [image.path for image in found.images] == [
            tmp_path / "images" / name for name in ("a.png", "b.PNG")
        ]
        assert [image.file_name for image in found.images] == ["images\\a.png", "b.png"]
        assert "found under another spelling" in found.notes[0]


def test_addresses_stand_for_file_names(tmp_path: Path) -> None:
    images_in(tmp_path / "val2017", "000139.png")
    url = "http://images.cocodataset.org/val2017/000139.png"
    file = write(tmp_path / "annotations" / "lvis_v1_val.json", [{"id": 139, "coco_url": url}])
    (image,) = read_image_list(file).images
    assert (image.id, image.path) == (139, tmp_path / "val2017" / "000139.png")


def test_broken_annotations_and_missing_sizes_do_not_matter(tmp_path: Path) -> None:
    images_in(tmp_path, "a.png")
    entries = [{"id": 1, "file_name": "a.png", "width": 0}, {"id": 2, "file_name": "gone.png"}]
    annotations = [{"id": "x", "image_id": 77, "segmentation": "mask.png", "bbox": [1]}]
    found = read_image_list(write(tmp_path / "mine.json", entries, annotations=annotations))
    assert [image.size for image in found.images] == [None, None]
    assert [bool(image.fault) for image in found.images] == [False, True]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (("a", "b"), ["a", "b"]),
        (("7", "08"), ["7", "08"]),
        ((3, "x"), [3, "x"]),
        ((2.0, 5), [2, 5]),
    ],
)
def test_ids_are_those_of_the_file(ids: Any, expected: Any, tmp_path: Path) -> None:
    images_in(tmp_path, "a.png", "b.png")
    entries = [{"id": i, "file_name": n} for i, n in zip(ids, ("a.png", "b.png"), strict=True)]
    found = [image.id for image in read_image_list(write(tmp_path / "l.json", entries)).images]
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([{"file_name": "a.png"}], "id is missing"),
        ([{"id": 1, "file_name": "a.png"}] * 2, "another image has the same id"),
        ([], "no images"),
        ([{"id": 1}], "no image has a file_name"),
        ([{"id": 1, "file_name": "no.png"}], "none of its images found"),
        (None, "no list of images"),
        (["a.png"], "no list of images"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(images: Any, said: str, tmp_path: Path) -> None:
    images_in(tmp_path, "a.png")
    with pytest.raises(DataError, match=said):
        read_image_list(write(tmp_path / "mine.json", images))


def test_ids_of_classes_are_matched_by_name(tmp_path: Path) -> None:
    images_in(tmp_path, "a.png")
    entries = [{"id": 1, "file_name": "a.png"}]
    categories = [{"id": 9, "name": "cat"}, {"id": 4, "name": "dog"}, {"id": 6, "name": "cat"}]
    found = read_image_list(write(tmp_path / "l.json", entries, categories=categories))
    ids, notes = found.category_ids(("dog", "cats", "cat"), (1, 2, 3))
    assert ids == (4, 10, 9)
    assert found.category_ids(("dog\u200b", "cats", "cat "), (1, 2, 3)).ids == ids
    assert notes == ("1 class of the model not in it, with ids of their own: cats = 10",)
    with pytest.raises(DataError, match=r"\(cat, dog, cat\).*did you mean cat for Cat"):
        found.category_ids(("Cat", "cow"), (1, 2))
    plain = read_image_list(write(tmp_path / "plain.json", entries))
    assert plain.category_ids(("dog", "cow"), (5, 7)).ids == (5, 7)
