"""What `scnet zoo` does: the list of weights that have a name, and how one gets on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby

from scnet.weights import zoo
from scnet.weights.zoo import Published


def run(options: argparse.Namespace) -> None:
    """List the weights that have a name, or put some on this machine."""
    if options.name:
        file = zoo.fetch(options.name, quiet=options.quiet)
        print(f"{options.name} is at {file}; next: scnet predict {options.name} IMAGE")
        return
    every = list(zoo.PUBLISHED.values())
    _list_carried([p for p in every if p.package])
    _list_downloaded([p for p in every if not p.package])
    print("next: scnet predict NAME IMAGE (downloads what is not here)")


def _list_carried(carried: Sequence[Published]) -> None:
    """Print each of the weights that a package carries: each may be of other data and figures."""
    if not carried:
        return
    print("In the package, needs no network; measured here\n")
    for p in carried:
        figures = ", ".join(f"{what} {number:g}" for what, number in p.figures.items())
        here = "" if p.ready.is_file() else ", but its file is not there"
        print(f"  {p.name:<18}{p.architecture}, {p.backbone}{here}")
        for what, text in {
            "finds": p.finds,
            "in per cent": figures,
            "on": p.measured_on,
            "licence": p.licence,
        }.items():
            print(f"{'':<6}{what:<14}{text}")
    print()


def _list_downloaded(published: Sequence[Published]) -> None:
    """Print the weights that others published as a table, by architecture."""
    print("Published by others, downloaded when first used; finds COCO's 80 classes\n")
    print(f"{'name':<38}{'backbone':<18}{'box':>5}{'mask':>6}  here")
    for architecture, group in groupby(published, lambda p: p.architecture):
        print(f"\n{architecture}")
        for p in group:
            box, mask = p.figures["box AP"], p.figures["mask AP"]
            print(f"  {p.name:<36}{p.backbone:<18}{box:>5}{mask:>6}  {zoo.state(p.name)}")
    licences = ", ".join(
        f"{licence} ({library})"
        for library, licence in {
            "MMDetection" if p.form == "mmdet" else p.form: p.licence for p in published
        }.items()
    )
    print(
        "\nAP in per cent on COCO val2017, as published and not measured here."
        f"\nLicence: {licences}. Files: {zoo.folder()}"
    )
