"""What it is worth to go on from a trained detector instead of ImageNet weights, at equal steps.

    python benchmarks/from_weights.py [--steps 100 300] [--seeds 3] [--rates 1 0.3] [--finetune]
                                      [-o DIR]

A source is trained on 209 images of COCO with all classes. Then small sets are learnt, each from
ImageNet weights of the backbone and from the source (`scnet train --from`), with the same
settings, steps and seeds:

    balloon    61 photographs of a class that the source does not know
    few        100 images of COCO that the source has not seen, with 5 of its classes

`--rates` tries the source with these parts of the recipe's learning rate, too, and `--finetune`
with the settings of `scnet train --finetune`, in as many steps. All lies in one folder. A training
that was cut off is resumed, what is there already is not done again, and `results.md` there is
written anew after each training. Needs SCNET_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import scnet
from scnet import recipes
from scnet.bench.machine import processor
from scnet.config import Config, replace_at
from scnet.experiments.statistics import Spread, paired, spread
from scnet.settings import merge, nested
from scnet.training import finetune
from scnet.training.log import Log
from scnet.training.resuming import CONFIG, stored_config

CLASSES = ("person", "bottle", "dining table", "chair", "car")  # those with most images
FEW = 100  # images of the small set
TASKS = ("balloon", "few")
SETTINGS: dict[str, Any] = {"eval": {"every": 0, "pictures": 0}, "run": {"trackers": []}}


class Task(NamedTuple):
    """A data set to learn."""

    name: str
    data: Path
    settings: dict[str, Any]


class Run(NamedTuple):
    """A training: of a task, from somewhere."""

    task: Task
    start: Path | None  # None is ImageNet
    steps: int
    seed: int
    rate: float  # part of the recipe's
    finetune: bool = False  # with the settings of `--finetune`, that of the rate among them

    @property
    def label(self) -> str:
        """Return what tells it from others but for the seed, for people."""
        if self.finetune:
            return "source, --finetune"
        rate = "" if self.rate == 1 else f", rate x {self.rate:g}"
        return f"{'ImageNet' if self.start is None else 'source'}{rate}"

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        start = "imagenet" if self.start is None else "source"
        tuned = "_finetune" if self.finetune else ""
        return f"{self.task.name}_{start}_x{self.rate:g}_{self.steps}_seed{self.seed}{tuned}"


def main() -> None:
    """Train what is not there yet, and write the table after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recipe", default="scnet_lite")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0])
    parser.add_argument("--finetune", action="store_true", help="the source with --finetune, too")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--source-steps", type=int, default=2000)
    parser.add_argument("--size", type=int, nargs=2, help="data.size; else the recipe's")
    parser.add_argument("-o", "--output", type=Path, default=Path("from_weights"))
    args = parser.parse_args()
    require_same_plan(args)
    coco, balloon = (
        Path(os.environ["SCNET_DATA"]) / x for x in ("coco600_400px", "balloon_1024px")
    )
    rest, few = split(coco, args.output / "data")
    settings = merge(SETTINGS, {"data": {"size": args.size}} if args.size else {})
    source = Run(Task("source", rest, settings), None, args.source_steps, 0, 1.0)
    tasks: tuple[Task, ...] = (
        Task("balloon", balloon, settings),
        Task("few", few, merge(settings, {"data": {"classes": list(CLASSES)}})),
    )
    tasks = tuple(task for task in tasks if task.name in args.tasks)
    start = done(source, args.recipe, args.output)
    for run in planned(tasks, start, args):
        done(run, args.recipe, args.output)
        table = results(tasks, start, args)
        (args.output / "results.md").write_text(table)
    print(table)


def require_same_plan(args: argparse.Namespace) -> None:
    """Stop where the folder has trainings of another kind, which would be taken for these."""
    plan = {"recipe": args.recipe, "size": args.size, "source_steps": args.source_steps}
    file = args.output / "plan.json"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(plan))
    elif (before := json.loads(file.read_text())) != plan:
        raise SystemExit(f"{args.output} has trainings of {before}; give another folder with -o")


def planned(tasks: tuple[Task, ...], start: Path, args: argparse.Namespace) -> Iterator[Run]:
    """Yield all trainings, seed by seed, so that an early end has some of each."""
    for seed in range(args.seeds):
        for task in tasks:
            for number in args.steps:
                yield Run(task, None, number, seed, 1.0)
                for rate in args.rates:
                    yield Run(task, start, number, seed, rate)
                if args.finetune:
                    yield Run(task, start, number, seed, 1.0, finetune=True)


def tuned(recipe: str, steps: int) -> tuple[Config, Config]:
    """Return the config of so many steps of a recipe, and what `--finetune` makes of it."""
    before = after = replace_at(recipes.find(recipe), "optim.max_steps", steps)
    for path, value in finetune.changes(before, before, {}, images=1).items():
        after = replace_at(after, path, value)
    return before, after


