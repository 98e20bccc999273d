"""Files and folders that a command makes."""

from __future__ import annotations

import os
from pathlib import Path


def new_folder(output: str | os.PathLike[str] | None, name: str, root: str = "runs") -> Path:
    """Make a folder for results: `output`, or `root/name` with a number where that is taken.

    Raises:
        FileExistsError: `output` exists and holds something.
    """
    if output is not None:
        folder = Path(output)
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(
                f"{folder}: exists and is not empty; give another folder or remove it"
            )
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
