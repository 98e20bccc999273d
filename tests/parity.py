"""Our detectors beside MMDetection's, quantity by quantity.

    SCNET_REFERENCE=FOLDER python tests/parity.py

prints the table, and that of `parity_detectron2.py`. The folder's `mmdet_tiny` holds, for four
small models with made-up weights, what the reference computed: two test cases and one training
step; a README beside them says what is what. The detectors come from the reference's own
checkpoints by `scnet.convert` and run as they do for a user, but for the choice of samples in
training: the reference made it without chance.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scnet.inference.detections import Detections
from scnet.inference.detections import place as placed
from scnet.model.box_stage import BoxOutput
from scnet.model.cascade import mean_scores
from scnet.model.detector import Detector
from scnet.model.features import RoIFeatures, SceneOutput
from scnet.model.rpn import RPNOutput
from scnet.ops import boxes as box_ops
from scnet.ops.masks import crop, join_crops
from scnet.types import (
    IGNORE,
    Batch,
    Found,
    ImageInfo,
    Losses,
    Proposals,
    RoIs,
    Size,
    Targets,
    View,
)
from scnet.weights.foreign import convert
from scnet.weights.foreign.mmdet.names import our_name

MODELS = ("mask_rcnn", "cascade_mask_rcnn", "htc", "scnet")
CASES = ("test_img0", "test_batch", "train")

VALUES = 1e-4  # of the largest absolute value of a tensor
GRADIENTS = 1e-3  # likewise
PIXELS = 1e-2  # by which a corner of a box may be off
SCORES = 1e-5  # of the same boxes
# From the reference's proposals on. From our own, off by rounding, they would differ by up to
# 3.3e-5 with some kernels; the reference's own of an image, alone and in a batch, by 1.3e-5.
FINAL_SCORES = 3e-5
MASKS = 1e-4  # share of the pixels
TIES = 0.03  # share of the places; see `settle_ties`
# Proposals are exchanged for each other where their scores are this close. Kernels of other
# processors round so that they are off by half of it; neighbours are 1e-3 apart as a rule, but
# one in twelve within 2e-6.
TIED = 1e-5
PROPOSAL_TIES = 0.1  # share of the places; see `settle_proposals`
KINKS = 0.02  # share of the quantities; see `gradient_rows`
VARIANTS = 8
ROUNDING = 2e-7  # of a float32 number

Reference = Mapping[str, Any]  # what the reference computed, by name
Gradients = Mapping[str, Tensor]  # by the reference's names
Naming = Callable[[str], str | None]  # our name of a parameter of the reference


class Pair(NamedTuple):
    """A tensor of ours and the reference's."""

    name: str
    ours: Tensor
    theirs: Tensor


class Row(NamedTuple):
    """How far a quantity is from the reference."""

    quantity: str
    difference: float  # the largest
    where: str  # name of the tensor that has it
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        values = f"{self.difference:.2g} off, {self.tolerance:.2g} allowed"
        return f"{self.quantity} ({self.where}): {values}"


def check(folder: Path, model: str, case: str) -> list[Row]:
    """Return the rows of a model and case."""
    return compare(load(folder, model), read(folder, model, case))


def load(folder: Path, model: str) -> Detector:
    """Return the detector of a checkpoint of the reference."""
    return convert.read(folder / "mmdet_tiny" / model / "state_dict.pt").detector


def read(folder: Path, model: str, case: str) -> Reference:
    """Return what the reference computed."""
    path = folder / "mmdet_tiny" / model / f"{case}.pt"
    tensors: Reference = torch.load(path, weights_only=True)
    return tensors


def compare(detector: Detector, theirs: Reference) -> list[Row]:
    """Return the rows of a case for any detector."""
    return training(detector, theirs) if "losses" in theirs else inference(detector, theirs)


# How tensors are compared


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference over the largest absolute value of the reference."""
    scale = absolute(theirs, torch.zeros_like(theirs))
    return absolute(ours, theirs) / max(scale, 1e-12)


def absolute(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference; infinite for other shapes and numbers that are not finite."""
    if ours.shape != theirs.shape:
        return math.inf
    if not ours.numel():
        return 0.0
    difference = float((ours.double() - theirs.double()).abs().max())
    return difference if math.isfinite(difference) else math.inf


