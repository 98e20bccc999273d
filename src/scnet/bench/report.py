"""What `bench` measured, as a table and a picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scnet.pictures import colours
from scnet.runtime.files import whole_file

Record = dict[str, Any]  # what `bench` returns


def show(record: Record, console: Console) -> None:
    """Print the figures: each model's time, and where the time of ours goes."""
    setting, rates = record["setting"], record["rates"]
    height, width = setting["size"]
    spoken = ", ".join(
        f"{name} {statistics.median(values) / 1e9:.0f} GFLOP/s" for name, values in rates.items()
    )
    console.print(f"{record['device']}; {record['versions']}; {spoken}", highlight=False)
    form = f"{setting['precision']}, compiled" if setting["compile"] else setting["precision"]
    title = (
        f"image file to COCO results, {height} x {width}, batch {setting['batch']}, {form}, "
        f"{setting['rounds']} rounds"
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
    """Draw where the time goes, a bar for each model; the file is written whole or not at all."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    models = [entry for entry in record["models"] if entry["shares"]]
    longest = max(sum(entry["shares"].values()) for entry in models)
    figure = Figure(figsize=(10, 1.5 + 0.6 * len(models)), layout="constrained")
    axes = figure.subplots()
    for row, entry in enumerate(models):
        start = 0.0
        for (group, colour), seconds in zip(GROUPS.items(), grouped(entry), strict=True):
            axes.barh(row, seconds, left=start, color=colour, edgecolor="white", linewidth=0.6)
            if seconds > 0.0105 * len(group) * longest:  # else only the legend names it
                middle = start + seconds / 2
                axes.text(middle, row, group, ha="center", va="center", fontsize=8)
            start += seconds
        axes.text(start + 0.01 * longest, row, f"{start:.2f} s", va="center", fontsize=8)
    named = [Patch(color=colour, label=group) for group, colour in GROUPS.items()]
    figure.legend(
        handles=named, ncols=len(named), loc="outside upper left", frameon=False, fontsize=8
    )
    axes.set_yticks(range(len(models)), [entry["model"] for entry in models])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08 * longest)
    axes.set_xlabel(f"seconds of a batch of {record['setting']['batch']}{_uncompiled(record)}")
    axes.spines[["top", "right"]].set_visible(False)
    with whole_file(file) as new:
        figure.savefig(new, dpi=150, format=file.suffix[1:].lower())


# Parts that are drawn as one.
GROUPS = {
    "read": colours.LIGHT_GREY,
    "backbone": colours.LIGHT_SKY,
    "FPN": colours.LIGHT_ORANGE,
    "RPN": colours.LIGHT_GREEN,
    "semantic": colours.LIGHT_YELLOW,
    "RoIAlign": colours.LIGHT_BLUE,
    "boxes": colours.LIGHT_VERMILION,
    "masks": colours.LIGHT_PURPLE,
    "output": colours.LIGHT_GREY,
}


def grouped(entry: Record) -> list[float]:
    """Return the seconds of each of `GROUPS`."""
    seconds = dict.fromkeys(GROUPS, 0.0)
    begins = {"decode": "read", "normalise": "read", "proposals": "RPN", "context": "semantic"}
    begins |= {"box stage": "boxes", "mask branch": "masks"} | {group: group for group in GROUPS}
    for part, taken in entry["shares"].items():
        group = next((g for start, g in begins.items() if part.startswith(start)), "output")
        seconds[group] += taken
    return list(seconds.values())


def _uncompiled(record: Record) -> str:
    return ", not compiled" if record["setting"]["compile"] else ""


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
    plain = record["setting"]["compile"]  # then what is not ours, and has no shares, is as it was
    for entry in record["models"]:
        seconds = entry["seconds"]
        result.add_row(
            entry["model"] + (" (not compiled)" if plain and not entry["shares"] else ""),
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
    result = Table("part", title=f"where the time goes, per cent{_uncompiled(record)}")
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
