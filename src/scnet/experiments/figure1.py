"""Figure 1: IoU of the samples that reach the mask branch, in training and at inference.

The claim of the paper in one number is the distance of the two distributions. Training samples are
the positives of the box stages that feed a mask branch, each with the object that it stands for;
at inference they are the final boxes above the model's score threshold, each with the object that
it overlaps most. After a short training most of these are bad. The confident ones among them stand
for those that a better model finds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scnet.config import Config, DataConfig, replace_at
from scnet.data.coco import load_dataset
from scnet.data.loader import train_loader
from scnet.evaluation.run import detect_dataset, truth_as_detections
from scnet.experiments import page, plots
from scnet.experiments.page import Page, markdown, with_spread
from scnet.experiments.plan import Plan, Run, name_of
from scnet.experiments.runs import Outcome, finish
from scnet.experiments.statistics import earth_movers, paired, share_below, spread
from scnet.experiments.tabulate import machines
from scnet.inference.model import Model, load
from scnet.model.detector import Detector
from scnet.model.features import RoIFeatures
from scnet.model.sampling import RandomChoice
from scnet.ops import boxes as box_ops
from scnet.training.run import load_train_set
from scnet.types import Batch, RoIs

Array = np.ndarray
Say = Callable[[str], None]

MODELS = {"table2_none": "without sample consistency", "table2_consistency": "with"}
IMAGES = 1000  # most of each split: enough for shares to 0.1 per cent
CONFIDENT = 0.5  # score from which `predict` shows a detection
LOWEST = 0.5  # IoU of the worst training sample; the paper's figure begins there
LIMITS = (0.5, *plots.LIMITS)

# At IoU 0.75, in per cent: training without and with sample consistency, inference (sec. 1).
PUBLISHED = (49.1, 34.2, 38.5)


@dataclass(frozen=True)
class Collected:
    """Samples that reached the mask branch of one trained model."""

    training: Float[Array, "n"]  # IoU with the object that each stands for
    moved: Float[Array, "n"]  # likewise, after the stage that the sample entered has moved it
    is_gt: Bool[Array, "n"]  # the sample is itself a ground-truth box, which joins the proposals
    inference: Float[Array, "m"]  # largest IoU with an object of the image
    scores: Float[Array, "m"]  # of the samples at inference

    @property
    def comparable(self) -> Float[Array, "k"]:
        """Samples at inference with an IoU that training samples have."""
        return self.inference[self.inference >= LOWEST]

    @property
    def confident(self) -> Float[Array, "k"]:
        """Those of them that score high."""
        return self.inference[(self.inference >= LOWEST) & (self.scores >= CONFIDENT)]


def run(plan: Plan, say: Say) -> Path:
    """Carry out the figure and return its page."""
    body: list[str] = []
    outcomes: list[Outcome] = []
    results: list[Any] = []
    plan.folder.mkdir(parents=True, exist_ok=True)
    for data in plan.data:
        runs = plan.runs(list(MODELS), data)
        outcomes += finish(runs, say=say, quiet=plan.quiet)
        collected: dict[str, dict[int, Collected]] = {name: {} for name in MODELS}
        for one in runs:
            say(f"samples of {one.folder}")
            collected[one.recipe.removesuffix(plan.size.suffix)][one.seed] = collect(one)
        body += _section(plan, data, collected)
        measures = {
            name: {str(seed): measure(c) for seed, c in of_model.items()}
            for name, of_model in collected.items()
        }
        results.append({"data": name_of(data), "models": measures})
    return page.write(plan, _page(body, outcomes, results))


def collect(run: Run) -> Collected:
    """Return the samples of a finished run."""
    model = load(run.folder / "last", quiet=True)
    # The data set may have moved since the training.
    config = replace_at(model.config, "data.path", str(run.data))
    training = training_samples(model.detector, config)
    return Collected(*training, *inference_samples(model, config.data))


def training_samples(
    detector: Detector, config: Config
) -> tuple[Float[Array, "n"], Float[Array, "n"], Bool[Array, "n"]]:
    """Return the samples that the mask branch sees in training, as `Collected` holds them.

    Images are seen as in the first epoch, mirrored and scaled at random.
    """
    dataset = load_train_set(config)
    loader, _ = train_loader(dataset, config.optim, config.data)
    size = config.optim.batch_size
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.no_grad():
        for number, batch in enumerate(itertools.islice(loader, -(-IMAGES // size))):
            seeds = torch.arange(number * size, number * size + len(batch.info))
            kept += mask_samples(detector, batch.to(detector.device), RandomChoice(seeds))
    ious, moved, is_gt = (torch.cat(parts).cpu().numpy() for parts in zip(*kept, strict=True))
    return ious, moved, is_gt


def mask_samples(
    detector: Detector, batch: Batch, choose: RandomChoice
) -> Iterator[tuple[Float[Tensor, "n"], Float[Tensor, "n"], Bool[Tensor, "n"]]]:
    """Yield what reaches the mask branches in a training step, for each box stage that feeds one.

    That is the IoU of each sample with its object, the IoU after the stage's own regression, and
    whether the sample is the object's own box.
    """
    targets, head = batch.targets, detector.head
    assert targets is not None
    rpn, scene = detector.dense(batch.images, batch.sizes)
    head.rpn.loss(rpn, batch.sizes, targets, choose)  # draws as a training step does
    proposals = head.rpn.proposals(rpn, batch.sizes, training=True)
    features = RoIFeatures(scene.scene, detector.config.model)
    for step in head.roi_heads.steps(features, proposals, batch.sizes, targets, choose):
        if step.for_masks is not None:
            samples, stage = step.for_masks, head.roi_heads.stages[step.stage]
            positive = samples.gt >= 0
            rois = RoIs(samples.rois.boxes[positive], samples.rois.image[positive])
            out = stage(features(rois, stage.side))
            moved = stage.refine(out, rois, batch.sizes, samples.labels[positive])
            goals = targets.boxes.flatten(0, 1)[samples.gt[positive]]
            ious, after = (box_ops.iou(x.boxes[:, None], goals[:, None]) for x in (rois, moved))
            yield ious[:, 0, 0], after[:, 0, 0], samples.is_gt[positive]


def inference_samples(
    model: Model, data: DataConfig
) -> tuple[Float[Array, "m"], Float[Array, "m"]]:
    """Return of every detection in the val split its largest IoU with an object, and its score."""
    dataset = load_dataset(data.path, "val", data, train=False, classes=model.classes)
    chosen = range(min(len(dataset), IMAGES))
    ious, scores = [], []
    for index, found in zip(
        chosen, detect_dataset(model.fast, dataset, images=chosen), strict=True
    ):
        truth = truth_as_detections(dataset, index).boxes
        nothing = torch.zeros(len(found), 1)  # where the image has no object
        ious.append(torch.cat([box_ops.iou(found.boxes, truth), nothing], 1).amax(1))
        scores.append(found.scores)
    return torch.cat(ious).numpy(), torch.cat(scores).numpy()


def measure(collected: Collected) -> dict[str, Any]:
    """Return all figures of one model."""
    training, own = collected.training, collected.training[~collected.is_gt]
    moved = collected.moved[~collected.is_gt]
    groups = {
        "training": training,
        "training without ground-truth boxes": own,
        "training without them, moved by the stage": moved,
        "inference from 0.5": collected.comparable,
        "inference from 0.5, confident": collected.confident,
        "inference": collected.inference,
    }
    return {
        "distance": earth_movers(training, collected.comparable),
        "distance without ground-truth boxes": earth_movers(own, collected.comparable),
        "distance, moved": earth_movers(moved[moved >= LOWEST], collected.comparable),
        "distance, confident": earth_movers(training, collected.confident),
        "distance without ground-truth boxes, confident": earth_movers(own, collected.confident),
        "distance, all detections": earth_movers(training, collected.inference),
        "samples": {name: len(values) for name, values in groups.items()},
        "below": {
            name: {str(limit): share_below(values, limit) for limit in LIMITS}
            for name, values in groups.items()
        },
    }


DISTANCES = {
    "distance": "IoU from 0.5",
    "distance without ground-truth boxes": "IoU from 0.5, without the ground-truth boxes that "
    "join the proposals in training",
    "distance, moved": "the same, after the stage that the sample entered has moved it, which is "
    "what a stage puts out",
    "distance, confident": f"IoU from 0.5, detections that score {CONFIDENT:g} or more",
    "distance without ground-truth boxes, confident": "the same, without the ground-truth boxes",
    "distance, all detections": "all detections",
}


def _section(plan: Plan, data: Path, collected: Mapping[str, Mapping[int, Collected]]) -> list[str]:
    picture = f"figure1_{name_of(data)}.png"
    panels = {}
    for (name, of_model), letter in zip(collected.items(), "ab", strict=True):
        title = f"({letter}) Training {MODELS[name]}" + " sample consistency" * (letter == "b")
        training = np.concatenate([c.training for c in of_model.values()])
        panels[title] = training, np.concatenate([c.inference for c in of_model.values()])
    plots.iou_histograms(panels, plan.folder / picture)
    figures = {
        name: {seed: measure(c) for seed, c in of_model.items()}
        for name, of_model in collected.items()
    }
    return [
        f"## {name_of(data)}",
        f"![IoU of the samples that reach the mask branch]({picture})",
        "Distance of the distributions in training and at inference, in IoU x 1000 (earth "
        "mover's distance; 0 where they are the same):",
        _distances(figures),
        "Samples with an IoU below a limit, in per cent of the samples:",
        _shares(figures),
    ]


Figures = Mapping[str, Mapping[int, Mapping[str, Any]]]  # by model and seed, as `measure` gives


def _distances(figures: Figures) -> str:
    rows = []
    for key, text in DISTANCES.items():
        by_model = [
            {seed: _thousand(f[key]) for seed, f in of_model.items()}
            for of_model in figures.values()
        ]
        change = paired(by_model[1], by_model[0])
        decided = "" if change is None else "yes" if change.decided else "not decided"
        spreads = [with_spread(spread(values.values())) for values in by_model]
        rows.append([text, *spreads, with_spread(change, 1, "+"), decided])
    header = ["samples", "without sample consistency", "with", "difference", "exceeds its spread"]
    return markdown(header, rows)


def _shares(figures: Figures) -> str:
    rows = []
    for name, of_model in figures.items():
        for group in next(iter(of_model.values()))["below"]:
            cells = [
                with_spread(
                    spread(_percent(f["below"][group][str(limit)]) for f in of_model.values())
                )
                for limit in LIMITS
            ]
            count = sum(f["samples"][group] for f in of_model.values())
            rows.append([f"{MODELS[name]}: {group}", *cells, f"{count:,}"])
    return markdown(["", *(f"below {limit:g}" for limit in LIMITS), "samples"], rows)


def _page(body: Sequence[str], outcomes: Sequence[Outcome], results: list[Any]) -> Page:
    without, with_consistency, inference = PUBLISHED
    published = (
        "## Published\n\nOn COCO, ResNet-50, one training: below IoU 0.75 are "
        f"{without} % of the training samples without sample consistency, {with_consistency} % "
        f"with it, and {inference} % of the samples at inference."
    )
    return Page(
        title="Figure 1: samples of the mask branch in training and at inference",
        about="The baseline is Cascade Mask R-CNN with the semantic branch, whose three mask "
        "branches learn from the positives of all three box stages; with sample consistency one "
        "mask branch learns from those of the last stage. Training samples come from the train "
        "split, those at inference from the val split: all detections above the model's score "
        "threshold. Training samples have an IoU from 0.5, so detections below are left out of "
        "all distances but the last, and of the picture.",
        body=(*body, published),
        results={"figure": "figure1", "data": results},
        machines=machines(outcomes),
        commands=tuple(o.command for o in outcomes),
        seconds=sum(o.seconds for o in outcomes),
    )


def _thousand(value: float | None) -> float | None:
    return None if value is None else 1000 * value


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
