"""StarDist's table: instances of nuclei, matched one to one (Schmidt et al. 2018, Table 1).

For each model, one training on a part of the training images chooses the score threshold on the
others. The models that are tested, one for each seed, train on all of them with the same settings,
and each is tested once, at that threshold. Without `--test` the test images are not looked at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.layout import SplitName
from scnet.evaluation.label_metric import THRESHOLDS, match_instances
from scnet.evaluation.run import detect_dataset, looked_at
from scnet.evaluation.stored import evaluate_results
from scnet.evaluation.summary import Score
from scnet.experiments import page, plots, stardist_splits
from scnet.experiments.page import write_whole
from scnet.experiments.plan import Plan, Run, Settings
from scnet.experiments.runs import ExperimentError, Outcome, finish
from scnet.experiments.stardist_page import (
    DENSE,
    MODELS,
    PUBLISHED,
    Measured,
    curves_picture,
    mistakes_report,
    whole_page,
)
from scnet.experiments.stardist_splits import FINAL, TUNING
from scnet.inference.detections import Detections
from scnet.inference.model import Model, load
from scnet.settings import merge, nested

Say = Callable[[str], None]

PICTURES = 6  # of the worst misses of each model, and of its worst false finds
RESULTS = "results_{split}.json"  # of a run: what was found, as COCO lays it out
FIGURES = "matching_{split}.json"  # and how it matches

STEPS = {"small": 1000, "paper": 8000}  # where none are given
# Laid over the recipe of every model, in every training. Images of a microscope have no upright
# position, and few use the whole range of their files. All are enlarged alike: fitted into the
# sides of the small ones, crowds in the large ones would lose half of their detail.
SETTINGS: Settings = {
    "model": {"mask": {"least_visible": 0.5}},  # nuclei do not lie in one another
    "data": {
        "range": "percentile",
        "vertical_flip": 0.5,
        "scale_factor": 1.75,
        "size": [448, 448],  # 256 x 256 of an image's own pixels
        "repeat_large": True,
    },
    "eval": {"every": 0},
    "run": {"trackers": []},
}
# And over those at paper size. There are up to 369 nuclei in an image.
CROWDED: Settings = {
    "model": {
        "rpn": {
            "anchor_scale": 2.0,  # 8 to 128 px
            "before_nms": 2000,
            "after_nms": 1500,
        },
        "box": {"score_threshold": 0.05, "max_detections": 600},
    },
    "data": {"scale_factor": 2.0, "size": [512, 512]},
    "optim": {"schedule": "cosine"},
}


def runs(plan: Plan) -> list[Run]:
    """Return all trainings: those that choose, and with `--test` those that are tested."""
    return [
        run for data in plan.data for run in (*tuning_runs(plan, data), *final_runs(plan, data))
    ]


def tuning_runs(plan: Plan, data: Path) -> list[Run]:
    """Return the trainings that settings and score thresholds are chosen by.

    For a test they are one of each model, of seed 0.
    """
    seeds = 1 if plan.test else plan.seeds
    return _runs(plan, _laid_out(plan, data, TUNING), seeds=seeds, validated=True)


def final_runs(plan: Plan, data: Path) -> list[Run]:
    """Return the trainings that are tested; none where no test is asked for."""
    if not plan.test:
        return []
    return _runs(plan, _laid_out(plan, data, FINAL), seeds=plan.seeds, validated=False)


def pictures(plan: Plan) -> list[str]:
    """Return the names of the picture and the reports beside the page."""
    return [
        name
        for data in plan.data
        for name in (curves_picture(data.name), *(mistakes_report(data.name, m) for m in MODELS))
    ]


def run(plan: Plan, say: Say) -> Path:
    """Carry out the experiment and return its page.

    Raises:
        DataError: a data set is not there or broken, or its parts are not apart.
        ExperimentError: a training failed, or a model was tested at another threshold.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    measured: dict[str, list[Measured]] = {}
    for data in plan.data:
        tuning, final = tuning_runs(plan, data), final_runs(plan, data)
        stardist_splits.lay_out(data, *(_laid_out(plan, data, name) for name in (TUNING, FINAL)))
        done = finish(tuning, say=say, quiet=plan.quiet)
        chosen = [choose(one, say) for one in tuning]
        done += finish(final, say=say, quiet=plan.quiet)
        by_recipe = {one.recipe: of for one, of in zip(tuning, chosen, strict=True)}
        tested = [test(one, by_recipe[one.recipe], data, say) for one in final]
        outcomes += done
        measured[data.name] = [*chosen, *tested]
        shown = tested or chosen
        _draw(plan, data, shown)
        for one in shown:
            if one.seed == 0 and _results(one.folder, one.split).is_file():
                _show_mistakes(plan, one, data)
    return page.write(plan, whole_page(plan, measured, outcomes))


