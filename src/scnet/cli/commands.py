"""What each command does. Each imports what it needs, so that the others start at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scnet.inference.model import Model


class UsageError(ValueError):
    """The command line is wrong."""


def train(options: argparse.Namespace) -> None:
    from scnet.runtime.distributed import part, rank
    from scnet.settings import merge
    from scnet.training import run

    if options.resume:
        if options.recipe or options.settings or options.config:
            raise UsageError("--resume continues with the settings of the run; give no others")
        folder = run.resume(options.resume, quiet=options.quiet)
    else:
        if not options.recipe or not options.data:
            raise UsageError(
                "give a RECIPE and --data PATH, or --resume DIR; see scnet train --help"
            )
        settings = merge(_read_yaml(options.config), options.settings)
        folder = run.train(
            options.recipe,
            options.data,
            output=options.output,
            settings=settings,
            quiet=options.quiet,
        )
    if rank() == 0:
        print(f"wrote {folder}; next: scnet predict {folder} IMAGE")
    part()


def evaluate(options: argparse.Namespace) -> None:
    import json

    from rich.console import Console

    from scnet.evaluation import run
    from scnet.evaluation.scoring import class_table, table

    model = _load(options)
    _say(options, f"{model}; data {options.data}, split {options.split}")
    result = run.evaluate(
        model,
        options.data,
        options.split,
        max_detections=options.max_detections,
        batch_size=options.batch,
        settings=options.settings,
        quiet=options.quiet,
    )
    console = Console()
    console.print(table(result))
    console.print(class_table(result))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
        print(f"wrote {options.json}")


def predict(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from scnet.formats.coco import write
    from scnet.inference.sources import image_files
    from scnet.runtime.files import new_folder

    files = image_files(options.source)
    model = _load(options)
    _say(options, f"{model}; {len(files)} images, score from {options.score:g}")
    folder = new_folder(options.output, "predictions", root=".")
    done = 0
    for paths, images in _readable(files, options.batch, model):
        found = model.predict(
            images,
            score=options.score,
            max_detections=options.max_detections,
            batch_size=options.batch,
        )
        for path, one in zip(paths, found, strict=True):
            done += 1
            picture, _ = write(replace(one, path=str(path)), folder, image_id=done)
            _say(options, f"{path}: {len(one)} objects -> {picture}")
    print(f"wrote {done} pictures (*_masks.png) and COCO results (*.json) to {folder}")
    return 0 if done == len(files) else 1


def _readable(
    files: Sequence[Path], number: int, model: Model
) -> Iterator[tuple[list[Path], list[Any]]]:
    """Yield so many files with their images at a time; say which ones cannot be read."""
    from scnet.data.images import DataError
    from scnet.inference.sources import to_pixels

    waiting: list[tuple[Path, Any]] = []
    for place, path in enumerate(files, 1):
        try:
            waiting.append((path, to_pixels(path, model.config)))
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
        if waiting and (place == len(files) or len(waiting) == number):
            yield [path for path, _ in waiting], [image for _, image in waiting]
            waiting = []


def _load(options: argparse.Namespace) -> Model:
    from scnet.inference.model import load

    return load(
        options.weights,
        device=options.device,
        precision=options.precision,
        compile=options.compile,
        proposals=options.proposals,
        quiet=options.quiet,
    )


def convert(options: argparse.Namespace) -> None:
    """Convert a checkpoint of MMDetection."""
    from scnet.cli.convert import run

    run(options)


def recipes(options: argparse.Namespace) -> None:
    from scnet import recipes

    if options.name:
        import yaml

        from scnet.config import to_dict

        print(yaml.safe_dump(to_dict(recipes.find(options.name)), sort_keys=False), end="")
        return
    for name in recipes.RECIPES:
        sentence, parts = recipes.describe(name).split("\n")
        print(f"{name:<32}{sentence}\n{'':<32}{parts}")


def zoo(options: argparse.Namespace) -> None:
    """List the published weights, or put some on this machine."""
    from itertools import groupby

    from scnet.weights import zoo

    if options.name:
        file = zoo.fetch(options.name, quiet=options.quiet)
        print(f"{options.name} is at {file}; next: scnet predict {options.name} IMAGE")
        return
    print(f"{'name':<35}{'backbone':<18}{'box':>5}{'mask AP':>9}  here")
    for architecture, group in groupby(zoo.PUBLISHED.values(), lambda p: p.architecture):
        print(f"\n{architecture}")
        for p in group:
            here = zoo.state(p.name)
            print(f"  {p.name:<33}{p.backbone:<18}{p.box_ap:>5}{p.mask_ap:>9}  {here}")
    licences = ", ".join({p.licence: None for p in zoo.PUBLISHED.values()})
    print(
        "\nAP in per cent on COCO val2017, published by MMDetection and not measured here."
        f"\nLicence: {licences}. Files: {zoo.folder()}"
        "\nnext: scnet predict NAME IMAGE (downloads what is not here)"
    )


def bench(options: argparse.Namespace) -> None:
    """Measure models beside each other."""
    import json

    from rich.console import Console

    from scnet import bench
    from scnet.bench import report
    from scnet.inference.sources import image_files

    peer = ("torchvision",) if options.peer else ()
    setting = bench.Setting(
        models=(*peer, *(options.model or ("mask_rcnn", "scnet"))),
        images=tuple(image_files(options.images)) if options.images else (),
        size=options.size,
        batch=options.batch,
        detections=options.max_detections or 100,
        precision=options.precision,
        device=options.device,
        compile=options.compile,
        proposals=options.proposals,
        threads=options.threads,
        rounds=options.rounds,
        memory=options.memory,
    )
    record = bench.bench(setting, lambda text: _say(options, text))
    report.show(record, Console(width=120))
    if options.json:
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n")
        print(f"wrote {options.json}")
    if options.plot:
        report.plot(record, Path(options.plot))
        print(f"wrote {options.plot}")


def experiment(options: argparse.Namespace) -> None:
    """Make a table or figure of the paper."""
    from scnet.experiments import command
    from scnet.experiments.plan import SIZES, Plan, data_folders

    size = SIZES[options.size]
    plan = Plan(
        name=options.name,
        size=size,
        data=data_folders(options.data, size),
        seeds=options.seeds,
        root=Path(options.output),
        speed=options.speed,
        quiet=options.quiet,
        image_size=options.image_size,
    )
    if options.dry_run:
        command.dry_run(plan)
        return
    file = command.run(plan, lambda text: _say(options, text))
    print(f"wrote {file}, and its pictures and results.json beside it")


def demo(options: argparse.Namespace) -> None:
    from scnet.cli.demo import run

    run(options.output, options.steps, quiet=options.quiet)


def _read_yaml(path: str | None) -> dict[str, Any]:
    import yaml

    if path is None:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict | None):
        raise ValueError(f"{path}: expected groups of settings, got {type(content).__name__}")
    return content or {}


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.quiet:
        print(text, file=sys.stderr)
