"""The command line: `scnet train | eval | predict | check-data | recipes | demo`.

Progress goes to stderr, results to stdout. Exit status: 0 done, 1 the input is wrong or a check
failed, 2 the command line is wrong, 130 interrupted. Heavy modules are imported by the command that
needs them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

TRAIN_HELP = """Any setting can be given as --group.field VALUE, or in a YAML file (--config):
  scnet train scnet_lite --data my_data --optim.epochs 30 --model.semantic off
`scnet recipes NAME` prints every setting of a recipe with its value."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "train":
        parser.error(f"unknown argument {rest[0]}; see scnet {options.command} --help")
    try:
        options.settings = _settings(rest) if rest else {}
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        return _interrupted(options)
    except Exception as error:
        if options.debug or not _caused_by_user(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if _is_usage(error) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scnet",
        description="Instance segmentation with Mask R-CNN, Cascade Mask R-CNN, HTC and SCNet.",
        epilog="Start with `scnet demo`, or `scnet check-data my_data` on your own images.",
    )
    from scnet import __version__

    parser.add_argument("--version", action="version", version=f"scnet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_train, _add_eval, _add_predict, _add_check, _add_recipes, _add_demo):
        add(commands)
    return parser


def _command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    help: str,
    example: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"Example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, results only")
    parser.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    parser.set_defaults(run=run)
    return parser


def _add_train(commands: Any) -> None:
    example = f"scnet train scnet_lite --data my_data --optim.epochs 20\n\n{TRAIN_HELP}"
    parser = _command(commands, "train", _train, "train a recipe on data in COCO format", example)
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="what to train; `scnet recipes` lists all"
    )
    parser.add_argument(
        "--data", metavar="PATH", help="folder in a usual COCO layout, or an annotation file"
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="run folder (default: runs/RECIPE)")
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings")
    parser.add_argument("--resume", metavar="DIR", help="continue the training in this run folder")


def _add_eval(commands: Any) -> None:
    example = "scnet eval runs/scnet_lite --data my_data --json figures.json"
    parser = _command(commands, "eval", _eval, "measure box and mask AP on a data set", example)
    parser.add_argument(
        "weights", metavar="WEIGHTS", help="run folder, checkpoint folder or .safetensors file"
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        required=True,
        help="folder in a usual COCO layout, or an annotation file",
    )
    parser.add_argument(
        "--split",
        default="val",
        choices=("train", "val", "test"),
        help="part of the data (default: val)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    _add_inference(parser)


def _add_predict(commands: Any) -> None:
    example = "scnet predict runs/scnet_lite photos/*.jpg -o found"
    parser = _command(
        commands, "predict", _predict, "find and outline the objects in images", example
    )
    parser.add_argument(
        "weights", metavar="WEIGHTS", help="run folder, checkpoint folder or .safetensors file"
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="+",
        help="image, folder of images or pattern such as 'a/*.jpg'",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="folder for pictures and results (default: predictions)",
    )
    parser.add_argument(
        "--score", type=_fraction, default=0.5, help="lowest score shown, 0..1 (default: 0.5)"
    )
    _add_inference(parser)


def _add_check(commands: Any) -> None:
    example = "scnet check-data my_data"
    parser = _command(
        commands,
        "check-data",
        _check_data,
        "read a whole data set and report all that is wrong",
        example,
    )
    parser.add_argument(
        "path", metavar="PATH", help="folder in a usual COCO layout, or an annotation file"
    )
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help="draw samples with their masks to this file (default: check-data.png)",
    )


def _add_recipes(commands: Any) -> None:
    example = (
        "scnet recipes            lists all\n"
        "         scnet recipes scnet      prints the settings of one, as YAML"
    )
    parser = _command(
        commands, "recipes", _recipes, "list the architectures and ablations", example
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="print every setting of this recipe"
    )


def _add_demo(commands: Any) -> None:
    help = "train a small SCNet on generated images, then outline the coins in a photograph"
    parser = _command(commands, "demo", _demo, help, "scnet demo -o demo")
    text = "folder for everything it makes (default: demo, numbered where that is taken)"
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help=text)
    parser.add_argument(
        "--steps", type=_positive, default=100, help="training steps (default: 100)"
    )


def _add_inference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-detections",
        type=_positive,
        metavar="N",
        help="most objects per image (default: the model's, usually 100)",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)"
    )


