"""The page of StarDist's table: figures over seeds, beside those that were published."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scnet.data.layout import SplitName
from scnet.evaluation.label_metric import THRESHOLDS
from scnet.experiments.page import Page, markdown, number, with_spread
from scnet.experiments.plan import Plan
from scnet.experiments.runs import Outcome
from scnet.experiments.statistics import paired, spread
from scnet.experiments.tabulate import machines

# Recipes at paper size; Cascade Mask R-CNN has the semantic branch, as in the tables of the paper.
MODELS = {
    "mask_rcnn": "Mask R-CNN",
    "cascade_mask_rcnn_semantic": "Cascade Mask R-CNN",
    "htc": "HTC",
    "scnet": "SCNet",
}
BASELINE = "mask_rcnn"
DENSE = "_dense"  # ends the names of the recipes at small size, which are made for many objects
SHOWN = 3  # pictures of the worst misses of each model on the page

# Schmidt et al. 2018, Table 1: AP in per cent at IoU 0.5, 0.55, ..., 0.9.
PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "U-Net, 3 classes": (80.6, 77.5, 74.3, 70.1, 65.4, 57.8, 49.1, 37.4, 22.6),
    "Mask R-CNN": (83.2, 80.5, 77.3, 73.0, 68.4, 59.7, 48.9, 35.3, 18.9),
    "StarDist": (86.4, 83.6, 80.4, 75.5, 68.5, 58.6, 45.0, 28.7, 11.9),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What a training found in the images of a split."""

    name: str  # recipe at paper size
    seed: int
    split: SplitName
    folder: Path  # of the training
    figures: dict[str, Any]  # as `label_metric.RESULT` says, and seconds_per_image

    @property
    def score(self) -> float:
        """The score threshold."""
        return float(self.figures["score"])

    def pooled(self) -> list[float]:
        """Return AP at each IoU threshold, of all images together."""
        return [row["AP"] for row in self.figures["pooled"]]

    def means(self) -> list[float]:
        """Return AP at each IoU threshold as a mean over images."""
        return [row["AP"] for row in self.figures["mean"]]


def curves_picture(data: str) -> str:
    """Return the name of the picture of a data set."""
    return f"stardist_{data}.png"


def mistakes_report(data: str, model: str) -> str:
    """Return the name of the folder with the worst mistakes of a model."""
    return f"mistakes_{data}_{model}"


def whole_page(
    plan: Plan, measured: Mapping[str, Sequence[Measured]], outcomes: Sequence[Outcome]
) -> Page:
    """Return the page; `measured` by the name of the data set."""
    body = [block for data, found in measured.items() for block in _section(plan, data, found)]
    body.append(_costs([m for found in measured.values() for m in found], outcomes))
    return Page(
        title="StarDist's table: nuclei matched one to one",
        about=_about(plan),
        body=(*body, _published(plan.test)),
        results={
            "experiment": "stardist",
            "tested": plan.test,
            "data": [
                {"data": data, "measured": list(map(_as_json, found))}
                for data, found in measured.items()
            ],
            "outcomes": [
                {"recipe": o.recipe, "data": o.data, "seed": o.seed, "seconds": o.seconds}
                | {"parameters": o.parameters, "memory_gb": o.memory_gb}
                for o in outcomes
            ],
        },
        machines=machines(outcomes),
        commands=tuple(o.command for o in outcomes),
        seconds=sum(o.seconds for o in outcomes),
    )


def _about(plan: Plan) -> str:
    text = (
        "AP = TP / (TP + FP + FN), in per cent, of label maps matched one to one at an IoU "
        "threshold (`scnet eval --metric matching`). Of predictions that overlap, the one of the "
        "best score has a pixel. Mean ± sample standard deviation over seeds. A training on a part "
        "of the training images chooses the score threshold on the others: that of the highest "
        "mean AP over all IoU thresholds. "
    )
    if not plan.test:
        return text + (
            "**These are figures of the images that the thresholds were chosen on.** The test "
            "images were not looked at: choose all settings first, then add `--test`."
        )
    return text + (
        "That is one training of each model, with seed 0. The trainings that are tested, one for "
        "each seed, have the same settings and all training images; each is measured once on the "
        "test images, at that threshold."
    )


def _section(plan: Plan, data: str, found: Sequence[Measured]) -> list[str]:
    """Return the blocks of a data set: of its test images, and of those that were chosen on."""
    chosen = [m for m in found if m.split == "val"]
    tested = [m for m in found if m.split == "test"]
    blocks = [f"## {data}"]
    if plan.test:
        blocks += _figures("test images", tested, list(_quoted("{}, published")))
    blocks += _figures("images that the thresholds were chosen on", chosen)
    where = "test images" if tested else "images that the thresholds were chosen on"
    return [
        *blocks,
        f"![AP over the IoU threshold, on the {where}]({curves_picture(data)})",
        *_mistakes(plan, data, where),
    ]


def _figures(
    where: str, found: Sequence[Measured], published: Sequence[list[str]] = ()
) -> list[str]:
    pooled = _over_seeds({m: m.pooled() for m in found})
    means = _over_seeds({m: m.means() for m in found})
    images = found[0].figures["images"]
    return [
        f"### AP of the {images} {where}, counted together",
        markdown(_header(), [*pooled, *published]),
        _verdicts(found),
        f"### AP of the {images} {where}, mean over images",
        markdown(_header(), means),
        f"### Each seed on the {images} {where}",
        "In brackets the middle 95 % of 1000 resamples of the images: how far a figure depends on "
        "which images were taken.",
        _each(found),
        *_remarks(found),
    ]


