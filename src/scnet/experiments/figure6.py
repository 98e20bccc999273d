"""Figure 6: what methods find in the same images.

The paper shows images that its authors chose. Here a rule chooses them, so that they flatter no
method: the largest gain of SCNet over the baseline, the largest loss, and three drawn at random.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scnet.data.coco import CocoDataset, load_dataset
from scnet.data.images import read_image
from scnet.evaluation.run import detect_dataset, truth_as_detections
from scnet.evaluation.scoring import score
from scnet.experiments import page
from scnet.experiments.page import Page, markdown
from scnet.experiments.plan import Plan, Run, name_of
from scnet.experiments.runs import Outcome, finish
from scnet.experiments.tabulate import machines
from scnet.inference.detections import Detections
from scnet.inference.model import load
from scnet.pictures.overlay import grid, overlay

Say = Callable[[str], None]

METHODS = {"table2_none": "Cascade Mask R-CNN", "htc": "HTC", "scnet": "SCNet"}
BASELINE, OURS = "table2_none", "scnet"
SHOWN = 0.5  # lowest score that is drawn; AP counts all
RANDOM = 3  # images drawn at random
WIDTH = 480  # pixels of each picture

Scores = Mapping[str, Sequence[float]]  # mask AP of each image by method, -1 without objects


@dataclass(frozen=True)
class Choice:
    """An image that a rule chose."""

    index: int
    rule: str


def run(plan: Plan, say: Say) -> Path:
    """Carry out the figure with the models of seed 0 and return its page."""
    body: list[str] = []
    outcomes: list[Outcome] = []
    results: list[Any] = []
    plan.folder.mkdir(parents=True, exist_ok=True)
    for data in plan.data:
        runs = {name: plan.run(name, data, seed=0) for name in METHODS}
        outcomes += finish(list(runs.values()), say=say, quiet=plan.quiet)
        config = runs[BASELINE].config.data
        dataset = load_dataset(data, "val", config, train=False)
        say(f"looking at {len(dataset)} images of {data} with {len(METHODS)} models")
        found = {name: _found(one, dataset) for name, one in runs.items()}
        scores = {name: image_scores(dataset, of_method) for name, of_method in found.items()}
        choices = choose(scores)
        picture = f"figure6_{name_of(data)}.png"
        draw(dataset, found, scores, choices).save(plan.folder / picture)
        body += [f"## {name_of(data)}", f"![Found by each method]({picture})"]
        body.append(_table(dataset, scores, choices))
        results.append(_as_json(data, dataset, scores, choices))
    return page.write(plan, _page(body, outcomes, results))


def image_scores(dataset: CocoDataset, found: Sequence[Detections]) -> list[float]:
    """Return the mask AP of each image alone, as a fraction; -1 where it has no object."""
    truth, annotations = dataset.ground_truth, defaultdict[int, list[Any]](list)
    for annotation in truth["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    images = {image["id"]: image for image in truth["images"]}
    scores = []
    for record, of_image in zip(dataset.images, found, strict=True):
        own = {"images": [images[record.id]], "annotations": annotations[record.id]}
        alone = {**truth, **own}
        result = score(alone, of_image.to_coco(record.id), kinds=("segm",))
        scores.append(result["segm"]["AP"])
    return scores


def choose(scores: Scores, seed: int = 0) -> list[Choice]:
    """Choose the images to show, each once; images without objects are left out."""
    gains = np.array(scores[OURS]) - np.array(scores[BASELINE])
    left = [i for i, value in enumerate(scores[BASELINE]) if value >= 0]
    choices: list[Choice] = []
    for sign, rule in ((1, "largest gain"), (-1, "largest loss")):
        if left:
            choices.append(Choice(left.pop(int((sign * gains[left]).argmax())), rule))
    random = np.random.default_rng(seed)
    drawn = random.permutation(left)[:RANDOM].tolist()
    return [*choices, *(Choice(index, "drawn at random") for index in drawn)]


def draw(
    dataset: CocoDataset,
    found: Mapping[str, Sequence[Detections]],
    scores: Scores,
    choices: Sequence[Choice],
) -> Image.Image:
    """Draw the ground truth and what each method found, a row for each image."""
    images, captions = [], []
    for index, rule in ((choice.index, choice.rule) for choice in choices):
        truth = truth_as_detections(dataset, index)
        photo = read_image(truth.path)
        images.append(overlay(photo, truth.rle))
        captions.append(f"{rule}: {len(truth)} objects")
        for name, title in METHODS.items():
            shown = found[name][index]
            shown = shown[shown.scores >= SHOWN]
            images.append(overlay(photo, shown.rle))
            captions.append(f"{title}: {len(shown)}, AP {100 * scores[name][index]:.1f}")
    return grid(images, captions, columns=1 + len(METHODS), width=WIDTH)


def _found(run: Run, dataset: CocoDataset) -> list[Detections]:
    model = load(run.folder / "last", quiet=True)
    return list(detect_dataset(model.fast, dataset))


def _table(dataset: CocoDataset, scores: Scores, choices: Sequence[Choice]) -> str:
    rows = [
        [
            dataset.images[choice.index].file_name,
            choice.rule,
            *(f"{100 * scores[name][choice.index]:.1f}" for name in METHODS),
        ]
        for choice in choices
    ]
    return markdown(["image", "chosen as", *METHODS.values()], rows)


def _as_json(
    data: Path, dataset: CocoDataset, scores: Scores, choices: Sequence[Choice]
) -> dict[str, Any]:
    return {
        "data": name_of(data),
        "images": [record.file_name for record in dataset.images],
        "mask_ap": scores,
        "chosen": [{"image": dataset.images[c.index].file_name, "rule": c.rule} for c in choices],
    }


def _page(body: Sequence[str], outcomes: Sequence[Outcome], results: list[Any]) -> Page:
    return Page(
        title="Figure 6: what the methods find in the same images",
        about="Ground truth on the left, then the methods, each with its number of objects from "
        f"score {SHOWN:g} and its mask AP in this image alone, in per cent, which counts all "
        "scores. A rule chose the images of the val split: the largest gain of SCNet over Cascade "
        "Mask R-CNN in mask AP, the largest loss, and three at random (seed 0). Models of seed 0.",
        body=tuple(body),
        results={"figure": "figure6", "data": results},
        machines=machines(outcomes),
        commands=tuple(o.command for o in outcomes),
        seconds=sum(o.seconds for o in outcomes),
    )
