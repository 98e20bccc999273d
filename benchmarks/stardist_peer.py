"""Train StarDist itself on the data of `scnet experiment stardist`, so that one code judges both.

StarDist needs TensorFlow, so it has an environment of its own:

    uv venv --python 3.11 stardist_env
    uv pip install --python stardist_env/bin/python stardist==0.9.2 tensorflow-cpu==2.21.0 \\
        pycocotools
    stardist_env/bin/python benchmarks/stardist_peer.py $SCNET_DATA/dsb2018_stardist -o peer \
        [--minutes 60] [--cosine] [--images test] [--threads 2] [--seed 0]
    scnet eval peer/results_test.json --data $SCNET_DATA/dsb2018_stardist --split test \
        --metric matching --score 0

As its notebook does, it trains on `instances_train380.json`, chooses weights and thresholds on
`instances_val67.json` (32 rays, grid 2 x 2, flips, turns and other brightness), and predicts the
test images once. With `--images val67` it predicts the images of its choice instead, to be judged
with `--data .../annotations/instances_val67.json` and without `--split`. Its thresholds are applied
before the results are written, hence `--score 0`; its objects do not overlap. `--minutes` ends the
training, at a rate that the package lowers where the loss on the 67 images stays for 40 epochs;
`--cosine` lowers it to 0 over these minutes instead, as the trainings of scnet do.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = Any  # NumPy's; this file runs where scnet is not installed

STEPS = 100  # of an epoch: the package's own
EPOCHS = 100_000  # more than any number of minutes has
RATE = 3e-4  # learning rate: the package's own


def main() -> None:
    """Train, choose, predict and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, help="folder dsb2018_stardist")
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    parser.add_argument("--minutes", type=float, default=60, help="of training (default: 60)")
    parser.add_argument("--cosine", action="store_true", help="lower the rate over these minutes")
    parser.add_argument("--images", default="test", choices=("test", "val67"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True)
    model = train(args)
    write_results(model, args.data, args.images, args.output)


def train(args: argparse.Namespace) -> Any:
    """Return a trained model whose thresholds are chosen."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow
    from stardist.models import Config2D, StarDist2D

    tensorflow.config.threading.set_intra_op_parallelism_threads(args.threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    tensorflow.random.set_seed(args.seed)
    np.random.seed(args.seed)
    random.seed(args.seed)
    fit = pairs(args.data, "train380")
    judge = pairs(args.data, "val67")
    reducing = {"train_reduce_lr": None} if args.cosine else {}
    config = Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=1,
        train_tensorboard=False,
        train_learning_rate=RATE,
        **reducing,
    )
    model = StarDist2D(config, name="model", basedir=str(args.output))
    model.prepare_for_training()
    timer = clock(tensorflow.keras, 60 * args.minutes, args.cosine)
    model.callbacks.append(timer)
    model.train(
        *zip(*fit, strict=True),
        validation_data=tuple(map(list, zip(*judge, strict=True))),
        augmenter=augment,
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        seed=args.seed,
    )
    print(f"trained for {timer.trained:.0f} s, {timer.steps} steps")
    print("thresholds:", model.optimize_thresholds(*zip(*judge, strict=True)))
    return model


def clock(keras: Any, seconds: float, cosine: bool) -> Any:
    """Return what ends a training after so many seconds, lowering its rate meanwhile if asked."""

    class Clock(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        steps = 0
        start: float | None = None
        trained = 0.0  # seconds

        def seconds(self) -> float:
            return 0.0 if self.start is None else time.perf_counter() - self.start

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if self.start is None:  # the first step compiles
                self.start = time.perf_counter()
            self.steps += 1
            share = min(1.0, self.seconds() / seconds)
            if cosine:
                self.model.optimizer.learning_rate = RATE * (1 + math.cos(math.pi * share)) / 2
            self.trained = self.seconds()
            if share >= 1:
                self.model.stop_training = True

    return Clock()


def pairs(data: Path, name: str) -> list[tuple[Array, Array]]:
    """Return the images, scaled, and their label maps, with holes filled as in the notebook."""
    from stardist import fill_label_holes

    content, folder = annotations(data, name)
    objects: dict[int, list[Any]] = defaultdict(list)
    for entry in content["annotations"]:
        objects[entry["image_id"]].append(entry)
    return [
        (
            read(folder / image["file_name"]),
            fill_label_holes(label_map(image, objects[image["id"]])),
        )
        for image in content["images"]
    ]


def annotations(data: Path, name: str) -> tuple[dict[str, Any], Path]:
    """Return an annotation file and the folder of its images."""
    content = json.loads((data / "annotations" / f"instances_{name}.json").read_text())
    return content, data / ("test" if name == "test" else "train")


def read(file: Path) -> Array:
    """Return an image (H, W) whose percentiles 1 and 99.8 are 0 and 1."""
    from csbdeep.utils import normalize

    with Image.open(file) as image:
        return normalize(np.asarray(image.convert("L")), 1, 99.8)


def label_map(image: dict[str, Any], objects: Sequence[dict[str, Any]]) -> Array:
    """Return an image (H, W) of the numbers of objects from 1; 0 is background."""
    from pycocotools import mask

    labels = np.zeros((image["height"], image["width"]), np.uint16)
    for number, entry in enumerate(objects, 1):
        labels[mask.decode(entry["segmentation"]) > 0] = number
    return labels


def augment(image: Array, labels: Array) -> tuple[Array, Array]:
    """Flip and turn an image with its labels, and change its brightness, as the notebook does."""
    turns = int(np.random.randint(4))
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if np.random.rand() < 0.5:
        image, labels = image[::-1], labels[::-1]
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    noise = 0.02 * np.random.uniform(0, 1) * np.random.normal(size=image.shape)
    return image + noise, labels


def write_results(model: Any, data: Path, name: str, output: Path) -> None:
    """Predict all images, one after the other, and write the results as COCO lays them out."""
    content, folder = annotations(data, name)
    (category,) = (entry["id"] for entry in content["categories"])
    images = [read(folder / image["file_name"]) for image in content["images"]]
    model.predict_instances(images[0])  # compiles
    start = time.perf_counter()
    found = [model.predict_instances(image) for image in images]
    seconds = time.perf_counter() - start
    results = [
        {"image_id": image["id"], "category_id": category, **entry}
        for image, (labels, details) in zip(content["images"], found, strict=True)
        for entry in as_results(labels, details["prob"])
    ]
    file = output / f"results_{name}.json"
    file.write_text(json.dumps(results) + "\n")
    print(f"{seconds / len(images):.3f} s an image, without reading; wrote {file}")


def as_results(labels: Array, scores: Sequence[float]) -> list[dict[str, Any]]:
    """Return the objects of a label map; the score of object i is the (i - 1)th."""
    from pycocotools import mask

    entries = []
    for number, score in enumerate(scores, 1):
        shape = mask.encode(np.asfortranarray(labels == number).astype(np.uint8))
        if not mask.area(shape):  # others took all of it
            continue
        counts = {"size": list(map(int, shape["size"])), "counts": shape["counts"].decode()}
        box = [float(value) for value in mask.toBbox(shape)]
        entries.append({"segmentation": counts, "bbox": box, "score": float(score)})
    return entries


if __name__ == "__main__":
    main()
