"""The page of an experiment, README.md, and its figures, results.json."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scnet.experiments.plan import VARIABLE, Plan
from scnet.experiments.statistics import Spread
from scnet.runtime.files import whole_file
from scnet.training.log import duration


@dataclass(frozen=True, kw_only=True)
class Page:
    """What an experiment found."""

    title: str
    about: str  # what was done, in a few sentences
    body: tuple[str, ...]  # blocks of Markdown
    results: dict[str, Any]  # all figures, for JSON
    machines: tuple[str, ...]  # device and versions, each once
    commands: tuple[str, ...] = ()  # of the trainings
    seconds: float = 0.0  # of all training steps; where nothing is trained, of the measurements


def write(plan: Plan, page: Page) -> Path:
    """Write the page and the figures, and return the page."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    head = {"command": plan.command(), "seeds": plan.seeds, "machines": page.machines}
    figures = portable(json.dumps({**head, **page.results}, indent=1, allow_nan=False))
    write_whole(plan.folder / "results.json", figures + "\n")
    file = plan.folder / "README.md"
    write_whole(file, portable("\n\n".join(_blocks(plan, page))) + "\n")
    return file


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; all columns but the first are set to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, digits: int = 1, sign: str = "") -> str:
    """Return a figure for a table; nothing where there is none. `sign` is "+" for differences."""
    return "" if value is None else f"{value:{sign}.{digits}f}"


def with_spread(value: Spread | None, digits: int = 1, sign: str = "") -> str:
    """Return mean and spread for a table."""
    if value is None:
        return ""
    spread = "" if value.sd is None else f" ± {value.sd:.{digits}f}"
    return number(value.mean, digits, sign) + spread


def write_whole(file: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    with whole_file(file) as new:
        new.write_text(text)


def portable(text: str) -> str:
    """Return a text with the folder of data sets as `$SCNET_DATA`, as others have another."""
    folder = os.environ.get(VARIABLE, "").rstrip("/")
    return text.replace(folder + "/", f"${VARIABLE}/") if folder else text


def _blocks(plan: Plan, page: Page) -> list[str]:
    seeds = f", {plan.seeds} seed{'s' * (plan.seeds > 1)}" if page.commands else ""
    work = "Training steps" if page.commands else "The measurements"
    took = f" {work} took {duration(page.seconds)} in all." if page.seconds else ""
    blocks = [
        f"# {page.title}",
        page.about,
        f"```sh\n{plan.command()}\n```",
        f"Size `{plan.size.name}`{seeds}.{took} All figures are in [results.json](results.json).",
        *(f"Machine: {machine}." for machine in page.machines),
        *page.body,
    ]
    if page.commands:
        blocks.append("## Trainings\n\n```sh\n" + "\n".join(page.commands) + "\n```")
    return blocks
