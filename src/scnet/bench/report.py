"""What `bench` measured, as a table and a picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Record = dict[str, Any]  # what `bench` returns


def show(record: Record, console: Console) -> None:
    """Print the figures: each model's time, and where the time of ours goes."""
    setting, rates = record["setting"], record["rates"]
    height, width = setting["size"]
    spoken = ", ".join(
        f"{name} {statistics.median(values) / 1e9:.0f} GFLOP/s" for name, values in rates.items()
    )
    console.print(f"{record['device']}; {record['versions']}; {spoken}", highlight=False)
    title = (
        f"image file to COCO results, {height} x {width}, batch {setting['batch']}, "
        f"{setting['precision']}, {setting['rounds']} rounds"
    )
    console.print(_times(record, title))
    if any(entry["shares"] for entry in record["models"]):
        console.print(_shares(record))


def ratios(entry: Record, other: Record) -> float:
    """Return the median, over rounds, of one model's time by that of another in the same round."""
    pairs = zip(entry["seconds"], other["seconds"], strict=True)
    return float(statistics.median(a / b for a, b in pairs))


def above_floor(entry: Record) -> float:
    """Return the median, over rounds, of a model's time by its floor in the same round."""
    pairs = zip(entry["seconds"], entry["floor"], strict=True)
    return float(statistics.median(a / b for a, b in pairs))


def plot(record: Record, file: Path) -> None:
    """Draw where the time goes, a bar for each model."""
    from matplotlib.figure import Figure

    models = [entry for entry in record["models"] if entry["shares"]]
    parts = list(_parts(models))
    figure = Figure(figsize=(9, 1.2 + 0.55 * len(models)), layout="constrained")
    axes = figure.subplots()
    for row, entry in enumerate(models):
        start = 0.0
        for part in parts:
            seconds = entry["shares"].get(part, 0.0)
            colour = COLOURS[parts.index(part) % len(COLOURS)]
            axes.barh(row, seconds, left=start, color=colour, edgecolor="white", linewidth=0.6)
            if seconds > 0.06 * max(sum(e["shares"].values()) for e in models):
                axes.text(start + seconds / 2, row, part, ha="center", va="center", fontsize=7)
            start += seconds
    axes.set_yticks(range(len(models)), [entry["model"] for entry in models])
    axes.invert_yaxis()
    axes.set_xlabel("seconds of a batch, by part")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


# Light enough for dark text, and told apart by colour-blind readers (Wong 2011, lightened).
COLOURS = ("#8fc5ea", "#f6c667", "#7fd1b9", "#f4e98c", "#8fb4dc", "#eaa27c", "#dfa9c9", "#c9c9c9")


def _times(record: Record, title: str) -> Table:
    result = Table("model", title=title)
    for column in (
        "s, median",
        "min - max",
        "of the first",
        "images/s",
        "GFLOP",
        "of its floor",
        "objects",
        "peak GB",
    ):
        result.add_column(column, justify="right")
    first, batch = record["models"][0], record["setting"]["batch"]
    for entry in record["models"]:
        seconds = entry["seconds"]
        result.add_row(
            entry["model"],
            f"{statistics.median(seconds):.3f}",
            f"{min(seconds):.3f} - {max(seconds):.3f}",
            f"{ratios(entry, first):.2f}",
            f"{batch / statistics.median(seconds):.2f}",
            f"{entry['flops'] / 1e9:.0f}",
            f"{above_floor(entry):.2f}",
            f"{statistics.mean(entry['detections']):.0f}",
            f"{entry['gb']:.2f}" if entry["gb"] else "",
        )
    return result


def _shares(record: Record) -> Table:
    models = [entry for entry in record["models"] if entry["shares"]]
    result = Table("part", title="where the time goes, per cent")
    for entry in models:
        result.add_column(entry["model"], justify="right")
    for part in _parts(models):
        row = []
        for entry in models:
            total = sum(entry["shares"].values())
            row.append(
                f"{100 * entry['shares'][part] / total:.1f}" if part in entry["shares"] else ""
            )
        result.add_row(part, *row)
    return result


def _parts(models: list[Record]) -> Iterator[str]:
    """Yield every part that a model has, in the order of the model that has most."""
    longest = max(models, key=lambda entry: len(entry["shares"]))["shares"]
    others = {part: None for entry in models for part in entry["shares"] if part not in longest}
    yield from (part for part in longest if part != "other")
    yield from others
    yield "other"
