"""What the head of a JPEG 2000 file says that Pillow keeps to itself: bits, bands, transparency.

Pillow decodes grey of up to 16 bits whole, and colours and anything beside them with 8. It takes
the last of two or four bands for transparency, which only some files say it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from PIL import Image

START = b"\xff\x4f\xff\x51"  # of the compressed data: its start, and the marker of the image's size
BANDS = 40  # bytes from there to the number of bands, behind which is a record for each
RECORD = 3  # bytes of that; the first is the number of bits - 1, and says whether values are signed
ALPHA = b"cdef"  # a box of the head that says which band is transparency
LOOKED_AT = 2**20  # bytes, more than colour profiles have


class Head(NamedTuple):
    """The kind of numbers in a file."""

    bits: int  # most of any band
    bands: int
    alpha: bool  # whether something says what the last band is


def head(image: Image.Image) -> Head | None:
    """Return what the head of an opened image says; None if it is decoded, or another format."""
    file = cast(Any, image).fp if image.format == "JPEG2000" and cast(Any, image).tile else None
    if file is None:
        return None
    place = file.tell()  # where the image itself would go on reading
    file.seek(0)
    data: bytes = file.read(LOOKED_AT)
    file.seek(place)
    start = data.find(START)
    first = start + BANDS + 2
    bands = int.from_bytes(data[first - 2 : first], "big")
    records = data[first : first + RECORD * bands : RECORD]
    if start < 0 or len(records) < bands:
        return None
    return Head(max((record & 0x7F) + 1 for record in records), bands, ALPHA in data[:start])
