"""The table of all comparisons with other implementations, as `tests/parity.py` prints it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests import parity, parity_detectron2
from tests.parity import Row

REFERENCES = {"mmdet_tiny": parity, "detectron2": parity_detectron2}  # by their folders


def main() -> int:
    """Print a table for each; return 1 where a quantity is off, 2 where tensors are missing."""
    console = Console(width=None if sys.stdout.isatty() else 130)
    folder = os.environ.get("SCNET_REFERENCE", "")
    missing = [x for x in REFERENCES if not folder or not (Path(folder) / x).is_dir()]
    if missing:
        console.print(
            "The tensors of the reference are missing: SCNET_REFERENCE must name the folder that "
            f"holds {' and '.join(missing)}, but it is {folder or 'not set'}."
        )
        return 2
    failed = sum(_show(console, Path(folder), name) for name in REFERENCES)
    console.print(f"{failed} FAILED" if failed else "all equal within the tolerances")
    return int(failed > 0)


def _show(console: Console, folder: Path, name: str) -> int:
    """Print the table of a reference; return how many quantities are off."""
    table = Table("model", "case", "quantity", title=f"Difference from {name}")
    table.add_column("largest", justify="right")
    table.add_column("where")
    table.add_column("tolerance", justify="right")
    table.add_column()
    reference, failed = REFERENCES[name], 0
    for model in reference.MODELS:
        for case in reference.CASES:
            rows = reference.check(folder, model, case)
            failed += sum(not x.ok for x in rows)
            _add(table, model, case, rows)
    console.print(table)
    return failed


def _add(table: Table, model: str, case: str, rows: Sequence[Row]) -> None:
    for i, x in enumerate(rows):
        table.add_row(
            *((model, case) if i == 0 else ("", "")),
            x.quantity,
            f"{x.difference:.2g}",
            x.where if x.difference else "",
            f"{x.tolerance:g}",
            "ok" if x.ok else "[bold red]FAILED[/]",
            end_section=i == len(rows) - 1,
        )
