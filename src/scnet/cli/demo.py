"""The main job in a few minutes: train on generated images, evaluate, outline coins in a photo.

The photograph is scikit-image's `coins`: 24 Greek coins from Pompeii, none seen by the model.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from scnet.settings import merge

STEPS = 100  # about two minutes on two idle cores
SETTINGS: dict[str, Any] = {
    "data": {"size": [320, 400]},
    "optim": {"warmup_steps": 30, "log_every": 10, "lr": 1e-3},
    "eval": {"every": 0},
}


def run(output: Path | None = None, steps: int = STEPS, *, quiet: bool = False) -> Path:
    """Train, evaluate and predict; return the picture of the coins.

    Args:
        output: folder for everything it makes; None makes `demo`, numbered where that is taken.
        steps: of training.

    Raises:
        ImportError: scikit-image or the backbone weights are not installed.
        FileExistsError: `output` holds something already.
    """
    from scnet.data.synthetic.scene import generate
    from scnet.formats.coco import write
    from scnet.inference.model import load
    from scnet.runtime.files import new_folder
    from scnet.training.run import train

    start = time.perf_counter()

    def say(text: str) -> None:
        if not quiet:
            print(f"[{time.perf_counter() - start:4.0f} s] {text}", file=sys.stderr)

    photo = _coins()
    folder = new_folder(output, "demo", root=".")
    say("generating 180 images of discs and other shapes (about 15 s)")
    data = generate(folder / "data", train=150, val=30)
    say(f"training scnet_lite for {steps} steps (about 2 minutes on 2 idle cores), then evaluating")
    settings = merge(SETTINGS, {"optim": {"max_steps": steps}})
    trained = train("scnet_lite", data, output=folder / "run", settings=settings, quiet=quiet)
    say("looking for coins in a photograph")
    photo.save(folder / "coins.png")
    found = load(trained).predict(folder / "coins.png")
    discs = found[found.labels == found.classes.index("disc")]
    picture, _ = write(discs, folder)
    print(
        f"found {len(discs)} discs in a photograph of 24 coins; {time.perf_counter() - start:.0f} s"
    )
    print(f"wrote {picture}; next: {trained}/curves.png, {trained}/samples, or your own image:")
    print(f"  scnet predict {trained} IMAGE")
    return picture


def _coins() -> Any:
    """Return scikit-image's photograph, which its package carries."""
    from PIL import Image

    try:
        import skimage
    except ImportError as error:
        raise ImportError('the demo needs scikit-image: pip install "scnet-seg[demo]"') from error
    return Image.open(Path(skimage.__file__).parent / "data" / "coins.png")
