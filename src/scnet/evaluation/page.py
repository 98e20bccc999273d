"""The page of a report, made of the content of its `report.json` by `page.html`.

The page asks nothing of the network and runs no script. All names are escaped by Jinja.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from scnet.evaluation.scoring import percent
from scnet.evaluation.summary import exact, share
from scnet.evaluation.worst import FOUND_HUE, REGION_HUE, TRUTH_HUE

Json = dict[str, Any]

STEPS = (5, *range(10, 100, 10), 95)  # hundredths; score thresholds that are listed
PAIRS = 12  # most pairs of classes that are listed as confused

EXPLAINED = {
    "wrong class": "overlaps an object of another class by the asked IoU",
    "bad location": "overlaps an object of its class, but by less than the asked IoU",
    "wrong class and location": "overlaps an object of another class, by less than the asked IoU",
    "duplicate": "the object is already taken by a find of a higher score",
    "background": "overlaps no object by an IoU of 0.1",
    "low score": "found, but with a score below the threshold",
    "not found": "no find of its class takes it at any score",
}
MISS_EXPLAINED = EXPLAINED | {
    "wrong class": "a false find of another class covers it",
    "bad location": "a false find of its class lies on it, but overlaps it too little",
}


class Pair(NamedTuple):
    """Objects of one class that were found as another."""

    truth: str
    found: str
    number: int
    of: int  # objects of the class


def render(content: Json, has_crowds: bool) -> str:
    """Return the page; `has_crowds` says whether its pictures may show crowd regions."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"share": share, "percent": percent, "number": _number, "exact": exact}
    template = environment.from_string(
        files("scnet.evaluation").joinpath("page.html").read_text(encoding="utf-8")
    )
    kinds = [kind for kind in ("segm", "bbox") if kind in content]
    return template.render(
        **content,
        classes=_class_rows(content),
        silent=_silent(content["counts"]),
        matrix=_matrix(content["counts"]["confusion"]),
        pairs=confused(content["counts"]["confusion"]),
        hues={"truth": TRUTH_HUE, "found": FOUND_HUE, "region": REGION_HUE},
        explained=EXPLAINED,
        miss_explained=MISS_EXPLAINED,
        has_crowds=has_crowds,
        title=_title(content["about"]),
        steps=[content["thresholds"][n] for n in STEPS],
        kinds=kinds,
        ap={kind: content[kind] for kind in kinds},
    )


def confused(confusion: Json) -> list[Pair]:
    """Return the pairs of classes that are confused most, background left aside."""
    names, matrix = confusion["classes"][:-1], confusion["matrix"]
    pairs = [
        Pair(truth, found, matrix[i][j], sum(matrix[i]))
        for i, truth in enumerate(names)
        for j, found in enumerate(names)
        if i != j and matrix[i][j]
    ]
    return sorted(pairs, key=lambda pair: -pair.number)[:PAIRS]


def _title(about: Json) -> str:
    source = about["model"] if "model" in about else about["results"]
    return " on ".join(Path(name).name or name for name in (source, about["data"]))


def _class_rows(content: Json) -> list[tuple[str, Json, Json]]:
    """Return name, counts and AP of each class that has objects or finds, most objects first."""
    of_class, ap = content["counts"]["per_class"], content["per_class"]
    rows = [(name, figures, ap[name]) for name, figures in of_class.items() if _occurs(figures)]
    return sorted(rows, key=lambda row: -int(row[1]["objects"]))


def _silent(summary: Json) -> list[str]:
    """Return the classes without objects and finds."""
    return [name for name, figures in summary["per_class"].items() if not _occurs(figures)]


def _occurs(figures: Json) -> bool:
    return bool(figures["objects"] or figures["FP"])


def _matrix(confusion: Json) -> Json:
    """Return the names and rows of the classes that occur; cells are number and share of the row.

    The last row, of finds that are no object, has its shares of all such finds.
    """
    matrix = confusion["matrix"]
    last = len(matrix) - 1
    shown = [i for i in range(last) if sum(matrix[i]) or sum(row[i] for row in matrix)]
    places = [*shown, last]
    rows = [
        (
            confusion["classes"][i],
            [(matrix[i][j], matrix[i][j] / max(1, sum(matrix[i])), i == j) for j in places],
        )
        for i in places
    ]
    return {"names": [confusion["classes"][i] for i in places], "rows": rows}


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
