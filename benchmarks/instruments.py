"""Images as instruments write them: train on them by the commands of README, predict, draw.

    python benchmarks/instruments.py [--steps 60] [--images 60] [-o DIR]

Three data sets are made of photographed nuclei, as no 8-bit RGB reader can take them:

    deep     12-bit grey in 16-bit TIFF, as a microscope's camera writes
    bands    5 bands of 16 bits (TIFF, planes apart), the nuclei in the fourth alone
    stack    3 pages of 16 bits, each in focus elsewhere

Each is checked (`scnet check-data` names the setting that is missing, and is content with it),
trained, scored, and its prediction drawn. Needs SCNET_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

SPLITS = ("train", "val")
SETTINGS = {
    "deep": ["--data.range", "percentile"],
    "bands": ["--data.bands", "all", "--data.range", "percentile"],
    "stack": ["--data.bands", "[1,2,3]", "--data.range", "percentile"],
}
Numbers = np.ndarray[Any, Any]


def deep(grey: Numbers, noise: np.random.Generator) -> tuple[Numbers, dict[str, Any]]:
    """Return 12 bits of which a dim image uses a part."""
    dim = 200 + grey * 4.0 + noise.normal(0, 6, grey.shape)
    return dim.clip(0, 4095).astype(np.uint16), {"photometric": "minisblack"}


def bands(grey: Numbers, noise: np.random.Generator) -> tuple[Numbers, dict[str, Any]]:
    """Return planes of which the fourth shows the objects, the others noise alone."""
    planes = noise.normal(9000, 1500, (5, *grey.shape))
    planes[3] = 4000 + grey * 120.0
    layout = {"photometric": "minisblack", "planarconfig": "separate"}
    return planes.clip(0, 65535).astype(np.uint16), layout


def stack(grey: Numbers, noise: np.random.Generator) -> tuple[Numbers, dict[str, Any]]:
    """Return three pages; a page sees a third of the width sharply and the rest dimly."""
    width = grey.shape[1]
    page = np.arange(width) * 3 // width == np.arange(3)[:, None]
    seen = np.where(page[:, None], grey * 100.0, grey * 30.0)
    return (1000 + seen + noise.normal(0, 40, seen.shape)).clip(0, 65535).astype(np.uint16), {
        "photometric": "minisblack"
    }


MAKERS: dict[str, Callable[[Numbers, np.random.Generator], tuple[Numbers, dict[str, Any]]]] = {
    "deep": deep,
    "bands": bands,
    "stack": stack,
}


def make(kind: str, source: Path, folder: Path, images: int) -> None:
    """Write a data set of `images` photographs a split."""
    noise = np.random.default_rng(0)
    for split in SPLITS:
        found = json.loads((source / "annotations" / f"instances_{split}.json").read_text())
        found["images"] = found["images"][:images]
        ids = {image["id"] for image in found["images"]}
        found["annotations"] = [a for a in found["annotations"] if a["image_id"] in ids]
        (folder / split).mkdir(parents=True, exist_ok=True)
        for image in found["images"]:
            picture = next(source.glob(f"*/{image['file_name']}"))
            grey = np.asarray(Image.open(picture).convert("L"), np.float64)
            if grey.mean() > 128:  # bright field: nuclei are dark
                grey = 255 - grey
            values, layout = MAKERS[kind](grey, noise)
            image["file_name"] = str(Path(image["file_name"]).with_suffix(".tif"))
            tifffile.imwrite(folder / split / image["file_name"], values, **layout)
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(found))


def scnet(*arguments: object, fails: bool = False) -> None:
    """Run a command as a user would, and stop where it does not end as it should."""
    words = [str(a) for a in arguments]
    print("\n$ scnet", *words, flush=True)
    status = subprocess.run([sys.executable, "-m", "scnet", *words]).returncode
    if (status != 0) is not fails:
        sys.exit(f"status {status}")


def main() -> None:
    """Do all three."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--images", type=int, default=60, help="images of each split")
    parser.add_argument("--kinds", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("-o", "--output", type=Path, default=Path("instruments"))
    asked = parser.parse_args()
    source = Path(os.environ["SCNET_DATA"]) / "dsb2018_le360"
    for kind in asked.kinds:
        data, run = asked.output / kind, asked.output / f"{kind}_run"
        make(kind, source, data, asked.images)
        scnet("check-data", data, fails=kind != "deep")
        scnet("check-data", data, *SETTINGS[kind])
        scnet(
            "train", "mask_rcnn_lite", "--data", data, "-o", run, *SETTINGS[kind],
            "--optim.max-steps", asked.steps, "--eval.every", 0,
        )  # fmt: skip
        scnet("eval", run, "--data", data)
        first = sorted((data / "val").glob("*.tif"))[0]
        scnet("predict", run, first, "-o", asked.output / f"{kind}_found")


if __name__ == "__main__":
    main()
