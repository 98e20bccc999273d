"""What to answer where a checkpoint file cannot be read, or is not safe to read."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

_TORCH = """\
  import torch
  old = torch.load({file!r}, map_location='cpu', weights_only=False)
  torch.save({{'state_dict': old['state_dict']}}, 'weights.pth')"""
_PICKLE = """\
  import pickle, torch
  old = pickle.load(open({file!r}, 'rb'), encoding='latin1')['model']
  torch.save({{'model': {{k: torch.as_tensor(v) for k, v in old.items()}}}}, 'weights.pth')"""

# How files that are no checkpoints begin, what each is, and what to do.
_BEGINNINGS = (
    ((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*"), "an image, no checkpoint"),
    ((b"PK",), "an archive that is damaged or cut off; fetch it again"),
    ((b"\x1f\x8b",), "compressed by gzip; unpack it first"),
    ((b"version https://git-lfs",), "a pointer of Git LFS; fetch the file itself: git lfs pull"),
    (
        (b"<",),
        "a web page, as servers send instead of a file; fetch it again",
    ),
    ((b"{", b"["), "JSON, no checkpoint"),
)


def no_checkpoint(file: Path) -> str | None:
    """Return what a file is that is neither a zip archive nor a pickle; None for those two."""
    with file.open("rb") as opened:
        begin = opened.read(64)
    if begin[:1] == b"\x80" or zipfile.is_zipfile(file):
        return None
    if not begin:
        return "is empty, cut off or never written; fetch it again"
    for starts, what in _BEGINNINGS:
        if begin.startswith(starts):
            return f"is {what}"
    return (
        "is no checkpoint of PyTorch, neither an archive nor a pickle; it is damaged or another "
        "kind of file"
    )


def damaged(file: Path, error: Exception, kind: str = "PyTorch checkpoint") -> str:
    """Return what to say of a file that cannot be read."""
    return (
        f"{file}: cannot be read as a {kind} ({type(error).__name__}: {first_line(error)}); "
        "it is damaged, cut off or another kind of file. Fetch it again"
    )


def unsafe(file: Path, names: Sequence[str], *, bare: bool = False) -> str:
    """Return what to say of a file that names what only running code could make.

    Args:
        names: what it names.
        bare: whether it is a pickle without PyTorch's form around it.
    """
    lines = (_PICKLE if bare else _TORCH).format(file=str(file))
    return (
        f"{file}: holds more than weights: {', '.join(names)}. To rebuild that, code out of the "
        "file would have to run, so it was not loaded. If you trust the file, take the weights out "
        f"in the environment that wrote it, and convert the result:\n{lines}"
    )


def first_line(error: Exception) -> str:
    """Return the line of an error that says most."""
    text = str(error) or type(error).__name__
    for line in text.splitlines():
        if "Unsupported" in line or "unsupported" in line:
            return line.split(". ")[0].strip()
    return text.splitlines()[0][:200]


def some(keys: Sequence[str], most: int = 20) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more
