"""Text files with the path of an image on each line.

Blank lines and lines that begin with # are passed over. A path is relative to the folder of the
text file; where it is not there, to the working folder. Quotes around it, as Windows copies paths,
are taken off, and its backslashes may stand for slashes.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import NamedTuple

from scnet.data.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Named(NamedTuple):
    """What the lines of a text file name."""

    files: tuple[Path, ...]
    faults: tuple[str, ...]  # of lines that name no file
    notes: tuple[str, ...]  # where paths were looked for


def paths_in(file: Path) -> Named:
    """Return the files that a text file lists.

    Raises:
        DataError: it cannot be read, is no text, or none of its lines names a file.
    """
    lines = [(n, text) for n, line in enumerate(_lines(file), 1) if (text := _path(line))]
    found = [(n, text, _find(text, file.parent)) for n, text in lines]
    if not any(places for *_, places in found):
        what = f"none of its {len(lines):,} lines names a file" if lines else "names no image"
        first = f", such as {lines[0][1]:.80}" if lines else ""
        raise DataError(f"{file}: {what}{first}; write the path of an image on each line")
    faults = [f"{file}: line {n}: {_fault(text, file)}" for n, text, places in found if not places]
    files = [places[0] for *_, places in found if places]
    return Named(tuple(files), tuple(faults), _notes(file, [places for *_, places in found]))


def _lines(file: Path) -> list[str]:
    data = file.read_bytes()
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding).splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{file}: no list of paths in UTF-8; save it as UTF-8") from None


def _path(line: str) -> str:
    """Return the path on a line; empty if there is none."""
    text = line.strip()
    return "" if text.startswith("#") else text.strip("\"'")


def _find(text: str, folder: Path) -> list[Path]:
    """Return the files that a path may mean, that in the folder of the list first."""
    for spelling in dict.fromkeys((text, text.replace("\\", "/"))):
        path = Path(spelling).expanduser()
        places = [place for place in dict.fromkeys((folder / path, path)) if place.is_file()]
        if places:
            return places
    return []


def _fault(text: str, file: Path) -> str:
    if (file.parent / text).is_dir() or Path(text).is_dir():
        return f"{text} is a folder; write the paths of images, or give the folder itself"
    if Path(text).is_absolute():
        return f"no file {text}"
    return f"no file {text} in {file.parent} or in the working folder"


def _notes(file: Path, found: list[list[Path]]) -> tuple[str, ...]:
    """Return where relative paths were found, if not beside the list alone."""
    both = sum(len(places) > 1 and not places[0].samefile(places[1]) for places in found)
    beside = [places for places in found if places and not places[0].is_absolute()]
    away = sum(not places[0].is_relative_to(file.parent) for places in beside)
    notes = []
    if away:
        notes.append(f"{file}: {away:,} of its paths are not beside it but in the working folder")
    if both:
        notes.append(
            f"{file}: {both:,} of its paths are both beside it and in the working folder, and "
            "those beside it are taken"
        )
    return tuple(notes)
