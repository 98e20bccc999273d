"""A glance at a few images of a data set: how many bands they have, and whether they show much."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scnet.config import DataConfig
from scnet.data.images import DataError, read_pixels
from scnet.data.pixels import all_faults
from scnet.data.wording import of_all

LOOKED_AT = 8  # images, evenly from all


def contrast_warning(paths: Sequence[Path], data: DataConfig) -> str:
    """Return what to say where half of the images or more show little or were cut; else empty.

    What cannot be read is left to those who need it, but not that bands need a choice: what holds
    for one image does for all.

    Raises:
        DataError: bands or pages would be cut.
    """
    chosen = paths[:: max(1, len(paths) // LOOKED_AT)][:LOOKED_AT]
    faults = [(path, fault) for path in chosen if (fault := _fault(path, data))]
    if 2 * len(faults) < max(1, len(chosen)):
        return ""
    path, fault = faults[0]
    dim = of_all(len(faults), len(chosen), "image")
    return f"{dim} looked at show little or were cut, such as {path}: {fault}"


def count_bands(paths: Sequence[Path], data: DataConfig) -> int:
    """Return the number of bands of the first image that can be read.

    Raises:
        DataError: none can.
    """
    found = (_bands(path, data) for path in paths)
    faults: list[DataError] = []
    for bands in found:
        if isinstance(bands, int):
            return bands
        faults.append(bands)
    raise DataError(f"data.bands all: no image can be read; {faults[0]}")


def _bands(path: Path, data: DataConfig) -> int | DataError:
    try:
        return read_pixels(path, data).shape[2]
    except DataError as error:
        return error


def _fault(path: Path, data: DataConfig) -> str:
    try:
        return all_faults(read_pixels(path, data), data)
    except DataError as error:
        if "--data.bands" in str(error) and data.unreadable == "stop":
            raise
        return ""
