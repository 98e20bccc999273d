"""What to answer where a checkpoint file cannot be read, or is not safe to read."""

from __future__ import annotations

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
