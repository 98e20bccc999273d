"""What each command does. Each imports what it needs, so that the others start at once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scnet.cli.errors import UsageError
from scnet.cli.outputs import write_json

if TYPE_CHECKING:
    from scnet.inference.model import Model


def train(options: argparse.Namespace) -> None:
    from scnet.runtime.distributed import part, rank
    from scnet.training import run

    if options.resume:
        folder = run.resume(
            options.resume, data=options.data, settings=options.settings, quiet=options.quiet
        )
    else:
        if not options.recipe or not options.data:
            raise UsageError(
                "give a RECIPE and --data PATH, or --resume DIR; see scnet train --help"
            )
        folder = run.train(
            options.recipe,
            options.data,
            output=options.output,
            start=options.start,
            finetune=options.finetune,
            settings=options.settings,
            base=_read_yaml(options.config),
            quiet=options.quiet,
        )
    if rank() == 0:
        print(f"wrote {folder}; next: scnet predict {folder} IMAGE")
    part()


# Options of what is asked of a model otherwise than it was trained.
CHANGES = ("image_size", "scale_factor", "least_visible")


def load_model(options: argparse.Namespace) -> Model:
    """Load the model that a command line names, as it wants it to run."""
    from scnet.inference.model import load

    names = ("device", "precision", "compile", "proposals", "tta", "quiet", *CHANGES)
    return load(options.weights, **{name: getattr(options, name) for name in names})


def convert(options: argparse.Namespace) -> None:
    """Turn a checkpoint of another library, or a trained model, into one file."""
    from scnet.cli.convert import run

    run(options)


def export(options: argparse.Namespace) -> int:
    """Write a model as a file for other runtimes."""
    from scnet.cli.export import run

    return run(options)


def recipes(options: argparse.Namespace) -> None:
    from scnet import recipes

    if options.name:
        import yaml

        from scnet.config import to_dict

        print(yaml.safe_dump(to_dict(recipes.find(options.name)), sort_keys=False), end="")
        return
    for name in recipes.RECIPES:
        sentence, parts = recipes.describe(name).split("\n")
        print(f"{name:<34}{sentence}\n{'':<34}{parts}")


def zoo(options: argparse.Namespace) -> None:
    """List the weights that have a name, or put some on this machine."""
    from scnet.cli.zoo import run

    run(options)


def bench(options: argparse.Namespace) -> None:
    """Measure models beside each other."""
    from rich.console import Console

    from scnet import bench
    from scnet.bench import report
    from scnet.inference.gather import image_files

    peer = ("torchvision",) if options.peer else ()
    models = (*peer, *(options.model or ("mask_rcnn", "scnet")))
    setting = bench.Setting(
        models=models,
        images=tuple(image_files(options.images)) if options.images else (),
        size=options.size or bench.usual_size(models),
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
    record = bench.bench(setting, lambda text: say(options, text))
    report.show(record, Console(width=120))
    if options.json:
        write_json(options.json, record)
    if options.plot:
        report.plot(record, Path(options.plot))
        print(f"wrote {options.plot}")


def experiment(options: argparse.Namespace) -> None:
    """Make a table or figure of the paper, or StarDist's table."""
    from scnet.experiments import SEEDED, USUAL_DATA, command
    from scnet.experiments.plan import SIZES, Plan, data_folders

    size = SIZES[options.size]
    plan = Plan(
        name=options.name,
        size=size,
        data=data_folders(options.data, USUAL_DATA.get(options.name, size.data)),
        data_given=bool(options.data),
        seeds=options.seeds if options.name in SEEDED else 1,
        root=Path(options.output),
        speed=options.speed,
        quiet=options.quiet,
        image_size=options.image_size,
        steps=options.steps,
        test=options.test,
    )
    if options.dry_run:
        command.dry_run(plan)
        return
    file = command.run(plan, lambda text: say(options, text))
    print(f"wrote {file}, and its pictures and results.json beside it")


def demo(options: argparse.Namespace) -> None:
    from scnet.cli.demo import run

    run(options.output, options.steps, quiet=options.quiet)


def _read_yaml(path: str | None) -> dict[str, Any]:
    import yaml

    if path is None:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        place = f": line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{path}{place}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no text; --config takes a YAML file of settings") from error
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; --config takes a YAML file of settings") from error
    if not isinstance(content, dict | None):
        raise ValueError(f"{path}: expected groups of settings, got {type(content).__name__}")
    return content or {}


def say(options: argparse.Namespace, text: str) -> None:
    """Say how far a command is, unless that is not wanted."""
    if not options.quiet:
        print(text, file=sys.stderr)
