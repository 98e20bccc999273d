"""Training curves: what the log of a run says, as one picture."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scnet.pictures.colours import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

Record = Mapping[str, Any]
Line = tuple[list[float], list[float]]  # epochs, values

COLOURS = {
    "total": BLACK,
    "rpn": SKY,
    "box heads": ORANGE,
    "mask": GREEN,
    "mask scoring": VERMILION,
    "semantic": PURPLE,
    "context": BLUE,
    "boxes": ORANGE,
    "masks": GREEN,
}
# "box" stands beside "boxes", whose AP is drawn below.
TITLES = {"box": "box heads", "mask_iou": "mask scoring"}
SMOOTH = 0.04  # width of the running mean, as a share of the run


def curves(records: Sequence[Record], path: str | Path) -> Path:
    """Draw losses, learning rate and validation AP over the epochs, and return the file written.

    A record has the "kind" "train" (with "epoch", "lr", "losses") or "eval" (with "epoch", "bbox",
    "segm"); others are passed over.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 10), layout="constrained")
    FigureCanvasAgg(figure)
    losses, rate, ap = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 2))
    _draw(losses, _losses(records), smooth=True)
    losses.set(ylabel="loss (log scale)", yscale="log", title="Losses")
    _draw(rate, {"": _rates(records)})
    rate.set(ylabel="learning rate", title="Learning rate", ylim=(0, None))
    _draw(ap, _precision(records), marker="o")
    ap.set(ylabel="AP (percent)", xlabel="epoch", title="Validation", ylim=(0, None))
    for axes in (losses, rate, ap):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.title.set(ha="left", x=0, weight="bold")
    figure.savefig(path, dpi=110)
    return Path(path)


def grouped(losses: Mapping[str, float]) -> dict[str, float]:
    """Return the sums of the losses of each part: rpn, box, mask, mask_iou, semantic, context."""
    sums: dict[str, float] = defaultdict(float)
    for name, value in losses.items():
        part = name.split(".")[0].rstrip("0123456789")
        sums["box" if part == "stage" else part] += value
    return dict(sums)


def _losses(records: Sequence[Record]) -> dict[str, Line]:
    """Return the total and the losses of each part; values that are not finite are left out."""
    lines: dict[str, Line] = defaultdict(lambda: ([], []))
    for record in records:
        if record.get("kind") == "train":
            parts = grouped(record.get("losses", {}))
            for name, value in [("total", float(record["loss"])), *parts.items()]:
                if math.isfinite(value) and value > 0:
                    _append(lines[TITLES.get(name, name)], float(record["epoch"]), value)
    return dict(lines)


def _rates(records: Sequence[Record]) -> Line:
    line: Line = ([], [])
    for record in records:
        if record.get("kind") == "train":
            _append(line, float(record["epoch"]), float(record["lr"]))
    return line


def _precision(records: Sequence[Record]) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    for record in records:
        for name, kind in (("boxes", "bbox"), ("masks", "segm")):
            if record.get("kind") == "eval" and kind in record:
                line = lines.setdefault(name, ([], []))
                _append(line, float(record["epoch"]), 100 * max(0.0, float(record[kind]["AP"])))
    return lines


def _append(line: Line, epoch: float, value: float) -> None:
    line[0].append(epoch)
    line[1].append(value)


def _draw(axes: Any, lines: Mapping[str, Line], smooth: bool = False, marker: str = "") -> None:
    """Draw lines and write the name of each, and its last value, at its end."""
    ends = []
    for name, (x, y) in lines.items():
        if not x:
            continue
        colour = COLOURS.get(name, GREY) if name else COLOURS["total"]
        if smooth:
            axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
            y = _smoothed(y)
        axes.plot(x, y, color=colour, linewidth=1.8, marker=marker, markersize=3)
        if name:
            ends.append((y[-1], x[-1], f"{name} {y[-1]:.3g}", colour))
    if not any(x for x, _ in lines.values()):
        axes.text(0.5, 0.5, "nothing logged yet", ha="center", transform=axes.transAxes, color=GREY)
    _label_ends(axes, sorted(ends), logarithmic=smooth)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Return the running mean over a share of the run."""
    reach = max(1, round(len(values) * SMOOTH / 2))
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _label_ends(
    axes: Any, ends: Sequence[tuple[float, float, str, str]], logarithmic: bool
) -> None:
    """Write names to the right of the lines' ends, moved apart where they would overlap."""
    if logarithmic:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, None)
    axes.figure.canvas.draw()
    last = -math.inf
    for y, x, text, colour in ends:
        height = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[1]
        last = max(height, last + 0.06)
        axes.text(1.01, last, text, color=colour, va="center", transform=axes.transAxes)
