"""What a file is by its name: an image, a video, a list of paths, or something else."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path

from PIL import Image

LISTS = frozenset({".txt", ".lst", ".list"})
_VIDEOS = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".webm", ".wmv"}
)
_PHONES = frozenset({".heic", ".heif", ".hif"})  # read where a plug-in of Pillow reads them
# Pillow knows these by their head, and reads them with the help of other programs alone.
_STUBS = frozenset({".bufr", ".grib", ".h5", ".hdf", ".wmf", ".emf"})


def is_image(path: Path) -> bool:
    """Return whether a file has the suffix of an image that can be read, and is not hidden."""
    # Hidden files beside images, such as macOS's ._a.jpg, hold something else.
    return path.suffix.lower() in _suffixes() and not path.name.startswith(".")


def is_list(path: Path) -> bool:
    """Return whether a file has the suffix of a text file, which is read as a list of paths."""
    return path.suffix.lower() in LISTS


def advice(path: Path) -> str:
    """Return what to do with a file that is no image, by its name; empty for all else."""
    suffix, file = path.suffix.lower(), shlex.quote(str(path))
    if suffix in _VIDEOS:
        frames = shlex.quote(f"{path.stem}_frames")
        return (
            f"{path}: a video, and scnet reads images; take its frames first: "
            f"mkdir {frames} && ffmpeg -i {file} -vf fps=5 {frames}/%06d.png, "
            f"then give the folder {frames}"
        )
    if suffix in _PHONES and not is_image(path):
        jpeg = shlex.quote(str(path.with_suffix(".jpg")))
        return f"{path}: HEIF is not read; convert it first: heif-convert {file} {jpeg}"
    return ""


def kind(path: Path) -> str:
    """Return what files of a sort are called where they are counted."""
    if path.name.startswith("."):
        return "hidden"
    return path.suffix.lower() or "without suffix"


@cache
def _suffixes() -> frozenset[str]:
    known = Image.registered_extensions().items()
    return frozenset(s for s, of in known if of in Image.OPEN) - _STUBS - _VIDEOS