def share(ours: Tensor, theirs: Tensor) -> float:
    """Return the share of entries that differ; infinite for other shapes."""
    if ours.shape != theirs.shape:
        return math.inf
    return float((ours != theirs).double().mean()) if ours.numel() else 0.0


def row(
    quantity: str,
    pairs: Iterable[Pair],
    tolerance: float = VALUES,
    measure: Callable[[Tensor, Tensor], float] = relative,
) -> Row:
    """Return the largest difference among pairs."""
    difference, where = max((measure(pair.ours, pair.theirs), pair.name) for pair in pairs)
    return Row(quantity, difference, where, tolerance)


# Inference


class Stage(NamedTuple):
    """What a box stage reads and says."""

    rois: RoIs
    out: BoxOutput


class Trace(NamedTuple):
    """What a detector computes until it chooses among the boxes."""

    pyramid: list[Tensor]
    rpn: RPNOutput
    proposals: Proposals
    given: Proposals  # the reference's own, as far as ours are the same: what the heads read
    scene: SceneOutput
    features: RoIFeatures
    stages: list[Stage]
    boxes: Tensor  # (R, C, 4) of every class
    scores: Tensor  # (R, C)


@torch.inference_mode()
def inference(detector: Detector, theirs: Reference) -> list[Row]:
    """Compare a test case, from the pyramid to the masks on the image."""
    batch = inference_batch(detector, theirs)
    goals = _each(theirs["proposals"], "bboxes")
    trace, settled = run(detector, batch, goals, SCORES_TIED)
    # Ties are settled, so that every box behind is compared with the one that it came from.
    found = find(detector, trace, batch)
    found, moved = settle_ties(found, trace, theirs["mask.rois"][:, 1:])
    again, _ = detector.head.masks(trace.features, _rois(found), found.labels)
    found = found._replace(masks=torch.where(moved[:, None, None], again, found.masks))
    ours = placed(found, batch, detector.classes, detector.category_ids)
    return [
        *_image_rows(trace, theirs),
        *proposal_rows(trace.proposals, settled, goals),
        *_box_rows(detector, trace, theirs),
        *_mask_rows(detector, trace, found, theirs),
        *_final_rows(detector, ours, theirs),
        Row("places that a tie decided", float(moved.double().mean()), "all", TIES),
    ]


def find(detector: Detector, trace: Trace, batch: Batch) -> Found:
    """Compute what `Detector.detect` does behind the proposals."""
    heads = detector.head.roi_heads
    candidates = heads.find(trace.features, trace.given, batch.sizes)
    rois, scores, labels = detector.choose(candidates, len(batch.info))
    masks, _ = detector.head.masks(trace.features, rois, labels)
    return Found(rois.boxes, scores, labels, rois.image, masks)


def inference_batch(detector: Detector, theirs: Reference) -> Batch:
    """Return the images of a test case, and their sizes."""
    metas = theirs["metas"]
    views = [View.whole(_size(m["ori_shape"]), _size(m["img_shape"])) for m in metas]
    info = [ImageInfo(i, "", view) for i, view in enumerate(views)]
    return Batch.of(_cut(_pixels(detector, theirs["inputs"]), info), info)


def run(
    detector: Detector, batch: Batch, goals: Sequence[Tensor], ties: Ties
) -> tuple[Trace, Tensor]:
    """Compute what `Detector.detect` does on the reference's proposals, and keep it.

    Also return which proposals were exchanged to be the reference's.
    """
    heads = detector.roi_heads
    pyramid = detector.fpn(detector.backbone(detector.normalise(batch.images, batch.sizes)))
    rpn, scene = detector.rpn(pyramid), detector.branches(pyramid)
    proposals = detector.rpn.proposals(rpn, batch.sizes, training=False)
    among = candidates(rpn, batch, ties.measure)
    proposals, moved = settle_proposals(proposals, among, goals, ties.within)
    given = as_given(proposals, goals)
    features = RoIFeatures(scene.scene, heads.config)
    image, column = given.valid.nonzero(as_tuple=True)
    rois = RoIs(given.boxes[image, column], image)
    stages = []
    for stage in heads.stages:
        stages.append(Stage(rois, stage(features(rois, stage.side))))
        rois = stage.refine(stages[-1].out, rois, batch.sizes, None)
    last = stages[-1]
    boxes = heads.stages[-1].boxes(last.out, last.rois, batch.sizes)
    scores = _mean_scores(detector, [stage.out.logits for stage in stages])
    boxes = boxes.expand(-1, scores.shape[1], 4)
    return Trace(pyramid, rpn, proposals, given, scene, features, stages, boxes, scores), moved


