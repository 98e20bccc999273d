"""Options that have no effect beside others: `TABLE` lists them, and giving one is an error.

The settings of a training, `--group.field`, have a table of their own in `scnet.idle`, as they can
be given in Python too; what a resumed training takes stands in `scnet.training.resuming`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from scnet.cli.commands import CHANGES
from scnet.cli.convert import is_own
from scnet.cli.errors import UsageError
from scnet.cli.evaluate import are_results
from scnet.cli.parser import given
from scnet.experiments import SEEDED, SIZED, STEPPED, TESTED, WITH_SPEED

Options = argparse.Namespace

_ARGUMENTS = ("recipe",)  # that stand without the name of an option, and may be left out


class Unused(NamedTuple):
    """When an option of a command has no effect."""

    command: str
    option: str  # name of the option or the argument, as the parser stores it
    when: Callable[[Options], bool]
    why: str
    instead: str


def refuse_unused(options: Options) -> None:
    """Stop where an option was given that has no effect.

    Raises:
        UsageError: names the option, why it has none, and what to do.
    """
    typed = given(options)
    for row in TABLE:
        if row.command != options.command:
            continue
        name = typed.get(row.option) or _argument(options, row.option)
        if name and row.when(options):
            raise UsageError(f"{name}: has no effect, as {row.why}; {row.instead}")


def _argument(options: Options, name: str) -> str | None:
    """Return how to call an argument that was given without the name of an option."""
    value = getattr(options, name) if name in _ARGUMENTS else None
    return None if value is None else f"{name.upper()} {value}"


def _resumes(options: Options) -> bool:
    return options.resume is not None


def _is_unsplit_file(options: Options) -> bool:
    from scnet.data.layout import is_of_any_split

    return is_of_any_split(Path(options.data))


def _matches(options: Options) -> bool:
    return bool(options.metric == "matching")


def _peer_alone(options: Options) -> bool:
    """Return whether `bench` measures no model of ours; without any name it does."""
    return bool(options.model) and set(options.model) == {"torchvision"}


def _writes_nothing(*names: str) -> Callable[[Options], bool]:
    """Return whether none of these options was given, which name what is written."""
    return lambda options: not any(getattr(options, name) for name in names)


TABLE = (
    *(
        Unused(
            command,
            "overwrite",
            _writes_nothing(*names),
            "nothing is named that could be replaced",
            f"leave it out, or give {' or '.join(f'--{name}' for name in names)}",
        )
        for command, names in (
            ("eval", ("json", "report")),
            ("bench", ("json", "plot")),
            ("check-data", ("picture", "list")),
        )
    ),
    Unused(
        "convert",
        "overwrite",
        lambda options: options.output is None,
        "no file is named to write",
        "leave it out, or name one with -o FILE.safetensors",
    ),
    *(
        Unused("convert", name, is_own, "a model of scnet says itself what it is", "leave it out")
        for name in ("classes", "config", "prefix", "leave", "norm_eps")
    ),
    Unused(
        "train",
        "recipe",
        _resumes,
        "--resume goes on with the recipe of the run",
        "leave it out, or start a new training without --resume",
    ),
    Unused(
        "train",
        "config",
        _resumes,
        "--resume goes on with the settings of the run",
        "leave it out, or start a new training without --resume",
    ),
    Unused(
        "train",
        "output",
        _resumes,
        "--resume goes on in the folder of the run",
        "leave it out",
    ),
    Unused(
        "train",
        "start",
        _resumes,
        "--resume goes on with the weights of the run",
        "leave it out, or start a new training without --resume",
    ),
    Unused(
        "train",
        "finetune",
        _resumes,
        "--resume goes on with the rate, the frozen stages and the epochs of the run",
        "leave it out, or start a new training with --from and without --resume",
    ),
    Unused(
        "eval",
        "split",
        _is_unsplit_file,
        "--data is one annotation file that is named for no split",
        "leave it out, or give the folder of the data set",
    ),
    Unused(
        "eval",
        "thresholds",
        lambda options: options.metric == "coco",
        "AP is over IoUs of COCO's own",
        "leave it out, or give --metric matching",
    ),
    Unused(
        "eval",
        "iou",
        _matches,
        "--metric matching has IoU thresholds of its own",
        "leave it out, or give --thresholds",
    ),
    *(
        Unused("eval", name, _matches, "a report is of the coco metric", "leave it out")
        for name in ("report", "pictures")
    ),
    Unused(
        "eval",
        "iou",
        lambda options: options.score is None and not options.report,
        "AP is over COCO's IoUs",
        "leave it out, or count with --score or --report",
    ),
    Unused(
        "eval",
        "pictures",
        lambda options: not options.report,
        "only a report has them",
        "leave it out, or give --report DIR",
    ),
    *(
        Unused("eval", name, are_results, "no model runs on results in a file", "leave it out")
        for name in ("device", "batch", "precision", "proposals", "compile", "tta", *CHANGES)
    ),
    *(
        Unused(
            command,
            "batch",
            lambda options: options.tta is not None,
            "views of one image pass at a time",
            "leave it out, or --tta",
        )
        for command in ("eval", "predict")
    ),
    Unused(
        "eval",
        "same_class",
        are_results,
        "results in a file have ids of classes and no names",
        "leave it out",
    ),
    Unused(
        "experiment",
        "seeds",
        lambda options: options.name not in SEEDED,
        "this one trains nothing, or each model once",
        "leave it out",
    ),
    Unused(
        "experiment",
        "speed",
        lambda options: options.name not in WITH_SPEED,
        "only tables have, or leave out, a column of speeds",
        "leave it out",
    ),
    Unused(
        "experiment",
        "image_size",
        lambda options: options.name not in SIZED,
        "other experiments measure at the size that they train with",
        "leave it out, or give it to `scnet experiment speed`",
    ),
    Unused(
        "experiment",
        "steps",
        lambda options: options.name not in STEPPED,
        "the others train as long as --size says",
        "leave it out, or give it to `scnet experiment stardist`",
    ),
    Unused(
        "experiment",
        "test",
        lambda options: options.name not in TESTED,
        "the others have no images to test on",
        "leave it out, or give it to `scnet experiment stardist`",
    ),
    Unused(
        "bench",
        "plot",
        _peer_alone,
        "only models of scnet have parts whose time is drawn",
        "leave it out, or measure one of them beside",
    ),
    Unused(
        "bench",
        "compile",
        _peer_alone,
        "torchvision's model is measured as it is",
        "leave it out, or measure a model of scnet beside",
    ),
)
