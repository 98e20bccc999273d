"""Files and folders that a command makes: whole or not at all, even where the power fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Give a place beside `file` to write to; at the end it becomes `file`, whole and on the disk.

    Where the block raises, what was there before stays.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.close(handle)
    new = Path(name)
    try:
        yield new
        new.chmod(0o644)
        _to_disk(new)
        os.replace(new, file)
        _to_disk(file.parent)
    finally:
        new.unlink(missing_ok=True)


@contextlib.contextmanager
def growing_file(file: Path, start: str = "", end: str = "") -> Iterator[Callable[[str], None]]:
    """Give a function that adds text to a file, which becomes `file` when all is there.

    Until then it is `partial(file)`, which holds every text as soon as it is added. Where the block
    raises, that stays, with its end; if nothing was added, nothing stays.

    Raises:
        FileExistsError: there is such a file, whole or in part.
    """
    new, added = require_new(file), False
    file.parent.mkdir(parents=True, exist_ok=True)
    with new.open("x", encoding="utf-8") as out:
        out.write(start)

        def add(text: str) -> None:
            nonlocal added
            added = True
            out.write(text)
            out.flush()

        try:
            yield add
        except BaseException:
            out.write(end)
            if not added:
                new.unlink()
            raise
        out.write(end)
    _to_disk(new)
    os.replace(new, file)
    _to_disk(file.parent)


def partial(file: Path) -> Path:
    """Return where a file grows: results.partial.json for results.json."""
    return file.with_name(f"{file.stem}.partial{file.suffix}")


def require_new(file: Path) -> Path:
    """Return where a file can grow that is not there yet.

    Raises:
        FileExistsError: there is such a file, whole or in part.
    """
    refuse_existing(file)
    if partial(file).exists():
        raise FileExistsError(
            f"{partial(file)}: was left by a run that was stopped; move it away or remove it"
        )
    return partial(file)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside `folder`; at the end it becomes `folder`, as in `whole_file`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield new
        new.chmod(0o755)
        for path in (*new.rglob("*"), new):
            _to_disk(path)
        _swap(new, folder)
        _to_disk(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def recover(folder: Path) -> None:
    """Bring back a folder that was being replaced when its process was killed.

    Also removes what killed processes left half written.
    """
    old = _old(folder)
    if old.is_dir() and not folder.is_dir():
        old.rename(folder)
    for left in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the list of files in a folder, is on the disk."""
    # Windows and some network file systems cannot do so with a folder.
    with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`; at every moment one of the two is whole on disk."""
    if not folder.exists():
        new.rename(folder)
        return
    old = _old(folder)
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}-old")


def new_folder(output: str | os.PathLike[str] | None, name: str, root: str = "runs") -> Path:
    """Make a folder for results: `output`, or `root/name` with a number where that is taken.

    Raises:
        FileExistsError: `output` exists and holds something.
    """
    if output is not None:
        folder = Path(output)
        refuse_taken(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    number = 1
    while True:
        folder = Path(root) / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def free_file(file: Path) -> Path:
    """Return the name of a file, with a number where that is taken."""
    number, free = 1, file
    while free.exists():
        number += 1
        free = file.with_name(f"{file.stem}-{number}{file.suffix}")
    return free


def refuse_existing(file: Path, or_else: str = "remove it", *, overwrite: bool = False) -> None:
    """Let no file be overwritten, unless that is asked for.

    `or_else` is what there is to do beside giving another file.

    Raises:
        FileExistsError: there is such a file, and it shall stay; or such a folder.
        NotADirectoryError: it would lie below a file.
    """
    if file.is_dir():
        raise FileExistsError(f"{file}: is a folder; give the name of a file")
    if file.exists() and not overwrite:
        raise FileExistsError(f"{file}: exists; give another file or {or_else}")
    _refuse_below_file(file)


def _refuse_below_file(path: Path) -> None:
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise NotADirectoryError(f"{path}: cannot be made, as {parent} is a file")


def refuse_taken(folder: Path, or_else: str = "remove it") -> None:
    """Let nothing be overwritten.

    `or_else` is what there is to do beside giving another folder.

    Raises:
        FileExistsError: `folder` exists and holds something, or is a file.
        NotADirectoryError: it would lie below a file.
    """
    _refuse_below_file(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder}: is a file; give another folder")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder}: exists and is not empty; give another folder or {or_else}"
        )