class Candidates(NamedTuple):
    """The boxes of all anchors, before NMS."""

    boxes: Tensor  # (B, A, 4)
    scores: Tensor  # (B, A)


class Ties(NamedTuple):
    """When the order of two proposals is decided by rounding."""

    measure: Callable[[Tensor], Tensor]  # of the logits, by which the reference orders
    within: float


SCORES_TIED = Ties(torch.sigmoid, TIED)


def candidates(rpn: RPNOutput, batch: Batch, measure: Callable[[Tensor], Tensor]) -> Candidates:
    """Return what proposals are chosen from."""
    anchors = rpn.anchors.expand_as(rpn.deltas)
    boxes = box_ops.decode(anchors, rpn.deltas, sizes=batch.sizes[:, None])
    return Candidates(boxes, measure(rpn.logits))


def settle_proposals(
    proposals: Proposals,
    among: Candidates,
    goals: Sequence[Tensor | Mapping[int, Tensor]],
    within: float = TIED,
) -> tuple[Proposals, Tensor]:
    """Exchange proposals for the reference's where their scores are tied; say where.

    Dozens of neighbours have scores that are equal but for rounding, so which of them is first, or
    suppresses the other, is decided by the processor. `goals` are the reference's boxes of each
    image, all of them or those that are known by their place.
    """
    boxes, moved = proposals.boxes.clone(), torch.zeros_like(proposals.valid)
    for image, wanted in enumerate(goals):
        known = dict(enumerate(wanted)) if isinstance(wanted, Tensor) else wanted
        pool, scores = among.boxes[image], among.scores[image]
        for place, goal in known.items():
            if place >= boxes.shape[1] or _are_same(boxes[image, place], goal):
                continue
            mine = scores[_are_same(pool, boxes[image, place])]
            theirs = _are_same(pool, goal)
            gaps = (scores[theirs][:, None] - mine).abs()
            if gaps.numel() and gaps.min() <= within:
                boxes[image, place] = pool[theirs][gaps.amin(1).argmin()]
                moved[image, place] = True
    return proposals._replace(boxes=boxes), moved


def as_given(proposals: Proposals, goals: Sequence[Tensor]) -> Proposals:
    """Return the reference's own numbers for proposals that are the same but for rounding.

    So what the heads say is compared on the same boxes, whatever the processor. Proposals that are
    others stay as they are, and so does what follows from them.
    """
    boxes = proposals.boxes.clone()
    for own, goal in zip(boxes, goals, strict=True):
        number = min(len(own), len(goal))
        same = (own[:number] - goal[:number]).abs().amax(-1, keepdim=True) <= PIXELS
        own[:number] = torch.where(same, goal[:number], own[:number])
    return proposals._replace(boxes=boxes)


def _are_same(boxes: Tensor, box: Tensor) -> Tensor:
    return (boxes - box).abs().amax(-1) <= PIXELS


def settle_ties(found: Found, trace: Trace, goals: Tensor) -> tuple[Found, Tensor]:
    """Exchange a box for the reference's where that has the same class and score; say where.

    Which of two equal scores is first, and so suppresses the other, is chance in the reference,
    which does not sort stably. Scores are equal to the last bit where two RoIs read the same
    features, beyond the border of the image. They are equal but for rounding in HTC's first image:
    alone and in a batch, the reference itself puts two of its boxes in another order.
    """
    moved = torch.zeros(len(found.boxes), dtype=torch.bool)
    if found.boxes.shape != goals.shape:
        return found, moved
    boxes, image = found.boxes.clone(), trace.stages[0].rois.image
    for i in ((boxes - goals).abs().amax(1) > PIXELS).nonzero().squeeze(1).tolist():
        label = found.labels[i]
        tied = (trace.scores[:, label] - found.scores[i]).abs() <= FINAL_SCORES
        others = trace.boxes[tied & (image == found.image[i]), label]
        same = (others - goals[i]).abs().amax(1) <= PIXELS
        if same.any():
            boxes[i], moved[i] = others[same][0], True
    return found._replace(boxes=boxes), moved


