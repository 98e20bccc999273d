"""Files and folders that options name: nothing is written over without `--overwrite`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from scnet.cli.errors import UsageError

_FILES = ("json", "list", "picture", "plot")
OR_ELSE = "replace it with --overwrite"
_PICTURES = {"picture": ("png", "jpg", "jpeg", "webp"), "plot": ("png", "jpg", "svg", "pdf")}


def refuse_outputs(options: argparse.Namespace) -> None:
    """Stop, before anything is computed, where what is to be written is there or cannot be made.

    Raises:
        FileExistsError: there is such a file or folder, and it shall stay.
        NotADirectoryError: it would lie below a file.
        UsageError: a picture of a kind that is not drawn.
    """
    from scnet.runtime.files import refuse_existing, refuse_taken

    overwrite = getattr(options, "overwrite", False)
    for name, kinds in _PICTURES.items():
        given = getattr(options, name, None)
        if isinstance(given, str) and Path(given).suffix.lower()[1:] not in kinds:
            raise UsageError(f"--{name} {given}: the name must end in .{', .'.join(kinds)}")
    for name in _FILES:
        if given := getattr(options, name, None):
            refuse_existing(Path(given), OR_ELSE, overwrite=overwrite)
    if given := getattr(options, "report", None):
        _refuse_report(Path(given), overwrite)
    if given := getattr(options, "fix", None):
        refuse_taken(Path(given))


def _refuse_report(folder: Path, overwrite: bool) -> None:
    from scnet.runtime.files import refuse_taken

    if overwrite:
        from scnet.evaluation.report import refuse_other

        refuse_other(folder)
    else:
        refuse_taken(folder, OR_ELSE)


def write_json(file: str, content: Any) -> None:
    """Write figures to a file, whole or not at all, and say so."""
    from scnet.runtime.files import whole_file

    with whole_file(Path(file)) as new:
        new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {file}")
