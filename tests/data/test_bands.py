"""Numbers and bands of image files: scaled and chosen by settings, never cut without a word."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from scnet.config import Config, DataConfig, from_dict, override, to_dict
from scnet.data.check import check
from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import (
    DataError,
    read_image,
    read_picture,
    read_pixels,
    shrinking,
    upright_size,
)
from scnet.data.loader import collate
from scnet.settings import ConfigError
from scnet.training.run import fit_to_data

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 4096, (30, 40)).astype(np.uint16)  # a camera of 12 bits
FIVE = RANDOM.integers(0, 65536, (30, 40, 5)).astype(np.uint16)
BANDS_FIRST = np.moveaxis(FIVE, 2, 0)

FULL, ALL = DataConfig(), DataConfig(bands="all")
MINMAX, PERCENTILE = DataConfig(range="minmax"), DataConfig(range="percentile")


def tiff(path: Path, values: np.ndarray[Any, Any], **options: Any) -> Path:
    tifffile.imwrite(path, values, **{"photometric": "minisblack", **options})
    return path


def deep_png(path: Path, values: np.ndarray[Any, Any], kind: int) -> Path:
    """Write a PNG of 16 bits a value, which Pillow cannot."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = values.shape[:2]
    # Rows as differences to the one above, as encoders write them.
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    above = np.concatenate((np.zeros_like(rows[:1]), rows[:-1]))
    data = b"".join(b"\2" + row.tobytes() for row in rows - above)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def scaled(values: np.ndarray[Any, Any], low: float, high: float) -> np.ndarray[Any, Any]:
    return np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255


