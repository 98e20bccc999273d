"""Where a data set keeps its annotations and images: the usual layouts, found by looking.

- COCO: annotations/instances_train.json, instances_train2017.json; images in train/, train2017/
- CVAT: annotations/instances_default.json; images in images/default/
- Roboflow: train/_annotations.coco.json, valid/_annotations.coco.json; images beside the file
- one file: any COCO JSON, given directly; images near it
- parts: instances_fit320.json or instances_train380.json, given directly: the number says how many
  of the training images; instances_val80.json beside it has the rest
- without COCO files: data sets of the formats in `foreign`, whose folders of labels stand for files
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from scnet.data.finding import Found, find_images, nearest
from scnet.data.foreign import Place, find_places, known_folder
from scnet.data.images import DataError

SplitName = Literal["train", "val", "test"]
WORDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_ANY_WORD = "|".join(word for words in WORDS.values() for word in words)
_NAMED = re.compile(rf"(?:instances_|annotations_|coco_)?({_ANY_WORD})(?:\d{{4}})?([_-].*)?", re.I)
# A part of the training images, by their number; four digits are a year.
_PART = re.compile(rf"(instances_|annotations_|coco_)?(fit|{_ANY_WORD})\d+", re.I)
_FOLDER = re.compile(rf"({_ANY_WORD})(?:\d{{4}})?", re.I)
_IN_SPLIT_FOLDER = ("_annotations.coco.json", "annotations.json", "labels.json", "instances.json")
_UNSPLIT = re.compile(r"(instances|annotations|labels|result|coco|_annotations)([._-].*)?", re.I)
# A split that stands anywhere in a name, as in image_info_test2017 and lvis_v1_val.
_WITHIN = re.compile(rf"(?:^|[^a-z])({_ANY_WORD})(?:\d{{4}})?(?![a-z])", re.I)
_LISTS = re.compile(r"(image_info|lvis_v\d)_.*", re.I)

_GIVE = "give a folder with COCO annotations or a JSON file"
_JSON_LOOKED_AT = 20  # files of a folder


class NoSplitError(DataError):
    """A data set without the split that is asked for."""


@dataclass(frozen=True)
class Split:
    """One part of a data set, as found on disk."""

    name: str
    annotations: Path  # COCO JSON, or a folder of labels in another format
    image_roots: tuple[Path, ...]  # folders that may hold the images, likeliest first


def find_split(path: str | Path, split: SplitName) -> Split:
    """Find the annotation file of a split and the folders that may hold its images.

    A file stands for the split it is asked for, unless its name says that it is another's: then
    the file with the split's own name beside it is taken. Training takes the file itself always.

    Raises:
        NoSplitError: the data set has no such split; says what was looked for.
        DataError: no data set there, or several files and no telling which.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; {_GIVE}")
    if places := _foreign(path):
        return _of_place(path, places, split)
    file = _sibling(path, split) if path.is_file() else _in_folder(path, split)
    return Split(split, file, tuple(dict.fromkeys(_image_roots(file, split))))


def find_list(path: str | Path, split: SplitName | None) -> Split:
    """Find a file that lists images, with annotations or without, and folders that may hold them.

    A file is taken itself. The split that its name speaks of, or else `split`, tells which folders
    its images are in; without either they are not guessed. In a folder a split is found as by
    `find_split`, or by its list without annotations, such as image_info_test2017.json; None is val
    or else the only one.

    Raises:
        NoSplitError, DataError: as `find_split`.
    """
    path = Path(path).expanduser()
    if path.is_file() and not _foreign(path):
        name = _spoken_of(path) or split or ""
        if split and name != split:
            raise DataError(f"{path}: is named for the {name} split, and not for {split}")
        return Split(name, path, tuple(dict.fromkeys(_image_roots(path, name))))
    wanted = split or "val"
    try:
        return find_split(path, wanted)
    except NoSplitError:
        if files := _lists(path, wanted):
            return find_list(files[0], split)
        only = _only(path) if split is None else None
        if only is None:
            raise
        return only


def _only(path: Path) -> Split | None:
    """Return the one part of a data set that there is; None if it has several or none."""
    if places := _foreign(path):
        name, place = places.popitem()
        return None if places else Split(name, *place)
    files = list(dict.fromkeys(_coco_files(path)))
    return find_list(files[0], None) if len(files) == 1 else None


