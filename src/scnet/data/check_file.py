"""Everything that is wrong with one annotation file and its images.

Nothing here trusts a file: any content ends in a report, never in an exception.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from scnet.config import ConfigError, DataConfig
from scnet.data.areas import ACTION as AREA_ACTION
from scnet.data.areas import area_fault
from scnet.data.categories import ClassError, look_alikes, roots
from scnet.data.check_contents import contents_of
from scnet.data.check_images import Chosen, Progress, choose, read_images, stuff_maps
from scnet.data.check_pixels import Look
from scnet.data.classes import seen_name
from scnet.data.faults import (
    TOO_DEEP,
    ReadRuns,
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
from scnet.data.geometry import Reading
from scnet.data.holes import ACTION as HOLE_ACTION
from scnet.data.holes import hole_fault
from scnet.data.images import DataError
from scnet.data.layout import WORDS, find_split, locate_images, split_of
from scnet.data.mending import BOXES_ALONE, is_box_alone, mended
from scnet.data.mistakes import judge_file
from scnet.data.overlap import repeated, unknown_keys
from scnet.data.reading import is_image_list, read_content
from scnet.data.report import Problem, Summary
from scnet.data.sides import find_swaps
from scnet.data.wording import counted
from scnet.ops.rle import Runs, extent, runs
from scnet.types import Size

Entry = Mapping[str, Any]

REMOVE = "remove it or run with --data.drop-invalid"


class FileCheck:
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
        self.chosen: list[Chosen] = []
        self.files: dict[int, Path] = {}  # of the images, by id
        self.root: Path | None = None  # of them
        self.runs = _remembering(runs)
        self.blamed: set[tuple[str, str]] = set()  # ids of entries that are broken themselves
        content = self._content()
        if content is None:
            return
        try:
            self._check(self._as_meant(content) or content, progress)
        except RecursionError:  # what could be parsed may still be too deep to be named
            self.add("error", "", TOO_DEEP, "write the file as COCO annotations")

    def _check(self, content: Mapping[str, list[Entry]], progress: Progress | None) -> None:
        names = self._categories(content["categories"])
        images = self._images(content["images"])
        sound = self._annotations(content["annotations"], images, names)
        sizes = {i: size_of(image) for i, image in images.items()}
        if fault := area_fault(content["annotations"], sizes):
            self.add("warning", "", fault, AREA_ACTION)
        left_out = self._left_out(content, names)
        for said in contents_of(self.summary, self.config.crowd, images, names, sound, left_out):
            self.add(said[0], "", *said[1:])
        self._nothing_to_learn()
        self._sides(names, left_out)
        kept = [entry for entries in sound.values() for entry in entries]
        drawn = [entry for entry in kept if isinstance(entry["segmentation"], list)]
        if fault := hole_fault([entry for entry in drawn if len(entry["segmentation"]) > 1]):
            self.add("warning", "", fault, HOLE_ACTION)
        twice = repeated(kept)
        for said in (*twice, *unknown_keys(content["annotations"])):
            self.add(said[0], "", *said[1:])
        root = self._root(images)
        if root is not None:
            found = read_images(images, root, self.looks, self.config, self.summary, progress)
            for severity, where, reason, action in (
                *found,
                *stuff_maps(images, root, self.summary),
            ):
                self.add(severity, where, reason, action)
            self.chosen = choose(images, names, sound, root, self.looks)

    def _left_out(
        self, content: Mapping[str, list[Entry]], names: Mapping[int, str]
    ) -> Collection[str]:
        """Return the classes that a training leaves out by itself."""
        if self.config.classes:
            return ()
        categories = [c for c in content["categories"] if by_id(names, c.get("id"))]
        return roots({**content, "categories": categories})

    def _nothing_to_learn(self) -> None:
        """Stop where a training would find no object, and nothing has said why."""
        learnt = self.summary.split in ("train", "all")
        if learnt and not sum(self.summary.per_class.values()) and not self._is_faulty:
            self.add("error", "", "no object to learn from", "annotate some, or give another file")

    def _sides(self, names: Mapping[int, str], left_out: Collection[str]) -> None:
        """Say which classes change places in mirrored images, as a training does."""
        if self.summary.split not in ("train", "all"):
            return
        own = dict.fromkeys(seen_name(name) for name in names.values())
        learnt = self.config.classes or tuple(name for name in own if name not in left_out)
        mirrors = self.config.flip > 0 or self.config.vertical_flip > 0
        try:
            found = find_swaps(self.config.flip_swaps, learnt, None, mirrors=mirrors)
        except (ClassError, ConfigError) as error:
            reason, _, action = str(error).partition("; ")
            self.add("error", "", reason, action)
            return
        for note in found.notes:
            self.add("note", "", note, "nothing to do if that is meant; else set data.flip_swaps")

    @property
    def _is_faulty(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

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
        if self.summary.split == "test" and is_image_list(content):
            self.summary.images = len(content["images"])
            reason = (
                f"{counted(self.summary.images, 'image')} without annotations, to predict on alone"
            )
            action = "with scnet predict WEIGHTS --data FILE -o results.json"
            self.add("note", "", reason, action)
            return None
        faults = list(structure_faults(content))
        for fault in faults:
            self.add("error", "", fault, "write the file as COCO annotations")
        return self._lists(content)

    def _lists(self, content: Any) -> dict[str, list[Any]] | None:
        """Return the lists of the file, with objects only; None if one is missing."""
        if not isinstance(content, dict):
            return None
        keys = ("images", "annotations", "categories")
        if any(not isinstance(content.get(key), list) for key in keys):
            return None
        return {key: [e for e in content[key] if isinstance(e, dict)] for key in keys}

    def _as_meant(self, content: Mapping[str, list[Any]]) -> dict[str, list[Any]] | None:
        """Say where the file contradicts itself; return its content read right, if that is certain.

        What else is wrong is said of that, since all that the mistake brings about is not.
        """
        if Reading.of(self.config) != Reading():  # judged when it was read
            return None
        images = {entry["id"]: entry for entry in content["images"] if not image_fault(entry)}
        annotations = content["annotations"]
        verdict = judge_file(annotations, images, self.config)
        if verdict and not verdict.certain:  # of the rest it is said what is broken
            sizes = {i: size_of(image) for i, image in images.items()}
            verdict = verdict.of({p for p in verdict.places if _is_sound(annotations[p], sizes)})
        if verdict is None:
            return None
        stops = verdict.certain and self.config.contradictions == "stop"
        said = verdict.message(annotations, images)
        self.add("error" if stops else "warning", "", *said)
        if not stops or verdict.settings is None:
            return None
        self.config = replace(self.config, **verdict.settings)
        return self._lists(read_content(self.file, self.config).json)

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
        for reason in look_alikes(names.values()):
            self.add("warning", "", reason, "give them one name if they are one class")
        for name, count in Counter(names.values()).items():
            if count > 1:
                reason = f"{count} categories have the name {name}"
                action = "they are one class in training; rename one if that is not meant"
                self.add("warning", "", reason, action)
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
            fault = annotation_fault(entry, size, known, self.runs)
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
            has = f"{counted(len(places), 'annotation', 'has')}"
            reason = f"{has} a box but no mask, such as {places[0]}"
            self.add("warning", "", reason, "draw it; till then its place is ignored as crowd is")

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
        lengths = self.runs(entry["segmentation"], size)
        mask_box = extent(lengths, size)
        if mask_box is None:
            self.add("error", where, "mask is empty: the polygon covers no pixel", REMOVE)
            return False
        if is_crowd(entry):
            self.summary.crowds += 1
            return True
        self.summary.areas.append(int(lengths[1::2].sum()))
        for reason in placement_warnings(entry, size, mask_box):
            self.add("warning", where, reason, "correct it, or leave it if it is meant")
        return True

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


def _is_sound(entry: Entry, sizes: Mapping[int, Size]) -> bool:
    """Return whether nothing is wrong with an annotation for itself."""
    return not annotation_fault(entry, by_id(sizes, entry.get("image_id")), known_category=True)


def _remembering(runs: ReadRuns) -> ReadRuns:
    """Return a reader of run lengths that knows those it read last, as each are asked for twice."""
    last: list[tuple[Any, Size, Runs]] = []

    def read(segmentation: Any, size: Size) -> Runs:
        if last and last[0][0] is segmentation and last[0][1] == size:
            return last[0][2]
        found = runs(segmentation, size)
        last[:] = [(segmentation, size, found)]
        return found

    return read
