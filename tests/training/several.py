"""Train several recipes one after the other, the last from the command line.

    python several.py DATA CONFIG FOLDER RECIPE...

The processes that torchrun starts with this import PyTorch once, and meet once, for all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

import scnet
from scnet.cli.main import main

if __name__ == "__main__":
    data, config, folder, *recipes, last = sys.argv[1:]
    settings = yaml.safe_load(Path(config).read_text())
    for recipe in recipes:
        scnet.train(recipe, data, output=Path(folder) / recipe, settings=settings, quiet=True)
    output = str(Path(folder) / last)
    sys.exit(main(["train", last, "--data", data, "--config", config, "-o", output]))
