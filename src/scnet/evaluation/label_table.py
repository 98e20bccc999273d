"""The figures of the matching metric as tables, and in sentences what stands behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from scnet.data.wording import counted, of_all
from scnet.evaluation.summary import exact, share

if TYPE_CHECKING:
    from rich.table import Table

Json = dict[str, Any]

WIDTH = 104  # of the widest table
_COUNTS = ("TP", "FP", "FN")
_FIGURES = ("precision", "recall", "F1", "PQ", "matched_IoU", "object_IoU", "AP")


def tables(result: Json) -> Iterator[Table]:
    """Yield the figures in percent: of all images together, means over images, and of classes."""
    yield _pooled(result)
    yield _means(result)
    if len(result["per_class"]) > 1:
        yield _classes(result)


def lines(result: Json) -> Iterator[str]:
    """Yield what was compared, and what was left out."""
    yield _compared(result)
    if result["score_from"] == "best":
        yield (
            f"score {exact(result['score'])} has the highest mean AP on these very images; choose "
            "it on a validation split, and give it with --score to measure on another"
        )
    yield from _removed(result)
    yield from _uncounted(result)
    limit = result["limit"]
    if full := limit["images_at_limit"]:
        yield (
            f"{of_all(full, result['images'], 'image', 'has')} the most predictions that may be "
            f"({limit['max_detections']}), {limit['images_cut']} of them with the score threshold "
            "or more in all"
        )


def _pooled(result: Json) -> Table:
    names = ("IoU", *_COUNTS, *_names(), "±", "95 %")
    rows = _table("all images together, percent", *names)
    for row in result["pooled"]:
        counts = [str(row[name]) for name in _COUNTS]
        spread = share(row["AP_error"]), _interval(row["AP_interval"])
        rows.add_row(_exact(row["IoU"]), *counts, *_shares(row), *spread)
    of = result["mean_AP"]
    spread = share(of["error"]), _interval(of["interval"])
    rows.add_section()
    blank = [""] * (len(_COUNTS) + len(_FIGURES) - 1)
    rows.add_row("mean", *blank, share(of["pooled"]), *spread)
    return rows


def _means(result: Json) -> Table:
    rows = _table(f"mean over {counted(result['images'], 'image')}, percent", "IoU", *_names())
    for row in result["mean"]:
        rows.add_row(_exact(row["IoU"]), *_shares(row))
    rows.add_section()
    rows.add_row("mean", *[""] * (len(_FIGURES) - 1), share(result["mean_AP"]["mean"]))
    return rows


def _classes(result: Json) -> Table:
    """Return the figures of each class that occurs, at the first threshold, and its mean AP."""
    at = f"at {result['thresholds'][0]:g}"
    title = "each class matched by itself, all images together, percent"
    names = ("objects", "predictions", f"AP {at}", f"F1 {at}", f"PQ {at}", "mean AP")
    rows = _table(title, "class", *names)
    for name, of in result["per_class"].items():
        if not of["objects"] + of["predictions"]:
            continue
        first = of["pooled"][0]
        counts = (str(of["objects"]), str(of["predictions"]))
        rows.add_row(
            name, *counts, *(share(first[key]) for key in ("AP", "F1", "PQ")), share(of["mean_AP"])
        )
    return rows


def _compared(result: Json) -> str:
    several = len(result["per_class"]) > 1
    score = f"{result['score_name'].replace('_', ' ')} {exact(result['score'])}"
    return (
        f"{counted(result['objects'], 'object')} and "
        f"{counted(result['predictions'], 'prediction')} of {score} or more "
        f"in {counted(result['images'], 'image')}"
        + (", matched without regard to classes but in the table of them" if several else "")
        + (f"; {counted(result['skipped'], 'image')} left out" if result.get("skipped") else "")
    )


def _removed(result: Json) -> Iterator[str]:
    """Yield what became of masks that overlap, and of results beyond the limit."""
    for name, who in (("objects", "smallest"), ("predictions", "best score")):
        shared, hidden = result["shared_pixels"][name], result["left_out"][f"{name}_without_pixel"]
        if shared:
            yield f"{counted(shared, 'pixel')} in several {name} went to the one of the {who}"
        if hidden:
            yield f"{counted(hidden, name[:-1])} left out that kept no pixel"
    if beyond := result["left_out"]["predictions_beyond_limit"]:
        most = result["limit"]["max_detections"]
        yield f"{counted(beyond, 'prediction')} left out beyond the {most} best of their image"


def _uncounted(result: Json) -> Iterator[str]:
    """Yield what is neither true nor false."""
    first = result["pooled"][0]
    if aside := first["on_crowd_regions"]:
        yield (
            f"{counted(aside, 'prediction')} on crowd regions at IoU {first['IoU']:g} neither true "
            "nor false"
        )
    if empty := result["empty_images"]:
        yield (
            f"{counted(empty, 'image')} with neither objects nor predictions, 0 in means over "
            "images as in StarDist"
        )


def _table(title: str, *names: str) -> Table:
    from rich.table import Table

    rows = Table(*names, title=title, padding=(0, 1, 0, 0))  # narrow, as there are many columns
    for column in rows.columns[1:]:
        column.justify = "right"
    return rows


def _names() -> Iterator[str]:
    return (name.replace("_", " ") for name in _FIGURES)


def _shares(row: Json) -> Iterator[str]:
    return (share(row[name]) for name in _FIGURES)


def _exact(threshold: float) -> str:
    return f"{threshold:g}"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else "-".join(share(end) for end in ends)
