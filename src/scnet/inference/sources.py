"""What can be predicted on: paths, images and arrays, as a model reads them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scnet.config import Config, DataConfig
from scnet.data.images import DataError, read_pixels
from scnet.data.numbers import Numbers
from scnet.data.pixels import of_numbers
from scnet.data.wording import counted
from scnet.types import Pixels

Source = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor | Pixels


def to_image(source: Source) -> Image.Image:
    """Return any kind of source as an upright RGB image.

    Raises:
        DataError: unreadable, or an array or tensor of another shape, type or range of values.
    """
    return to_pixels(source, Config()).picture


def to_pixels(source: Source, config: Config) -> Pixels:
    """Return any kind of source as a model with these settings reads it.

    Raises:
        DataError: unreadable, or an array or tensor of another shape, type or range of values;
            or not with the bands that the model takes.
    """
    if isinstance(source, Pixels):
        return source
    data = config.data
    if isinstance(source, Tensor):
        source = _tensor_array(source, data)
    if isinstance(source, np.ndarray):
        pixels = _array_pixels(source, data)
    else:
        pixels = read_pixels(source, data)
    bands = pixels.shape[2]
    if bands != config.model.backbone.bands:
        raise DataError(
            f"{_name(source)}: has {counted(bands, 'band')}, but the model was trained on images "
            f"of {config.model.backbone.bands}; give those"
        )
    return pixels


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else "image"


def _tensor_array(tensor: Tensor, data: DataConfig) -> NDArray[Any]:
    """Return a tensor as an array (H, W, bands): of 8 bits where no other range is set."""
    if data.bands is None and (tensor.ndim != 3 or tensor.shape[0] != 3 or not tensor.numel()):
        raise DataError(f"a tensor image must be (3, H, W), not {tuple(tensor.shape)}")
    if tensor.ndim != 3 or not tensor.numel():
        raise DataError(f"a tensor image must be (bands, H, W), not {tuple(tensor.shape)}")
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise DataError(f"a tensor image must hold numbers 0..255, not {tensor.dtype}")
    values = tensor.detach().cpu()
    if data.range == "full":
        if tensor.is_floating_point():
            _require_0_to_255(tensor)
        values = values.clamp(0, 255).round().to(torch.uint8)
    elif values.is_floating_point():
        values = values.double()
    return values.permute(1, 2, 0).numpy()


def _require_0_to_255(tensor: Tensor) -> None:
    """Refuse what would be black: torchvision's transforms give 0..1."""
    if not tensor.isfinite().all():
        raise DataError("a tensor image holds values that are not finite; expected 0..255")
    if tensor.max() <= 1 and tensor.any():
        raise DataError(
            f"a tensor image holds values from {tensor.min():g} to {tensor.max():g}; "
            "expected 0..255: multiply values of 0..1 by 255"
        )


def _array_pixels(array: NDArray[Any], data: DataConfig) -> Pixels:
    """Return an array as it is, as RGB, or where the settings ask for more, its numbers scaled."""
    if data.range != "full" or data.bands is not None:
        return of_numbers(_array_numbers(array, data), data)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise DataError(f"an array image must be (H, W, 3) or (H, W), not {array.shape}")
    if not array.size:
        raise DataError(f"an array image must have pixels, not {array.shape}")
    if array.dtype != np.uint8:
        raise DataError(_not_8_bit(array))
    grey = array.ndim == 3 and array.shape[2] == 1
    # Grey becomes RGB, and transparency is dropped.
    return Pixels(Image.fromarray(array[..., 0] if grey else array).convert("RGB"))


def _array_numbers(array: NDArray[Any], data: DataConfig) -> Numbers:
    """Return an array as numbers, where the settings of the data are not the usual ones."""
    if array.ndim not in (2, 3) or not array.size:
        raise DataError(f"an array image must be (H, W) or (H, W, bands), not {array.shape}")
    if array.dtype.kind not in "uif":
        raise DataError(f"an array image must hold numbers, not {array.dtype}")
    if data.range == "full" and array.dtype != np.uint8:
        raise DataError(_not_8_bit(array))
    values = array if array.ndim == 3 else array[..., None]
    if data.bands is None and values.shape[2] == 4:  # the last is transparency, as in uint8
        values = values[..., :3]
    return Numbers(values, 255.0 if array.dtype == np.uint8 else None)


def _not_8_bit(array: NDArray[Any]) -> str:
    return (
        f"an array image must be uint8, not {array.dtype}; expected 0..255: "
        "multiply values of 0..1 by 255, then use .astype(np.uint8); a model trained with "
        "--data.range percentile, minmax or '[LOW,HIGH]' takes other numbers as they are"
    )
