"""What `scnet check-data` finds by reading images: their sizes, and what would be lost of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from scnet.config import DataConfig
from scnet.data.images import DEFAULT, DataError, read_pixels, upright_size
from scnet.data.pixels import all_faults
from scnet.data.wording import of_all
from scnet.types import Size


class Look(NamedTuple):
    """What reading an image showed."""

    outcome: Size | str  # its size, or why it cannot be read
    fault: str = ""  # what is lost in reading it, and what to do
    bands: str = ""  # why its bands need a choice


class Row(NamedTuple):
    """A finding about several images."""

    severity: Literal["error", "warning"]
    reason: str
    action: str


def look_at(path: Path, data: DataConfig = DEFAULT) -> Look:
    """Read an image as a training with these settings would."""
    try:
        pixels = read_pixels(path, data)
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ").removesuffix("; replace or remove the file")
        return Look(upright_size(path), bands=reason) if "--data.bands" in reason else Look(reason)
    return Look(pixels.shape[:2], all_faults(pixels, data))


def rows(looks: Sequence[tuple[str, Look]]) -> Iterator[Row]:
    """Yield what is to be said of all images of a file, given with their names."""
    lost: dict[str, list[tuple[str, str]]] = {}
    for name, look in looks:
        reason, _, action = look.fault.rpartition("; ")
        if reason:
            lost.setdefault(action, []).append((name, reason))
    for action, found in lost.items():
        yield Row("warning", _some(found, len(looks)), action)
    cut = [(name, look.bands) for name, look in looks if look.bands]
    if cut:
        reason, _, action = _some(cut, len(looks)).partition(": in training ")
        yield Row("error", reason, f"in training {action}")


def _some(found: Sequence[tuple[str, str]], images: int) -> str:
    name, reason = found[0]
    return f"{of_all(len(found), images, 'image')}, such as {name}: {reason}"
