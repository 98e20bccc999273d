"""What `scnet export` can be told, and what it does."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from scnet.cli import values
from scnet.cli.commands import CHANGES
from scnet.cli.errors import UsageError
from scnet.cli.outputs import OR_ELSE

SUFFIX = ".onnx"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("-o", "--output", metavar="FILE.onnx", required=True, help="file to write")
    text = "images that the file takes at a time (default: 1)"
    parser.add_argument("--batch", type=values.positive, default=1, metavar="N", help=text)
    text = "height and width of every image (default: any)"
    parser.add_argument("--fixed", type=values.size, metavar="HxW", help=text)
    text = "images to compare the file with the model on (default: four that are made up)"
    parser.add_argument("--check", nargs="+", metavar="IMAGE", help=text)
    text = "keep the file where it differs from the model, too"
    parser.add_argument("--keep", action="store_true", help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(options: argparse.Namespace) -> int:
    """Write the file, compare it with the model, and say how they differ; 1 where they do."""
    from scnet.export import onnx_file, parity
    from scnet.export.errors import ExportError
    from scnet.export.session import Session
    from scnet.inference.gather import image_files
    from scnet.inference.model import load
    from scnet.runtime.files import refuse_existing, whole_file

    output = Path(options.output)
    if output.suffix.lower() != SUFFIX:
        raise UsageError(f"-o {output}: the name must end in {SUFFIX}")
    refuse_existing(output, OR_ELSE, overwrite=options.overwrite)
    onnx_file.require_packages()
    images = image_files(options.check) if options.check else []
    changes = {name: getattr(options, name) for name in CHANGES}
    model = load(
        options.weights, device="cpu", proposals=options.proposals, quiet=options.quiet, **changes
    )
    form = onnx_file.Form(batch=options.batch, size=options.fixed)

    def say(text: str) -> None:
        if not options.quiet:
            print(text, file=sys.stderr, flush=True)

    say("capturing the model and translating it; a minute or two")
    start = time.perf_counter()
    with whole_file(output) as new:
        onnx_file.write(model.fast, new, form)
        say(f"done in {time.perf_counter() - start:.0f} s; comparing the file with the model")
        found = parity.compare(model, Session(new), images, form)
        print(*found, sep="\n")
        holds = all(one.holds for one in found)
        if not holds and not options.keep:
            raise ExportError(
                f"{output} was not written, as the file differs from the model; --keep writes it"
            )
    if not any(one.model or one.file for one in found):
        say("note: nothing is found in these images, so little is compared; give others to --check")
    size = output.stat().st_size / 1e6
    print(f"wrote {output} ({size:.1f} MB){'' if holds else ', which differs from the model'}")
    return 0 if holds else 1
