"""Two things in a minute: nuclei outlined at once, and then the same model taught to find discs.

The first image is mahotas's `nuclear`, nuclei of cells under a fluorescence microscope; the second
is scikit-image's `coins`, 24 Greek coins from Pompeii. The model has seen no coin; upright copies
of the first were searched for among the images that it learnt from, and there are none.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from scnet.data.wording import counted
from scnet.settings import merge

if TYPE_CHECKING:
    from PIL import Image

    from scnet.inference.detections import Detections
    from scnet.inference.model import Model

MODEL = "nuclei"  # the one that comes with the package
NUCLEI = ("mahotas", "demos/data/nuclear.png")  # package, and file within it
COINS = ("skimage", "data/coins.png")
INSTALLED_AS = {"mahotas": "mahotas", "skimage": "scikit-image"}
IN_SIGHT = 24  # coins
DISC = "disc"  # the class of generated images that coins look like

TRAIN, VAL, SIDE = 64, 12, 256  # generated images, and their sides in pixels
STEPS = 50  # a round and a half through the images, two in a step; half a minute on two idle cores
# For a short training: small images, few of them in a step, and no more boxes than they have use
# for. The backbone has learnt from photographs and nuclei already; it stays as it is. Coins do not
# lie in one another.
SETTINGS: dict[str, Any] = {
    "model": {
        "backbone": {"frozen_stages": 4},
        "rpn": {
            "samples": 128,
            "before_nms_train": 500,
            "after_nms_train": 300,
            "before_nms": 500,
            "after_nms": 300,
        },
        "box": {"samples": 48, "max_detections": 100},
        "mask": {"least_visible": 0.5},
    },
    "data": {"size": [SIDE, 352], "workers": 0},  # to start a worker takes longer than it saves
    "optim": {"batch_size": 2, "lr_batch": 2, "lr": 2e-3, "warmup_steps": 10, "log_every": 10},
    "eval": {"every": 0},
}


def run(
    output: Path | None = None,
    steps: int = STEPS,
    *,
    model: str | os.PathLike[str] = MODEL,
    quiet: bool = False,
) -> list[Path]:
    """Outline nuclei, teach the model discs, outline coins; return the pictures.

    Where mahotas is not installed, as it is not for every machine, that is said and the nuclei are
    left out.

    Args:
        output: folder for everything it makes; None makes `demo`, numbered where that is taken.
        steps: of the training.
        model: what finds nuclei, as `scnet.load` reads it.
        quiet: say nothing but the results.

    Raises:
        ImportError: scikit-image is not installed.
        FileExistsError: `output` holds something already.
        ValueError: `output` has the name of the model, and a folder goes before a name.
        CheckpointError, ZooError: the model cannot be had.
    """
    from scnet.runtime.files import new_folder, refuse_taken

    coins = carried(*COINS)
    if output is not None:
        refuse_taken(output)
        if output.absolute() == Path(model).absolute():
            raise ValueError(f"{output}: would hide the model of that name; give another folder")
    clock = Clock(quiet)
    clock.say(f"1. The model {model} looks for nuclei of cells in a microscope's image.")
    nuclei = _nuclei()
    from scnet.inference.model import load

    loaded = load(model, quiet=quiet)
    folder = new_folder(output, "demo", root=".")
    pictures = []
    if nuclei is not None:
        image = Path(shutil.copyfile(nuclei, folder / "nuclei.png"))
        pictures.append(outline_nuclei(loaded, image))
    clock.say(
        f"2. It learns something new: discs, from {TRAIN + VAL} images that are generated now."
    )
    image = Path(shutil.copyfile(coins, folder / "coins.png"))
    pictures.append(teach_discs(loaded, model, image, steps, clock))
    print(f"done in {clock.seconds:.0f} s; all of it is in {folder}")
    print("next, with images of your own:")
    print(f"  scnet predict {model} IMAGES  # outlines the nuclei in files and folders")
    print("with annotations of your own, of nuclei or anything else (COCO, YOLO or labelme):")
    print("  scnet check-data DATA  # says what is wrong with them")
    print(f"  scnet train {loaded.config.recipe} --data DATA --from {model}")
    return pictures


class Clock:
    """What is said on stderr, each line with the seconds since the start."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def say(self, text: str) -> None:
        if not self.quiet:
            print(f"[{self.seconds:3.0f} s] {text}", file=sys.stderr)


