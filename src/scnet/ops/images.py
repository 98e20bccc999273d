"""Images of different sizes in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Num
from torch import Tensor

from scnet.types import Size

DIVISOR = 32  # the coarsest map of the backbone then has whole cells


def pad_images(
    images: Sequence[Num[Tensor, "D _h _w"]], least: Size = (0, 0)
) -> Num[Tensor, "B D H W"]:
    """Stack images at the top left of a common size, a multiple of 32.

    The common size is that of the largest, or `least` (height, width) where that is more.
    """
    shapes = zip(*(image.shape[-2:] for image in images), strict=True)
    sides = (max(*of_images, most) for of_images, most in zip(shapes, least, strict=True))
    height, width = (-(-side // DIVISOR) * DIVISOR for side in sides)
    padded = images[0].new_zeros(len(images), len(images[0]), height, width)
    for slot, image in zip(padded, images, strict=True):
        slot[:, : image.shape[1], : image.shape[2]] = image
    return padded
