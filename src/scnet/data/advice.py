"""Settings that suit a data set, each with the figure of the data that speaks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from scnet.config import Config
from scnet.data.annotations import ImageRecord
from scnet.data.wording import counted

STEP = 32  # sides of images are multiples of the coarsest stride
SMALLEST = 16.0  # pixels that the side of a small object should have in the network's input
REACH = (0.6, 1.6)  # sides that an anchor finds, as factors of its own
LEVELS = (4, 64)  # strides of the finest and the coarsest level with anchors
SCALES = (8.0, 4.0, 2.0)  # of anchors
SEEN = {True: 120_000, False: 12_000}  # images that a training should see, with and without a GPU
LONGEST = {True: 1024.0, False: 640.0}  # shorter side of the network's input
RARE = 10  # objects


class Advice(NamedTuple):
    """A setting, its value, and why."""

    setting: str  # dotted path in the config
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.setting} {self.value} ({self.reason})"


class Figures(NamedTuple):
    """What is counted in a training split."""

    sides: Float64[np.ndarray, "n"]  # square root of the area of each box, in original pixels
    counts: Int64[np.ndarray, "i"]  # objects of each image
    shorter: float  # median shorter side of the images
    ratio: float  # longer to shorter side that few images exceed
    per_class: dict[str, int]

    @classmethod
    def of(cls, images: Sequence[ImageRecord], classes: Sequence[str]) -> Figures:
        """Count objects; crowd regions are none."""
        columns = images[0].columns
        single, boxes = ~columns.crowd, columns.boxes.astype(np.float64)
        sizes = np.array([record.size for record in images], np.float64)
        below = np.concatenate([[0], np.cumsum(single)])
        labels = np.bincount(columns.labels[single], minlength=len(classes)).tolist()
        return cls(
            sides=np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))[single],
            counts=np.array([below[r.end] - below[r.first] for r in images], np.int64),
            shorter=float(np.median(sizes.min(1))),
            ratio=float(np.percentile(sizes.max(1) / sizes.min(1), 95)),
            per_class=dict(zip(classes, labels, strict=True)),
        )


def recipe_for(gpu: bool) -> Advice:
    """Return the architecture to begin with."""
    if gpu:
        return Advice("recipe", "scnet", "there is a GPU")
    return Advice("recipe", "scnet_lite", "there is no GPU, and a full recipe takes days without")


def advise(figures: Figures, config: Config, gpu: bool) -> list[Advice]:
    """Return what to set otherwise than a recipe does, for data that hold at least one object."""
    scale, sizes = config.data.scale_factor, list[Advice]()
    if scale is None:
        sizes = [_size(figures, gpu)]
        scale = sizes[0].value[0] / figures.shorter
    return [
        *sizes,
        *_anchors(figures, scale, config),
        *_crowded(figures, config),
        *_epochs(figures, config, gpu),
        *_rare(figures),
    ]


def _size(figures: Figures, gpu: bool) -> Advice:
    small = float(np.percentile(figures.sides, 10))
    wanted = figures.shorter * SMALLEST / max(small, 1.0)
    # Large objects need no detail, but an image of 10 x 10 cells shows none of their outlines.
    lowest = min(320.0, max(figures.shorter, 128.0))
    shorter = _rounded(min(max(wanted, lowest), 2 * figures.shorter, LONGEST[gpu]))
    longer = _rounded(shorter * min(figures.ratio, 2.0))
    at = small * shorter / figures.shorter
    reason = (
        f"a tenth of the objects is smaller than {small:.0f} px in images of {figures.shorter:.0f} "
        f"px, {at:.0f} px at that size"
    )
    if at < SMALLEST / 2:
        reason += "; that is too small to find: cut the images into parts"
    return Advice("data.size", [shorter, max(longer, shorter)], reason)


def _anchors(figures: Figures, scale: float, config: Config) -> list[Advice]:
    if config.model.rpn.anchor_sizes is not None:  # somebody knows better
        return []
    sides = figures.sides * scale

    def reached(anchor: float) -> float:
        low, high = LEVELS[0] * anchor * REACH[0], LEVELS[1] * anchor * REACH[1]
        return float(((sides >= low) & (sides <= high)).mean())

    best = max(SCALES, key=lambda anchor: round(reached(anchor), 2))
    low, high = LEVELS[0] * best, LEVELS[1] * best
    reason = f"anchors of {low:.0f} to {high:.0f} px reach {reached(best):.0%} of the objects"
    return [Advice("model.rpn.anchor_scale", best, reason)]


def _crowded(figures: Figures, config: Config) -> list[Advice]:
    most, many = int(figures.counts.max()), float(np.percentile(figures.counts, 90))
    found = []
    if most * 1.2 > config.model.box.max_detections:
        number, reason = math.ceil(most * 1.2 / 50) * 50, f"an image has {counted(most, 'object')}"
        found.append(Advice("model.box.max_detections", number, reason))
        proposals = max(3 * number, config.model.rpn.after_nms)
        found += [
            Advice(f"model.rpn.{name}", max(proposals, getattr(config.model.rpn, name)), reason)
            for name in ("before_nms", "before_nms_train", "after_nms", "after_nms_train")
        ]
    box, share = config.model.box, config.model.box.positive_fraction
    if many > box.samples * share:
        samples = min(_rounded(many / share), max(512, box.samples))
        reason = f"a tenth of the images has {many:.0f} objects or more, and each needs a sample"
        found.append(Advice("model.box.samples", samples, reason))
    return found


def _epochs(figures: Figures, config: Config, gpu: bool) -> list[Advice]:
    images = len(figures.counts)
    epochs = min(max(round(SEEN[gpu] / images), 12), 200)
    reason = f"{counted(images, 'image')}: {epochs * images:,} are seen in all"
    found = [Advice("optim.epochs", epochs, reason)]
    if config.optim.schedule != "cosine":
        found.append(Advice("optim.schedule", "cosine", "it fits any number of epochs"))
    return found


def _rare(figures: Figures) -> list[Advice]:
    rare = [f"{name} ({n})" for name, n in figures.per_class.items() if 0 < n < RARE]
    if not rare:
        return []
    shown = ", ".join(rare[:5]) + ", ..." * (len(rare) > 5)
    reason = f"{counted(len(rare), 'class', 'has')} fewer than {RARE} objects: {shown}"
    return [Advice("data.copy_paste", 0.5, reason)]


def _rounded(side: float) -> int:
    return max(STEP, round(side / STEP) * STEP)
