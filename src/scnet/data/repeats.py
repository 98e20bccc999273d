"""How often each training image is seen in an epoch: more often where it holds more to learn.

Images of rare classes are seen more often (repeat-factor sampling, Gupta et al. 2019, LVIS, sec.
5.2), and so are images of which a training window shows only a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from scnet.config import DataConfig
from scnet.data.annotations import ImageRecord
from scnet.data.transforms import eval_view

STREAM = 1  # of random words: an epoch's order takes 0


class Draw(NamedTuple):
    """One look at an image in an epoch."""

    image: int  # index in the data set
    turn: int = 0  # looks at the same image before, each with random numbers of its own


def repeat_factors(images: Sequence[ImageRecord], data: DataConfig) -> Float64[np.ndarray, "n"]:
    """Return how often each image is seen in an epoch on average, at least once.

    The number of all looks is whole, so that every epoch has as many steps.
    """
    factors = np.ones(len(images))
    if data.repeat_rare:
        factors *= _of_rare_classes(images, data.repeat_rare)
    if data.repeat_large:
        factors *= _of_large_images(images, data)
    total = factors.sum()
    factors *= np.rint(total) / total
    return factors


def draws(factors: Float64[np.ndarray, "n"], seed: int, epoch: int) -> list[Draw]:
    """Return the looks of an epoch in the order of the images.

    An image is seen as often as its factor says, rounded up or down by chance so that the epoch's
    number stays the same (systematic sampling).
    """
    # The words of a bit generator are the same in every release of NumPy.
    state = np.random.SeedSequence((seed, epoch), spawn_key=(STREAM,))
    offset = np.random.PCG64(state).random_raw() // 2**11 / 2.0**53
    # To millionths, as a sum of factors may end a little above or below its whole number.
    passed = np.floor(np.rint(np.cumsum(factors) * 1e6) / 1e6 + offset).astype(np.int64)
    counts: Int64[np.ndarray, "n"] = np.diff(passed, prepend=0)
    return [Draw(image, turn) for image, count in enumerate(counts) for turn in range(count)]


def notes_of(factors: Float64[np.ndarray, "n"], data: DataConfig) -> list[str]:
    """Return what to say of how often images are seen; nothing where nobody asked for more."""
    asked = [name for name in ("repeat_rare", "repeat_large") if getattr(data, name)]
    if not asked:
        return []
    settings = " and ".join(f"data.{name}" for name in asked)
    if (factors == 1).all():
        return [f"{settings}: every image is seen once an epoch, as none is rare or large enough"]
    return [
        f"{settings}: an epoch looks {round(factors.sum()):,} times at the {len(factors):,} "
        f"images, at one of them {factors.max():.1f} times"
    ]


def _of_rare_classes(images: Sequence[ImageRecord], share: float) -> Float64[np.ndarray, "n"]:
    """Return for each image the factor of its rarest class: sqrt(share / its share of images)."""
    columns = images[0].columns
    held = [
        np.unique(columns.labels[r.first : r.end][~columns.crowd[r.first : r.end]]) for r in images
    ]
    together = np.concatenate(held)
    of_class = np.bincount(together, minlength=1) / len(images)
    factor = np.sqrt(share / np.maximum(of_class, 1 / len(images)))
    return np.array([max(1.0, *factor[labels]) if len(labels) else 1.0 for labels in held])


def _of_large_images(images: Sequence[ImageRecord], data: DataConfig) -> Float64[np.ndarray, "n"]:
    """Return how many training windows the area of each image holds."""
    window = data.size[0] * data.size[1]
    resized = [eval_view(record.size, data).resized for record in images]
    return np.array([max(1.0, height * width / window) for height, width in resized])
