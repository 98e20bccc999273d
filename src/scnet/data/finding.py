"""Image files of an annotation file, found although another machine or tool spelled their names.

A name is taken as it is written wherever that works, which one listing of each folder shows. Only
for the rest the image folder is indexed: paths of Windows, of uploads and of other machines,
percent signs, other case, other spellings of one letter or of a suffix, and more or fewer folders.
What is found lies inside the image folder, is the only file that fits, and serves one name alone.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from scnet.data.faults import leaves_root
from scnet.data.wording import of_all

Parts = tuple[str, ...]

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".tga"}
)
ONE_KIND = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}
NOT_INSIDE = "is no file of that name"
DEPTH = 4  # folders below the image folder that are looked into
MOST_NEAR = 20_000  # names among which a similar one is looked for
MOST = 1_000_000  # files of an index; more are no data set's image folder
# Masks and pictures made of images have their names, and are not the images.
NO_IMAGES = re.compile(
    r"\..*|(.*[_-])?(masks?|labels?|annotations?|semantic.*|stuff.*|panoptic.*|thumb.*|overlays?"
    r"|predictions?)([_-].*|\d*)",
    re.I,
)
_UPLOAD = re.compile(r"/?data/(upload|local-files)/", re.I)
_SCHEME = re.compile(r"(file|https?|s3|gs)://[^/]*", re.I)
_HASHED = re.compile(r"[0-9a-f]{8}-(?=.)", re.I)  # what Label Studio puts before a name


class Found(NamedTuple):
    """Where the images of an annotation file are."""

    root: Path
    names: dict[str, str]  # those found under another spelling, and it
    faults: dict[str, str]  # why no file is opened for a name
    missing: dict[str, str]  # names without a file, and a file of a similar name or nothing
    total: int  # names

    @property
    def number(self) -> int:
        """Return how many names have a file, or more than one."""
        lost = [name for name, fault in self.faults.items() if fault.endswith(NOT_INSIDE)]
        return self.total - len(self.missing) - len(lost)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what was taken for what, and what is not there."""
        found = []
        if self.names:
            name, file = next(iter(self.names.items()))
            found.append(
                f"{of_all(len(self.names), self.total, 'image')} found under another spelling, "
                f"such as {name} -> {file}"
            )
        if self.missing:
            found.append(f"{self.absence} (looked in {self.root})")
        return tuple(found)

    @property
    def absence(self) -> str:
        """Return how many images have no file."""
        name, near = next(iter(self.missing.items()))
        meant = f"; did you mean {near}?" if near else ""
        has = of_all(len(self.missing), self.total, "image", "has")
        return f"{has} no file, such as {name}{meant}"


class Index:
    """The image files of a folder, by the last part of their names."""

    def __init__(self, root: Path, passed_over: Callable[[str], bool]) -> None:
        self.files: dict[str, list[Parts]] = defaultdict(list)
        for number, parts in enumerate(_walk(str(root), (), passed_over)):
            if number == MOST:
                break
            self.files[_key(parts[-1])].append(parts)
            self.files["?" + os.path.splitext(_key(parts[-1]))[0]].append(parts)
            if _HASHED.match(parts[-1]):
                self.files["*" + _key(_HASHED.sub("", parts[-1]))].append(parts)

    def candidates(self, name: str) -> list[str]:
        """Return the files that a name may stand for, likeliest kind only."""
        for parts in dict.fromkeys((_parts(name), _parts(unquote(name)))):
            if parts and (found := self._fitting(parts, is_foreign(name))):
                return ["/".join(f) for f in found]
        return []

    def near(self, name: str, taken: Container[str] = ()) -> str:
        """Return the file with the most similar name that is not taken; nothing if none is."""
        last = (_parts(unquote(name)) or ("",))[-1]
        free = {
            key: file
            for key, files in itertools.islice(self.files.items(), MOST_NEAR)
            if (file := "/".join(files[0])) not in taken
        }
        close = difflib.get_close_matches(_key(last), free, 1, 0.75)
        return free[close[0]] if close else ""

    def _fitting(self, parts: Parts, foreign: bool) -> list[Parts]:
        key = _key(parts[-1])
        bare = _key(_HASHED.sub("", parts[-1]))
        without = "" if os.path.splitext(key)[1] in SUFFIXES else "?" + key
        for place in (key, "*" + key, bare if bare != key else "", without):
            files = self.files.get(place, [])
            alike = [f for f in files if _agree(f, parts)] or (files if foreign else [])
            if alike:
                most = max(_tail(f, parts) for f in alike)
                alike = [f for f in alike if _tail(f, parts) == most]
                exact = [f for f in alike if f[-1] == parts[-1]]
                return exact if len(exact) == 1 else alike
        return []


