"""Two things in a minute: nuclei outlined at once, and then the same model taught to find discs.

The first photograph is mahotas's `nuclear`, nuclei of cells under a fluorescence microscope; the
second is scikit-image's `coins`, 24 Greek coins from Pompeii. The model saw neither.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scnet.settings import leaves, merge

if TYPE_CHECKING:
    from scnet.config import Config
    from scnet.inference.detections import Detections
    from scnet.inference.model import Model

MODEL = "nuclei"  # the one that comes with the package
NUCLEI = ("mahotas", "demos/data/nuclear.png")  # package, and file within it
COINS = ("skimage", "data/coins.png")
INSTALLED_AS = {"mahotas": "mahotas", "skimage": "scikit-image"}
ALL_COINS = 24
DISC = "disc"  # the class of generated images that coins look like

STEPS = 40
TRAIN, VAL, SIDE = 80, 16, 256  # generated images and their sides in pixels
SETTINGS: dict[str, Any] = {
    "data": {"size": [SIDE, 352], "workers": 0},  # starting a worker costs more than it saves
    "optim": {"batch_size": 2, "lr_batch": 2, "lr": 1e-3, "warmup_steps": 10, "log_every": 10},
    "eval": {"every": 0},
}
# Without which weights do not go on in a recipe, or objects do not look as large as they did.
WIDTHS = ("model.channels", "model.box.hidden", "data.size")


def run(
    output: Path | None = None,
    steps: int = STEPS,
    *,
    model: str | os.PathLike[str] = MODEL,
    quiet: bool = False,
) -> tuple[Path, Path]:
    """Outline nuclei, fine-tune the model, outline coins; return the two pictures.

    Args:
        output: folder for everything it makes; None makes `demo`, numbered where that is taken.
        steps: of the fine-tuning.
        model: what to begin with, as `scnet.load` reads it; finds one class.
        quiet: say nothing but the results.

    Raises:
        ImportError: mahotas or scikit-image is not installed.
        FileExistsError: `output` holds something already.
    """
    from scnet.runtime.files import new_folder

    nuclei, coins = carried(*NUCLEI), carried(*COINS)
    clock = Clock(quiet)
    folder = new_folder(output, "demo", root=".")
    clock.say(f"loading the model {model}, which comes with the package")
    from scnet.inference.model import load

    loaded = load(model, quiet=quiet)
    first = outline_nuclei(loaded, nuclei, folder, clock)
    second, trained = teach_discs(loaded, model, coins, folder, steps, clock)
    print(f"\ndone in {clock.seconds:.0f} s; pictures: {first}, {second}")
    print(f"the fine-tuned model: {trained} (curves.png and samples show its training)")
    print("\nnext, with your own images (any folder, pattern or file):")
    print(f"  scnet predict {model} IMAGES                # outlines and COCO results")
    print(f"  {train_command(model, loaded.config)}")
    return first, second


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
            print(f"[{self.seconds:4.0f} s] {text}", file=sys.stderr)


def outline_nuclei(model: Model, photo: Path, folder: Path, clock: Clock) -> Path:
    """Outline what is found in a photograph, and print figures of it; return the picture."""
    from PIL import ImageOps

    from scnet.formats.coco import write

    image = Path(shutil.copyfile(photo, folder / "nuclei.png"))
    clock.say(f"looking for nuclei in a fluorescence microscope's image, {image}")
    start = time.perf_counter()
    found = model.predict(image)
    seconds = time.perf_counter() - start
    # Some nuclei divide and are five times as bright as the others, which are dim beside them.
    bright = ImageOps.autocontrast(found.image, cutoff=(0, 1))
    picture, results = write(replace(found, image=bright), folder)
    print("\n".join(table(found, seconds)))
    print(f"picture  {picture} (brightened, so that dim nuclei are seen)")
    print(f"results  {results} (COCO: boxes, scores, masks as run lengths)\n")
    return picture


def teach_discs(
    model: Model,
    name: str | os.PathLike[str],
    photo: Path,
    folder: Path,
    steps: int,
    clock: Clock,
) -> tuple[Path, Path]:
    """Fine-tune a model on generated discs; return a picture of coins and the run's folder."""
    from scnet.data.synthetic.scene import generate
    from scnet.formats.coco import write_results
    from scnet.inference.model import load
    from scnet.training.run import train

    image = Path(shutil.copyfile(photo, folder / "coins.png"))
    before = model.predict(image)
    clock.say(f"generating {TRAIN + VAL} images of discs and other shapes to teach it something new")
    data = generate(folder / "data", train=TRAIN, val=VAL, size=(SIDE, SIDE))
    clock.say(f"fine-tuning {name} on them for {steps} steps, then evaluating")
    settings = merge(SETTINGS, {"optim": {"max_steps": steps}})
    run = train(
        model.config, data, start=name, output=folder / "run", settings=settings, quiet=clock.quiet
    )
    clock.say(f"looking for coins in a photograph, {image}")
    found = load(run).predict(image)
    after = found[found.labels == found.classes.index(DISC)]
    write_results(after, folder)
    picture = folder / "coins_before_after.png"
    compare(before, after).save(picture)
    print(
        f"coins    {len(after)} discs found in a photograph of {ALL_COINS} coins, after {steps} "
        f"steps on generated images"
    )
    print(f"picture  {picture} (before: {of_class(before)}; after: {of_class(after)})")
    return picture, run


def table(found: Detections, seconds: float) -> list[str]:
    """Return lines with the number of objects, their areas and scores, and the time taken."""
    height, width = found.size
    lines = [f"found    {of_class(found)} in {width} x {height} pixels, in {seconds:.1f} s"]
    if len(found):
        areas, scores = sorted(found.areas), sorted(found.scores.tolist())
        lines += [
            f"area     median {areas[len(areas) // 2]:,} px, smallest {areas[0]:,}, "
            f"largest {areas[-1]:,}",
            f"score    median {scores[len(scores) // 2]:.2f}, lowest {scores[0]:.2f}, "
            f"highest {scores[-1]:.2f}",
        ]
    return lines


def of_class(found: Detections) -> str:
    """Return how many objects were found, and of which class, where it is one."""
    names = set(found.names) or set(found.classes[:1])
    return f"{len(found)} x {' and '.join(sorted(names))}"


def compare(before: Detections, after: Detections) -> Any:
    """Return what was found in an image before and after a training, beside each other."""
    from scnet.pictures.overlay import grid

    captions = (f"before: {of_class(before)}", f"after: {of_class(after)}")
    return grid([found.plot() for found in (before, after)], captions, columns=2)


def train_command(model: str | os.PathLike[str], config: Config) -> str:
    """Return the command that goes on from a model on other data, with all of its weights."""
    from scnet import recipes
    from scnet.config import to_dict
    from scnet.training.auto import command

    usual = dict(leaves(to_dict(recipes.find(config.recipe))))
    own = dict(leaves(to_dict(config)))
    settings = [(path, own[path]) for path in WIDTHS if own[path] != usual[path]]
    return f"{command(config.recipe, 'DATA', settings)} --from {model}"


def carried(package: str, file: str) -> Path:
    """Return the path of a file that an installed package carries, without importing it.

    Raises:
        ImportError: the package is not installed, or without that file; says what to do.
    """
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    name = INSTALLED_AS[package]
    raise ImportError(
        f"the demo needs {name}, which carries its image {Path(file).name}: pip install {name}"
    )
