"""Left and right parts of cars, which only their surroundings tell apart (Pasupa et al. 2021).

Every method is trained twice: for as many steps, and for as many minutes of steps, as the others.
The epoch with the best mask AP on the val split is tested, once. A second score takes left and
right for one class. What is lost between the two is what a method does not know of the place of a
part in the whole car.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scnet.config import DataConfig
from scnet.data.coco import load_dataset
from scnet.data.images import DataError
from scnet.data.layout import SplitName
from scnet.data.sides import Pair, by_name
from scnet.evaluation.run import detect_dataset, looked_at
from scnet.evaluation.scoring import score
from scnet.experiments import page, plots
from scnet.experiments.compare import Compared, as_json, compare
from scnet.experiments.page import Page, markdown, write_whole
from scnet.experiments.plan import Plan, Run, name_of
from scnet.experiments.runs import ExperimentError, Outcome, finish
from scnet.experiments.tables import Row
from scnet.experiments.tabulate import costs, dots, figures, gains, machines, verdicts
from scnet.inference.model import load
from scnet.ops.nms_groups import group_nms
from scnet.training.log import Log

Say = Callable[[str], None]
Json = dict[str, Any]

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
TEST = "test.json"  # in a run folder: the figures of the test, which is done once

BASELINE = "cascade_mask_rcnn_semantic"
METHODS = (
    Row("Mask R-CNN", "mask_rcnn", BASELINE),
    Row("Cascade Mask R-CNN", "cascade_mask_rcnn", BASELINE),
    Row("Cascade Mask R-CNN + semantic branch", BASELINE),
    Row("HTC", "htc", BASELINE),
    Row("SCNet", "scnet", BASELINE),
)
BUDGETS = {"steps": "At equal steps", "minutes": "At equal time"}

GAP = "gap of pairs"
COLUMNS = ("AP", "AP50", "AP75", "merged AP", GAP, "box AP", "val AP")
TITLES = {"AP": "mask AP", "merged AP": "mask AP, left and right merged", GAP: "gap of pairs"}

# Pasupa et al. 2021 give one figure for each score, of HTC with a ResNet-50, the best of Mask
# R-CNN, PANet, CBNet, GCNet and HTC there.
PUBLISHED = {"paper's mAP": 55.2, "with left and right merged": 59.1}


@dataclass(frozen=True)
class Tested:
    """A training whose best epoch was tested."""

    outcome: Outcome
    figures: Mapping[str, float | None]  # by column, in per cent; None where undefined

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return self.outcome.recipe

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.outcome.seed

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self.outcome.parameters

    @property
    def memory_gb(self) -> float:
        """Most memory in training."""
        return self.outcome.memory_gb

    @property
    def seconds(self) -> float:
        """Time of training steps."""
        return self.outcome.seconds

    def figure(self, column: str) -> float | None:
        """Return a figure of the test in per cent, or that of the val split."""
        return self.figures[column]


def runs(plan: Plan) -> list[Run]:
    """Return all trainings: both budgets of every method with every seed."""
    return [run for data in plan.data for budget in BUDGETS for run in _runs(plan, data, budget)]


def pictures(plan: Plan) -> list[str]:
    """Return the names of the pictures of the page."""
    return [_picture(data, budget) for data in plan.data for budget in BUDGETS]


def run(plan: Plan, say: Say) -> Path:
    """Carry out the experiment and return its page.

    Raises:
        DataError: a data set has no classes of left and right.
        ExperimentError: a training failed, or found nothing to choose an epoch by.
    """
    body: list[str] = []
    outcomes: list[Outcome] = []
    results: list[Any] = []
    for data in plan.data:
        pairs = pairs_of(data)
        for budget, title in BUDGETS.items():
            planned = _runs(plan, data, budget)
            found = finish(planned, say=say, quiet=plan.quiet)
            outcomes += found
            tested = [_tested(one, o, say) for one, o in zip(planned, found, strict=True)]
            by_recipe = {
                row.recipe: [t for t in tested if t.recipe == row.recipe + plan.size.suffix]
                for row in METHODS
            }
            compared = compare(METHODS, by_recipe, COLUMNS)
            body += _section(plan, data, budget, compared)
            rows = [as_json(c) for c in compared]
            results.append({"data": name_of(data), "budget": budget, "rows": rows})
            say(f"{name_of(data)}, {title.lower()}: done")
        body.append(f"Merged in `{name_of(data)}`: {', '.join(' and '.join(p) for p in pairs)}.")
    return page.write(plan, _page(body, outcomes, results))


def pairs_of(data: Path) -> tuple[Pair, ...]:
    """Return the classes of a data set that differ in left and right alone.

    Raises:
        DataError: there are none.
    """
    dataset = load_dataset(data, "train", DataConfig(), train=False)
    pairs = by_name(dataset.classes).pairs
    if not pairs:
        raise DataError(
            f"{dataset.annotation_file}: no two classes differ in the word left or right alone, "
            "which this experiment is about; give data that have such classes with --data"
        )
    return pairs


def figures_of_test(run: Run, say: Say) -> Json:
    """Return the figures of the best epoch on the test split, tested once and kept.

    Returns:
        Step of the epoch and its mask AP on the val split ("step", "val"), the scores of COCO with
        all classes ("separate") and with merged ones ("merged"), and the merged "pairs".

    Raises:
        ExperimentError: no epoch was chosen.
    """
    file = run.folder / TEST
    if not file.is_file():
        write_whole(file, json.dumps(_test(run, say), indent=1) + "\n")
    found: Json = json.loads(file.read_text())
    return found


def merge_sides(
    truth: Json, results: Sequence[Json], pairs: Sequence[Pair], iou: float
) -> tuple[Json, list[Json]]:
    """Return ground truth and results with one class in place of each pair.

    A model may find a part twice, as left and as right. With one class its NMS would have kept the
    better one, so it is done here too.

    Args:
        iou: of boxes, from which NMS drops the worse one.
    """
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    to = {ids[right]: ids[left] for left, right in pairs}
    names = {ids[left]: f"{left} or {right}" for left, right in pairs}
    merged = {
        **truth,
        "categories": [
            {**c, "name": names.get(c["id"], c["name"])}
            for c in truth["categories"]
            if c["id"] not in to
        ],
        "annotations": [_moved(a, to) for a in truth["annotations"]],
    }
    moved = [_moved(entry, to) for entry in results]
    of_pairs = [i for i, entry in enumerate(moved) if entry["category_id"] in names]
    kept = {of_pairs[i] for i in _survivors([moved[i] for i in of_pairs], iou)}
    dropped = {*of_pairs} - kept
    return merged, [entry for i, entry in enumerate(moved) if i not in dropped]


def gap_of_pairs(separate: Json, merged: Json, pairs: Sequence[Pair]) -> float | None:
    """Return what telling left from right costs, in mask AP as a fraction; None if undefined.

    That is the mean over pairs of the AP of one class, less the mean of the AP of the two.
    """
    gaps = []
    for left, right in pairs:
        both = [separate[name]["segm"] for name in (left, right)]
        together = merged[f"{left} or {right}"]["segm"]
        if min(*both, together) >= 0:
            gaps.append(together - statistics.fmean(both))
    return statistics.fmean(gaps) if gaps else None


def _runs(plan: Plan, data: Path, budget: str) -> list[Run]:
    return [
        plan.run(row.recipe, data, seed, budget) for seed in range(plan.seeds) for row in METHODS
    ]


def _picture(data: Path, budget: str) -> str:
    return f"carparts_{name_of(data)}_{budget}.png"


def _tested(run: Run, outcome: Outcome, say: Say) -> Tested:
    found = figures_of_test(run, say)
    separate, merged = found["separate"], found["merged"]
    values = {name: separate["segm"][name] for name in ("AP", "AP50", "AP75")}
    values |= {"merged AP": merged["segm"]["AP"], "box AP": separate["bbox"]["AP"]}
    values |= {"val AP": found["val"]}
    pairs = [(left, right) for left, right in found["pairs"]]
    gap = gap_of_pairs(separate["per_class"], merged["per_class"], pairs)
    in_per_cent = {name: None if value < 0 else 100 * value for name, value in values.items()}
    return Tested(outcome, {**in_per_cent, GAP: None if gap is None else 100 * gap})


def _test(run: Run, say: Say) -> Json:
    step, val = _chosen(run)
    model = load(run.folder / "best", quiet=True)
    config = model.config
    dataset = load_dataset(run.data, "test", config.data, train=False, classes=model.classes)
    say(f"testing {run.folder.name}, chosen at step {step}, on {len(dataset)} images")
    truth, results = looked_at(dataset, list(detect_dataset(model.fast, dataset)))
    pairs, box = by_name(dataset.classes).pairs, config.model.box
    cap = box.max_detections
    separate = score(truth, results, max_detections=cap)
    merged = score(*merge_sides(truth, results, pairs, box.nms_iou), max_detections=cap)
    return {"step": step, "val": val, "pairs": pairs, "separate": separate, "merged": merged}


def _chosen(run: Run) -> tuple[int, float]:
    """Return the step of the best epoch, which lies in `best`, and its mask AP on the val split."""
    records = Log(run.folder / "log.jsonl", quiet=True).records()
    evaluations = [record for record in records if record["kind"] == "eval"]
    best = max(evaluations, key=lambda record: record["segm"]["AP"])  # the first of equal ones
    if not (run.folder / "best").is_dir():
        raise ExperimentError(
            f"{run.folder}: no epoch could be chosen, as mask AP on the val split is not defined; "
            "are there objects in it? Correct the data and remove the folder"
        )
    return best["step"], best["segm"]["AP"]


def _moved(entry: Json, to: Mapping[int, int]) -> Json:
    return {**entry, "category_id": to.get(entry["category_id"], entry["category_id"])}


def _survivors(results: Sequence[Json], iou: float) -> list[int]:
    """Return the places of results that survive NMS within their image and class."""
    groups: dict[tuple[Any, int], int] = {}
    group = [groups.setdefault((r["image_id"], r["category_id"]), len(groups)) for r in results]
    boxes = torch.tensor([r["bbox"] for r in results], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.tensor([r["score"] for r in results], dtype=torch.float32)
    kept: list[int] = group_nms(boxes, scores, torch.tensor(group, dtype=torch.int64), iou).tolist()
    return kept


def _section(plan: Plan, data: Path, budget: str, compared: Sequence[Compared]) -> list[str]:
    """Return the blocks of one data set and budget."""
    picture = _picture(data, budget)
    plan.folder.mkdir(parents=True, exist_ok=True)
    rows = [dots(c, tuple(TITLES)) for c in compared]
    plots.dot_plot(rows, list(TITLES.values()), plan.folder / picture)
    return [
        f"## {BUDGETS[budget]}: {name_of(data)}",
        "Mask figures, and AP of boxes, in per cent, on the test split; val AP is what the epoch "
        "was chosen by:",
        figures(COLUMNS, compared),
        f"![A dot for each seed, a line at the mean]({picture})",
        "Differences to Cascade Mask R-CNN with semantic branch:",
        gains(COLUMNS, compared),
        verdicts(tuple(TITLES), compared),
        "What each costs:",
        costs(compared, {}),
    ]


def _page(body: Sequence[str], outcomes: Sequence[Outcome], results: list[Any]) -> Page:
    return Page(
        title="Left and right parts of cars",
        about="Every method is trained for as many steps, and for as many minutes of steps, as the "
        "others. The epoch with the best mask AP on the val split is tested, once. Merged AP takes "
        "left and right for one class; a part found as both is then found once, by NMS as the "
        "model's. The gap of pairs is what telling left from right costs: over the pairs, AP of "
        "the one class less the mean AP of the two. A smaller gap is better. Mirrored images swap "
        "left and right in training (`data.flip_swaps`). Mean ± sample standard deviation over "
        "seeds. Differences are paired by seed; one that a t-test at 5 % does not tell from zero "
        "is not decided.",
        body=(*body, _published()),
        results={"experiment": "carparts", "data": results, "published": PUBLISHED},
        machines=machines(outcomes),
        commands=tuple(o.command for o in outcomes),
        seconds=sum(o.seconds for o in outcomes),
    )


def _published() -> str:
    return "\n\n".join(
        [
            "## Published",
            "Pasupa et al. 2021, HTC with a ResNet-50, the best of Mask R-CNN, PANet, CBNet, GCNet "
            "and HTC there. The figures are quoted as the paper's mAP: whether of masks or boxes, "
            "over which IoUs, and from which weights is not known, nor how left and right were "
            "merged. They are of the first labels (`annotations_v1`), where all wheels of a car "
            "are one object.",
            markdown(["", *PUBLISHED], [["HTC", *(f"{v:.1f}" for v in PUBLISHED.values())]]),
        ]
    )