def find_images(
    roots: Sequence[Path], names: Sequence[str], passed_over: Callable[[str], bool]
) -> Found | None:
    """Find the images in the folder that holds most of them; None where no folder holds any.

    Args:
        roots: folders that may hold them, likeliest first.
        names: of the images in the annotation file.
        passed_over: whether a folder of this name inside a root is not looked into.
    """
    probes = names[:: max(1, len(names) // 10)]
    hits = [sum(_is_there(root, name) for name in probes) for root in roots]
    if not names or max(hits):
        return _resolved(roots[hits.index(max(hits))], names, passed_over)
    tried = [_resolved(root, names, passed_over) for root in roots]
    best = max(tried, key=lambda found: found.number)
    return best if best.number else None


def nearest(roots: Sequence[Path], name: str, passed_over: Callable[[str], bool]) -> str:
    """Return the image file in one of the folders with a name like this; nothing if none has."""
    for root in roots:
        if near := Index(root, passed_over).near(name):
            return str(root / near)
    return ""


def is_foreign(name: str) -> bool:
    """Return whether a name is a path of another place, whose folders say nothing here."""
    return leaves_root(name) or bool(_UPLOAD.match(name) or _SCHEME.match(name))


def _resolved(root: Path, names: Sequence[str], passed_over: Callable[[str], bool]) -> Found:
    distinct = list(dict.fromkeys(names))
    absent = _not_there(root, distinct)
    found = Found(root, {}, {}, {}, len(distinct))
    if not absent:
        return found
    index = Index(root, passed_over)
    for name in absent:
        files = index.candidates(name)
        if len(files) == 1:
            found.names[name] = files[0]
        elif files:
            found.faults[name] = f"file_name {name} may be {files[0]} or {files[1]}"
        elif leaves_root(name):
            found.faults[name] = (
                f"file_name {name} leaves the image folder, and in {root} {NOT_INSIDE}"
            )
        else:
            found.missing[name] = ""
    _refuse_shared(found, set(distinct).difference(absent))
    for name in list(found.missing)[:1]:  # the one that is named as the example
        found.missing[name] = index.near(name, {*distinct, *found.names.values()})
    return found


def _refuse_shared(found: Found, direct: set[str]) -> None:
    """Turn names that would get the file of another image into faults."""
    claims: dict[str, set[Parts]] = defaultdict(set)
    for name in direct:
        claims[name].add(_folded(_parts(name)))
    for name, file in found.names.items():
        claims[file].add(_folded(_parts(unquote(name))))
    for name, file in list(found.names.items()):
        if len(claims[file]) > 1:
            del found.names[name]
            found.faults[name] = f"file_name {name} has no file but {file}, which others fit too"


def _is_there(root: Path, name: str) -> bool:
    return not leaves_root(name) and os.path.isfile(os.path.join(root, name))


def _not_there(root: Path, names: Sequence[str]) -> list[str]:
    """Return the names that are no files as they are written; lists each folder once."""
    listed: dict[str, set[str]] = {}
    absent = []
    for name in names:
        if leaves_root(name):
            absent.append(name)
            continue
        folder, _, last = name.rpartition("/")
        if folder not in listed:
            listed[folder] = _listing(os.path.join(root, folder))
        if last not in listed[folder]:
            absent.append(name)
    return absent


def _listing(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _walk(root: str, folders: Parts, passed_over: Callable[[str], bool]) -> Iterator[Parts]:
    """Yield the image files below a folder, those of a folder before those inside it."""
    try:
        entries = sorted(os.scandir(os.path.join(root, *folders)), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.name.startswith("."):
            yield (*folders, entry.name)
    if len(folders) < DEPTH:
        for entry in entries:
            if (
                entry.is_dir()
                and not NO_IMAGES.fullmatch(entry.name)
                and not passed_over(entry.name)
            ):
                yield from _walk(root, (*folders, entry.name), passed_over)


def _parts(name: str) -> Parts:
    """Return the folders and the file of a path or address, without what leads elsewhere."""
    name = name.rpartition("?d=")[2]
    name = _SCHEME.sub("", name, count=1).replace("\\", "/")
    name = re.sub(r"^/?[A-Za-z]:", "", name.replace("\0", ""))
    return tuple(part for part in name.strip().split("/") if part not in ("", ".", ".."))


def _key(name: str) -> str:
    """Return what all spellings of a name have in common."""
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name).casefold())
    return stem + ONE_KIND.get(suffix, suffix)


def _folded(parts: Parts) -> Parts:
    return tuple(_key(part) for part in parts)


def _tail(file: Parts, parts: Parts) -> int:
    """Return how many folders before the name are the same."""
    pairs = zip(reversed(_folded(file[:-1])), reversed(_folded(parts[:-1])), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(file), len(parts)) - 1)


def _agree(file: Parts, parts: Parts) -> bool:
    """Return whether one path ends in the other: cam1/a.png is no other spelling of cam0/a.png."""
    return _tail(file, parts) == min(len(file), len(parts)) - 1
