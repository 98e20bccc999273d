"""Image files that paths, folders, patterns and text files name, and what is left out of them."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scnet.data.errors import DataError
from scnet.inference.file_kinds import advice, is_image, is_list, kind
from scnet.inference.path_lists import paths_in

SHOWN = 3  # sub-folders that are named
KINDS = 6  # kinds of files that are named
_GIVE = (
    "give an image, a folder of images, a pattern such as 'a/*.jpg' or a text file with a path "
    "on each line"
)


@dataclass(frozen=True)
class ImageFile:
    """An image file to predict on."""

    path: Path
    folder: str = ""  # where it was found, below the folder that was given


@dataclass
class Gathered:
    """The image files of all sources, each once, and what there is to say of the rest."""

    recursive: bool = False  # whether folders within folders are looked into
    files: list[ImageFile] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # of what is named and cannot be read
    notes: list[str] = field(default_factory=list)  # where the paths of text files were found
    folders: int = 0  # sources that are folders
    repeated: list[Path] = field(default_factory=list)  # files that were named before
    # Files of each kind, and images in each sub-folder, that are left out unless named elsewhere.
    left: dict[Path, str] = field(default_factory=dict)
    inside: dict[Path, str] = field(default_factory=dict)
    _known: set[Path] = field(default_factory=set)

    def add(self, source: str) -> None:
        """Take what a source names.

        Raises:
            DataError: it names no image.
        """
        path, before = Path(source), self._named
        if path.is_dir():
            self._add_folder(path)
        elif path.is_file() and is_list(path):
            self._add_list(path)
        elif path.is_file():
            self._add_file(path)
        else:
            self._add_pattern(source)
        if self._named == before:
            left = f"; {self.left_out}" if self.left_out else ""
            raise DataError(f"{source}: no image found{left}; {_GIVE}")

    @property
    def left_out(self) -> str:
        """Return what is left out of folders and patterns, counted; empty if nothing is."""
        left, inside = self._unknown(self.left), self._unknown(self.inside)
        parts = _shown(left, KINDS, "others") + ([_sub_folders(inside)] if inside else [])
        number = _sum(left) + _sum(inside)
        return f"{number:,} file{'s' * (number != 1)} left out: {', '.join(parts)}" if parts else ""

    @property
    def _named(self) -> int:
        return len(self.files) + len(self.repeated) + len(self.faults)

    def _take(self, path: Path, folder: str = "") -> None:
        key = _key(path)
        if key in self._known:
            self.repeated.append(path)
        else:
            self._known.add(key)
            self.files.append(ImageFile(path, folder))

    def _unknown(self, named: Mapping[Path, str]) -> Counter[str]:
        """Return how many files that are not taken go by each name."""
        return Counter(name for key, name in named.items() if key not in self._known)

    def _add_file(self, path: Path, by: str = "") -> None:
        if to_do := advice(path):
            self.faults.append(by + to_do)
            self._known.add(_key(path))
        else:
            self._take(path)

    def _add_list(self, path: Path) -> None:
        named = paths_in(path)
        self.notes += named.notes
        self.faults += named.faults
        for file in named.files:
            self._add_file(file, f"{path}: ")

    def _add_pattern(self, pattern: str) -> None:
        files = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if Path(p).is_file()]
        # A pattern that writes a suffix out means these files, whatever they hold.
        suffix = Path(pattern).suffix
        if suffix and not glob.has_magic(suffix):
            for file in files:
                self._add_file(file)
        else:
            self._sort_out(files)

    def _add_folder(self, root: Path) -> None:
        self.folders += 1
        entries = sorted(root.iterdir())
        self._sort_out(entry for entry in entries if entry.is_file())
        for below in entries:
            if below.is_dir() and not below.name.startswith("."):
                self._add_below(root, below)

    def _add_below(self, root: Path, below: Path) -> None:
        for folder, names in _walk(below):
            files = [folder / name for name in names]
            if self.recursive:
                self._sort_out(files, folder.relative_to(root).as_posix())
            else:
                self.inside |= {_key(file): below.name for file in files if is_image(file)}

    def _sort_out(self, files: Iterable[Path], folder: str = "") -> None:
        """Take images and count the others."""
        for file in files:
            if is_image(file):
                self._take(file, folder)
            else:
                self.left[_key(file)] = kind(file)


def gather(sources: Sequence[str], *, recursive: bool = False) -> Gathered:
    """Find the image files that sources name: paths, folders, patterns, text files of paths.

    Raises:
        DataError: one of them names none, or none can be read.
    """
    found = Gathered(recursive)
    for source in sources:
        found.add(source)
    if not found.files:
        raise DataError(found.faults[0])
    return found


def image_files(sources: Sequence[str]) -> list[Path]:
    """Return the image files that sources name.

    Raises:
        DataError: one of them names none.
    """
    found = gather(sources)
    if found.faults:
        raise DataError(found.faults[0])
    return [file.path for file in found.files]


def _key(path: Path) -> Path:
    """Return what tells files apart.

    A link to a file has a name of its own and is another image; the same file by another way
    through folders is not.
    """
    return path.parent.resolve() / path.name


def _walk(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folders from this one down with their files; none that is hidden, and each once."""
    seen: set[str] = set()
    for folder, below, names in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # links may go round in circles
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(folder), sorted(names)


def _sub_folders(inside: Counter[str]) -> str:
    if len(inside) == 1:
        name, number = next(iter(inside.items()))
        return f"sub-folder {name} ({number:,}; --recursive takes it)"
    return f"sub-folders {', '.join(_shown(inside, SHOWN, 'others'))}; --recursive takes them"


def _shown(counts: Counter[str], most: int, others: str) -> list[str]:
    """Return the commonest with their numbers, and the number of the others."""
    named = counts.most_common(most)
    rest = _sum(counts) - sum(number for _, number in named)
    return [f"{name} ({number:,})" for name, number in (*named, (others, rest)) if number]


def _sum(counts: Counter[str]) -> int:
    return sum(counts.values())
