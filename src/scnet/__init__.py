"""SCNet and the cascade family of instance segmentation on plain PyTorch.

>>> import scnet
>>> model = scnet.load("runs/cells")  # doctest: +SKIP
>>> model.predict("cells.png").plot().save("cells_masks.png")  # doctest: +SKIP

Names are imported when first used, so that `import scnet` and `scnet --help` are instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scnet.version import __version__ as __version__

if TYPE_CHECKING:
    from scnet import recipes
    from scnet.config import Config
    from scnet.data.images import DataError
    from scnet.evaluation.run import evaluate
    from scnet.inference.detections import Detections
    from scnet.inference.model import Model, from_torchvision, load
    from scnet.model.detector import Detector
    from scnet.settings import ConfigError
    from scnet.training.run import resume, train
    from scnet.weights import zoo
    from scnet.weights.checkpoint import CheckpointError
    from scnet.weights.load import build
    from scnet.weights.zoo import ZooError

_HOMES = {
    "CheckpointError": "scnet.weights.checkpoint",
    "Config": "scnet.config",
    "ConfigError": "scnet.settings",
    "DataError": "scnet.data.images",
    "Detections": "scnet.inference.detections",
    "Detector": "scnet.model.detector",
    "Model": "scnet.inference.model",
    "ZooError": "scnet.weights.zoo",
    "build": "scnet.weights.load",
    "evaluate": "scnet.evaluation.run",
    "from_torchvision": "scnet.inference.model",
    "load": "scnet.inference.model",
    "resume": "scnet.training.run",
    "train": "scnet.training.run",
}

_MODULES = {"recipes": "scnet.recipes", "zoo": "scnet.weights.zoo"}

__all__ = [
    "CheckpointError",
    "Config",
    "ConfigError",
    "DataError",
    "Detections",
    "Detector",
    "Model",
    "ZooError",
    "build",
    "evaluate",
    "from_torchvision",
    "load",
    "recipes",
    "resume",
    "train",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOMES:
        raise AttributeError(f"module 'scnet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
