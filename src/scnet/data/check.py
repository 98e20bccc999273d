"""Read a whole data set and say everything that is wrong with it at once.

Nothing here trusts a file: any content ends in a report, never in an exception.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from scnet.config import DataConfig
from scnet.data.categories import CROWD_ACTION, crowd_message, differences, mostly_crowd
from scnet.data.check_pixels import Look, look_at, rows
from scnet.data.faults import (
    TOO_DEEP,
    annotation_fault,
    annotation_name,
    area_warning,
    by_id,
    category_fault,
    image_fault,
    image_name,
    is_crowd,
    placement_warnings,
    size_of,
    structure_faults,
)
from scnet.data.images import DataError
from scnet.data.layout import WORDS, annotation_files, find_split, locate_images, split_of
from scnet.data.mending import BOXES_ALONE, is_box_alone, mended
from scnet.data.overlap import Part, overlaps, repeated, unknown_keys
from scnet.data.reading import read_content
from scnet.data.report import Problem, Report, Summary
from scnet.data.semantic import find_stuff_maps
from scnet.ops.rle import foreground, runs
from scnet.types import Size

__all__ = ["Problem", "Report", "Summary", "check"]

Entry = Mapping[str, Any]
Progress = Callable[[int, int], None]  # images done, images in all

REMOVE = "remove it or run with --data.drop-invalid"
CHOSEN = 6  # images to draw


def check(
    path: str | Path, progress: Progress | None = None, config: DataConfig | None = None
) -> Report:
    """Return a report on every split of a data set, or on one annotation file.

    Args:
        path: a folder in one of the usual layouts, or an annotation file.
        progress: called with the images read and their number.
        config: how the files are read; None reads them as a training does unless told otherwise.

    >>> print(check("my_data").render())  # doctest: +SKIP
    """
    path = Path(path).expanduser()
    checks: list[_FileCheck] = []
    problems = []
    files: list[Path] = []
    try:
        files = annotation_files(path)
    except DataError as error:
        reason, _, action = str(error).removeprefix(f"{path}: ").rpartition("; ")
        problems.append(Problem("error", str(path), "", reason, action))
    looks: dict[Path, Look] = {}
    for file in files:
        checks.append(_FileCheck(file, config or DataConfig(), looks, progress))
        problems += checks[-1].problems
    parts = [Part(c.file, c.summary.split, c.root, c.files) for c in checks if c.root]
    problems += [Problem(said[0], str(part.file), "", *said[1:]) for part, said in overlaps(parts)]
    problems += _other_classes([c.summary for c in checks])
    chosen = next((c.chosen for c in checks if c.chosen), ())
    return Report(path, tuple(c.summary for c in checks), tuple(problems), tuple(chosen))


def _other_classes(summaries: Sequence[Summary]) -> Iterator[Problem]:
    """Yield how the classes of each file differ from those of the first, or of the training."""
    listed = sorted((s for s in summaries if s.per_class), key=lambda s: s.split != "train")
    for summary in listed[1:]:
        first = listed[0]
        for reason, action in differences(first.per_class, summary.per_class, first.split):
            yield Problem("warning", str(summary.file), "", reason, action)


class _FileCheck:
    """The check of one annotation file; made and done in one go."""

    def __init__(
        self,
        file: Path,
        config: DataConfig,
        looks: dict[Path, Look],
        progress: Progress | None,
    ) -> None:
        self.file = file
        self.config = config
        self.looks = looks  # at images read for any file of the data set
        self.problems: list[Problem] = []
        self.summary = Summary(split_of(file) or "all", file)
        self.chosen: list[tuple[Path, tuple[Entry, ...], dict[int, str]]] = []
        self.files: dict[int, Path] = {}  # of the images, by id
        self.root: Path | None = None  # of them
        self.blamed: set[tuple[str, str]] = set()  # ids of entries that are broken themselves
        content = self._content()
        if content is None:
            return
        try:
            self._check(content, progress)
        except RecursionError:  # what could be parsed may still be too deep to be named
            self.add("error", "", TOO_DEEP, "write the file as COCO annotations")

    def _check(self, content: Mapping[str, list[Entry]], progress: Progress | None) -> None:
        names = self._categories(content["categories"])
        images = self._images(content["images"])
        sound = self._annotations(content["annotations"], images, names)
        self._count(images, names, sound)
        for said in (*repeated(content["annotations"]), *unknown_keys(content["annotations"])):
            self.add(said[0], "", *said[1:])
        root = self._root(images)
        if root is not None:
            self._read(images, root, progress)
            self._choose(images, names, sound, root)
            self._stuff(images, root)

    def add(
        self, severity: Literal["error", "warning", "note"], where: str, reason: str, action: str
    ) -> None:
        self.problems.append(Problem(severity, str(self.file), where, reason, action))

    def _content(self) -> dict[str, list[Entry]] | None:
        """Return the lists of the file, with objects only; None if one is missing."""
        try:
            content, notes = read_content(self.file, self.config)
        except DataError as error:
            reason, _, action = str(error).removeprefix(f"{self.file}: ").rpartition("; ")
            self.add("error", "", reason, action)
            return None
        for note in notes:
            self.add("note", "", note, "nothing to do if that is right")
        faults = list(structure_faults(content))
        for fault in faults:
            self.add("error", "", fault, "write the file as COCO annotations")
        if not isinstance(content, dict):
            return None
        keys = ("images", "annotations", "categories")
        if any(not isinstance(content.get(key), list) for key in keys):
            return None
        return {key: [e for e in content[key] if isinstance(e, dict)] for key in keys}

    def _categories(self, entries: Iterable[Entry]) -> dict[int, str]:
        names: dict[int, str] = {}
        for entry in entries:
            where = f"category {entry.get('id')}"
            if fault := category_fault(entry):
                self.add("error", where, fault, "give each category an id and a name")
                self.blamed.add(("category_id", repr(entry.get("id"))))
            elif entry["id"] in names:
                self.add("error", where, "another category has the same id", "give each its own")
            else:
                names[entry["id"]] = entry["name"]
        for name, count in Counter(names.values()).items():
            if count > 1:
                reason = f"{count} categories have the name {name}"
                self.add("warning", "", reason, "join or rename them")
        return names

    def _images(self, entries: Iterable[Entry]) -> dict[int, Entry]:
        images: dict[int, Entry] = {}
        files: dict[str, int] = {}
        for entry in entries:
            where = image_name(entry)
            if fault := image_fault(entry):
                refused = "refused: " if "leaves" in fault else ""
                self.add("error", where, refused + fault, "correct the entry")
                self.blamed.add(("image_id", repr(entry.get("id"))))
                continue
            if entry["id"] in images:
                self.add("error", where, "another image has the same id", "give each its own")
                continue
            images[entry["id"]] = entry
            first = files.setdefault(entry["file_name"], entry["id"])
            if first != entry["id"]:
                reason = f"image {first} has the same file name"
                self.add("warning", where, reason, "join the two entries")
        if not images:
            self.add("error", "", "no usable images", "give a file that has some")
        return images

    def _annotations(
        self, entries: Iterable[Entry], images: Mapping[int, Entry], names: Mapping[int, str]
    ) -> dict[int, list[Entry]]:
        """Return the sound annotations of each image."""
        sound: dict[int, list[Entry]] = {image: [] for image in images}
        seen: set[int] = set()
        alone: list[str] = []
        for entry in entries:
            image = by_id(images, entry.get("image_id"))
            where = annotation_name(entry, image)
            self._annotation_id(entry, where, seen)
            size = size_of(image) if image else None
            known = by_id(names, entry.get("category_id")) is not None
            fault = annotation_fault(entry, size, known)
            if self._is_blamed(entry, image, known):
                continue
            part = mended(entry, size) if fault and size and known else None
            if part and size:
                entry, reason = part
                self.add("warning", where, reason, "correct it, or leave it: the object stays")
            elif fault and size and known and is_box_alone(entry, size):
                alone.append(where)
                continue
            if image is None or size is None or (fault and not part):
                self.add("error", where, fault or "", REMOVE)
                continue
            if warning := area_warning(entry):
                self.add("warning", where, warning, "correct it, or leave it out")
            if self._mask_is_sound(entry, where, size):
                sound[image["id"]].append(entry)
        masks = any(not is_crowd(entry) for entries in sound.values() for entry in entries)
        self._boxes_alone(alone, masks)
        return sound

    def _boxes_alone(self, places: Sequence[str], masks: bool) -> None:
        """Say which annotations have no mask; `masks` says whether others have one."""
        if places and not masks:
            self.add("error", "", *BOXES_ALONE.split("; ", 1))
        elif places:
            reason = f"{len(places):,} annotations have a box but no mask, such as {places[0]}"
            self.add("warning", "", reason, "draw them; till then they are ignored as crowd is")

    def _is_blamed(self, entry: Entry, image: Entry | None, known: bool) -> bool:
        """Return whether an annotation is wrong because its image or category is, which is said."""
        keys = [key for key, found in (("image_id", image), ("category_id", known)) if not found]
        return any((key, repr(entry.get(key))) in self.blamed for key in keys)

    def _annotation_id(self, entry: Entry, where: str, seen: set[int]) -> None:
        number = entry.get("id")
        if isinstance(number, bool) or not isinstance(number, int):
            self.add(
                "warning", where, "id is missing or not a whole number", "number annotations from 1"
            )
        elif number <= 0:
            reason = f"id is {number}; evaluators built like pycocotools count it as unmatched"
            self.add("warning", where, reason, "number annotations from 1")
        elif number in seen:
            reason = "another annotation has the same id; evaluators keep only one of them"
            self.add("warning", where, reason, "give each its own")
        else:
            seen.add(number)

    def _mask_is_sound(self, entry: Entry, where: str, size: Size) -> bool:
        """Draw a mask, compare it with its box, count it; return whether it holds anything."""
        lengths = runs(entry["segmentation"], size)
        found = foreground(lengths, size)
        if found is None:
            self.add("error", where, "mask is empty: the polygon covers no pixel", REMOVE)
            return False
        if is_crowd(entry):
            self.summary.crowds += 1
            return True
        self.summary.areas.append(int(lengths[1::2].sum()))
        pixels, (x, y) = found
        mask_box = (x, y, x + pixels.shape[1], y + pixels.shape[0])
        for reason in placement_warnings(entry, size, mask_box):
            self.add("warning", where, reason, "correct it, or leave it if it is meant")
        return True

    def _count(
        self,
        images: Mapping[int, Entry],
        names: Mapping[int, str],
        sound: Mapping[int, list[Entry]],
    ) -> None:
        objects = {i: [e for e in entries if not is_crowd(e)] for i, entries in sound.items()}
        self.summary.images = len(images)
        self.summary.per_image = Counter({i: len(entries) for i, entries in objects.items()})
        counts = Counter(dict.fromkeys(names.values(), 0))
        counts.update(names[e["category_id"]] for entries in objects.values() for e in entries)
        self.summary.per_class = counts
        crowds = Counter(
            names[e["category_id"]] for es in sound.values() for e in es if is_crowd(e)
        )
        for name, number in crowds.items():
            if self.config.crowd == "auto" and mostly_crowd(number, counts[name]):
                self.add("error", "", crowd_message(name, number, counts[name]), CROWD_ACTION)
        total, of = sum(crowds.values()), sum(counts.values())
        if total:
            reason = f"{total:,} of {total + of:,} annotations are crowd regions (iscrowd 1)"
            self.add("note", "", reason, "nothing is learnt from them")
        without = [name for name, count in counts.items() if not count and name not in crowds]
        if without:
            listed = ", ".join(without[:10]) + (", ..." if len(without) > 10 else "")
            reason = f"{len(without)} of {len(counts)} classes have no object: {listed}"
            self.add("warning", "", reason, "remove them from the categories, or add examples")
        empty = [image_name(images[i]) for i, entries in objects.items() if not entries]
        if empty:
            action = "that may be meant; --data.keep-empty false leaves them out of training"
            self.add("note", "", f"{len(empty)} images have no object, such as {empty[0]}", action)

    def _root(self, images: dict[int, Entry]) -> Path | None:
        """Return the folder of the images, which get the names that they have there."""
        split = next((s for s in WORDS if s == self.summary.split), "train")
        try:
            place = find_split(self.file, split)  # type: ignore[arg-type]
            found = locate_images(place, [entry["file_name"] for entry in images.values()])
        except DataError as error:
            reason, _, action = str(error).removeprefix(f"{self.file}: ").rpartition("; ")
            self.add("error", "", reason, action)
            return None
        for i, entry in list(images.items()):
            if fault := found.faults.get(entry["file_name"]):
                self.add("error", image_name(entry), f"refused: {fault}", "correct the entry")
                del images[i]
            elif other := found.names.get(entry["file_name"]):
                images[i] = {**entry, "file_name": other}
        for note in found.notes:
            self.add("note", "", note, "correct the names, or leave them if that is right")
        self.files = {i: found.root / entry["file_name"] for i, entry in images.items()}
        self.root = found.root
        return found.root

    def _read(self, images: Mapping[int, Entry], root: Path, progress: Progress | None) -> None:
        """Read every image not read before, and compare its size with the file's."""
        paths = {i: root / entry["file_name"] for i, entry in images.items()}
        new = [path for path in dict.fromkeys(paths.values()) if path not in self.looks]
        start = time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            for done, look in enumerate(
                pool.map(functools.partial(look_at, data=self.config), new), start=1
            ):
                self.looks[new[done - 1]] = look
                if progress:
                    progress(done, len(new))
        self.summary.read, self.summary.seconds = len(new), time.perf_counter() - start
        looks = [(image_name(entry), self.looks[paths[i]]) for i, entry in images.items()]
        for row in rows(looks):
            self.add(row.severity, "", row.reason, row.action)
        for i, entry in images.items():
            outcome = self.looks[paths[i]].outcome
            if isinstance(outcome, str):
                action = "restore or replace the file, or remove the entry"
                self.add("error", image_name(entry), outcome, action)
            elif outcome != size_of(entry):
                said = f"the annotations say {entry['width']} x {entry['height']}"
                reason = f"file is {outcome[1]} x {outcome[0]}, {said}"
                action = "use the image the annotations were made on"
                self.add("error", image_name(entry), reason, action)

    def _choose(
        self,
        images: Mapping[int, Entry],
        names: dict[int, str],
        sound: Mapping[int, list[Entry]],
        root: Path,
    ) -> None:
        """Choose images to draw, evenly from all that are sound and have objects."""
        usable = []
        for i, entry in images.items():
            path = root / entry["file_name"]
            objects = tuple(e for e in sound[i] if not is_crowd(e))
            if objects and self.looks[path].outcome == size_of(entry):
                usable.append((path, objects, names))
        step = max(1, len(usable) // CHOSEN)
        self.chosen = usable[::step][:CHOSEN]

    def _stuff(self, images: Mapping[int, Entry], root: Path) -> None:
        try:
            stuff = find_stuff_maps("auto", root, self.file)
        except DataError as error:
            self.add("error", "", str(error), "correct the maps or use --data.stuff-maps none")
            return
        if stuff:
            have = sum(stuff.path(entry["file_name"]) is not None for entry in images.values())
            self.summary.stuff = (
                f"semantic maps of {stuff.num_classes} classes for {have} of {len(images)} images: "
                f"{stuff.folder}"
            )
