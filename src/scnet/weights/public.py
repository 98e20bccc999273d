"""A trained model as it is handed on: its config names no file or folder of this machine."""

from __future__ import annotations

import copy
from pathlib import Path, PurePosixPath, PureWindowsPath

from scnet.config import Config, replace_at
from scnet.model.detector import Detector
from scnet.weights.checkpoint import CheckpointError, find_weights, load, rounded_to
from scnet.weights.foreign.conversion import Conversion, require_finite


def private(config: Config) -> dict[str, str]:
    """Return the settings that name a file or folder, by dotted path, and what is written instead.

    What a training began with (`start`) stays where it is a name: of published weights, or on a
    hub. Where it was a run of this machine nothing stays, as another could not have it.
    """
    backbone = config.model.backbone
    names = {
        "data.path": ("", bool(config.data.path)),
        "data.stuff_maps": ("auto", config.data.stuff_maps not in ("auto", "none")),
        "model.backbone.weights": ("imagenet", backbone.weights not in ("imagenet", "none")),
        "start": ("", _is_absolute(config.start)),
    }
    return {path: instead for path, (instead, is_private) in names.items() if is_private}


def without_paths(detector: Detector) -> Detector:
    """Return the detector, its weights shared, with a config that names nothing of this machine."""
    config = detector.config
    for path, instead in private(config).items():
        config = replace_at(config, path, instead)
    public = copy.copy(detector)  # shares the weights
    public.config = config
    return public


def read(path: Path) -> tuple[Conversion, tuple[str, ...]]:
    """Read a model of a training to hand it on, and say which of its settings stay behind.

    Args:
        path: run folder (its best checkpoint), checkpoint folder or `.safetensors` file.

    Raises:
        CheckpointError: not there, damaged, not finite, or the weights do not fit the config.
    """
    file = find_weights(path)
    detector = load(file)
    try:
        require_finite(detector.state_dict())
    except CheckpointError as error:
        raise CheckpointError(
            f"{file}: {error}; the training went wrong, so hand on an earlier checkpoint"
        ) from error
    config = detector.config
    rounded = f", rounded to {kind} before" if (kind := rounded_to(file)) else ""
    conversion = Conversion(
        detector=without_paths(detector),
        source=f"scnet, {file}{rounded}",
        used=len(detector.state_dict()),
        left={},
        settings=(),
        unread=(),
        assumed=config.assumed,
        where="",
        names="from the file" if config.classes else "",
        gives="when it was converted",
    )
    return conversion, tuple(private(config))


def _is_absolute(place: str) -> bool:
    """Return whether a text is a whole path on any system; trainings write whole ones."""
    return PurePosixPath(place).is_absolute() or PureWindowsPath(place).is_absolute()
