"""What `scnet convert` can be told, and what it does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scnet.cli.errors import UsageError
from scnet.cli.outputs import OR_ELSE


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="checkpoint of MMDetection or torchvision (.pth), or of detectron2 (.pkl, .pth)",
    )
    parser.add_argument("-o", "--output", metavar="FILE.safetensors", help="file to write")
    text = (
        "class names instead of the checkpoint's: coco, a file with a name on each line, or names "
        "with commas between"
    )
    parser.add_argument("--classes", metavar="NAMES", help=text)
    text = (
        "its config, where the checkpoint holds none or not the right one: a Python file of "
        "MMDetection, the config.yaml of detectron2 (read by itself where it lies beside)"
    )
    parser.add_argument("--config", metavar="FILE", help=text)
    text = "what the keys of the model begin with, where the checkpoint holds several models"
    parser.add_argument("--prefix", metavar="NAME", help=text)
    text = "settings that are refused but do not matter to you, with commas between"
    parser.add_argument("--leave", metavar="NAMES", help=text)
    text = (
        "eps of frozen batch norm in a model of torchvision, which its files do not hold: 0 where "
        "it began from torchvision's COCO weights (taken where nothing is given), 1e-5 where it "
        "began from ImageNet's"
    )
    parser.add_argument("--norm-eps", metavar="NUMBER", type=float, help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    text = "say what the file is and whether it converts, and write nothing"
    parser.add_argument("--dry-run", action="store_true", help=text)


def run(options: argparse.Namespace) -> None:
    """Convert a checkpoint and say what it is, and what it does not say."""
    from scnet.weights.checkpoint import write_weights
    from scnet.weights.foreign import convert

    if options.output is None and not options.dry_run:
        raise UsageError("give the file to write with -o FILE.safetensors, or --dry-run")
    if options.output is not None:
        convert.require_free(options.output, overwrite=options.overwrite, or_else=OR_ELSE)
    conversion = convert.read(
        options.file,
        classes=() if options.classes is None else class_names(options.classes),
        config=options.config,
        prefix=options.prefix,
        leave=() if options.leave is None else _list(options.leave, "--leave"),
        norm_eps=options.norm_eps,
    )
    print(conversion)
    if not conversion.named and not options.quiet:
        print("the checkpoint has no class names; give them with --classes NAMES", file=sys.stderr)
    if options.dry_run:
        print(f"it converts; nothing was written{_next(options)}")
        return
    write_weights(Path(options.output), conversion.detector)
    print(f"wrote {options.output}; next: scnet predict {options.output} IMAGE")


def _next(options: argparse.Namespace) -> str:
    """Return what to do after a look at a file."""
    return "" if options.output else f"; next: scnet convert {options.file} -o FILE.safetensors"


def class_names(given: str) -> list[str]:
    """Return class names from `coco`, a text file or a list with commas."""
    from scnet.data.classes import coco_classes, seen_name

    file = Path(given)
    if given == "coco":
        return list(coco_classes())
    if file.is_file():
        names = [line for line in file.read_text().splitlines() if line.strip()]
    elif file.suffix in (".txt", ".names", ".csv") or "/" in given:
        raise UsageError(f"--classes {given}: no such file")
    else:
        names = _list(given, "--classes")
    names = [seen_name(name) for name in names]
    if not all(names):
        raise UsageError(f"--classes {given}: a name is blank; give each class a name of its own")
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
