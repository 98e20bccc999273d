"""What `scnet eval` does: AP or another metric, and beside AP counts and a page of mistakes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scnet.cli.commands import load_model, say
from scnet.cli.errors import UsageError
from scnet.cli.outputs import write_json
from scnet.cli.values import count, iou, name_pair, share_or_best

# What `evaluate` and `evaluate_results` take alike, by the same names.
_ASKED = (
    *("max_detections", "score", "iou", "report", "pictures", "overwrite"),
    *("metric", "thresholds", "settings", "quiet"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes beside weights and the options of inference."""
    text = "folder in a usual COCO layout, or an annotation file"
    parser.add_argument("--data", metavar="PATH", required=True, help=text)
    text = "part of the data (default: val)"
    parser.add_argument("--split", default="val", choices=("train", "val", "test"), help=text)
    text = (
        "classes of the data that have other names in the model, such as cell=nucleus; where both "
        "have one class, it is taken for the same with a note"
    )
    parser.add_argument("--same-class", type=name_pair, nargs="+", metavar="DATA=MODEL", help=text)
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    text = (
        "coco = box and mask AP; matching = label maps matched by IoU as StarDist does, AP = TP / "
        "(TP + FP + FN) and panoptic quality (default: coco)"
    )
    parser.add_argument("--metric", default="coco", choices=("coco", "matching"), help=text)
    text = "IoUs of the matching metric (default: 0.5 0.55 ... 0.9)"
    parser.add_argument("--thresholds", type=iou, nargs="+", metavar="IOU", help=text)
    text = "write a page with all figures and pictures of the worst mistakes to this new folder"
    parser.add_argument("--report", metavar="DIR", help=text)
    text = "replace an existing report or file of figures"
    parser.add_argument("--overwrite", action="store_true", help=text)
    text = (
        "count true and false finds and misses from this score on; best = that of the highest F1, "
        "with --metric matching of the highest mean AP (default: 0.5 in a report and with --metric "
        "matching, else no counts)"
    )
    parser.add_argument("--score", type=share_or_best, metavar="SCORE|best", help=text)
    text = "IoU of masks from which a find is an object in these counts (default: 0.5)"
    parser.add_argument("--iou", type=iou, metavar="IOU", help=text)
    text = "of the worst misses, and as many of false finds, in the report (default: 12)"
    parser.add_argument("--pictures", type=count, metavar="N", help=text)


def run(options: argparse.Namespace) -> None:
    """Measure a model, or results in a file, on a data set."""
    asked = {name: getattr(options, name) for name in _ASKED}
    measure = _scored if are_results(options) else _measured
    _show(measure(options, asked), options)


def are_results(options: argparse.Namespace) -> bool:
    """Return whether WEIGHTS is a file of results, for which no model runs."""
    return Path(options.weights).suffix.lower() == ".json"


def _measured(options: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    from scnet.evaluation import run

    pairs = options.same_class or []
    same = dict(pairs)
    if len(same) < len(pairs):
        raise UsageError("--same-class: names a class of the data twice; give each once")
    model = load_model(options)
    say(options, f"{model}; data {options.data}, split {options.split}")
    return run.evaluate(
        model,
        options.data,
        options.split,
        batch_size=options.batch,
        name=options.weights,
        same_class=same,
        **asked,
    )


def _scored(options: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    from scnet.evaluation.stored import evaluate_results

    say(options, f"results {options.weights}; data {options.data}, split {options.split}")
    return evaluate_results(options.weights, options.data, options.split, **asked)


def _show(result: dict[str, Any], options: argparse.Namespace) -> None:
    (_show_matching if options.metric == "matching" else _show_coco)(result)
    if options.json:
        write_json(options.json, result)
    if options.report:
        print(f"wrote {options.report}; next: open {Path(options.report) / 'index.html'}")


def _show_matching(result: dict[str, Any]) -> None:
    from rich.console import Console

    from scnet.evaluation.label_table import WIDTH, lines, tables

    console = Console()
    console.width = max(console.width, WIDTH)
    for table in tables(result):
        console.print(table)
    for line in lines(result):
        print(line)


def _show_coco(result: dict[str, Any]) -> None:
    from rich.console import Console

    from scnet.evaluation.scoring import class_table, table
    from scnet.evaluation.summary import line

    console = Console()
    console.width = max(console.width, 80)  # narrow columns would cut names and figures
    console.print(table(result))
    console.print(class_table(result))
    if "counts" in result:
        print(line(result["counts"]))
