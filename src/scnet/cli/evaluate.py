"""What `scnet eval` does: AP, and what it is asked beside: counts, a page of mistakes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scnet.cli.commands import load_model, say
from scnet.cli.errors import UsageError

# Options of a model that runs, and what they are where they are not given.
RUNNING = {"device": "auto", "batch": 1, "precision": "fp32", "proposals": None, "compile": False}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes beside weights and the options of inference."""
    text = "folder in a usual COCO layout, or an annotation file"
    parser.add_argument("--data", metavar="PATH", required=True, help=text)
    text = "part of the data (default: val)"
    parser.add_argument("--split", default="val", choices=("train", "val", "test"), help=text)
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    text = "write a page with all figures and pictures of the worst mistakes to this new folder"
    parser.add_argument("--report", metavar="DIR", help=text)
    text = (
        "count true and false finds and misses from this score on; best = that of the highest F1 "
        "(default: 0.5 in a report, else no counts)"
    )
    parser.add_argument("--score", type=_score, metavar="SCORE|best", help=text)
    text = "IoU of masks from which a find is an object in these counts (default: 0.5)"
    parser.add_argument("--iou", type=_iou, metavar="IOU", help=text)
    text = "of the worst misses, and as many of false finds, in the report (default: 12)"
    parser.add_argument("--pictures", type=_number, metavar="N", help=text)


def run(options: argparse.Namespace) -> None:
    """Measure a model, or results in a file, on a data set."""
    _refuse_unused(options)
    if options.report:
        from scnet.runtime.files import refuse_taken

        refuse_taken(Path(options.report))
    _show(_scored(options) if _is_results(options) else _measured(options), options)


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    from scnet.evaluation import run

    model = load_model(options)
    say(options, f"{model}; data {options.data}, split {options.split}")
    return run.evaluate(
        model,
        options.data,
        options.split,
        max_detections=options.max_detections,
        batch_size=options.batch,
        settings=options.settings,
        quiet=options.quiet,
        score=options.score,
        iou=options.iou,
        report=options.report,
        pictures=options.pictures,
        name=options.weights,
    )


def _scored(options: argparse.Namespace) -> dict[str, Any]:
    from scnet.evaluation.stored import evaluate_results

    say(options, f"results {options.weights}; data {options.data}, split {options.split}")
    return evaluate_results(
        options.weights,
        options.data,
        options.split,
        max_detections=options.max_detections,
        score=options.score,
        iou=options.iou,
        report=options.report,
        pictures=options.pictures,
        settings=options.settings,
        quiet=options.quiet,
    )


def _show(result: dict[str, Any], options: argparse.Namespace) -> None:
    import json

    from rich.console import Console

    from scnet.evaluation.scoring import class_table, table
    from scnet.evaluation.summary import line

    console = Console()
    console.print(table(result))
    console.print(class_table(result))
    if "counts" in result:
        print(line(result["counts"]))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
        print(f"wrote {options.json}")
    if options.report:
        print(f"wrote {options.report}; next: open {Path(options.report) / 'index.html'}")


def _refuse_unused(options: argparse.Namespace) -> None:
    """Refuse options that nothing would come of."""
    if options.iou is not None and options.score is None and not options.report:
        raise UsageError("--iou has no effect without --score or --report: AP is over COCO's IoUs")
    if options.pictures is not None and not options.report:
        raise UsageError("--pictures has no effect without --report DIR")
    if _is_results(options):
        for name, default in RUNNING.items():
            if getattr(options, name) != default:
                raise UsageError(f"--{name} has no effect on results in a file: no model runs")


def _is_results(options: argparse.Namespace) -> bool:
    return Path(options.weights).suffix.lower() == ".json"


def _score(text: str) -> float | str:
    if text == "best":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1, or 'best'")
    return value


def _iou(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and up to 1")
    return value


def _number(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value
