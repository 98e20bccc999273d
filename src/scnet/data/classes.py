"""How names of classes are compared, and the names and ids of COCO's 80 classes."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

# Blanks of no width. Joiners (U+200C, U+200D) are none: Persian and Indic scripts spell with them.
_UNSEEN = re.compile("[\u200b\u2060\ufeff]")
# What stands between words; the first group is what numbers need, as 1-2 is not 12 and -1 not 1.
_BETWEEN = re.compile(r"((?<=\d)[\s_-]+(?=\d)|^-(?=\d))|[\s_-]+")


def seen_name(name: str) -> str:
    """Return a name as it is seen: no blanks around it, one spelling of letters with accents.

    Names are the same where this is the same.
    """
    return _UNSEEN.sub("", unicodedata.normalize("NFC", name)).strip()


def folded_name(name: str) -> str:
    """Return a name without what is spelt one way or another: case, blanks, hyphens, underscores.

    Numbers stay apart.

    >>> folded_name("Dining-Table") == folded_name("dining table")
    True
    >>> folded_name("grade 1-2") == folded_name("grade 12")
    False
    """
    plain = unicodedata.normalize("NFKC", seen_name(name)).casefold()
    return _BETWEEN.sub(lambda found: " " if found[1] else "", plain)


def coco_classes() -> tuple[str, ...]:
    """Return the names of COCO's 80 classes, by label."""
    return tuple(_categories().values())


def coco_category_ids(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the category ids that belong to COCO's class names, none if the names are others.

    They run from 1 to 90 with gaps.
    """
    return tuple(_categories()) if tuple(classes) == coco_classes() else ()


@functools.cache
def _categories() -> dict[int, str]:
    """Return name by id; torchvision carries the list with its own COCO weights."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    names: list[str] = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {id: name for id, name in enumerate(names) if name not in ("__background__", "N/A")}
