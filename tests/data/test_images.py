"""Images of every kind arrive as upright RGB; broken ones are named."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import scnet.data.images as module
from scnet.data.images import DataError, read_image, upright_size

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.new(mode, (6, 4))
    assert read_image(image).mode == "RGB"
    if mode not in ("HSV", "LAB"):
        suffix = {"CMYK": "jpg", "YCbCr": "jpg"}.get(mode, "png")
        image.save(tmp_path / f"image.{suffix}")
        assert read_image(tmp_path / f"image.{suffix}").size == (6, 4)


def test_grey_values_fill_all_three_channels() -> None:
    pixels = np.asarray(read_image(Image.fromarray(GREY)))
    assert all(np.array_equal(pixels[..., c], GREY) for c in range(3))


@pytest.mark.parametrize("kind", ["uint16.png", "uint16.tif", ">u2.tif", "int32.tif"])
def test_sixteen_bits_are_scaled_linearly(kind: str, tmp_path: Path) -> None:
    dtype, suffix = kind.split(".")
    wide = (GREY.astype(np.int64) * 257).astype(dtype)
    if dtype == ">u2":
        Image.frombytes("I;16B", (6, 4), wide.tobytes()).save(tmp_path / f"wide.{suffix}")
    else:
        Image.fromarray(wide).save(tmp_path / f"wide.{suffix}")
    assert np.array_equal(np.asarray(read_image(tmp_path / f"wide.{suffix}"))[..., 0], GREY)


@pytest.mark.parametrize("largest", [1.0, 4000.0])
def test_floating_point_values_are_scaled_by_their_maximum(largest: float, tmp_path: Path) -> None:
    values = (GREY / GREY.max() * largest).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "values.tif")
    expected = GREY.astype(float) / GREY.max() * 255
    assert np.abs(np.asarray(read_image(tmp_path / "values.tif"))[..., 0] - expected).max() <= 0.51


def test_palette_with_transparency_reads_without_a_warning(tmp_path: Path) -> None:
    image = Image.fromarray(GREY).convert("P")
    image.save(tmp_path / "palette.png", transparency=bytes(range(256)))
    assert read_image(tmp_path / "palette.png").mode == "RGB"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    stored = Image.fromarray(np.repeat(GREY[..., None], 3, 2)).resize((60, 40), 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    image = read_image(tmp_path / "turned.png")
    assert image.size == ((40, 60) if orientation >= 5 else (60, 40))
    assert upright_size(tmp_path / "turned.png") == (image.height, image.width)
    again = read_image(image)
    assert again.tobytes() == image.tobytes()


def test_open_files_are_read_too() -> None:
    buffer = BytesIO()
    Image.fromarray(GREY).save(buffer, "PNG")
    buffer.seek(0)
    assert read_image(buffer).size == (6, 4)


def test_broken_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(whole)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:900])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    for name, reason in {
        "cut.jpg": "truncated",
        "text.jpg": "not an image",
        "empty.png": "it is empty",
        "folder.png": "directory",
        "missing.png": "no such image file",
    }.items():
        with pytest.raises(DataError, match=f"{name}: .*{reason}"):
            read_image(tmp_path / name)


def test_too_large_images_are_refused_with_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    Image.new("L", (50, 40)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match=r"large.png: 50 x 40: more than"):
        read_image(tmp_path / "large.png")


def test_pillows_own_limit_stays_what_it_is_and_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from PIL import Image; a = Image.MAX_IMAGE_PIXELS; import scnet.data.images; "
    code += "import scnet.inference.sources; assert Image.MAX_IMAGE_PIXELS == a"
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    for name, side in (("warns", 31), ("refuses", 50)):
        Image.new("L", (side, side)).save(tmp_path / f"{name}.png")
        assert read_image(tmp_path / f"{name}.png").size == (side, side)
        assert upright_size(tmp_path / f"{name}.png") == (side, side)
    with pytest.raises(DataError):
        read_image(tmp_path / "missing.png")
    assert Image.MAX_IMAGE_PIXELS == 900


def test_pillows_limit_stays_when_many_threads_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    Image.new("L", (50, 50)).save(tmp_path / "a.png")
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(read_image, [tmp_path / "a.png"] * 200))
    assert len(images) == 200
    assert Image.MAX_IMAGE_PIXELS == 900
