"""What entries of images leave out and the image files near them can tell: sizes and names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import cast
from urllib.parse import unquote, urlsplit

from scnet.data.forms.notes import Notes, RefusedError
from scnet.data.forms.values import Entry
from scnet.data.images import DataError, upright_size
from scnet.data.layout import Split, SplitName, find_split, locate_images, split_of
from scnet.data.wording import counted

_OTHER_NAMES = ("filename", "fileName", "name", "path")


def name_files(images: Sequence[Entry], file: Path, notes: Notes) -> None:
    """Give images without a file name the one that stands elsewhere, as in LVIS's addresses."""
    nameless = [image for image in images if not image.get("file_name")]
    deep = True
    for place, image in enumerate(nameless):
        key = next((k for k in _OTHER_NAMES if image.get(k) and isinstance(image[k], str)), None)
        if key:
            image["file_name"] = image[key]
            notes.add("image", f"file_name is missing, taken from {key}")
        elif isinstance(url := image.get("coco_url"), str) and url:
            parts = PurePosixPath(unquote(urlsplit(url).path)).parts
            if not place:
                deep = _is_near(str(PurePosixPath(*parts[-2:])), file)
            image["file_name"] = str(PurePosixPath(*parts[-2 if deep else -1 :]))
            notes.add("image", "file_name is missing, taken from the end of coco_url")


def measure(images: Sequence[Entry], file: Path, notes: Notes) -> None:
    """Give images without a size that of their file.

    Raises:
        RefusedError: a file that is needed for that is not there.
    """
    unknown = [i for i in images if not i.get("width") and not i.get("height")]
    names = [name for image in unknown if isinstance(name := image.get("file_name"), str)]
    if not names or len(names) < len(unknown):
        return
    missing = f"{counted(len(unknown), 'image')}: width and height are missing"
    try:
        found = locate_images(_near(file), names)
        sizes = [upright_size(found.root / found.names.get(name, name)) for name in names]
    except (DataError, OSError, ValueError) as error:
        reason = str(error).removeprefix(f"{file}: ").partition(";")[0]
        raise RefusedError(
            f"{missing}, and cannot be read from the files: {reason}; "
            "put the images beside the file, or write their sizes into it"
        ) from None
    for image, (height, width) in zip(unknown, sizes, strict=True):
        image["width"], image["height"] = width, height
    notes.add("image", "width and height are missing, read from the image files", len(unknown))


def _near(file: Path) -> Split:
    return find_split(file, cast(SplitName, split_of(file) or "train"))


def _is_near(name: str, file: Path) -> bool:
    return any((root / name).is_file() for root in _near(file).image_roots)
