"""Where the host would wait for a GPU, in a training step and in a prediction; needs none.

    python benchmarks/host_waits.py --recipe scnet --images 2

Counts on small images and a narrow network: how often the host waits depends on neither. What
counts as a wait is told in tests/host_waits.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.host_waits import HostWaits, in_prediction, in_training_step

from scnet import recipes


def main() -> None:
    """Print a table for the training step, and one for the prediction."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recipe", default="scnet", choices=sorted(recipes.RECIPES))
    parser.add_argument("--images", type=int, default=2, choices=range(1, 5))
    args = parser.parse_args()
    what = f"of {args.recipe}, images: {args.images}"
    console = Console()
    console.print(table(f"training step {what}", in_training_step(args.recipe, args.images)))
    console.print(table(f"prediction {what}", in_prediction(args.recipe, args.images)))


def table(title: str, waits: HostWaits) -> Table:
    """Return the waits by place, and their sum by kind."""
    result = Table("place", "kind", title=title, show_footer=True)
    result.add_column("number", justify="right", footer=str(waits.total))
    result.columns[0].footer = "total"
    result.columns[1].footer = ", ".join(f"{n} {kind}" for kind, n in waits.kinds.most_common())
    for (place, kind), number in sorted(waits.places.items()):
        result.add_row(place, kind, str(number))
    return result


if __name__ == "__main__":
    main()
