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
        DataError: unreadable, or an array or tensor of another shape, type or range of values.
    """
    if isinstance(source, Tensor):
        source = _tensor_pixels(source)
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
            inside = (p for p in path.iterdir() if p.suffix.lower() in suffixes)
            found = sorted(p for p in inside if p.is_file())
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


def _tensor_pixels(tensor: Tensor) -> NDArray[np.uint8]:
    if tensor.ndim != 3 or tensor.shape[0] != 3 or not tensor.numel():
        raise DataError(f"a tensor image must be (3, H, W), not {tuple(tensor.shape)}")
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise DataError(f"a tensor image must hold numbers 0..255, not {tensor.dtype}")
    if tensor.is_floating_point():
        _require_0_to_255(tensor)
    pixels = tensor.detach().cpu().clamp(0, 255).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).numpy()


def _require_0_to_255(tensor: Tensor) -> None:
    """Refuse what would be black: torchvision's transforms give 0..1."""
    if not tensor.isfinite().all():
        raise DataError("a tensor image holds values that are not finite; expected 0..255")
    if tensor.max() <= 1 and tensor.any():
        raise DataError(
            f"a tensor image holds values from {tensor.min():g} to {tensor.max():g}; "
            "expected 0..255: multiply values of 0..1 by 255"
        )


def _array_image(array: NDArray[Any]) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise DataError(f"an array image must be (H, W, 3) or (H, W), not {array.shape}")
    if not array.size:
        raise DataError(f"an array image must have pixels, not {array.shape}")
    if array.dtype != np.uint8:
        raise DataError(
            f"an array image must be uint8, not {array.dtype}; expected 0..255: "
            "multiply values of 0..1 by 255, then use .astype(np.uint8)"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