def _lists(path: Path, split: str) -> list[Path]:
    """Return lists of images without annotations, test2017 before test-dev2017."""
    files = (file for folder in (path / "annotations", path) for file in folder.glob("*.json"))
    found = [f for f in files if _LISTS.fullmatch(f.stem) and _spoken_of(f) == split]
    return sorted(found, key=lambda file: (len(file.stem), file))


def split_of(file: Path) -> str | None:
    """Return the split that an annotation file or its folder is named for; None if neither is."""
    named = _NAMED.fullmatch(file.stem) or _FOLDER.fullmatch(file.parent.name)
    return _split_named(named[1]) if named else None


def is_of_any_split(path: Path) -> bool:
    """Return whether a data set is one file that stands for whatever split it is asked for."""
    of_none = path.is_file() and split_of(path) is None and not _part_of_training(path)
    return of_none and not _foreign(path)


def annotation_files(path: Path) -> list[Path]:
    """Return every annotation file of a data set; the file itself if one is given.

    Raises:
        DataError: there is none; says what is there instead.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; {_GIVE}")
    places = _foreign(path)
    found = [place.labels for place in places.values()]
    if not places:
        found = [path] if path.is_file() else _coco_files(path)
    if not found:
        raise DataError(f"{path}: {known_folder(path) or f'no annotation files; {_GIVE}'}")
    return list(dict.fromkeys(found))


def locate_images(split: Split, file_names: Sequence[str]) -> Found:
    """Find the images of a split, under other spellings of their names too.

    Raises:
        DataError: none is found.
    """

    def passed_over(folder: str) -> bool:
        """Return whether a folder is that of another split than the file is named for."""
        named = _FOLDER.fullmatch(folder)
        own = split_of(split.annotations)
        return named is not None and own not in (None, _split_named(named[1]))

    found = find_images(split.image_roots, file_names, passed_over)
    if found is not None:
        return found
    name = file_names[0]
    near = nearest(split.image_roots, name, passed_over)
    raise DataError(
        f"{split.annotations}: none of its images found, such as {name}, in "
        f"{', '.join(str(root) for root in split.image_roots)}"
        f"{f' (did you mean {near}?)' if near else ''}; put the images there"
    )


def image_files(
    file: Path, names: Sequence[str], image_root: Path | None = None
) -> dict[str, Path]:
    """Return where the images of an annotation file are, by name, without those not found.

    Args:
        names: of the images in the file.
        image_root: folder of the images; None looks near the file.
    """
    try:
        split = find_split(file, cast(SplitName, split_of(file) or "train"))
        if image_root:
            split = replace(split, image_roots=(image_root,))
        found = locate_images(split, names)
    except DataError:
        return {}
    lost = found.faults.keys() | found.missing.keys()
    there = (name for name in names if name not in lost)
    return {name: found.root / found.names.get(name, name) for name in there}


def _spoken_of(file: Path) -> str | None:
    """Return the only split that the name of a file or of its folder speaks of."""
    spoken = {_split_named(word) for word in _WITHIN.findall(file.stem)}
    return split_of(file) or (spoken.pop() if len(spoken) == 1 else None)


def _coco_files(path: Path) -> list[Path]:
    found = [file for split in WORDS for file in _candidates(path, split)]
    return found or list(_unsplit(path))


def _foreign(path: Path) -> dict[str, Place]:
    """Return the splits of a data set of another format, which has no COCO files."""
    return {} if path.is_dir() and _coco_files(path) else find_places(path, WORDS)


def _of_place(path: Path, places: dict[str, Place], split: SplitName) -> Split:
    if split not in places:
        raise NoSplitError(f"{path}: no {split} split; it has {', '.join(places)}; name or add one")
    return Split(split, *places[split])


def _split_named(word: str) -> str:
    return next(split for split, words in WORDS.items() if word.lower() in words)


def _part_of_training(file: Path) -> str | None:
    """Return how the name of a part of the training images begins; None if it is none."""
    part = None if _NAMED.fullmatch(file.stem) else _PART.fullmatch(file.stem)
    trains = part and part[2].lower() in ("fit", *WORDS["train"])
    return (part[1] or "") if part and trains else None


def _beside_part(file: Path, start: str, split: SplitName) -> Path:
    """Return the file of another split beside a part of the training images."""
    words = "|".join(WORDS[split])
    for pattern in (rf"{start}({words})", rf"{start}({words})\d+"):
        found = [
            f for f in sorted(file.parent.glob("*.json")) if re.fullmatch(pattern, f.stem, re.I)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f.name for f in found)
            raise DataError(f"{file}: several files for the {split} split: {names}; keep one there")
    raise NoSplitError(
        f"{file}: no {split} split beside it; looked for {start}{WORDS[split][0]}.json, with or "
        f"without a number of images, in {file.parent}; add one or give a folder that has it"
    )


def _sibling(file: Path, split: SplitName) -> Path:
    prefix = _part_of_training(file)
    if prefix is not None and split != "train":
        return _beside_part(file, prefix, split)
    if split == "train" or split_of(file) in (None, split):
        return file
    named = _NAMED.fullmatch(file.stem)
    folders = (
        (file.parent,) if named else tuple(file.parent.with_name(word) for word in WORDS[split])
    )
    names = [file.name]
    if named:
        start, end = named.span(1)
        names = [file.stem[:start] + word + file.stem[end:] + file.suffix for word in WORDS[split]]
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise NoSplitError(
        f"{file}: no {split} split beside it; looked for {' or '.join(names)} in {folders[0]}; "
        f"add one or give a folder that has it"
    )


def _in_folder(path: Path, split: SplitName) -> Path:
    found = _candidates(path, split)
    if not found and split == "train":
        found = list(_unsplit(path))
    if not found and not _coco_files(path) and (known := known_folder(path)):
        raise DataError(f"{path}: {known}")
    if not found:
        raise NoSplitError(
            f"{path}: no {split} split; expected annotations/instances_{split}.json or "
            f"{WORDS[split][-1] if split == 'train' else WORDS[split][0]}/_annotations.coco.json; "
            "give a JSON file directly if it has another name"
        )
    return _preferred(path, split, found)


def _preferred(path: Path, split: SplitName, found: list[Path]) -> Path:
    """Return the one file to use: without a suffix, else with `_all`, else the only one."""
    for suffix in (None, "_all"):
        plain = [f for f in found if _suffix(f) == suffix]
        if len(plain) == 1:
            return plain[0]
    if len(found) > 1:
        names = ", ".join(str(f.relative_to(path)) for f in found)
        raise DataError(
            f"{path}: several files for the {split} split: {names}; "
            "give the file instead of the folder"
        )
    return found[0]


def _suffix(file: Path) -> str | None:
    named = _NAMED.fullmatch(file.stem)
    return named[2] if named else None


def _candidates(path: Path, split: str) -> list[Path]:
    words = WORDS[split]
    found = []
    for folder in (path / "annotations", path):
        for file in sorted(folder.glob("*.json")):
            named = _NAMED.fullmatch(file.stem)
            if named and named[1].lower() in words:
                found.append(file)
    for folder in (path / word for word in words):
        found += [folder / name for name in _IN_SPLIT_FOLDER if (folder / name).is_file()][:1]
    return found


def _unsplit(path: Path) -> Iterator[Path]:
    """Yield files that are named for no split; if none has a usual name, the only one in COCO."""
    files = [f for folder in (path / "annotations", path) for f in sorted(folder.glob("*.json"))]
    usual = [f for f in files if _UNSPLIT.fullmatch(f.stem)]
    alike = [] if usual else [f for f in files[:_JSON_LOOKED_AT] if _is_coco(f)]
    yield from usual or (alike if len(alike) == 1 else ())


def _is_coco(file: Path) -> bool:
    """Return whether a file seems to hold COCO annotations, whatever it is called."""
    text = file.read_bytes()
    return all(key in text for key in (b'"images"', b'"annotations"', b'"categories"'))


def _image_roots(file: Path, split: str) -> Iterator[Path]:
    """Yield folders that may hold the images of an annotation file, likeliest first."""
    inner = re.search(r"annot|label|json|^data$", file.parent.name, re.I)
    bases = [file.parent.parent, file.parent] if inner else [file.parent]
    named = _NAMED.fullmatch(file.stem)
    own = {_split_named(named[1]) if named else split}
    if not named and _PART.fullmatch(file.stem):
        own.add("train")  # of which it has a part
    for base in bases:
        for folder in (base, base / "images"):
            inside = sorted(d for d in folder.iterdir() if d.is_dir()) if folder.is_dir() else []
            for d in inside:
                word = _FOLDER.fullmatch(d.name)
                if word and _split_named(word[1]) in own:
                    yield from (d, d / "images")
        part = re.sub(r"^(instances|annotations)_", "", file.stem)
        yield from (d for d in (base / "images" / part,) if d.is_dir())  # as CVAT writes it
        yield from (d for d in (base / "images", base / "data", base / "JPEGImages") if d.is_dir())
        yield base