def require_same_settings(run: Run, recipe: str, folder: Path) -> None:
    """Stop where a fine-tuning is there with other settings than `--finetune` has by now."""
    if not run.finetune or not (folder / CONFIG).is_file():
        return
    _, now = tuned(recipe, run.steps)
    if other := finetune.changed(stored_config(folder), now):
        raise SystemExit(
            f"{folder}: --finetune had other settings then: {other}; remove that folder, or give "
            "another one with -o"
        )


def done(run: Run, recipe: str, output: Path) -> Path:
    """Return the folder of a training, which is done or finished if it is not there whole."""
    folder = output / "runs" / run.name
    require_same_settings(run, recipe, folder)
    if aps(folder) is not None:
        return folder
    print(run.name, flush=True)
    if (folder / "last").is_dir():
        return scnet.resume(folder)
    shutil.rmtree(folder, ignore_errors=True)  # cut off before its first checkpoint
    optim = {"max_steps": run.steps, "seed": run.seed}
    if not run.finetune:
        optim["lr"] = recipes.find(recipe).optim.lr * run.rate
    settings = merge(run.task.settings, nested("optim", optim))
    return scnet.train(
        recipe,
        run.task.data,
        start=run.start,
        finetune=run.finetune,
        output=folder,
        settings=settings,
    )


def aps(folder: Path) -> tuple[float, float] | None:
    """Return box and mask AP, in per cent, of a training that is done."""
    records = Log(folder / "log.jsonl", quiet=True).records()
    evaluations = [record for record in records if record["kind"] == "eval"]
    if not evaluations:
        return None
    box, mask = (evaluations[-1][kind]["AP"] for kind in ("bbox", "segm"))
    return 100 * box, 100 * mask


def results(tasks: tuple[Task, ...], start: Path, args: argparse.Namespace) -> str:
    """Return a table of all that is there, as Markdown."""
    lines = [
        f"{args.recipe}, {args.source_steps} steps for the source, on {processor()}.",
        "Mean and standard deviation over the seeds, in per cent; * = decided by a paired t-test",
        "at 5 %.",
        *[f"--finetune: {finetune.changed(*tuned(args.recipe, args.steps[0]))}."] * args.finetune,
        "",
        "| data | steps | from | seeds | box AP | mask AP | mask AP gained over ImageNet |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    alike: dict[tuple[str, int, str], dict[int, tuple[float, float]]] = {}
    for run in planned(tasks, start, args):
        if (found := aps(args.output / "runs" / run.name)) is not None:
            alike.setdefault((run.task.name, run.steps, run.label), {})[run.seed] = found
    for (name, steps, label), by_seed in alike.items():
        masks = {seed: ap[1] for seed, ap in by_seed.items()}
        usual = {seed: ap[1] for seed, ap in alike.get((name, steps, "ImageNet"), {}).items()}
        box, mask = (spread(ap[i] for ap in by_seed.values()) for i in range(2))
        gain = paired(masks, usual)
        gained = "" if label == "ImageNet" else _text(gain) + "*" * bool(gain and gain.decided)
        cells = (name, steps, label, len(by_seed), _text(box), _text(mask), gained)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def split(coco: Path, output: Path) -> tuple[Path, Path]:
    """Write data sets of 100 images with some classes, and of all other training images."""
    content = json.loads((coco / "annotations/instances_train_all.json").read_text())
    wanted = {c["id"] for c in content["categories"] if c["name"] in CLASSES}
    holding = sorted({a["image_id"] for a in content["annotations"] if a["category_id"] in wanted})
    few = set(random.Random(0).sample(holding, FEW))
    folders = output / "rest", output / "few"
    for folder, inside in zip(folders, (False, True), strict=True):
        if (folder / "annotations").is_dir():
            continue
        kept = {i["id"] for i in content["images"] if (i["id"] in few) == inside}
        part = {
            **content,
            "images": [i for i in content["images"] if i["id"] in kept],
            "annotations": [a for a in content["annotations"] if a["image_id"] in kept],
        }
        _write(folder, part, coco)
    return folders


def _write(folder: Path, content: dict[str, Any], coco: Path) -> None:
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    (new / "annotations").mkdir(parents=True)
    (new / "annotations/instances_train.json").write_text(json.dumps(content))
    val = coco / "annotations/instances_val_all.json"
    shutil.copy(val, new / "annotations/instances_val.json")
    for name in ("train2017", "val2017"):
        (new / name).symlink_to((coco / name).resolve())
    new.rename(folder)


def _text(value: Spread | None) -> str:
    if value is None:
        return "-"
    return f"{value.mean:.1f}" if value.sd is None else f"{value.mean:.1f} ± {value.sd:.1f}"


if __name__ == "__main__":
    main()
