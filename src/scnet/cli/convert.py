"""What `scnet convert` can be told, and what it does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scnet.cli.errors import UsageError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("file", metavar="FILE.pth", help="checkpoint of MMDetection")
    parser.add_argument(
        "-o", "--output", metavar="FILE.safetensors", required=True, help="file to write"
    )
    text = (
        "class names instead of the checkpoint's: coco, a file with a name on each line, or names "
        "with commas between"
    )
    parser.add_argument("--classes", metavar="NAMES", help=text)
    text = "its config, a Python file, where the checkpoint holds none or not the right one"
    parser.add_argument("--config", metavar="FILE.py", help=text)
    text = "what the keys of the model begin with, where the checkpoint holds several models"
    parser.add_argument("--prefix", metavar="NAME", help=text)
    text = "settings that are refused but do not matter to you, with commas between"
    parser.add_argument("--leave", metavar="NAMES", help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(options: argparse.Namespace) -> None:
    """Convert a checkpoint and say what it is, and what it does not say."""
    from scnet.weights.foreign import convert

    conversion = convert.convert(
        options.file,
        options.output,
        classes=() if options.classes is None else class_names(options.classes),
        config=options.config,
        prefix=options.prefix,
        leave=() if options.leave is None else _list(options.leave, "--leave"),
        overwrite=options.overwrite,
    )
    print(conversion)
    if not conversion.named and not options.quiet:
        print("the checkpoint has no class names; give them with --classes NAMES", file=sys.stderr)
    print(f"wrote {options.output}; next: scnet predict {options.output} IMAGE")


def class_names(given: str) -> list[str]:
    """Return class names from `coco`, a text file or a list with commas."""
    file = Path(given)
    if given == "coco":
        from scnet.data.classes import coco_classes

        return list(coco_classes())
    if file.is_file():
        names = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    elif file.suffix in (".txt", ".names", ".csv") or "/" in given:
        raise UsageError(f"--classes {given}: no such file")
    else:
        names = _list(given, "--classes")
    double = sorted({name for name in names if names.count(name) > 1})
    if double or not names:
        told = f"{', '.join(double)} stands there twice" if double else "holds no names"
        raise UsageError(f"--classes {given}: {told}; give each class a name of its own")
    return names


def _list(given: str, option: str) -> list[str]:
    """Return what stands between commas."""
    items = [item.strip() for item in given.split(",")]
    if not all(items):
        raise UsageError(f"{option} {given!r}: a name is missing between the commas")
    return items