def _image_rows(trace: Trace, theirs: Reference) -> list[Row]:
    counts, scene = list(trace.rpn.counts), trace.scene
    # The reference has channels first: three anchors at a place, four deltas for each.
    logits = [x.permute(0, 2, 3, 1).flatten(1) for x in theirs["rpn_raw"][0]]
    deltas = [x.permute(0, 2, 3, 1).reshape(len(x), -1, 4) for x in theirs["rpn_raw"][1]]
    rows = [
        row("pyramid", _numbered("P", trace.pyramid, theirs["fpn"], 2)),
        row("RPN logits", _numbered("P", trace.rpn.logits.split(counts, 1), logits, 2)),
        row("RPN deltas", _numbered("P", trace.rpn.deltas.split(counts, 1), deltas, 2)),
    ]
    if "semantic" in theirs:
        logits, embedding = theirs["semantic"]
        rows.append(row("semantic logits", [Pair("all", scene.semantic_logits, logits)]))
        rows.append(row("semantic embedding", [Pair("all", scene.scene.semantic, embedding)]))
    if "glbctx" in theirs:
        logits, pooled = theirs["glbctx"]
        rows.append(row("context logits", [Pair("all", scene.context_logits, logits)]))
        rows.append(row("context feature", [Pair("all", scene.scene.context, pooled.flatten(1))]))
    return rows


def proposal_rows(proposals: Proposals, moved: Tensor, goals: Sequence[Tensor]) -> Iterable[Row]:
    boxes = [boxes[valid] for boxes, valid in zip(proposals.boxes, proposals.valid, strict=True)]
    share = float(moved.sum() / proposals.valid.sum())
    yield row("proposals", _numbered("image ", boxes, goals))
    yield Row("proposals that a tie moved", share, "all", PROPOSAL_TIES)


def _box_rows(detector: Detector, trace: Trace, theirs: Reference) -> list[Row]:
    number = len(trace.stages)  # with a relay, a further call is made on the final boxes
    rois, outs = _calls(theirs, "bbox.rois")[:number], _calls(theirs, "bbox.out")[:number]
    deltas = [x.unflatten(1, (-1, 4)) for x in _each(outs, "bbox_pred")]
    ours = [stage.out for stage in trace.stages]
    same = [
        stage(trace.features(RoIs(x[:, 1:], x[:, 0].long()), stage.side)).logits
        for stage, x in zip(detector.roi_heads.stages, rois, strict=True)
    ]
    return [
        row("box RoIs", _numbered("stage ", [_indexed(s.rois) for s in trace.stages], rois)),
        row("box logits", _numbered("stage ", [x.logits for x in ours], _each(outs, "cls_score"))),
        row("box deltas", _numbered("stage ", [x.deltas for x in ours], deltas)),
        row(
            "scores of its RoIs",
            [Pair("all", *(_mean_scores(detector, x) for x in (same, _each(outs, "cls_score"))))],
            SCORES,
            absolute,
        ),
    ]


def _mask_rows(detector: Detector, trace: Trace, found: Found, theirs: Reference) -> list[Row]:
    """Compare relay and mask heads, as far as the reference ran them, on the final boxes."""
    masks, stages, rois = detector.roi_heads.masks, detector.roi_heads.stages, _rois(found)
    rows = [row("mask RoIs", [Pair("all", _indexed(rois), theirs["mask.rois"])])]
    hidden = None
    if masks.relays is not None:
        hidden = stages[-1].hidden(trace.features(rois, stages[-1].side))
        ours = [*(stage.out.hidden for stage in trace.stages), hidden]
        relayed = _each(_calls(theirs, "bbox.out"), "relayed_feat")
        rows.append(row("box features", _numbered("call ", ours, relayed)))
        rows.append(row("relay", [Pair("all", masks.relays[0](hidden), theirs["relay"])]))
    pooled, pairs = trace.features(rois, masks.side), []
    heads = _calls(theirs, "mask.stage") or [0]
    for head, logits in zip(heads, _each(_calls(theirs, "mask.out"), "mask_preds"), strict=True):
        branch = head % len(masks.heads)  # HTC's says -1, and gives a list of that head alone
        (logits,) = logits if isinstance(logits, list) else (logits,)
        pairs.append(Pair(f"head {branch + 1}", masks(branch, pooled, hidden, None), logits))
    return [*rows, row("mask logits", pairs)]


