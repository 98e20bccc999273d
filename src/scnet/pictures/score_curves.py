"""Two plots for the choice of a score threshold: precision over recall, and F1 over the score."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from scnet.pictures.colours import BLACK, BLUE, GREEN, GREY, ORANGE

Values = Float[np.ndarray, "n"]

POINTS = 600  # of a line; more would not be seen


class Lines(NamedTuple):
    """By falling score."""

    score: Values
    precision: Values
    recall: Values
    f1: Values


def score_curves(lines: Lines, threshold: float, best: float | None, folder: Path) -> list[Path]:
    """Write `precision_recall.svg` and `f1.svg`; `best` is the threshold of the highest F1."""
    return [
        _precision_recall(lines, threshold, folder / "precision_recall.svg"),
        _over_score(_thinned(lines), threshold, best, folder / "f1.svg"),
    ]


def _precision_recall(lines: Lines, threshold: float, file: Path) -> Path:
    figure, axes = _axes("Precision over recall", "recall (per cent)", "precision (per cent)")
    shown = _thinned(lines)
    axes.plot(100 * shown.recall, 100 * shown.precision, color=BLUE, linewidth=1.8)
    passed = int((lines.score >= threshold).sum())
    if passed:
        x, y = 100 * lines.recall[passed - 1], 100 * lines.precision[passed - 1]
        axes.plot([x], [y], "o", color=BLACK, markersize=6)
        side = "right" if x > 30 else "left"
        offset = (-9, -16) if side == "right" else (9, 9)  # off the line, which falls
        place = {"textcoords": "offset points", "ha": side, "fontsize": 10}
        axes.annotate(f"score {threshold:.6g}", (x, y), offset, **place)
    axes.set(xlim=(0, 101), ylim=(0, 104))
    return _saved(figure, file)


def _over_score(lines: Lines, threshold: float, best: float | None, file: Path) -> Path:
    figure, axes = _axes("Over the score threshold", "score threshold", "per cent")
    shown = (("precision", lines.precision, BLUE), ("recall", lines.recall, ORANGE))
    for name, values, colour in (*shown, ("F1", lines.f1, GREEN)):
        width = 2.4 if name == "F1" else 1.4
        axes.plot(lines.score, 100 * values, color=colour, linewidth=width, label=name)
    marks = {threshold: f"score {threshold:.6g}"}
    if best is not None:
        marks[best] = f"best F1 at {best:.6g}"
    for height, (score, text) in zip((1.01, 1.07), marks.items(), strict=False):
        axes.axvline(score, color=GREY, linewidth=1, linestyle=":")
        side = "right" if score > 0.8 else "left" if score < 0.2 else "center"
        transform = axes.get_xaxis_transform()
        axes.text(score, height, text, transform=transform, ha=side, va="bottom", fontsize=10)
    low = min(0.0, float(lines.score.min())) if len(lines.score) else 0.0
    high = max(1.0, float(lines.score.max())) if len(lines.score) else 1.0
    axes.set(xlim=(low, high), ylim=(0, 104))
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return _saved(figure, file)


def _thinned(lines: Lines) -> Lines:
    count = len(lines.score)
    if count <= POINTS:
        return lines
    places = np.unique(np.linspace(0, count - 1, POINTS).round().astype(np.int64))
    return Lines(*(values[places] for values in lines))


def _axes(title: str, x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", weight="bold", pad=32)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes


def _saved(figure: Any, file: Path) -> Path:
    """Write an SVG that is the same for the same figures."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    with rc_context({"svg.hashsalt": file.name}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file