def choose(run: Run, say: Say) -> Measured:
    """Measure a training on the images to choose with, at the threshold of the highest mean AP."""
    return _once(run, run.data, "val", "best", say)


def test(run: Run, chosen: Measured, data: Path, say: Say) -> Measured:
    """Measure a training on the test images, at the threshold that was chosen; once.

    Raises:
        ExperimentError: it was tested before, at another threshold.
    """
    of = _once(run, data, "test", chosen.score, say)
    if of.score != chosen.score:
        raise ExperimentError(
            f"{run.folder / FIGURES.format(split='test')}: was tested at score {of.score:g}, and "
            f"{chosen.score:g} has been chosen since. A second test would choose on the test "
            "images; give another folder with -o to go the whole way anew"
        )
    return of


def _once(run: Run, data: Path, split: SplitName, score: Score, say: Say) -> Measured:
    """Measure a training, or read what was measured before."""
    file = run.folder / FIGURES.format(split=split)
    if not file.is_file():
        say(f"measuring {run.folder} on {data}, split {split}")
        figures = _measure(run, data, split, score)
        write_whole(file, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    figures = json.loads(file.read_text())
    name = next(name for name in MODELS if run.recipe in (name, name + DENSE))
    return Measured(name=name, seed=run.seed, split=split, folder=run.folder, figures=figures)


def _measure(run: Run, data: Path, split: SplitName, score: Score) -> dict[str, Any]:
    model = load(run.folder / "last", quiet=True)
    dataset = load_dataset(data, split, model.config.data, train=False, classes=model.classes)
    found, seconds = _detect(model, dataset)
    truth, results = looked_at(dataset, found)
    write_whole(_results(run.folder, split), json.dumps(results) + "\n")
    limit = model.config.model.box.max_detections
    matched = match_instances(truth, results, score=score, max_detections=limit)
    return {**matched, "seconds_per_image": seconds / len(dataset)}


def _detect(model: Model, dataset: CocoDataset) -> tuple[list[Detections], float]:
    """Return what is found in all images, one after the other, and how long that takes.

    That is with reading and with the masks, after a first image that does not count.
    """
    list(detect_dataset(model.fast, dataset, images=[0]))
    start = time.perf_counter()
    return list(detect_dataset(model.fast, dataset)), time.perf_counter() - start


def _show_mistakes(plan: Plan, of: Measured, data: Path) -> None:
    """Write a report with the worst misses and false finds of a model."""
    evaluate_results(
        _results(of.folder, of.split),
        data if of.split == "test" else _laid_out(plan, data, TUNING),
        of.split,
        max_detections=of.figures["limit"]["max_detections"],
        score=of.score,
        report=plan.folder / mistakes_report(data.name, of.name),
        pictures=PICTURES,
        overwrite=True,
    )


def _results(folder: Path, split: SplitName) -> Path:
    """Return where a run keeps what it found; a record of it has the figures alone."""
    return folder / RESULTS.format(split=split)


def _draw(plan: Plan, data: Path, shown: list[Measured]) -> None:
    curves: dict[str, list[list[float]]] = {}
    for one in shown:
        curves.setdefault(MODELS[one.name], []).append([100 * ap for ap in one.pooled()])
    published = PUBLISHED if plan.test else {}
    plots.accuracy_curves(THRESHOLDS, curves, published, plan.folder / curves_picture(data.name))


def _runs(plan: Plan, data: Path, *, seeds: int, validated: bool) -> list[Run]:
    suffix = DENSE if plan.size.suffix else ""
    settings = SETTINGS if suffix else merge(SETTINGS, CROWDED)
    steps = plan.steps or STEPS[plan.size.name]
    return [
        Run(
            recipe=name + suffix,
            data=data,
            seed=seed,
            settings=merge(settings, nested("optim.max_steps", steps)),
            root=plan.root / plan.size.name / "runs",
            validated=validated,
        )
        for seed in range(seeds)
        for name in MODELS
    ]


def _laid_out(plan: Plan, data: Path, name: str) -> Path:
    return plan.root / plan.size.name / "data" / f"{data.name}_{name}"
