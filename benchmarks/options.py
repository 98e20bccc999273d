"""What the options that make prediction faster cost in AP, and what they save.

    python benchmarks/options.py runs/cells my_data [--rounds 3] [--compile]

Every option is scored on the val images. Its time is that of the same images from file to COCO
results, the options taking turns; the ratio is the median over rounds of its time by that of the
plain model in the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scnet.bench.machine import describe, timed
from scnet.evaluation.run import evaluate
from scnet.inference.gather import image_files
from scnet.inference.model import Model
from scnet.runtime.device import pick_device
from scnet.weights import checkpoint

IMAGES = 24  # that are timed


def main() -> None:
    """Score and time every option; print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--photos", nargs="+", default=[], help="images to time; default: val's")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = pick_device(args.device)
    files = image_files(args.photos or [str(args.data / "val" / "*")])[:IMAGES]
    names, seconds, rows = ways(args.weights, device.type, args.compile), {}, []
    models = {name: make(device) for name, make in names.items()}
    seconds = {name: [] for name in models}
    for turn in range(-1, args.rounds):
        for name, model in models.items():
            taken, _ = timed(lambda model=model: _predict(model, files), device)
            if turn >= 0:
                seconds[name].append(taken / len(files))
    for name, model in models.items():
        result = evaluate(model, args.data)
        rows.append({**result, "option": name, "seconds": seconds[name]})
        print(name, result["bbox"]["AP"], result["segm"]["AP"], flush=True)
    if args.json:
        record = {**describe(device), "weights": args.weights.name, "rows": rows}
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    Console(width=110).print(table(rows))


def ways(weights: Path, device: str, compiles: bool) -> dict[str, Callable[[Any], Model]]:
    """Return how to make a model with each option, the plain one first."""

    def option(changes: dict[str, Any] | None = None, **options: Any) -> Callable[[Any], Model]:
        return lambda device: Model(checkpoint.load(weights, **(changes or {})), device, **options)

    def threshold(score: float) -> Callable[[Any], Model]:
        return option({"model": {"box": {"score_threshold": score}}})

    every = {"plain": option(), "bf16": option(precision="bf16")}
    if device == "cuda":
        every["fp16"] = option(precision="fp16")
    every |= {f"{n} proposals": option(proposals=n) for n in (300, 100, 50)}
    every |= {f"score from {s:g}": threshold(s) for s in (0.001, 0.05, 0.3)}
    return every | ({"compiled, padded": option(compile=True)} if compiles else {})


def table(rows: list[dict[str, Any]]) -> Table:
    """Return AP, its difference to the plain model's, and the ratio of time."""
    plain = rows[0]
    out = Table("option", "box AP", "mask AP", "difference", "s an image", "of plain")
    for row in rows:
        ratios = [a / b for a, b in zip(row["seconds"], plain["seconds"], strict=True)]
        box, mask = (100 * row[kind]["AP"] for kind in ("bbox", "segm"))
        differences = box - 100 * plain["bbox"]["AP"], mask - 100 * plain["segm"]["AP"]
        out.add_row(
            row["option"],
            f"{box:.2f}",
            f"{mask:.2f}",
            " / ".join(f"{d:+.2f}" for d in differences),
            f"{statistics.median(row['seconds']):.3f}",
            f"{statistics.median(ratios):.2f}",
        )
    return out


def _predict(model: Model, files: list[Path]) -> int:
    """Predict image by image, and make COCO results of what is found."""
    threshold = model.config.model.box.score_threshold
    return sum(len(model.predict(f, score=threshold).to_coco(image_id=0)) for f in files)


if __name__ == "__main__":
    main()
