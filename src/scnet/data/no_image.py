"""What a file is that Pillow and tifffile do not know as an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HEAD = 512  # bytes that tell
REPLACE = "replace or remove the file"
_TIFF = "save it as TIFF"
_FRAMES = "take frames out of it, as with ffmpeg -i FILE frame_%05d.png"


class _Kind(NamedTuple):
    at: int  # where in the file
    marks: Sequence[bytes]  # one of which is there
    what: str
    action: str


_KINDS = (
    _Kind(0, [b"version https://git-lfs"], "a Git LFS pointer", "fetch the file with git lfs pull"),
    _Kind(8, [b"heic", b"heix", b"hevc", b"mif1", b"msf1"], "a HEIC photo", "save it as JPEG"),
    _Kind(8, [b"avif", b"avis"], "an AVIF image, which this Pillow lacks", "save it as PNG"),
    _Kind(4, [b"ftyp"], "a video", _FRAMES),
    _Kind(0, [b"\x1aE\xdf\xa3"], "a video", _FRAMES),
    _Kind(8, [b"AVI "], "a video", _FRAMES),
    _Kind(128, [b"DICM"], "DICOM", "save each picture as 16-bit PNG or TIFF"),
    _Kind(0, [b"\x93NUMPY"], "an array of NumPy", f"{_TIFF} with tifffile.imwrite"),
    _Kind(0, [b"\x89HDF"], "HDF5, as HDF5, Imaris or NetCDF files are", _TIFF),
    _Kind(344, [b"n+1\0", b"ni1\0"], "NIfTI", f"{_TIFF}, slice by slice"),
    _Kind(0, [b"ZISRAWFILE"], "a CZI file of Zeiss", f"{_TIFF} in ZEN or Fiji"),
    _Kind(0, [b"\xda\xce\xbe\x0a"], "an ND2 file of Nikon", f"{_TIFF} in Fiji"),
    _Kind(0, [b"\x70\0\0\0"], "a LIF file of Leica", f"{_TIFF} in Fiji"),
    _Kind(0, [b"v/1\x01"], "OpenEXR", f"{_TIFF} of floating point"),
    _Kind(0, [b"\xff\x0a", b"\0\0\0\x0cJXL "], "JPEG XL", "save it as PNG"),
    _Kind(0, [b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "], "JPEG 2000 of a kind not read here", _TIFF),
    _Kind(0, [b"%PDF"], "PDF", "save its pages as PNG"),
    _Kind(0, [b"8BPS\0\x02"], "a large document of Photoshop", "save it as PNG or TIFF"),
    _Kind(0, [b"PK\x03\x04"], "a ZIP archive", "unpack it"),
    _Kind(0, [b"\x1f\x8b"], "packed by gzip", "unpack it"),
    _Kind(0, [b"<svg", b"<?xml"], "SVG or other XML", "save it as PNG"),
    _Kind(0, [b"<!DOCTYPE", b"<!doctype", b"<html"], "a web page", "download the image again"),
    _Kind(0, [b"{", b"["], "JSON", "give the image"),
)


def named(head: bytes) -> str:
    """Return what a file is that begins like this, and what to do.

    >>> named(b"%PDF-1.7")
    'it is PDF; save its pages as PNG'
    """
    if not head:
        return f"it is empty; {REPLACE}"
    if not head.strip(b"\0"):
        return f"it holds zeros, as after a copy that failed; {REPLACE}"
    for kind in _KINDS:
        if any(head.startswith(mark, kind.at) for mark in kind.marks):
            return f"it is {kind.what}; {kind.action}"
    return f"not an image in a known format; {REPLACE}"
