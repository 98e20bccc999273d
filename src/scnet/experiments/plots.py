"""Pictures of the experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from scnet.experiments.statistics import share_below
from scnet.pictures.colours import (
    BLACK,
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    VERMILION,
)

Array = np.ndarray

BINS = np.arange(0.5, 1.0001, 0.025)
HUES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
LIMITS = (0.6, 0.7, 0.75)  # at which the paper's Figure 1 gives shares


class Dots(NamedTuple):
    """A row of a dot plot."""

    label: str
    panels: tuple[tuple[float, ...], ...]  # values of the seeds, in each panel


def dot_plot(rows: Sequence[Dots], panels: Sequence[str], file: Path) -> None:
    """Draw a dot for each seed and the mean of each row, a panel for each figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.1 + 0.5 * len(rows)), layout="constrained")
    for number, axes in enumerate(np.atleast_1d(figure.subplots(1, len(panels), sharey=True))):
        for y, row in enumerate(rows):
            _draw_dots(axes, y, row.panels[number])
        axes.set_ylim(len(rows) - 0.5, -0.6)
        axes.margins(x=0.12)
        axes.set_xlabel(f"{panels[number]} (per cent)")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.3)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
    figure.savefig(file, dpi=150)


def accuracy_curves(
    thresholds: Sequence[float],
    measured: Mapping[str, Sequence[Sequence[float]]],
    published: Mapping[str, Sequence[float]],
    file: Path,
) -> None:
    """Draw accuracy over the IoU threshold, in per cent.

    Args:
        measured: of each model, the curves of its seeds; a line at their mean, a band over them.
        published: a dashed line for each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for (name, curves), hue in zip(measured.items(), HUES, strict=False):
        values = np.asarray(curves)
        axes.fill_between(thresholds, values.min(0), values.max(0), color=hue, alpha=0.2)
        axes.plot(thresholds, values.mean(0), color=hue, linewidth=2, label=name)
    for (name, curve), marker in zip(published.items(), "os^", strict=False):
        axes.plot(
            thresholds, curve, "--", marker=marker, color=FAINT, markersize=4, label=f"{name} *"
        )
    axes.set_xlabel("IoU threshold" + ("   (* published)" if published else ""))
    axes.set_ylabel("TP / (TP + FP + FN) (per cent)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150)


def iou_histograms(
    panels: Mapping[str, tuple[Float[Array, "n"], Float[Array, "m"]]], file: Path
) -> None:
    """Draw the IoU of samples in training and at inference, a panel for each model (Fig. 1).

    Only samples from IoU 0.5 on are drawn and counted.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(10, 4.2), layout=ConstrainedLayoutEngine(wspace=0.05))
    plots = figure.subplots(1, len(panels), sharey=True)
    for axes, (title, both) in zip(np.atleast_1d(plots), panels.items(), strict=True):
        training, inference = (values[values >= BINS[0]] for values in both)
        _draw_histogram(axes, training, BLUE, fill=True)
        _draw_histogram(axes, inference, ORANGE, fill=False)
        axes.set_title(title, loc="left", weight="bold", fontsize=11)
        axes.set_xlim(BINS[0], BINS[-1])
        axes.set_xlabel("IoU with the ground-truth box")
        axes.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(plots)[0].set_ylabel("share of the samples (per cent)")
    low, high = np.atleast_1d(plots)[0].get_ylim()
    for axes, both in zip(np.atleast_1d(plots), panels.values(), strict=True):
        axes.set_ylim(low, 1.35 * high)
        _draw_shares(axes, *(values[values >= BINS[0]] for values in both))
    figure.savefig(file, dpi=150)


def _draw_dots(axes: Any, y: int, values: Sequence[float]) -> None:
    if not values:
        return
    mean = sum(values) / len(values)
    axes.axhline(y, color=FAINT, linewidth=0.5, alpha=0.5, zorder=1)
    axes.plot(values, [y] * len(values), "o", color=BLUE, alpha=0.55, markersize=6, zorder=2)
    axes.plot([mean, mean], [y - 0.22, y + 0.22], color=BLACK, linewidth=2, zorder=3)
    axes.text(mean, y - 0.27, f"{mean:.1f}", ha="center", va="bottom", fontsize=9)


def _draw_histogram(axes: Any, values: Float[Array, "n"], colour: str, fill: bool) -> None:
    counts, _ = np.histogram(values, BINS)
    shares = 100 * counts / max(1, len(values))
    axes.stairs(shares, BINS, fill=fill, color=colour, alpha=0.35 if fill else 1, linewidth=2)
    if fill:
        axes.stairs(shares, BINS, color=colour, linewidth=1)


def _draw_shares(axes: Any, training: Float[Array, "n"], inference: Float[Array, "m"]) -> None:
    """Draw the limits with the share below each, and say which curve is which."""
    top = axes.get_ylim()[1]
    for limit in LIMITS:
        axes.axvline(limit, ymax=0.86, color=RED, linewidth=0.8)
        for values, height in ((training, 0.955), (inference, 0.885)):
            share = share_below(values, limit)
            text = "" if share is None else f"{100 * share:.1f}"
            axes.text(limit, height * top, text, color=RED, ha="center", fontsize=9)
    for name, colour, height in (("training", BLUE, 0.955), ("inference", ORANGE, 0.885)):
        axes.text(0.503, height * top, name, color=colour, weight="bold", fontsize=8.5)
    axes.text(0.775, 0.955 * top, "per cent of the samples", color=RED, fontsize=8)
    axes.text(0.775, 0.885 * top, "below each line", color=RED, fontsize=8)
