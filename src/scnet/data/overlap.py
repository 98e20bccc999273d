"""What a data set has twice, what it does not look at, and what has no effect."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from scnet.data.columns import Columns
from scnet.data.finding import SUFFIXES
from scnet.data.wording import counted, of_all

Entry = Mapping[str, Any]
Severity = Literal["error", "warning", "note"]
Said = tuple[Severity, str, str]  # severity, reason, what to do

KNOWN = frozenset(
    {"id", "image_id", "category_id", "bbox", "segmentation", "area", "iscrowd", "score"}
    | {"mask_score"}
)
# Keys by which other tools mark what shall not be learnt from or scored.
TELLING = frozenset(
    {"ignore", "ignored", "ignore_flag", "difficult", "isbbox", "is_bbox", "occluded", "truncated"}
    | {"is_crowd", "isCrowd", "crowd", "is_group_of", "IsGroupOf", "dontcare", "exclude"}
)
TWO_CLASSES = "keep the class that is meant: an object has one"
END = 4096  # bytes at the end of a file, which mostly tell it from others of its size


class Part(NamedTuple):
    """The images of one annotation file."""

    file: Path
    split: str
    root: Path
    images: Mapping[int, Path]


def key_notes(entries: Iterable[Entry]) -> list[str]:
    """Return how often annotations are marked by keys that look as if they had an effect."""
    # Hardly any has such a key, which is soon seen.
    some = (e for e in entries if "attributes" in e or not TELLING.isdisjoint(e))
    marked = Counter(key for entry in some for key in _marks(entry))
    return [
        f"{counted(count, 'annotation', 'is')} marked with {key}, which has no effect: such are "
        "learnt from and scored as all others (iscrowd 1 leaves a region out)"
        for key, count in marked.most_common()
    ]


def unknown_keys(entries: Sequence[Entry]) -> Iterator[Said]:
    """Yield which keys of annotations have no effect."""
    for note in key_notes(entries):
        yield "warning", note, "set iscrowd to 1 or remove the annotations, if that is meant"
    found = Counter(key for entry in entries for key in entry.keys() - KNOWN - TELLING)
    if found:
        commonest = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{key} ({count:,})" for key, count in commonest[:10])
        yield "note", f"keys of annotations without effect: {named}", "nothing to do"


def repeated(entries: Iterable[Entry]) -> Iterator[Said]:
    """Yield how many annotations have the image, box and mask of an earlier one.

    With the same class they are there twice, with another an object has two classes.
    """
    alike: dict[str, list[Entry]] = defaultdict(list)
    double, other = list[str](), list[str]()
    for entry in entries:
        earlier = alike[str([entry.get("image_id"), entry.get("bbox")])]
        same = [e for e in earlier if e.get("segmentation") == entry.get("segmentation")]
        twin = [e for e in same if e.get("category_id") == entry.get("category_id")]
        for found, numbers in ((twin, double), ([] if twin else same, other)):
            numbers += [f"{entry.get('id')} and {e.get('id')}" for e in found[:1]]
        if not twin:
            earlier.append(entry)
    if double:
        reason = f"{_twice(len(double))}, such as {double[0]}"
        yield "warning", f"{reason} (same image, class, box and mask)", "remove the doubles"
    if other:
        yield "warning", f"{_classes(len(other))}, such as {other[0]}", TWO_CLASSES


def repeated_notes(columns: Columns, bounds: Sequence[tuple[int, int]]) -> list[str]:
    """Return how many objects have the image, box and mask of an earlier one, of any class.

    `bounds` says where the annotations of each image begin and end.
    """
    owner = np.zeros(len(columns.labels), np.int64)
    for image, (first, end) in enumerate(bounds):
        owner[first:end] = image
    rows = np.column_stack([owner, columns.boxes.astype(np.float64)])
    _, place, count = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    alike = np.flatnonzero((count[place] > 1) & ~columns.crowd)
    masks = [(place[i], _mask(columns.annotation(int(i), (0, 0)).segmentation)) for i in alike]
    single = set(zip(masks, columns.labels[alike].tolist(), strict=True))
    double, other = len(masks) - len(single), len(single) - len(set(masks))
    reason = f"{_twice(double)} (same image, class, box and mask)"
    notes = [f"{reason}; remove the doubles"] if double else []
    return notes + ([f"{_classes(other)}; {TWO_CLASSES}"] if other else [])


def double_entries(names: Sequence[str]) -> list[str]:
    """Return how many entries of images have the file of an earlier one.

    What is annotated under one is background under the other.
    """
    number = len(names) - len(set(names))
    if not number:
        return []
    example = Counter(names).most_common(1)[0][0]
    reason = f"{counted(number, 'image entry', 'has')} the file of another, such as {example}"
    return [f"{reason}: objects of one are background of the other; join such entries"]


def shared_notes(train: Iterable[Path], val: Iterable[Path], name: str = "validation") -> list[str]:
    """Return how many images of a validation are in the training too, by content."""
    ours, theirs = set(train), set(val)
    return _shared(ours, theirs, same_content([*ours, *theirs]), name)


def _shared(
    ours: set[Path], theirs: set[Path], groups: Iterable[Sequence[Path]], name: str
) -> list[str]:
    twins = {path: path for path in theirs & ours}
    for group in groups:
        twin = next((path for path in sorted(group) if path in ours), None)
        twins |= {path: twin for path in group if twin and path in theirs and path not in ours}
    if not twins:
        return []
    path, twin = min(twins.items())
    return [
        f"{of_all(len(twins), len(theirs), f'{name} image', 'is a training image')} too, such as "
        f"{path} "
        f"({'the same file' if path == twin else f'as {twin}'}), which makes AP too high; "
        "remove them from one of the two"
    ]


def overlaps(parts: Sequence[Part]) -> Iterator[tuple[Part, Said]]:
    """Yield what the splits of a data set have twice, and the files that no entry names."""
    groups = same_content([path for part in parts for path in part.images.values()])
    training = {path for part in parts if part.split == "train" for path in _paths(part)}
    for part in parts:
        yield from ((part, said) for said in _doubles(part, groups))
        if part.split != "train":
            for note in _shared(training, set(_paths(part)), groups, part.split):
                reason, _, action = note.rpartition("; ")
                yield part, ("warning", reason, action)
    yield from _unlisted(parts)


def same_content(paths: Iterable[Path]) -> list[list[Path]]:
    """Return the files that have the bytes of another, together; only such are read whole."""
    groups = [list(dict.fromkeys(paths))]
    for kind in (_size, _end, _whole):
        finer: dict[tuple[int, Any], list[Path]] = defaultdict(list)
        for number, group in enumerate(groups):
            for path in group:
                if (value := kind(path)) is not None:
                    finer[number, value].append(path)
        groups = [group for group in finer.values() if len(group) > 1]
    return groups


def _twice(number: int) -> str:
    return f"{counted(number, 'annotation', 'is')} there twice"


def _classes(number: int) -> str:
    return f"{counted(number, 'annotation', 'has')} the image, box and mask of one of another class"


def _marks(entry: Entry) -> Iterator[str]:
    for key in TELLING & entry.keys():
        if _is_set(entry[key]):
            yield key
    attributes = entry.get("attributes")
    if isinstance(attributes, dict):
        yield from (
            f"attributes.{k}" for k in TELLING & attributes.keys() if _is_set(attributes[k])
        )


def _mask(segmentation: Any) -> Any:
    """Return a mask as something that can be compared at once."""
    if isinstance(segmentation, dict):
        return segmentation["counts"]
    return tuple(polygon.tobytes() for polygon in segmentation)


def _is_set(value: Any) -> bool:
    return bool(value) and str(value).lower() not in ("0", "false", "no")


def _doubles(part: Part, groups: Sequence[Sequence[Path]]) -> Iterator[Said]:
    own = set(_paths(part))
    inside = [[path for path in group if path in own] for group in groups]
    inside = [group for group in inside if len(group) > 1]
    if inside:
        number = sum(len(group) - 1 for group in inside)
        has = f"{counted(number, 'image file', 'has')}"
        reason = f"{has} the content of another, such as {inside[0][1]} and {inside[0][0].name}"
        yield "warning", reason, "join their entries, or remove one"


def _unlisted(parts: Sequence[Part]) -> Iterator[tuple[Part, Said]]:
    """Yield how many images lie beside those of a file and are in no file of the data set."""
    listed = {path for part in parts for path in _paths(part)}
    seen: set[Path] = set()
    for part in parts:
        folders = dict.fromkeys(path.parent for path in _paths(part))
        more = [p for folder in folders if folder not in seen for p in _image_files(folder)]
        more = [path for path in more if path not in listed]
        seen.update(folders)
        if more:
            has = f"{counted(len(more), 'image file', 'has')}"
            reason = f"{has} no entry, such as {more[0]}"
            yield part, ("note", reason, "add entries, or leave them out if that is meant")


def _paths(part: Part) -> Iterable[Path]:
    return part.images.values()


def _image_files(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    shown = (name for name in names if not name.startswith("."))  # macOS puts such beside each file
    return [folder / n for n in shown if os.path.splitext(n)[1].lower() in SUFFIXES]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None


def _end(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - END))
            return file.read()
    except OSError:
        return None


def _whole(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None
