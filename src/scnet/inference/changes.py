"""What a model can be asked for otherwise than it was trained: how it sees, and what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from scnet.config import Config, override
from scnet.settings import ConfigError, merge
from scnet.types import Size


def change(
    image_size: Size | None = None,
    scale_factor: float | None = None,
    least_visible: float | None = None,
) -> Callable[[Config], Config]:
    """Return what puts these in the place of a model's settings; None leaves what it has.

    Args:
        image_size: as `DataConfig.size`, in the place of `scale_factor` too.
        scale_factor: as `DataConfig.scale_factor`, in the place of `size`.
        least_visible: as `MaskConfig.least_visible`.

    Raises:
        ConfigError: sides and a factor are both given. Calling what is returned raises it where a
            value is out of its range.
    """
    if image_size is not None and scale_factor is not None:
        raise ConfigError(
            "image_size and scale_factor both say how images are resized; give only one"
        )
    # Of the training alone, where it may contradict what is new.
    unused: dict[str, Any] = {"scales": [], "repeat_large": False}
    changes: dict[str, Any] = {}
    if image_size is not None:
        changes = {"data": {**unused, "size": list(image_size), "scale_factor": None}}
    if scale_factor is not None:
        changes = {"data": {**unused, "scale_factor": scale_factor, "keep_ratio": True}}
    if least_visible is not None:
        changes = merge(changes, {"model": {"mask": {"least_visible": least_visible}}})
    return partial(override, values=changes)
