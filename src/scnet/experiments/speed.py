"""Images a second of all methods beside each other: the last column of the paper's tables.

Models with random weights take turns in one process and find as many objects as they are asked
for. A lower score threshold means more boxes for NMS and more masks, up to the most objects an
image may have; so the number of objects, 100 and 20, stands for the thresholds 0.001 and 0.05.
Where the other experiments have left trained models, these run at both thresholds, too.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scnet import bench
from scnet.bench import report
from scnet.experiments import page
from scnet.experiments.page import Page, markdown, number
from scnet.experiments.plan import Plan, Run, name_of
from scnet.experiments.runs import RECORD, ExperimentError
from scnet.experiments.tables import published
from scnet.experiments.tabulate import ROUNDS, val_images
from scnet.types import Size
from scnet.weights import checkpoint

Say = Callable[[str], None]
Record = dict[str, Any]  # what `bench` returns

MODELS = {
    "cascade_mask_rcnn": "Cascade Mask R-CNN without semantic branch",
    "cascade_mask_rcnn_semantic": "Cascade Mask R-CNN",
    "naive_sample_consistency": "+ naive sample consistency",
    "table2_consistency": "+ effective sample consistency",
    "htc": "HTC",
    "scnet": "SCNet",
}
OBJECTS = (100, 20)  # of an image
THRESHOLDS = (0.001, 0.05)
TRAINED = {
    "table2_none": "Cascade Mask R-CNN",
    "naive_sample_consistency": "+ naive sample consistency",
    "table2_consistency": "+ effective sample consistency",
    "htc": "HTC",
    "scnet": "SCNet",
}


def run(plan: Plan, say: Say) -> Path:
    """Measure and return the page."""
    start = time.perf_counter()
    size = plan.image_size or plan.size.image_size
    if plan.data_given:
        _require_trained(plan)
    plan.folder.mkdir(parents=True, exist_ok=True)
    body: list[str] = []
    records: list[Record] = []
    trained: list[Record] = []
    for objects in OBJECTS:
        say(f"random weights, {objects} objects an image")
        records.append(_random(size, objects, say))
        body += _random_section(plan, records[-1], objects)
    for data in plan.data:
        for threshold in THRESHOLDS:
            record = _trained(plan, data, threshold, say)
            if record is not None:
                trained.append({"data": name_of(data), "threshold": threshold, "record": record})
                body += _trained_section(data, threshold, record)
    seconds = time.perf_counter() - start
    return page.write(plan, _page(size, body, records, trained, seconds))


def _random(size: Size, objects: int, say: Say) -> Record:
    setting = bench.Setting(models=tuple(MODELS), size=size, detections=objects, rounds=ROUNDS)
    return bench.bench(setting, say)


def _trained(plan: Plan, data: Path, threshold: float, say: Say) -> Record | None:
    """Measure the models that other experiments trained; None where there are fewer than two."""
    there = _there(plan, data)
    if len(there) < 2:
        return None
    say(f"trained on {data}, score from {threshold:g}")
    size = next(iter(there.values())).config.data.size
    with tempfile.TemporaryDirectory() as folder:
        setting = bench.Setting(
            models=tuple(_with_threshold(run, threshold, Path(folder)) for run in there.values()),
            images=val_images(data, size),
            size=size,
            rounds=ROUNDS,
            memory=False,
        )
        return _named(bench.bench(setting, say), list(there))


def _there(plan: Plan, data: Path) -> dict[str, Run]:
    """Return the finished trainings on a data set whose models are measured."""
    runs = {name: plan.run(name, data, seed=0) for name in TRAINED}
    return {name: run for name, run in runs.items() if (run.folder / RECORD).is_file()}


def _require_trained(plan: Plan) -> None:
    """Refuse data sets that were asked for and have no two models to measure.

    Raises:
        ExperimentError: says which, and how to train some.
    """
    for data in plan.data:
        if len(_there(plan, data)) < 2:
            raise ExperimentError(
                f"--data {data}: has no effect, as there are no two models trained on it in "
                f"{plan.root}; leave it out, or first run scnet experiment table3 --size "
                f"{plan.size.name} --data {data}"
            )


def _named(record: Record, names: list[str]) -> Record:
    """Return a record whose models have the names of recipes instead of files."""
    setting = {**record["setting"], "models": names}
    models = [{**entry, "model": n} for n, entry in zip(names, record["models"], strict=True)]
    return {**record, "setting": setting, "models": models}


def _with_threshold(run: Run, threshold: float, folder: Path) -> str:
    """Write the weights of a run with another score threshold, and return their file."""
    file = folder / f"{run.recipe}.safetensors"
    model = {"box": {"score_threshold": threshold}}
    checkpoint.write_weights(file, checkpoint.load(run.folder / "last", model=model))
    return str(file)


def _random_section(plan: Plan, record: Record, objects: int) -> list[str]:
    picture = f"speed_{objects}.png"
    report.plot(record, plan.folder / picture)
    by_name = {entry["model"]: entry for entry in record["models"]}
    return [
        f"## Random weights, {objects} objects an image",
        _times(record, list(MODELS.values()), by_name["cascade_mask_rcnn_semantic"]),
        _ratios(by_name, "cascade_mask_rcnn_semantic"),
        f"![Where the time goes]({picture})",
        _shares(record),
    ]


def _trained_section(data: Path, threshold: float, record: Record) -> list[str]:
    by_name = {entry["model"]: entry for entry in record["models"]}
    return [
        f"## Trained on {name_of(data)}, score from {threshold:g}",
        _times(record, [TRAINED[name] for name in by_name], record["models"][0]),
        _ratios(by_name, "table2_none"),
    ]


def _times(record: Record, labels: Sequence[str], baseline: Record) -> str:
    rows = []
    for label, entry in zip(labels, record["models"], strict=True):
        seconds = entry["seconds"]
        rows.append(
            [
                label,
                number(statistics.median(seconds), 3),
                f"{min(seconds):.3f} - {max(seconds):.3f}",
                number(1 / statistics.median(seconds), 2),
                number(report.ratios(baseline, entry), 2),
                number(entry["flops"] / 1e9, 0),
                number(statistics.fmean(entry["detections"]), 0),
                number(entry["gb"] or None, 2),
            ]
        )
    header = ["", "s, median", "min - max", "images/s", "speed, Cascade = 1", "GFLOP", "objects"]
    return markdown([*header, "peak GB"], rows)


def _ratios(by_name: Mapping[str, Record], cascade: str) -> str:
    """Return the two ratios that the paper makes a point of."""
    paper = {row.label: row.figures["images/s"] for row in published("table3")}
    effective = paper["+ effective sample consistency"]
    pairs = (
        ("SCNet : Cascade Mask R-CNN", "scnet", cascade, "1.38"),
        (
            "effective : naive sample consistency",
            "table2_consistency",
            "naive_sample_consistency",
            f"{effective / paper['+ naive sample consistency']:.2f}",
        ),
    )
    rows = []
    for text, fast, slow, said in pairs:
        if fast in by_name and slow in by_name:
            a, b = by_name[slow]["seconds"], by_name[fast]["seconds"]
            rounds = [x / y for x, y in zip(a, b, strict=True)]
            spoken = f"{min(rounds):.2f} - {max(rounds):.2f}"
            rows.append([text, f"{statistics.median(rounds):.2f}", spoken, said])
    return markdown(["ratio of speeds, in each round", "median", "min - max", "published"], rows)


def _shares(record: Record) -> str:
    """Return where the time goes, in per cent of each model's time."""
    models = record["models"]
    columns = [report.grouped(entry) for entry in models]
    rows = [
        [group, *(number(100 * column[i] / sum(column)) for column in columns)]
        for i, group in enumerate(report.GROUPS)
    ]
    return markdown(["per cent of the time", *(MODELS[entry["model"]] for entry in models)], rows)


def _page(
    size: Size,
    body: Sequence[str],
    records: Sequence[Record],
    trained: Sequence[Record],
    seconds: float,
) -> Page:
    return Page(
        title="Speed: images a second",
        about=f"From an image file to COCO results at {size[0]} x {size[1]}, ResNet-50, one image "
        "at a time, all models taking turns in one process. Random weights cost what trained ones "
        "do, for the same number of objects. What a score threshold changes is how many boxes "
        "reach NMS and how many masks are made: up to 100 an image at 0.001, fewer at 0.05. The "
        "paper has 0.001 for all, its release 0.05 for Cascade Mask R-CNN.",
        body=(*body, _published()),
        results={"random": records, "trained": trained},
        machines=(f"{records[0]['device']}; {records[0]['versions']}",),
        seconds=seconds,
    )


def _published() -> str:
    rows = [
        [row.label, number(row.figures.get("images/s")), f"Table {table[-1]}"]
        for table in ("table1", "table3")
        for row in published(table)
        if "images/s" in row.figures
    ]
    text = "The paper's figures, on one V100 with MMDetection, 800 x 1333:"
    return "\n\n".join(["## Published", text, markdown(["", "images/s", "from"], rows)])