def _header() -> list[str]:
    return ["", *(f"{threshold:g}" for threshold in THRESHOLDS), "mean"]


def _over_seeds(rows: Mapping[Measured, Sequence[float]]) -> list[list[str]]:
    cells = []
    for name, label in MODELS.items():
        own = [[*row, statistics.fmean(row)] for m, row in rows.items() if m.name == name]
        spreads = (spread(100 * value for value in column) for column in zip(*own, strict=True))
        cells.append([label, *map(with_spread, spreads)])
    return cells


def _verdicts(found: Sequence[Measured]) -> str:
    """Return a sentence for the mean AP of each model against that of the baseline."""
    lines = []
    base = _mean_ap(found, BASELINE)
    for name, label in MODELS.items():
        if name == BASELINE:
            continue
        gain = paired(_mean_ap(found, name), base)
        start = f"- {label} against {MODELS[BASELINE]}, mean AP: {with_spread(gain, 2, '+')}"
        decided = gain is not None and gain.decided
        lines.append(start + (", more than its spread." if decided else ", not decided."))
    return "\n".join(lines)


def _mean_ap(found: Iterable[Measured], name: str) -> dict[int, float]:
    return {m.seed: 100 * m.figures["mean_AP"]["pooled"] for m in found if m.name == name}


def _each(found: Sequence[Measured]) -> str:
    rows = []
    for m in found:
        cells = [_with_interval(row["AP"], row["AP_interval"]) for row in _three(m)]
        of = m.figures["mean_AP"]
        counts = _three(m)[0]
        rows.append(
            [
                f"{MODELS[m.name]}, seed {m.seed}",
                f"{m.score:g}",
                *cells,
                _with_interval(of["pooled"], of["interval"]),
                *(str(counts[key]) for key in ("TP", "FP", "FN")),
            ]
        )
    header = ["", "score from", "AP at 0.5", "at 0.7", "at 0.9", "mean AP"]
    return markdown([*header, "TP at 0.5", "FP", "FN"], rows)


def _three(m: Measured) -> list[dict[str, Any]]:
    return [row for row in m.figures["pooled"] if row["IoU"] in (0.5, 0.7, 0.9)]


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    if interval is None:
        return number(100 * value)
    low, high = interval
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _remarks(found: Sequence[Measured]) -> list[str]:
    """Return what must be known of single trainings."""
    lines = []
    for m in found:
        who = f"- {MODELS[m.name]}, seed {m.seed}: "
        if m.figures["score_from"] == "default":
            lines.append(f"{who}no prediction is an object at any score, so none could be chosen.")
        if cut := m.figures["limit"]["images_cut"]:
            lines.append(
                f"{who}{cut} images have as many predictions as may be, so some may be missing."
            )
        if hidden := m.figures["left_out"]["predictions_without_pixel"]:
            lines.append(f"{who}{hidden} predictions left out that others hide altogether.")
    return ["\n".join(lines)] if lines else []


def _mistakes(plan: Plan, data: str, where: str) -> list[str]:
    """Return pictures of misses; none of runs of which the figures alone were kept."""
    folders = {label: mistakes_report(data, name) for name, label in MODELS.items()}
    there = {label: name for label, name in folders.items() if (plan.folder / name).is_dir()}
    if not there:
        return []
    blocks = [
        f"### What was missed in the {where}",
        "The largest missed objects of seed 0, at IoU 0.5 and the score threshold: what is there "
        "has a solid line, what was found a dashed one.",
    ]
    for label, folder in there.items():
        files = sorted((plan.folder / folder).glob("miss-*.jpg"))[:SHOWN]
        pictures = " ".join(f"![a missed object]({folder}/{file.name})" for file in files)
        link = f"{label}: [all its worst mistakes]({folder}/index.html)"
        blocks += [link, *([pictures] if files else [])]
    return blocks


def _costs(found: Sequence[Measured], outcomes: Sequence[Outcome]) -> str:
    """Return what each model costs: in training, and for an image at test time."""
    rows = []
    for name, label in MODELS.items():
        own = [o for o in outcomes if o.recipe in (name, name + DENSE)]
        seconds = [m.figures["seconds_per_image"] for m in found if m.name == name]
        rows.append(
            [
                label,
                number(own[0].parameters / 1e6, 2),
                number(max(o.memory_gb for o in own), 2),
                number(statistics.fmean(o.seconds for o in own), 0),
                number(statistics.median(seconds), 3),
            ]
        )
    header = ["", "M parameters", "training GB", "training s", "s an image"]
    return "\n\n".join(
        [
            "## What each costs",
            "An image at test time: read, found and turned into masks, one after the other; median "
            "over trainings.",
            markdown(header, rows),
        ]
    )


def _quoted(name: str) -> Iterator[list[str]]:
    """Yield the published rows; `name` says how each is called."""
    for label, row in PUBLISHED.items():
        yield [name.format(label), *map(number, row), number(statistics.fmean(row))]


def _published(shown: bool) -> str:
    """Return what is published; its table too, if it is not shown beside our figures."""
    return "\n\n".join(
        [
            "## Published",
            "Schmidt et al. 2018, Table 1: the 50 test images, counted together as far as known.",
            *([] if shown else [markdown(_header(), _quoted("{}"))]),
            "Elsewhere: StarDist's notebook has 83.5 at 0.5 on the 67 images to choose with, "
            "counted together; EmbedSeg's has 88.7 at 0.5 on the test images, a mean over images, "
            "with test-time augmentation.",
        ]
    )


def _as_json(m: Measured) -> dict[str, Any]:
    figures = {key: value for key, value in m.figures.items() if key != "per_image"}
    return {"model": m.name, "seed": m.seed, "split": m.split, **figures}