def _train(options: argparse.Namespace) -> None:
    from scnet.config import merge
    from scnet.training.loop import resume, train

    if options.resume:
        if options.recipe or options.settings or options.config:
            raise UsageError("--resume continues with the settings of the run; give no others")
        folder = resume(options.resume, quiet=options.quiet)
    else:
        if not options.recipe or not options.data:
            raise UsageError(
                "give a RECIPE and --data PATH, or --resume DIR; see scnet train --help"
            )
        settings = merge(_read_yaml(options.config), options.settings)
        folder = train(
            options.recipe,
            options.data,
            output=options.output,
            settings=settings,
            quiet=options.quiet,
        )
    print(f"wrote {folder}; next: scnet predict {folder} IMAGE")


def _eval(options: argparse.Namespace) -> None:
    import json

    from rich.console import Console

    from scnet.evaluation import evaluate
    from scnet.predict import load
    from scnet.scoring import class_table, table

    model = load(options.weights, device=options.device)
    _say(options, f"{model}; data {options.data}, split {options.split}")
    most = options.max_detections
    result = evaluate(model, options.data, options.split, max_detections=most, quiet=options.quiet)
    console = Console()
    console.print(table(result))
    console.print(class_table(result))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
        print(f"wrote {options.json}")


def _predict(options: argparse.Namespace) -> int:
    from scnet.data.images import DataError
    from scnet.predict import image_files, load, write
    from scnet.training.loop import new_folder

    files = image_files(options.source)
    model = load(options.weights, device=options.device)
    _say(options, f"{model}; {len(files)} images, score from {options.score:g}")
    folder = new_folder(options.output, "predictions", root=".")
    failed = 0
    for file in files:
        try:
            found = model.predict(file, score=options.score, max_detections=options.max_detections)
        except DataError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            continue
        picture, _ = write(found, folder)
        _say(options, f"{file}: {len(found)} objects -> {picture}")
    done = len(files) - failed
    print(f"wrote {done} pictures (*_masks.png) and COCO results (*.json) to {folder}")
    return 1 if failed else 0


def _check_data(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from scnet.data.check import check
    from scnet.visualize import samples_picture

    with Progress(console=Console(stderr=True), disable=options.quiet, transient=True) as bar:
        task = bar.add_task("reading images", total=None)
        report = check(options.path, lambda n, total: bar.update(task, completed=n, total=total))
    print(report.render())
    samples = report.samples()
    if samples:
        file = Path(options.picture or "check-data.png")
        samples_picture(samples).save(file)
        print(f"wrote {file}: samples with their masks; look at it")
    return 0 if report.ok else 1


def _recipes(options: argparse.Namespace) -> None:
    from scnet import recipes

    if options.name:
        import yaml

        from scnet.config import to_dict

        print(yaml.safe_dump(to_dict(recipes.find(options.name)), sort_keys=False), end="")
        return
    for name in recipes.RECIPES:
        sentence, parts = recipes.describe(name).split("\n")
        print(f"{name:<32}{sentence}\n{'':<32}{parts}")


def _demo(options: argparse.Namespace) -> None:
    from scnet.demo import run

    run(options.output, options.steps, quiet=options.quiet)


class UsageError(ValueError):
    """The command line is wrong."""


def _settings(rest: Sequence[str]) -> dict[str, Any]:
    """Nest settings: `--group.field VALUE`, `--group.field=VALUE`, the switch `--group.field`."""
    import yaml

    from scnet.config import merge, nested

    settings: dict[str, Any] = {}
    words = list(rest)
    while words:
        name, has_value, value = words.pop(0).partition("=")
        if not name.startswith("--") or len(name) == 2:
            raise UsageError(
                f"unexpected argument {name!r}; settings are given as --group.field VALUE"
            )
        if not has_value:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        try:
            settings = merge(settings, nested(name[2:], yaml.safe_load(value)))
        except yaml.YAMLError as error:
            raise UsageError(f"{name}: cannot read the value {value!r}") from error
    return settings


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


def _caused_by_user(error: Exception) -> bool:
    return isinstance(error, ValueError | OSError | FloatingPointError | ImportError)


def _is_usage(error: Exception) -> bool:
    from scnet.config import ConfigError

    return isinstance(error, UsageError | ConfigError)


def _interrupted(options: argparse.Namespace) -> int:
    text = "interrupted"
    if options.command == "train":
        text += "; continue from the last finished epoch with: scnet train --resume RUN_FOLDER"
    print(text, file=sys.stderr)
    return 130


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1")
    return value


def run() -> NoReturn:
    """Entry point of the `scnet` command."""
    sys.exit(main())


if __name__ == "__main__":
    run()