def outline_nuclei(model: Model, image: Path) -> Path:
    """Write the picture and results of an image beside it, print figures; return the picture."""
    from PIL import ImageOps

    from scnet.formats.coco import write

    start = time.perf_counter()
    found = model.predict(image)
    seconds = time.perf_counter() - start
    # A few dividing nuclei are five times as bright as the others, which would be seen badly.
    bright = ImageOps.autocontrast(found.image, cutoff=(0, 1))
    picture, results = write(replace(found, image=bright), image.parent)
    print("\n".join(table(found, seconds)))
    print(f"picture   {picture} (the image brightened, so that dim nuclei are seen)")
    print(f"results   {results} (COCO: boxes, scores, and masks as run lengths)\n", flush=True)
    return picture


def teach_discs(
    model: Model, name: str | os.PathLike[str], image: Path, steps: int, clock: Clock
) -> Path:
    """Write a picture of what is found before and after a training beside an image of coins.

    Generated images, the run and the results go beside it, too.
    """
    from scnet.data.synthetic.scene import generate
    from scnet.formats.coco import write_results
    from scnet.inference.model import load
    from scnet.training.run import train

    folder, recipe = image.parent, model.config.recipe
    before = model.predict(image)
    data = generate(folder / "data", train=TRAIN, val=VAL, size=(SIDE, SIDE))
    clock.say(f"training on them for {steps} steps, from the weights of {name}; then evaluating")
    settings = merge(SETTINGS, {"optim": {"max_steps": steps}})
    run = train(
        recipe, data, start=name, output=folder / "run", settings=settings, quiet=clock.quiet
    )
    clock.say("looking for coins in a photograph, before and after")
    found = load(run).predict(image)
    after = found[found.labels == found.classes.index(DISC)]
    picture, results = folder / "coins_before_after.png", write_results(after, folder)
    _save(beside(before, after), picture)
    print(f"\nbefore    {said(before, model.classes[0])} in a photograph of {IN_SIGHT} coins")
    print(f"after     {said(after, DISC)}, having learnt from generated images for {steps} steps")
    print(f"picture   {picture}")
    print(f"results   {results}")
    print(f"model     {run} (curves.png and samples show its training)\n")
    return picture


def table(found: Detections, seconds: float) -> list[str]:
    """Return lines with the number of objects of one class, their areas and scores, and the time.

    `seconds` is what the prediction took.
    """
    height, width = found.size
    lines = [
        f"found     {counted(len(found), 'object')} of class {found.classes[0]} in "
        f"{width} x {height} pixels, in {seconds:.1f} s"
    ]
    if len(found):
        areas, scores = found.areas, found.scores.tolist()
        lines += [
            f"area, px  median {median(areas):,.0f}, smallest {min(areas):,}, "
            f"largest {max(areas):,}",
            f"score     median {median(scores):.2f}, lowest {min(scores):.2f}, "
            f"highest {max(scores):.2f}",
        ]
    return lines


def said(found: Detections, name: str) -> str:
    """Return how many objects were found, and what they are taken for."""
    return f'{len(found)} taken for "{name}"'


def beside(before: Detections, after: Detections) -> Image.Image:
    """Return what was found in an image before and after a training, beside each other."""
    from scnet.pictures.overlay import grid, overlay

    pictures = [overlay(f.image, f.rle, scores=f.scores.tolist()) for f in (before, after)]
    captions = (
        f"before: {said(before, before.classes[0])}",
        f"after: {said(after, DISC)}",
    )
    return grid(pictures, captions, columns=2)


def _nuclei() -> Path | None:
    """Return the image of nuclei; where no package carries it, say what is left out for that."""
    try:
        return carried(*NUCLEI)
    except ImportError as error:
        print(f"note: {error}; without it no nuclei are outlined", file=sys.stderr)
        return None


def _save(picture: Image.Image, file: Path) -> None:
    from scnet.runtime.files import whole_file

    with whole_file(file) as new:
        picture.save(new, "PNG")


def carried(package: str, file: str) -> Path:
    """Return the path of a file that an installed package carries, which is not imported.

    Raises:
        ImportError: the package is not installed, or lacks the file; says what to do.
    """
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    name = INSTALLED_AS[package]
    raise ImportError(
        f"the demo needs {name}, which carries its image {Path(file).name}: pip install {name}"
    )
