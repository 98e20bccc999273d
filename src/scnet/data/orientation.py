"""In which space the marks of an annotation file lie: on its images upright, or as stored.

A photograph may be stored on its side with a word of EXIF that says how to turn it. Tools differ in
whether the sizes that they write, and the marks, are those before or after. Neither tells of the
other, but marks lie inside their image: where they fit in one space alone, that is theirs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from scnet.data.errors import DataError
from scnet.data.faults import STRAY, by_id, size_of, sound_images
from scnet.data.geometry import SLACK, Reading
from scnet.data.images import tagged_size
from scnet.data.layout import WORDS, image_files, split_of
from scnet.data.parse import parse_json
from scnet.data.turning import ON_ITS_SIDE, Turns
from scnet.data.wording import counted
from scnet.types import Size

Entry = dict[str, Any]
Space = Literal["upright", "stored"]

GLANCE = 60  # images whose files are looked at before all are
MOST = 0.5  # share of images that concerns the file as a whole
FEW = 0.1  # share of images that may speak for the other space
WHICH = (
    "set --data.orientation upright if marks lie where viewers show the objects, or stored if they "
    "lie on the image before it is turned"
)


class Head(NamedTuple):
    """What the head of an image file says."""

    size: Size  # upright
    tag: int  # EXIF orientation

    @property
    def stored(self) -> Size:
        """Return the size before the image is turned upright."""
        return self.size[::-1] if self.tag >= ON_ITS_SIDE else self.size


class Seen(NamedTuple):
    """An image whose orientation matters."""

    entry: Entry
    head: Head
    fits: frozenset[Space]  # spaces that hold all its marks
    marked: bool


def orient(
    images: Sequence[Entry],
    annotations: Sequence[Entry],
    file: Path,
    asked: str,
    reading: Reading,
    root: Path | None,
) -> Turns:
    """Give images the size of the space in which their marks lie; return which have to be turned.

    Args:
        file: annotation file.
        asked: the setting `orientation`.
        reading: what numbers mean. Marks in pixels alone show where they lie.
        root: folder of the images; None looks near the file.

    Raises:
        DataError: nothing shows in which space the marks lie, and the setting leaves it open.
    """
    glance = images[:: -(-len(images) // GLANCE) or 1]
    some = sound_images(glance if asked == "auto" else images)
    if not any(_matters(*found) for found in _heads(some, file, root)):
        return Turns({})
    heads = _heads(sound_images(images), file, root)
    seen = _seen([found for found in heads if _matters(*found)], annotations, reading)
    turned = [one for one in seen if one.head.tag > 1]
    space, notes = _space(turned, asked, file, reading)
    notes += _set_sizes(turned, space)
    notes += _exchange([one for one in seen if one.head.tag <= 1], len(heads), asked, file)
    if space == "upright" or not turned:
        return Turns({}, tuple(notes))
    notes.append(f"{counted(len(turned), 'image')} turned upright with all marks, as EXIF says")
    return Turns({one.entry["id"]: one.head.tag for one in turned}, tuple(notes))


def _space(
    turned: Sequence[Seen], asked: str, file: Path, reading: Reading
) -> tuple[Space, list[str]]:
    """Return in which space the marks of images lie that EXIF turns, and how that is known.

    Raises:
        DataError: nothing shows it.
    """
    if asked != "auto":
        return cast(Space, asked), []
    if found := _shown(turned):
        return found, []
    for other in _siblings(file):
        if found := _shown(_of_sibling(other, reading)):
            said = (
                f"marks lie on images {found}, as those of {other.name} do, which are drawn alike"
            )
            return found, [said]
    open_ = [one for one in _sided(turned) if size_of(one.entry) == one.head.stored]
    first = (open_ or _sided(turned))[0].entry
    upright, stored = _votes(turned)
    raise DataError(
        f"{file}: {counted(len(_sided(turned)), 'image', 'is')} turned by EXIF, such as "
        f"{first['file_name']}, which is {first['width']} x {first['height']} in the file; marks "
        f"lie inside the image upright alone in {upright:,}, as stored alone in {stored:,}, and "
        f"nothing shows it in the others; {WHICH}"
    )


def _shown(turned: Sequence[Seen]) -> Space | None:
    """Return the space that marks show to be theirs; None if they show none, or both."""
    sided, (upright, stored) = _sided(turned), _votes(turned)
    raw = any(size_of(one.entry) == one.head.stored for one in sided)
    if stored > upright and upright <= FEW * stored and (raw or stored > 1):
        return "stored"
    if upright and stored <= FEW * upright:
        return "upright"
    # Where sizes are upright too, one image that speaks against it may have marks that stick out.
    return None if raw or stored > 1 else "upright"


def _sided(turned: Sequence[Seen]) -> list[Seen]:
    """Return the images with marks whose width and height differ and are exchanged."""
    return [one for one in turned if one.head.size != one.head.stored and one.marked]


def _votes(turned: Sequence[Seen]) -> tuple[int, int]:
    """Return how many images have marks that fit upright alone, and as stored alone."""
    fits = [one.fits for one in _sided(turned)]
    return fits.count(frozenset({"upright"})), fits.count(frozenset({"stored"}))


def _siblings(file: Path) -> list[Path]:
    """Return the annotation files of other splits of the same data set."""
    beside = [f for f in sorted(file.parent.glob("*.json")) if split_of(f)]
    words = itertools.chain.from_iterable(WORDS.values())
    folders = [file.parent.with_name(word) / file.name for word in words]
    found = [*beside, *(f for f in folders if f.is_file())]
    return [f for f in dict.fromkeys(found) if f != file]


def _of_sibling(file: Path, reading: Reading) -> list[Seen]:
    """Return the turned images of another annotation file; none if it is not plain."""
    try:
        content = parse_json(file.read_bytes())
        images = sound_images(content["images"])
        heads = _heads(images, file, None)
        seen = _seen([p for p in heads if p[1].tag > 1], content["annotations"], reading)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []
    return seen if _votes(seen) != (0, 0) else []


def _set_sizes(turned: Sequence[Seen], space: Space) -> list[str]:
    """Give images the size of the space of their marks; return what was done."""
    number = 0
    for one in turned:
        size = one.head.size if space == "upright" else one.head.stored
        if size_of(one.entry) == size[::-1] != size:
            one.entry["height"], one.entry["width"] = size
            number += 1
    before = "before" if space == "upright" else "after"
    where = "upright image" if space == "upright" else "image as stored"
    said = (
        f"{counted(number, 'image')}: width and height are those {before} the turn by EXIF, but "
        f"marks lie on the {where} (data.orientation); sizes are taken from the image files"
    )
    return [said] if number else []


def _exchange(seen: Sequence[Seen], number: int, asked: str, file: Path) -> list[str]:
    """Exchange width and height of images that lie as they are stored; return what was done.

    What fits neither or both is left to whoever reads the image, unless it is most of the file.

    Raises:
        DataError: nothing shows that marks lie on most of the `number` images.
    """
    shown = [one for one in seen if one.fits == {"upright"}]
    wrong = [one for one in seen if one.marked and "upright" not in one.fits]
    right = shown if wrong else seen
    if asked == "upright":
        right = seen
    elif asked == "stored" or (not shown and any(one.marked for one in seen)):
        right = []
    if not right and asked == "auto" and len(seen) >= max(2, MOST * number):
        raise DataError(_exchanged_message(seen, bool(wrong), file))
    for one in right:
        one.entry["height"], one.entry["width"] = one.head.size
    said = (
        f"{counted(len(right), 'image')}: width and height are exchanged, and taken from the files"
    )
    return [said] if right else []


def _exchanged_message(seen: Sequence[Seen], wrong: bool, file: Path) -> str:
    (entry, head, *_), others = seen[0], len(seen) - 1
    fit = "fit the latter alone" if wrong else "fit both"
    return (
        f"{file}: image {entry['file_name']} is {head.size[1]} x {head.size[0]}, but the file says "
        f"{entry['width']} x {entry['height']}, likewise {others:,} more, and marks {fit}; use the "
        "images that the annotations were made on, or set --data.orientation upright if marks lie "
        "right on these"
    )


def _heads(images: Sequence[Entry], file: Path, root: Path | None) -> list[tuple[Entry, Head]]:
    """Return the images whose files are found, with what their heads say."""
    files = image_files(file, [image["file_name"] for image in images], root)
    there = [image for image in images if image["file_name"] in files]
    with ThreadPoolExecutor(8) as pool:
        heads = list(pool.map(_head, (files[image["file_name"]] for image in there)))
    return [(image, head) for image, head in zip(there, heads, strict=True) if head]


def _head(path: Path) -> Head | None:
    try:
        return Head(*tagged_size(path))
    except Exception:  # decoders of broken files raise anything; whoever reads the image says it
        return None


def _matters(image: Entry, head: Head) -> bool:
    """Return whether an image is turned, or its width and height are not those of the file."""
    return head.tag > 1 or size_of(image) == head.size[::-1] != head.size


def _seen(
    found: Sequence[tuple[Entry, Head]], annotations: Sequence[Entry], reading: Reading
) -> list[Seen]:
    heads = {image["id"]: head for image, head in found}
    spaces: dict[int, set[Space]] = {number: {"upright", "stored"} for number in heads}
    marked = set()
    for entry in annotations:
        number = entry.get("image_id")
        if not (head := by_id(heads, number)):
            continue
        marked.add(number)
        if reading.coordinates == "pixels":
            both: tuple[tuple[Space, Size], ...] = (
                ("upright", head.size),
                ("stored", _other(head)),
            )
            out = {space for space, size in both if not _is_inside(entry, size)}
            spaces[cast(int, number)] -= out
    return [
        Seen(image, head, frozenset(spaces[image["id"]]), image["id"] in marked)
        for image, head in found
    ]


def _other(head: Head) -> Size:
    """Return the size that the image does not have upright."""
    return head.stored if head.tag > 1 else head.size[::-1]


def _is_inside(entry: Entry, size: Size) -> bool:
    """Return whether a mask fits an image of this size, as far as that can be seen."""
    mask = entry.get("segmentation")
    if isinstance(mask, dict):
        return bool(mask.get("size") == list(size))
    try:
        numbers = list(itertools.chain.from_iterable(mask or ()))
        points = np.array(numbers, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        return True
    slack = np.maximum(STRAY, SLACK * np.array(size[::-1]))
    return not len(points) or bool((points.max(0) <= np.array(size[::-1]) + slack).all())
