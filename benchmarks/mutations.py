"""Thousands of broken annotation files and images, each read or explained.

    python benchmarks/mutations.py [--files 5000] [--images 5000] [--seed 0]

A small data set is changed at random in one to three places (values removed, added, replaced, made
text) and read as training, scoring and `scnet check-data` read it. Images of eight formats lose
their end, or some of their bytes are replaced. Counted are: what was refused with a reason, what
was read, errors that are none of this package's, what took longer than two seconds, and wrong
results without a word, as far as something else can tell:

- of annotations, each entry of the file must be an object, a crowd region, or named as left out;
- of images whose format has checksums (PNG), what is read must be the pixels of before.

The exit status is 1 if there is any of the last three.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.mutations import mutate

from scnet.config import DataConfig
from scnet.data.check import check
from scnet.data.coco import load_dataset
from scnet.data.images import DataError, read_image
from scnet.evaluation.scoring import score

SLOW = 2.0  # seconds
CHECKED = ("PNG", "PNG16")  # formats with checksums


def main() -> int:
    """Mutate, read, count, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        counts = annotation_files(args.files, random.Random(args.seed), Path(folder))
        counts += images(args.images, random.Random(args.seed), Path(folder))
    for name, number in sorted(counts.items()):
        print(f"{name:<60}{number:>8,}")
    return int(any(name.split(": ")[1] in ("untyped", "slow", "silent") for name in counts))


def annotation_files(number: int, draw: random.Random, folder: Path) -> Counter[str]:
    """Return what came of so many mutated annotation files."""
    content, counts = data_set(folder), Counter[str]()
    file = folder / "annotations/instances_train.json"
    for index in range(number):
        changed = copy.deepcopy(content)
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            mutate(changed, draw)
        file.write_text(json.dumps(changed))
        start = time.perf_counter()
        try:
            outcome = read_all(file, changed)
        except DataError:
            outcome = "refused"
        except Exception:
            traceback.print_exc()
            outcome = "untyped"
        counts[f"annotation files: {outcome}"] += 1
        if time.perf_counter() - start > SLOW:
            counts["annotation files: slow"] += 1
        if outcome in ("untyped", "silent"):
            print(f"file {index}: {outcome}: {json.dumps(changed)}", file=sys.stderr)
    return counts


def read_all(file: Path, content: Any) -> str:
    """Read a file in every way; return "read", or "silent" where something was lost."""
    report = check(file)
    report.render()
    config = DataConfig(size=(30, 40), drop_invalid=True)
    try:
        strict = load_dataset(file, "train", DataConfig(size=(30, 40)), train=True, semantic=True)
        for place in range(len(strict)):
            strict[place]
        agree = report.ok
    except DataError:
        agree = not report.ok
    dataset = load_dataset(file, "train", config, train=True, semantic=True)
    for place in range(len(dataset)):
        dataset[place]
    score(dataset.ground_truth, [])
    contents = dataset.contents
    listed = content["annotations"]
    whole = contents.objects + contents.crowd + len(contents.faults) == len(listed)
    crowds = sum(isinstance(e, dict) and e.get("iscrowd") in (1, "1", True) for e in listed)
    return "read" if agree and whole and contents.crowd <= crowds else "silent"


def images(number: int, draw: random.Random, folder: Path) -> Counter[str]:
    """Return what came of so many mutated images."""
    counts = Counter[str]()
    sound = samples()
    before = {name: pixels_of(data, folder) for name, data in sound.items()}
    for _ in range(number):
        name = draw.choice(sorted(sound))
        data = damaged(sound[name], draw)
        start = time.perf_counter()
        try:
            same = np.array_equal(pixels_of(data, folder), before[name])
            outcome = "read as before" if same else "read otherwise"
            if not same and name in CHECKED:
                outcome = "silent"
        except DataError:
            outcome = "refused"
        except Exception:
            traceback.print_exc()
            outcome = "untyped"
        counts[f"images, {name}: {outcome}"] += 1
        if time.perf_counter() - start > SLOW:
            counts[f"images, {name}: slow"] += 1
    return counts


def pixels_of(data: bytes, folder: Path) -> np.ndarray:
    """Return what is read from an image file."""
    file = folder / "image"
    file.write_bytes(data)
    return np.asarray(read_image(file))


def samples() -> dict[str, bytes]:
    """Return a small image in several formats."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    colour, deep = Image.fromarray(pixels), Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    kinds = {"PNG": colour, "JPEG": colour, "BMP": colour, "GIF": colour, "TIFF": colour}
    kinds |= {"WEBP": colour, "PNG16": deep, "TIFF16": deep}
    found = {}
    for name, image in kinds.items():
        stream = io.BytesIO()
        image.save(stream, name.removesuffix("16"))
        found[name] = stream.getvalue()
    return found


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Return a file that lost its end, or some bytes of which are others."""
    if draw.random() < 0.3:
        return data[: draw.randrange(len(data))]
    changed = bytearray(data)
    # The head of a file is where a byte means most.
    reach = len(data) if draw.random() < 0.5 else min(len(data), 200)
    for _ in range(draw.choice([1, 1, 2, 8])):
        changed[draw.randrange(reach)] = draw.randrange(256)
    return bytes(changed)


def data_set(folder: Path) -> dict[str, Any]:
    """Write four images of 40 x 30, and return annotations of two classes with a crowd region."""
    (folder / "annotations").mkdir()
    (folder / "train").mkdir()
    entries = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3, 4)]
    for entry in entries:
        Image.new("RGB", (40, 30)).save(folder / "train" / str(entry["file_name"]))
    boxes = [(1, 7, (2, 3, 20, 10)), (1, 9, (10, 5, 8, 6)), (2, 9, (0, 0, 40, 30))]
    boxes += [(3, 7, (1, 1, 12, 12)), (3, 9, (20, 0, 10, 30))]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": [x, y, w, h],
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            "area": w * h,
            "iscrowd": 0,
        }
        for number, (image, category, (x, y, w, h)) in enumerate(boxes, 1)
    ]
    annotations[-1] |= {"iscrowd": 1, "segmentation": {"size": [30, 40], "counts": [600, 300, 300]}}
    categories = [{"id": 9, "name": "coin"}, {"id": 7, "name": "ring"}]
    return {"images": entries, "annotations": annotations, "categories": categories}


if __name__ == "__main__":
    sys.exit(main())
