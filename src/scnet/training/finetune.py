"""What a fine-tuning does otherwise than a recipe: the settings of `--finetune`, as a value.

A recipe begins with heads that know nothing. Where a trained detector goes on, most layers are near
a solution, and large steps lose it. What others do, as multiples of what they do from ImageNet:

    rate            1: Mask R-CNN from COCO to Cityscapes, which names no other (He et al. 2017,
                    appendix A); "smaller" in MMDetection's guide to fine-tuning, whose example,
                    0.01 for 8 images, is 1; 0.1: detectron2's balloon tutorial, 0.00025 for 2
                    images where its baselines take 0.02 for 16. Between 1 and 0.1, as ratios go,
                    lies 0.3.
    warm-up         1 (MMDetection). Here the rate rises as steeply as the recipe's, so the lower
                    one is reached after 0.3 of the steps.
    frozen stages   as many, stem and one stage (MMDetection, detectron2). The first layers are the
                    most general ones (Yosinski et al. 2014), and a detector's have been trained for
                    detection, unlike ImageNet's. Freezing the whole backbone cost YOLOv5m less than
                    a point of AP on VOC and saved a fifth of the time (G. Jocher, "Freezing Layers
                    in YOLOv5"). Here: stem and two stages.
    length          1/6: Mask R-CNN, 4k steps for 24k; fewer epochs: MMDetection's guide. Here a
                    half, but not below a number of steps, as epochs of few images are short.

`python benchmarks/from_weights.py --finetune` measures all but the length beside the recipe's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scnet.config import Config, to_dict
from scnet.settings import ConfigError, leaves

RATE = 0.3  # of the recipe's, for the learning rate and the steps of its warm-up
FROZEN_STAGES = 2  # of the backbone, at least; the stem beside
LENGTH = 0.5  # of the recipe's epochs
LEAST_STEPS = 1000  # that epochs are not cut below

_SCHEDULE = ("optim.epochs", "optim.milestones")  # one stays where the other was given
# All that may change, by dotted path.
SETTINGS = ("optim.lr", "optim.warmup_steps", "model.backbone.frozen_stages", *_SCHEDULE)

Settings = Mapping[str, Any]  # nested, as `scnet.config.override` takes them


def changes(config: Config, theirs: Config, given: Settings, images: int) -> dict[str, Any]:
    """Return the settings that a fine-tuning changes: plain values by dotted path.

    Args:
        config: of the training as it would be without.
        theirs: config of the weights that it goes on from.
        given: what somebody set, which stays.
        images: that are seen in an epoch.

    Raises:
        ConfigError: all that would change was given.
    """
    before = dict(leaves(to_dict(config)))
    other = {path: v for path, v in _wanted(config, theirs, images).items() if v != before[path]}
    fixed = {path for path, _ in leaves(given)}
    if fixed & {*_SCHEDULE}:
        fixed |= {*_SCHEDULE}
    left = {path: value for path, value in other.items() if path not in fixed}
    if not left:
        raise ConfigError(
            f"--finetune: has no effect, as all that it would change is set: {', '.join(other)}; "
            "leave it out, or leave one of these to it"
        )
    return left


def changed(before: Config, after: Config) -> str:
    """Return what a fine-tuning has changed: old and new values."""
    old, new = (dict(leaves(to_dict(config))) for config in (before, after))
    return ", ".join(f"{p} {old[p]} -> {new[p]}" for p in SETTINGS if new[p] != old[p])


def _wanted(config: Config, theirs: Config, images: int) -> dict[str, Any]:
    """Return the settings of a fine-tuning, whether they are other ones or not."""
    optim = config.optim
    epochs = _epochs(config, images)
    wanted: dict[str, Any] = {
        "optim.lr": float(f"{RATE * optim.lr:.6g}"),
        "optim.warmup_steps": round(RATE * optim.warmup_steps),
        "model.backbone.frozen_stages": _frozen_stages(config, theirs),
        "optim.epochs": epochs,
    }
    if optim.schedule == "step":
        at = [max(1, milestone * epochs // optim.epochs) for milestone in optim.milestones]
        wanted["optim.milestones"] = at
    return wanted


def _epochs(config: Config, images: int) -> int:
    """Return the length of the training, in epochs; where steps or minutes count it stays."""
    optim = config.optim
    if optim.max_steps or optim.max_minutes:
        return optim.epochs
    steps = math.ceil(images / optim.batch_size)  # of an epoch
    falls = len(optim.milestones) if optim.schedule == "step" else 0
    least = max(math.ceil(LENGTH * optim.epochs), math.ceil(LEAST_STEPS / steps), falls + 1)
    return min(least, optim.epochs)


def _frozen_stages(config: Config, theirs: Config) -> int:
    """Return the frozen stages of the backbone; those with new layers, which must learn, are not.

    Offsets of deformable convolutions that the weights lack begin with 0.
    """
    own = config.model.backbone
    stages = max(own.frozen_stages, FROZEN_STAGES)
    if own.deformable is not None and own.deformable != theirs.model.backbone.deformable:
        stages = max(own.frozen_stages, min(stages, min(own.deformable.stages) - 1))
    return stages
