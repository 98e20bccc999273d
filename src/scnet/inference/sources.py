"""What can be predicted on: paths, images and arrays; folders and patterns on the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scnet.data.images import DataError, read_image

Source = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor


def to_image(source: Source) -> Image.Image:
    """Return any kind of source as an upright RGB image.

    Raises:
        DataError: unreadable, or an array of another shape or type.
    """
    if isinstance(source, Tensor):
        if source.ndim != 3 or source.shape[0] != 3:
            raise DataError(f"a tensor image must be (3, H, W), not {tuple(source.shape)}")
        source = (
            source.detach().cpu().clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        )
    if isinstance(source, np.ndarray):
        return read_image(_array_image(source))
    return read_image(source)


def image_files(sources: Sequence[str]) -> list[Path]:
    """Return the image files that paths, folders and globs name.

    Raises:
        DataError: one of them names none.
    """
    import glob

    suffixes = {s for s, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes)
        elif path.is_file():
            found = [path]
        else:
            found = sorted(Path(p) for p in glob.glob(source, recursive=True) if Path(p).is_file())
        if not found:
            raise DataError(
                f"{source}: no image found; "
                "give an image, a folder of images or a pattern such as 'a/*.jpg'"
            )
        files += found
    return files


def _array_image(array: NDArray[Any]) -> Image.Image:
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (1, 3, 4))
    ):
        raise DataError(
            f"an array image must be (H, W, 3) or (H, W) uint8, not {array.shape} {array.dtype}"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