def _final_rows(detector: Detector, ours: Sequence[Detections], theirs: Reference) -> list[Row]:
    final = theirs["final"]
    boxes = _numbered("image ", [x.boxes for x in ours], _each(final, "bboxes"))
    scores = _numbered("image ", [x.scores for x in ours], _each(final, "scores"))
    labels = _numbered("image ", [x.labels for x in ours], _each(final, "labels"))
    rows = [
        row("final boxes, pixels", boxes, PIXELS, absolute),
        row("final scores", scores, FINAL_SCORES, absolute),
        row("final labels, share", labels, 0.0, share),
    ]
    # MMDetection 3.x predicts with the last of HTC's mask heads, the paper and we with all three.
    if detector.config.recipe != "htc":
        masks = _numbered("image ", [x.masks() for x in ours], [_unpack(x) for x in final])
        rows.append(row("final masks, share", masks, MASKS, share))
    return rows


# Training


class EvenChoice:
    """Chooses of n candidates those at floor(i * n / number), i = 0, 1, ..., as the reference."""

    def __init__(self) -> None:
        self.counts: list[list[int]] = []  # chosen of each image, call by call

    def __call__(self, candidates: Tensor, number: Tensor, most: int) -> Tensor:
        chosen = torch.zeros_like(candidates)
        for out, here, wanted in zip(chosen, candidates, number.tolist(), strict=True):
            index = here.nonzero().squeeze(1)
            count = min(wanted, len(index))
            out[index[torch.arange(count) * len(index) // max(1, count)]] = True
        self.counts.append(chosen.sum(1).tolist())
        return chosen


def training(detector: Detector, theirs: Reference) -> list[Row]:
    """Compare a training step: samples, losses and gradients."""
    choose, mode = EvenChoice(), detector.training
    detector.train()
    losses, moved, gradients = training_step(detector, theirs, choose)
    rows = [
        _sample_row(choose, theirs),
        *_loss_rows(losses, theirs),
        *gradient_rows(
            detector,
            gradients,
            theirs,
            our_name,
            lambda variant: training_step(variant, theirs, EvenChoice())[2],
        ),
        Row("proposals that a tie moved", float(moved.double().mean()), "all", PROPOSAL_TIES),
    ]
    detector.train(mode)
    return rows


def training_step(
    detector: Detector, theirs: Reference, choose: EvenChoice
) -> tuple[Losses, Tensor, Gradients]:
    """Return losses, which proposals a tie moved, and gradients by the reference's names."""
    losses, moved = training_losses(detector, theirs, choose)
    return losses, moved, gradients_of(detector, losses, theirs, our_name)


def gradients_of(
    detector: Detector, losses: Losses, theirs: Reference, our_name: Naming
) -> Gradients:
    """Return the gradients of the sum of losses by the reference's names."""
    detector.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    parameters = dict(detector.named_parameters())
    ours = {name: parameters[our_name(name) or ""] for name in theirs["grad_norm_param"]}
    gradients = {n: torch.zeros_like(x) if x.grad is None else x.grad for n, x in ours.items()}
    detector.zero_grad()
    return gradients


def training_losses(
    detector: Detector, theirs: Reference, choose: EvenChoice
) -> tuple[Losses, Tensor]:
    """Compute what `Detector.loss` does on the reference's proposals, as far as those are known.

    Also return which proposals were exchanged to be the reference's.
    """
    batch = training_batch(detector, theirs)
    assert batch.targets is not None
    head = detector.head
    rpn, scene = detector.dense(batch.images, batch.sizes)
    sizes = batch.sizes
    if head.rpn.config.border:
        # The reference was told that each image is padded to the size of the batch, and so took
        # anchors in that padding as well; in its own pipeline every image has a padding of its own.
        sizes = torch.tensor(batch.images.shape[2:]).expand_as(sizes)
    losses = head.rpn.loss(rpn, sizes, batch.targets, choose)
    losses |= head.branches.loss(scene, batch.semantic, batch.targets)
    proposals = head.rpn.proposals(rpn, batch.sizes, training=True)
    with torch.no_grad():
        among = candidates(rpn, batch, SCORES_TIED.measure)
        proposals, moved = settle_proposals(proposals, among, _known_proposals(batch, theirs))
    features = RoIFeatures(scene.scene, head.roi_heads.config)
    losses |= head.roi_heads.loss(features, proposals, batch.sizes, batch.targets, choose)
    return losses, moved


def _known_proposals(batch: Batch, theirs: Reference) -> list[dict[int, Tensor]]:
    """Return the proposals that the reference took for its first box stage, by their place."""
    images = len(batch.info)
    known = []
    for image, pick in enumerate(theirs["picks"][images : 2 * images]):  # the RPN's come first
        place = torch.cat([pick["pos_inds"], pick["neg_inds"]]) - batch.targets.counts[image]
        rows = zip(place.tolist(), pick["priors"], strict=True)
        known.append({i: box for i, box in rows if i >= 0})  # ground truth comes first
    return known


def training_batch(detector: Detector, theirs: Reference) -> Batch:
    """Return the images of the training step with their objects and semantic maps."""
    images, objects = _pixels(detector, theirs["inputs"]), theirs["gts"]
    sizes = [_size(x["sem"].shape) for x in objects]
    semantic = torch.full((len(images), *images.shape[2:]), IGNORE)
    for out, x, (height, width) in zip(semantic, objects, sizes, strict=True):
        out[:height, :width] = x["sem"].masked_fill(x["sem"] == 255, IGNORE)
    masks = join_crops([crop(mask) for masks in _each(objects, "masks") for mask in masks])
    targets = Targets.of(_each(objects, "bboxes"), _each(objects, "labels"), masks)
    info = [ImageInfo(i, "", View.whole(size)) for i, size in enumerate(sizes)]
    batch = Batch.of(_cut(images, info), info)
    return replace(batch, targets=targets, semantic=semantic)


def _sample_row(choose: EvenChoice, theirs: Reference) -> Row:
    """Compare how many positives and negatives were taken, sampling by sampling."""
    calls = torch.tensor(choose.counts)  # positives and negatives in turn
    ours = torch.stack([calls[::2].flatten(), calls[1::2].flatten()], dim=1)
    picks = [(len(x["pos_inds"]), len(x["neg_inds"])) for x in theirs["picks"]]
    return row("samples, number", [Pair("all", ours, torch.tensor(picks))], 0.0, absolute)


_LOSSES = {
    "loss_rpn_cls": "rpn.cls",
    "loss_rpn_bbox": "rpn.box",
    "loss_semantic_seg": "semantic",
    "loss_glbctx": "context",
    "loss_cls": "stage1.cls",
    "loss_bbox": "stage1.box",
    "loss_mask": "mask",
} | {
    f"s{i}.loss_{theirs}": ours
    for i in range(3)
    for theirs, ours in (
        ("cls", f"stage{i + 1}.cls"),
        ("bbox", f"stage{i + 1}.box"),
        ("mask", f"mask{i + 1}"),
    )
}


def _loss_rows(losses: Losses, theirs: Reference) -> list[Row]:
    ours = {name: loss.detach() for name, loss in losses.items()}
    pairs = [
        Pair(_LOSSES[name], ours[_LOSSES[name]], torch.as_tensor(values).sum())  # RPN: by level
        for name, values in theirs["losses"].items()
        if not name.endswith("acc")
    ]
    rows = []
    for kind in ("rpn", "semantic", "context", "stage", "mask"):
        chosen = [pair for pair in pairs if pair.name.startswith(kind)]
        if chosen:
            rows.append(row(f"{kind} loss", chosen))
    total = torch.stack(list(ours.values())).sum()
    return [*rows, row("sum of losses", [Pair("all", total, torch.tensor(theirs["total"]))])]


def gradient_rows(
    detector: Detector,
    gradients: Gradients,
    theirs: Reference,
    our_name: Naming,
    step: Callable[[Detector], Gradients],
    kinks_allowed: float = KINKS,
) -> Iterable[Row]:
    """Compare gradients; those of a parameter with a kink by the nearest of some variants.

    A gradient jumps where the input of a ReLU is zero but for rounding, and which side of it the
    reference computed was decided by its processor. So what is off is compared once more with the
    gradients of weights that differ in their last digit.
    """
    norms, parameters = theirs["grad_norm_param"], dict(detector.named_parameters())
    frozen = [
        Pair(
            name,
            torch.tensor(not parameters[our_name(name) or ""].requires_grad),
            torch.tensor(norm == "frozen"),
        )
        for name, norm in norms.items()
    ]
    yield row("frozen parameters, share", frozen, 0.0, share)
    compared, kinks = _gradient_pairs(gradients, theirs), set()
    for variant in _variants(detector) if _off(compared) else ():
        again = _gradient_pairs(step(variant), theirs)
        for place in _off(compared):
            if relative(again[place].ours, again[place].theirs) <= GRADIENTS:
                compared[place] = again[place]
                kinks.add(place)
        if not _off(compared):
            break
    for quantity in ("gradient norm of a part", "gradient norm", "gradient"):
        pairs = [pair for (of, _), pair in compared.items() if of == quantity]
        yield row(quantity, pairs, GRADIENTS)
    yield Row("gradients that a kink moved", len(kinks) / len(compared), "all", kinks_allowed)


def _gradient_pairs(gradients: Gradients, theirs: Reference) -> dict[tuple[str, str], Pair]:
    """Return what is compared of gradients, by quantity and name."""
    pairs = {("gradient", n): Pair(n, gradients[n], x) for n, x in theirs["grads_small"].items()}
    for name, norm in theirs["grad_norm_param"].items():
        if norm != "frozen":
            goal = torch.tensor(norm)
            pairs["gradient norm", name] = Pair(name, gradients[name].norm(), goal)
    for part, norm in theirs["grad_norm_group"].items():
        # detectron2's pyramid is backbone.fpn_lateral2 and so on
        start = "" if part == "TOTAL" else (f"{part}.", f"{part}_")
        of_part = [x.flatten() for name, x in gradients.items() if name.startswith(start)]
        pair = Pair(part, torch.cat(of_part).norm(), torch.tensor(norm))
        pairs["gradient norm of a part", part] = pair
    return pairs


def _off(pairs: Mapping[tuple[str, str], Pair]) -> list[tuple[str, str]]:
    return [place for place, x in pairs.items() if not relative(x.ours, x.theirs) <= GRADIENTS]


def _variants(detector: Detector) -> Iterable[Detector]:
    """Yield copies of a detector whose weights differ in the last digit of a float."""
    for seed in range(VARIANTS):
        variant, random = copy.deepcopy(detector), torch.Generator().manual_seed(seed)
        for x in variant.parameters():
            x.data *= 1 + ROUNDING * (2 * torch.rand(x.shape, generator=random) - 1)
        yield variant


# What the reference stored, and ours in the same form


def _calls(theirs: Reference, name: str) -> list[Any]:
    """Return what was stored of every call, as `name`, `name#2`, `name#3` ..."""
    return [value for key, value in theirs.items() if key.split("#")[0] == name]


def _each(records: Sequence[Reference], name: str) -> list[Any]:
    return [record[name] for record in records]


def _numbered(
    name: str, ours: Sequence[Tensor], theirs: Sequence[Tensor], start: int = 1
) -> list[Pair]:
    pairs = enumerate(zip(ours, theirs, strict=True), start)
    return [Pair(f"{name}{i}", *pair) for i, pair in pairs]


def _pixels(detector: Detector, inputs: Tensor) -> Tensor:
    """Undo the normalisation of images."""
    mean = torch.tensor(detector.backbone.mean).view(3, 1, 1)
    std = torch.tensor(detector.backbone.std).view(3, 1, 1)
    return (inputs * std + mean) * 255


def _cut(images: Tensor, info: Sequence[ImageInfo]) -> list[Tensor]:
    """Return images without their padding."""
    sizes = (x.view.size for x in info)
    return [image[:, :h, :w] for image, (h, w) in zip(images, sizes, strict=True)]


def _mean_scores(detector: Detector, logits: Sequence[Tensor]) -> Tensor:
    """Return the class scores of RoIs from the logits of all stages."""
    return mean_scores(torch.stack(list(logits)), detector.config.model.box.average)


def _size(shape: Sequence[int]) -> Size:
    return int(shape[0]), int(shape[1])


def _rois(found: Found) -> RoIs:
    return RoIs(found.boxes, found.image)


def _indexed(rois: RoIs) -> Tensor:
    return torch.cat([rois.image[:, None].to(rois.boxes.dtype), rois.boxes], dim=1)


def _unpack(final: Reference) -> Tensor:
    """Return the masks of an image as pixels."""
    count, height, width = final["masks_shape"]
    bits = np.unpackbits(final["masks_packed"].numpy(), axis=1, count=height * width)
    return torch.from_numpy(bits.reshape(count, height, width)).bool()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.parity_table import main

    sys.exit(main())
