"""What `scnet convert` can be told, and what it does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scnet.cli.commands import CHANGES
from scnet.cli.errors import UsageError
from scnet.cli.outputs import OR_ELSE

if TYPE_CHECKING:
    from scnet.config import Config
    from scnet.weights.foreign.conversion import Conversion
    from scnet.weights.half import Half


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="checkpoint of MMDetection or torchvision (.pth), or of detectron2 (.pkl, .pth); or a "
        "model of scnet to hand on: run folder, checkpoint folder or .safetensors",
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
    text = (
        "write the weights as float16, at half the size; they are rounded, and become float32 "
        "again when they are loaded"
    )
    parser.add_argument("--half", action="store_true", help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    text = "say what the file is and whether it converts, and write nothing"
    parser.add_argument("--dry-run", action="store_true", help=text)


def is_own(options: argparse.Namespace) -> bool:
    """Return whether what is to be converted is a model of scnet, which says itself what it is."""
    from scnet.weights import checkpoint

    return checkpoint.is_own(Path(options.file))


def run(options: argparse.Namespace) -> None:
    """Convert a checkpoint and say what it is, and what it does not say."""
    from scnet.inference.changes import change
    from scnet.weights.checkpoint import write_weights
    from scnet.weights.foreign.convert import require_free

    if options.output is None and not options.dry_run:
        raise UsageError("give the file to write with -o FILE.safetensors, or --dry-run")
    if options.output is not None:
        require_free(options.output, overwrite=options.overwrite, or_else=OR_ELSE)
    changed = change(**{name: getattr(options, name) for name in CHANGES})
    conversion = _read(options, changed)
    half = _halved(options, conversion) if options.half else None
    if options.dry_run:
        print(f"it converts; nothing was written{_next(options)}")
        return
    output = Path(options.output)
    write_weights(output, conversion.detector, half)
    size = f"{output.stat().st_size / 1e6:.1f} MB"
    print(f"wrote {output} ({size}); next: scnet predict {output} IMAGE")


def _read(options: argparse.Namespace, changed: Callable[[Config], Config]) -> Conversion:
    """Read the file, change its settings, say what it is, and return what it became."""
    file = Path(options.file)
    _refuse_name(file)
    if file.is_dir() or is_own(options):
        from scnet.weights import public

        conversion, private = public.read(file)
        conversion.detector.config = changed(conversion.detector.config)
        print(conversion)
        if private:
            print(f"left out         {', '.join(private)}, which name files of this machine")
        return conversion
    from scnet.weights.foreign import convert

    conversion = convert.read(
        options.file,
        classes=() if options.classes is None else class_names(options.classes),
        config=options.config,
        prefix=options.prefix,
        leave=() if options.leave is None else _list(options.leave, "--leave"),
        norm_eps=options.norm_eps,
    )
    conversion.detector.config = changed(conversion.detector.config)
    print(conversion)
    if not conversion.named and not options.quiet:
        print("the checkpoint has no class names; give them with --classes NAMES", file=sys.stderr)
    return conversion


def _refuse_name(file: Path) -> None:
    """Stop at a name of `scnet zoo`, which stands for weights that need no conversion."""
    from scnet.weights import zoo

    if not file.exists() and str(file) in zoo.PUBLISHED:
        raise ValueError(
            f"{file}: no such file; weights of that name are used as they are (scnet predict "
            f"{file} IMAGE), and `scnet zoo {file}` says where their file lies"
        )


def _halved(options: argparse.Namespace, conversion: Conversion) -> Half:
    """Return the weights rounded, and say what that does to them."""
    from scnet.weights.half import halved

    try:
        half = halved(conversion.detector)
    except ValueError as error:
        raise ValueError(f"{options.file}: {error}") from error
    print(half)
    return half


def _next(options: argparse.Namespace) -> str:
    """Return what to do after a look at a file."""
    half = " --half" * options.half
    again = f"; next: scnet convert {options.file} -o FILE.safetensors{half}"
    return "" if options.output else again


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