def close(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> bool:
    return found.shape == expected.shape and bool(np.abs(found - expected).max() <= 0.51)


def with_nan() -> np.ndarray[Any, Any]:
    values = (GREY / 4095).astype(np.float32)
    values[0, 0], values[1, 1] = np.nan, np.inf
    return values


GREY_FILES = {
    "12 bit": (GREY, {}, 65535),
    "BigTIFF": (GREY, {"bigtiff": True}, 65535),
    "deflate": (GREY, {"compression": "zlib"}, 65535),
    "white is zero": (65535 - GREY, {"photometric": "miniswhite"}, 65535),
    "32 bit": (GREY.astype(np.int32), {}, 65535),
    "unsigned 32 bit": (GREY.astype(np.uint32), {}, 65535),
    "float64": (GREY / 4095.0, {}, 1),
    "float16": (np.float16(GREY / 4095), {}, 1),
    "one bit": (GREY > 2000, {}, 1),
}


@pytest.mark.parametrize("name", GREY_FILES)
def test_grey_numbers_of_any_type_are_scaled_by_the_range(name: str, tmp_path: Path) -> None:
    values, options, white = GREY_FILES[name]
    path = tiff(tmp_path / "image.tif", values, **options)
    shown = GREY if options.get("photometric") == "miniswhite" else values.astype(float)
    found = read_pixels(path, FULL)
    grey = np.asarray(found.values)[..., 0].astype(float)
    assert close(grey, scaled(shown, 0, white))
    assert bool(found.fault) == (white == 65535)
    stretched = np.asarray(read_pixels(path, MINMAX).values)[..., 0].astype(float)
    assert close(stretched, scaled(shown, shown.min(), shown.max()))
    low, high = np.percentile(shown, (0.1, 99.9))
    spread = np.asarray(read_pixels(path, PERCENTILE).values)[..., 0].astype(float)
    assert close(spread, scaled(shown, low, high))
    assert upright_size(path) == (30, 40)


def test_two_numbers_are_black_and_white(tmp_path: Path) -> None:
    path = tiff(tmp_path / "image.tif", GREY)
    found = read_pixels(path, DataConfig(range=(100.0, 3000.0)))
    assert close(np.asarray(found.values)[..., 1].astype(float), scaled(GREY, 100, 3000))


def test_values_that_are_not_finite_become_black(tmp_path: Path) -> None:
    path = tiff(tmp_path / "image.tif", with_nan())
    for data in (FULL, MINMAX, PERCENTILE):
        grey = np.asarray(read_pixels(path, data).values)[..., 0]
        assert grey[0, 0] == grey[1, 1] == 0
        assert grey.max() == 255


@pytest.mark.parametrize(("channels", "kind"), [(3, 2), (4, 6), (2, 4), (1, 0)])
def test_a_png_of_16_bits_keeps_them(channels: int, kind: int, tmp_path: Path) -> None:
    values = FIVE[..., :channels] >> 4
    path = deep_png(tmp_path / "deep.png", values, kind)
    found = np.asarray(read_pixels(path, DataConfig(range=(0.0, 4095.0))).values).astype(float)
    colours = values[..., :3] if channels > 2 else values[..., [0, 0, 0]]
    assert close(found, scaled(colours, 0, 4095))
    assert "use 6.2% of the range" in read_pixels(path, FULL).fault
    with Image.open(path) as opened:
        again = read_pixels(opened, DataConfig(range=(0.0, 4095.0)))
        assert np.array_equal(np.asarray(again.values), found)
        assert np.asarray(opened).shape[:2] == (30, 40)  # it can still be read by who opened it


FAULTS = {
    "negative": ((GREY / 4095 * 2 - 1).astype(np.float32), "lie outside 0..1 and are cut"),
    "signed": (GREY.astype(np.int16) - 2048, "lie outside 0..65535 and are cut"),
    "large": (GREY.astype(np.int32) * 1000, "lie outside 0..65535 and are cut"),
    "faint": ((GREY / 40950).astype(np.float32), "use 10.0% of the range 0..1"),
    "far from black": (GREY // 4 + 30000, "use 1.6% of the range 0..65535"),
    "nothing": (np.full((5, 6), np.nan, np.float32), "none of its values is finite"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_lost_in_scaling_is_said_and_a_range_of_the_image_helps(
    name: str, tmp_path: Path
) -> None:
    values, fault = FAULTS[name]
    path = tiff(tmp_path / "image.tif", values)
    assert fault in read_pixels(path, FULL).fault
    assert not read_pixels(path, MINMAX).fault


@pytest.mark.parametrize("values", [np.zeros_like(GREY), GREY * 16, np.zeros((5, 6), np.uint8)])
def test_of_blank_images_and_of_whole_ranges_nothing_is_said(
    values: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    for data in (FULL, MINMAX, PERCENTILE):
        assert not read_pixels(tiff(tmp_path / "image.tif", values), data).fault


STACKS: dict[str, tuple[np.ndarray[Any, Any], dict[str, Any], str]] = {
    "planar": (BANDS_FIRST, {"planarconfig": "separate"}, "5 bands"),
    "contiguous": (FIVE, {"planarconfig": "contig"}, "5 bands"),
    "saved as it was": (FIVE[:, :, :4].repeat(2, 0).repeat(2, 1), {}, "4 bands"),
    "two bands": (FIVE[..., :2], {"planarconfig": "contig"}, "2 bands"),
    "planar, 8 bit": (BANDS_FIRST[:4].astype(np.uint8), {"planarconfig": "separate"}, "4 bands"),
    "infrared beside RGB": (
        FIVE[..., :4].astype(np.uint8),
        {"photometric": "rgb", "extrasamples": ["unspecified"]},
        "4 bands",
    ),
    "pages": (BANDS_FIRST, {}, "5 pages"),
    "three pages": (BANDS_FIRST[:3], {}, "3 pages"),
    "three pages of 8 bit": (BANDS_FIRST[:3].astype(np.uint8), {}, "3 pages"),
    "ImageJ": (BANDS_FIRST[:3], {"imagej": True}, "3 pages"),
    "OME": (BANDS_FIRST[:3], {"ome": True, "metadata": {"axes": "CYX"}}, "3 pages"),
}


@pytest.mark.parametrize("name", STACKS)
def test_bands_are_never_cut_and_all_or_some_are_read(name: str, tmp_path: Path) -> None:
    values, options, count = STACKS[name]
    path = tiff(tmp_path / "image.tif", values, **options)
    kind = count.split()[1]
    message = (
        rf"image.tif: has {count}.*counted from 1.*--data.bands '\[1,2,[23]\]'.*--data.bands all"
    )
    with pytest.raises(DataError, match=message) as caught:
        read_image(path)
    assert f"choose {kind}" in str(caught.value)
    bands = values if kind == "bands" and values.shape[0] > 5 else np.moveaxis(values, 0, 2)
    white = 255 if values.dtype == np.uint8 else 65535
    found = read_pixels(path, ALL)
    assert found.shape[:2] == upright_size(path) == bands.shape[:2]
    assert close(np.asarray(found.values).astype(float), scaled(bands, 0, white))
    chosen = read_pixels(path, DataConfig(bands=(2, 1, 2)))
    assert close(np.asarray(chosen.values).astype(float), scaled(bands[..., [1, 0, 1]], 0, white))
    with pytest.raises(DataError, match=rf"has {count}, but data.bands is \[1,9\]"):
        read_pixels(path, DataConfig(bands=(1, 9)))
    assert read_picture(path).size == bands.shape[1::-1]


def test_pages_with_a_compression_that_only_pillow_knows_are_read(tmp_path: Path) -> None:
    pages = [Image.fromarray(page) for page in BANDS_FIRST[:3]]
    path = tmp_path / "stack.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    with pytest.raises(DataError, match="has 3 pages"):
        read_image(path)
    found = np.asarray(read_pixels(path, ALL).values).astype(float)
    assert close(found, scaled(FIVE[..., :3], 0, 65535))
    with Image.open(path) as opened, pytest.raises(DataError, match="has 3 pages"):
        read_image(opened)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "packbits", "raw"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK"])
def test_ordinary_files_are_read_as_pillow_reads_them(
    mode: str, compression: str, tmp_path: Path
) -> None:
    if compression == "jpeg" and mode in ("P", "RGBA"):
        compression = "tiff_deflate"
    image = Image.effect_noise((40, 30), 60).convert("RGB").convert(mode)
    image.save(tmp_path / "image.tif", compression=compression)
    found = read_pixels(tmp_path / "image.tif", FULL)
    with Image.open(tmp_path / "image.tif") as opened:
        expected = opened.convert("RGBA").convert("RGB") if mode == "P" else opened.convert("RGB")
    assert np.array_equal(np.asarray(found.values), np.asarray(expected))
    assert not found.fault
    count = 1 if mode == "L" else 3
    assert read_pixels(tmp_path / "image.tif", ALL).shape[2] == count


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_numbers_as_it_does_pictures(orientation: int, tmp_path: Path) -> None:
    tag = [(274, "H", 1, orientation, True)]
    path = tiff(tmp_path / "image.tif", FIVE, planarconfig="contig", extratags=tag)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray((FIVE[..., 2] >> 8).astype(np.uint8)).save(tmp_path / "image.png", exif=exif)
    expected = np.asarray(read_image(tmp_path / "image.png"))[..., 0].astype(float)
    found = np.asarray(read_pixels(path, DataConfig(bands=(3,))).values)[..., 0]
    assert np.abs(found - expected).max() <= 1
    assert upright_size(path) == expected.shape


def test_images_of_different_sizes_in_one_file_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        file.write(GREY)
        file.write(GREY[:25])
    with pytest.raises(DataError, match="holds 2 images of other sizes"):
        read_image(tmp_path / "two.tif")


def test_a_thumbnail_beside_an_image_is_left_out(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        file.write(GREY)
        file.write(GREY[::4, ::4], subfiletype=1)
    found = np.asarray(read_image(tmp_path / "two.tif"))[..., 0].astype(float)
    assert close(found, scaled(GREY, 0, 65535))


@pytest.mark.parametrize("content", [b"II*\0", b"MM\0*garbage", b"II+\0\x08\0\0\0" + b"\xff" * 20])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.tif").write_bytes(content)
    with pytest.raises(DataError, match=r"broken.tif: .*replace or remove the file"):
        read_image(tmp_path / "broken.tif")


Write = Callable[[Path, int], object]


def dataset_of(folder: Path, write: Write) -> Path:
    """Write four images of 40 x 30 by `write` and an object on each, as train and val."""
    (folder / "annotations").mkdir(parents=True)
    polygon = [[5, 5, 25, 5, 25, 20, 5, 20]]
    for split in ("train", "val"):
        (folder / split).mkdir()
        images, annotations = [], []
        for i in range(1, 5):
            write(folder / split / f"{i}.tif", i)
            images.append({"id": i, "file_name": f"{i}.tif", "width": 40, "height": 30})
            entry = {"bbox": [5, 5, 20, 15], "segmentation": polygon, "area": 300, "iscrowd": 0}
            annotations.append({"id": i, "image_id": i, "category_id": 1, **entry})
        content = {"images": images, "annotations": annotations}
        content["categories"] = [{"id": 1, "name": "cell"}]
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def of_five(path: Path, number: int) -> None:
    tiff(path, np.roll(BANDS_FIRST, number, axis=2))


def train_set(folder: Path, **settings: Any) -> CocoDataset:
    config = override(Config(), {"data": {"size": [48, 64], **settings}}).data
    return load_dataset(folder, "train", config, train=True)


def test_all_bands_pass_resizing_pasting_and_the_batch(tmp_path: Path) -> None:
    data = train_set(
        dataset_of(tmp_path / "data", of_five), bands="all", copy_paste=1.0, jitter=[0.5, 1.5]
    )
    batch = collate([data[i] for i in range(4)])
    assert batch.images.shape[:2] == (4, 5)
    assert batch.images.float().std(dim=(0, 2, 3)).min() > 10
    assert fit_to_data(Config(), data).model.backbone.bands == 5


def test_colours_of_other_than_three_bands_cannot_be_changed(tmp_path: Path) -> None:
    data = train_set(dataset_of(tmp_path / "data", of_five), bands="all", color_jitter=[0.4, 0, 0])
    config = Config(data=data.config)
    with pytest.raises(ConfigError, match=r"data.color_jitter: .* there are 5; set"):
        fit_to_data(config, data)
    with pytest.raises(ConfigError, match=r"data.color_jitter: .* there are 2; set"):
        DataConfig(bands=(1, 2), color_jitter=(0.0, 0.1, 0.0))


def test_images_with_other_bands_than_the_first_are_refused(tmp_path: Path) -> None:
    def write(path: Path, number: int) -> None:
        tiff(path, BANDS_FIRST[: 5 if number < 3 else 4])

    data = train_set(dataset_of(tmp_path / "data", write), bands="all")
    assert data[0].image.shape[0] == 5
    with pytest.raises(DataError, match=r"4.tif: has 4 bands, but the first image has 5; choose"):
        data[3]


def test_a_training_is_warned_of_dim_images(tmp_path: Path) -> None:
    def dim(path: Path, _: int) -> None:
        Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(30, 40) % 9).save(path)

    said = train_set(dataset_of(tmp_path / "dim", dim)).contrast_warning
    assert "4 of 4 images looked at show little or were cut" in said


def test_a_training_is_warned_of_lost_contrast_and_stopped_by_lost_bands(tmp_path: Path) -> None:
    def grey(path: Path, _: int) -> None:
        tiff(path, GREY)

    folder = dataset_of(tmp_path / "grey", grey)
    assert "--data.range percentile" in train_set(folder).contrast_warning
    assert not train_set(folder, range="percentile").contrast_warning
    stack = dataset_of(tmp_path / "five", of_five)
    with pytest.raises(DataError, match="has 5 pages"):
        _ = train_set(stack).contrast_warning
    assert not train_set(stack, bands=[1, 2, 3]).contrast_warning


def test_check_data_has_a_row_for_lost_contrast_and_one_for_lost_bands(tmp_path: Path) -> None:
    def write(path: Path, number: int) -> None:
        tiff(path, GREY) if number < 4 else of_five(path, number)

    report = check(dataset_of(tmp_path / "data", write) / "annotations" / "instances_train.json")
    contrast = next(p for p in report.problems if "contrast" in str(p))
    assert (contrast.severity, "3 of 4 images, such as" in contrast.reason) == ("warning", True)
    assert "--data.range percentile" in contrast.action
    bands = next(p for p in report.problems if "has 5 pages" in str(p))
    assert (bands.severity, "1 of 4 images" in bands.reason) == ("error", True)
    assert "--data.bands all" in bands.action


def test_a_range_of_the_image_does_not_depend_on_how_a_jpeg_is_decoded(tmp_path: Path) -> None:
    photo = Image.effect_noise((640, 480), 90).convert("RGB")
    photo.save(tmp_path / "photo.jpg")
    shrink = shrinking((480, 640), (48, 64))
    assert shrink > 1
    for data in (MINMAX, PERCENTILE):
        small = read_pixels(tmp_path / "photo.jpg", data, shrink)
        assert np.array_equal(small.values, read_pixels(tmp_path / "photo.jpg", data).values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"range": [5, 1]}, r"data.range: \(5.0, 1.0\); expected a lower and a higher value"),
        ({"range": "auto"}, r"data.range: expected full, minmax, percentile or a list \[float"),
        ({"bands": "some"}, r"data.bands: expected all or a list \[int, ...\], got 'some'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(Config(), {"data": settings})


def test_settings_of_the_data_are_kept_in_the_config() -> None:
    settings = {"data": {"range": [0, 4095], "bands": "all"}, "model": {"backbone": {"bands": 5}}}
    config = override(Config(), settings)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_a_stack_whose_pages_end_early_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "stack.tif"
    tifffile.imwrite(file, np.ones((3, 20, 30), np.uint16), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(file) as opened:
        second = opened.pages[1].offset
    data = bytearray(file.read_bytes())
    (tags,) = struct.unpack_from("<H", data, second)
    struct.pack_into("<I", data, second + 2 + 12 * tags, 10**8)  # where the third page is
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"stack\.tif: is not whole: invalid page offset"):
        read_pixels(file, DataConfig(bands="all"))
    assert not caplog.records


def test_channels_in_files_that_are_missing_are_not_taken_as_black(tmp_path: Path) -> None:
    channels = "".join(
        f'<TiffData FirstC="{i}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}.ome.tif">urn:uuid:{name}</UUID></TiffData>'
        for i, name in enumerate("abc")
    )
    head = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a">'
    sides = 'SizeX="30" SizeY="20" SizeC="3" SizeZ="1" SizeT="1"'
    pixels = f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" {sides}>'
    described = f'{head}<Image ID="Image:0">{pixels}{channels}</Pixels></Image></OME>'
    file = tmp_path / "a.ome.tif"
    values = np.ones((20, 30), np.uint16)
    tifffile.imwrite(file, values, photometric="minisblack", description=described, metadata=None)
    with pytest.raises(DataError, match=r"is not whole: OME series failed to read 'b\.ome\.tif'"):
        read_pixels(file, DataConfig(bands="all"))


def test_a_broken_tag_that_no_picture_depends_on_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "camera.tif"
    tifffile.imwrite(
        file,
        np.full((20, 30), 7, np.uint16),
        photometric="minisblack",
        metadata=None,
        extratags=[(50000, "H", 4, (1, 2, 3, 4), True)],
    )
    data = file.read_bytes()
    at = data.index(struct.pack("<HH", 50000, 3)) + 2
    file.write_bytes(data[:at] + struct.pack("<H", 99) + data[at + 2 :])  # a type that is none
    assert read_pixels(file, DataConfig(range=(0.0, 255.0))).picture.getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_that_are_not_read_are_counted(kind: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "green", "blue")]
    file = tmp_path / "moving"
    frames[0].save(file, format=kind, save_all=True, append_images=frames[1:])
    assert read_pixels(file, DataConfig()).fault == (
        "holds 3 frames, of which the first is read; save each frame as a file"
    )
    frames[0].save(file, format=kind)
    assert not read_pixels(file, DataConfig()).fault


def test_a_preview_beside_a_photo_is_no_frame(tmp_path: Path) -> None:
    photo = Image.new("RGB", (30, 20), "red")
    photo.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[photo])
    assert not read_pixels(tmp_path / "a.jpg", DataConfig()).fault


def test_floating_point_without_a_range_is_said(tmp_path: Path) -> None:
    values = np.linspace(0, 4000, 600, dtype=np.float32).reshape(20, 30)
    tifffile.imwrite(tmp_path / "counts.tif", values)
    fault = read_pixels(tmp_path / "counts.tif", DataConfig()).fault
    assert "0..4000, have no range of their own: white is the largest value of each" in fault
    assert not read_pixels(tmp_path / "counts.tif", DataConfig(range=(0.0, 4000.0))).fault
    tifffile.imwrite(tmp_path / "parts.tif", values / 4000)
    assert not read_pixels(tmp_path / "parts.tif", DataConfig()).fault


def test_bits_of_a_portable_pixmap_that_are_cut_are_said(tmp_path: Path) -> None:
    values = np.full((20, 30, 3), 4000, ">u2")
    (tmp_path / "deep.ppm").write_bytes(b"P6\n30 20\n65535\n" + values.tobytes())
    assert (
        "more than 8 bits, of which 8 are read"
        in read_pixels(tmp_path / "deep.ppm", DataConfig()).fault
    )


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\0\0\0\x18ftypheic", "it is a HEIC photo; save it as JPEG"),
        (b"\0\0\0\x18ftypmp42", "it is a video; take frames out of it"),
        (bytes(128) + b"DICM", "it is DICOM; save each picture as 16-bit PNG or TIFF"),
        (b"\x93NUMPY\x01\0", "it is an array of NumPy; save it as TIFF"),
        (b"version https://git-lfs", "it is a Git LFS pointer; fetch the file"),
        (b"<!DOCTYPE html>", "it is a web page; download the image again"),
        (b"", "it is empty; replace or remove the file"),
        (bytes(40), "it holds zeros, as after a copy that failed"),
        (b"something", "not an image in a known format; replace or remove the file"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(head: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(head)
    with pytest.raises(DataError, match=rf"image\.png: cannot be read: {said}"):
        read_pixels(file, DataConfig())


@pytest.mark.parametrize("name", ["deep.jp2", "deep.j2k"])
def test_more_bits_than_are_read_of_jpeg_2000_are_said(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    Image.new("RGB", (30, 20), (10, 90, 200)).save(file)
    assert read_pixels(file, DataConfig()).fault == ""
    data = bytearray(file.read_bytes())
    start = data.index(b"\xff\x4f\xff\x51") + 42
    data[start : start + 9 : 3] = bytes([11, 11, 11])  # 12 bits in the head
    file.write_bytes(data)
    assert "more than 8 bits, of which 8 are read" in read_pixels(file, DataConfig()).fault


def test_grey_of_jpeg_2000_keeps_its_bits(tmp_path: Path) -> None:
    values = (np.arange(600).reshape(20, 30) * 100).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.jp2")
    pixels = read_pixels(tmp_path / "grey.jp2", DataConfig(range=(0.0, 60000.0)))
    assert not pixels.fault
    found = np.asarray(pixels.values)[..., 0].astype(np.float64)
    assert np.abs(found - values * (255 / 60000)).max() <= 1  # rounded


def test_a_fourth_band_of_jpeg_2000_is_no_transparency_unless_it_says_so(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (20, 30, 4), dtype=np.uint8)
    image = Image.fromarray(values, "RGBA")
    image.save(tmp_path / "bands.j2k")
    with pytest.raises(DataError, match=r"has 4 bands.*--data\.bands"):
        read_image(tmp_path / "bands.j2k")
    found = read_pixels(tmp_path / "bands.j2k", DataConfig(bands=(4, 2)))
    assert (np.asarray(found.values) == values[..., [3, 1]]).all()
    image.save(tmp_path / "clear.jp2")
    assert (np.asarray(read_image(tmp_path / "clear.jp2")) == values[..., :3]).all()
