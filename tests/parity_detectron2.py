"""Our detectors beside detectron2's, quantity by quantity; `tests/parity.py` prints the table.

The reference's `detectron2` holds what its own code computed for Mask R-CNN and Cascade Mask R-CNN
in two styles, from made-up weights: `caffe` (BGR, plain pixels, stride in the 1x1 convolutions) and
`rgb` (torchvision's normalisation, stride in the 3x3 ones). The detectors come from its own
checkpoints and configs by `scnet.convert`.

Of the training step are compared all losses and gradients of the boxes that detectron2 sampled,
and what we sample ourselves of its proposals. Three things differ on purpose, as they are no part
of the architectures, and so are taken from the reference here: which anchors an object takes that
no anchor overlaps well, what later stages of the cascade learn from (there all boxes of the stage
before), and the third of the gradient that passes from each stage of the cascade to the features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tests import parity
from tests.parity import Pair, Reference, Row, absolute, row, share
from torch import Tensor

from scnet.config import replace_at
from scnet.inference.detections import Detections, place
from scnet.model.cascade import mean_scores
from scnet.model.detector import Detector
from scnet.model.features import RoIFeatures
from scnet.model.sampling import match, overlaps
from scnet.ops.masks import crop, join_crops
from scnet.types import (
    Batch,
    Found,
    ImageInfo,
    Losses,
    Proposals,
    RoIs,
    Samples,
    Targets,
    View,
)
from scnet.weights.foreign import convert
from scnet.weights.foreign.detectron2.names import our_name

MODELS = ("mask_rcnn_caffe", "mask_rcnn_rgb", "cascade_mask_rcnn_caffe", "cascade_mask_rcnn_rgb")
CASES = ("test_img1", "test_batch", "train")

# Settings in which a case differs from the config, and ours.
SETTINGS = {
    "POST_NMS_TOPK_TEST": "model.rpn.after_nms",
    "SCORE_THRESH_TEST": "model.box.score_threshold",
    "NMS_THRESH_TEST": "model.box.nms_iou",
    "DETECTIONS_PER_IMAGE": "model.box.max_detections",
}

# Of logits, which are off by 1e-5 and in general 8e-3 apart.
LOGITS_TIED = parity.Ties(torch.Tensor.float, 1e-4)
SCORES = 2e-5  # of the same boxes
# A single ReLU late in the backbone moves the gradients of all convolutions before it.
KINKS = 0.1


def check(folder: Path, model: str, case: str) -> list[Row]:
    """Return the rows of a model and case."""
    theirs = read(folder, model, case)
    return compare(load(folder, model, theirs["settings"]), theirs)


def read(folder: Path, model: str, case: str) -> Reference:
    """Return what the reference computed; the images of the training step lie elsewhere."""
    place = folder / "detectron2" / model
    theirs: Reference = torch.load(place / f"{case}.pt", weights_only=True)
    if case != "train":
        return theirs
    batch = torch.load(place / "test_batch.pt", weights_only=True)
    return {**{name: batch[name] for name in ("resized", "metas", "settings")}, **theirs}


def load(folder: Path, model: str, settings: Reference) -> Detector:
    """Return the detector of a checkpoint of the reference, with the settings of a case."""
    place = folder / "detectron2" / model
    detector = convert.read(place / "state_dict.pt", config=place / "config.yaml").detector
    config = detector.config
    for theirs, ours in SETTINGS.items():
        if theirs in settings:
            config = replace_at(config, ours, settings[theirs])
    again = Detector(config)
    again.load_state_dict(detector.state_dict())
    return again.eval()


def compare(detector: Detector, theirs: Reference) -> list[Row]:
    """Return the rows of a case for any detector."""
    return training(detector, theirs) if "losses" in theirs else inference(detector, theirs)


def batch_of(theirs: Reference) -> Batch:
    """Return the images of a case in RGB, and their sizes."""
    flip = [0] if theirs["settings"]["format"] == "BGR" else []
    metas = theirs["metas"]
    views = [View.whole(tuple(m["ori_shape"]), tuple(m["img_shape"])) for m in metas]
    info = [ImageInfo(i, "", view) for i, view in enumerate(views)]
    return Batch.of([x.flip(flip) for x in theirs["resized"]], info)


# Inference


@torch.inference_mode()
def inference(detector: Detector, theirs: Reference) -> list[Row]:
    """Compare a test case, from the normalised images to the masks on the originals."""
    batch = batch_of(theirs)
    goals = _each(theirs["proposals"], "boxes")
    trace, settled = parity.run(detector, batch, goals, LOGITS_TIED)
    found = parity.find(detector, trace, batch)
    found, moved = parity.settle_ties(found, trace, theirs["mask"]["rois"][:, 1:])
    again, _ = detector.head.masks(trace.features, _rois(found), found.labels)
    found = found._replace(masks=torch.where(moved[:, None, None], again, found.masks))
    placed = place(found, batch, detector.classes, detector.category_ids)
    return [
        *_image_rows(detector, batch, trace, theirs),
        *parity.proposal_rows(trace.proposals, settled, goals),
        *_box_rows(detector, trace, theirs),
        *_raw_rows(found, theirs),
        *_mask_rows(detector, trace, theirs),
        *_final_rows(placed, theirs),
        Row("places that a tie decided", float(moved.double().mean()), "all", parity.TIES),
    ]


def _image_rows(
    detector: Detector, batch: Batch, trace: parity.Trace, theirs: Reference
) -> Iterator[Row]:
    """Compare images, pyramid and RPN; of one case only the coarse levels were kept."""
    if "inputs" in theirs:
        normal = detector.normalise(batch.images, batch.sizes)
        flip = [1] if theirs["settings"]["format"] == "BGR" else []
        yield row("images", [Pair("all", normal.flip(flip), theirs["inputs"])])
    counts = list(trace.rpn.counts)
    logits = [x.permute(0, 2, 3, 1).flatten(1) for x in theirs["rpn_raw"][0]]
    deltas = [x.permute(0, 2, 3, 1).reshape(len(x), -1, 4) for x in theirs["rpn_raw"][1]]
    yield row("pyramid", _coarse("P", trace.pyramid, theirs["fpn"]))
    yield row("RPN logits", _coarse("P", trace.rpn.logits.split(counts, 1), logits))
    yield row("RPN deltas", _coarse("P", trace.rpn.deltas.split(counts, 1), deltas))
    if "anchors" in theirs:
        yield row("anchors", _coarse("P", trace.rpn.anchors.split(counts), theirs["anchors"]))


def _box_rows(detector: Detector, trace: parity.Trace, theirs: Reference) -> Iterator[Row]:
    stages, theirs_of = trace.stages, theirs["box"]
    deltas = [x["bbox_pred"].unflatten(1, (-1, 4)) for x in theirs_of]
    logits = _each(theirs_of, "cls_score")
    first = [_indexed_rois(x["rois"][:32]) for x in theirs_of]
    heads = detector.roi_heads.stages
    pooled = [trace.features(x, h.side) for x, h in zip(first, heads, strict=True)]
    hidden = [h.hidden(x) for x, h in zip(pooled, heads, strict=True)]
    yield row("box RoIs", _stages([_indexed(s.rois) for s in stages], _each(theirs_of, "rois")))
    yield row("pooled features", _stages(pooled, _each(theirs_of, "pooled_first32")))
    yield row("box features", _stages(hidden, _each(theirs_of, "hidden_first32")))
    yield row("box logits", _stages([s.out.logits for s in stages], logits))
    yield row("box deltas", _stages([s.out.deltas for s in stages], deltas))
    rois = [_indexed_rois(x["rois"]) for x in theirs_of]
    same = [h(trace.features(x, h.side)).logits for x, h in zip(rois, heads, strict=True)]
    average = detector.config.model.box.average
    scores = (mean_scores(torch.stack(x), average) for x in (same, logits))
    yield row("scores of its RoIs", [Pair("all", *scores)], SCORES, absolute)


def _raw_rows(found: Found, theirs: Reference) -> Iterator[Row]:
    """Compare the detections in the pixels of the network."""
    boxes, scores, labels = (
        torch.cat(_each(theirs["raw"], name)) for name in ("boxes", "scores", "labels")
    )
    yield row("boxes, pixels", [Pair("all", found.boxes, boxes)], parity.PIXELS, absolute)
    yield row("scores", [Pair("all", found.scores, scores)], parity.FINAL_SCORES, absolute)
    yield row("labels, share", [Pair("all", found.labels, labels)], 0.0, share)


def _mask_rows(detector: Detector, trace: parity.Trace, theirs: Reference) -> Iterator[Row]:
    """Compare the mask head on the reference's own boxes; ours are off by rounding.

    By a thousandth of a pixel, that is, which these weights turn into a ten-thousandth of a logit.
    """
    masks, goals = detector.roi_heads.masks, theirs["mask"]
    labels = torch.cat(_each(theirs["raw"], "labels"))
    pooled = trace.features(_indexed_rois(goals["rois"]), masks.side)
    logits = masks(0, pooled, None, None)
    own = logits.take_along_dim(labels[:, None, None, None], 1)[:, 0]
    yield row("mask features", [Pair("first", pooled[:16], goals["pooled_first16"])])
    yield row(
        "mask logits",
        [
            Pair("first", logits[:10], goals["logits_first10"]),
            Pair("of the label", own, goals["logits_of_label"]),
        ],
    )


def _final_rows(ours: Sequence[Detections], theirs: Reference) -> Iterator[Row]:
    """Compare what is given out, in the pixels of the originals; of masks all of the first 20."""
    final = theirs["final"]
    boxes = _images([x.boxes for x in ours], _each(final, "boxes"))
    scores = _images([x.scores for x in ours], _each(final, "scores"))
    labels = _images([x.labels for x in ours], _each(final, "labels"))
    given = [x.masks() for x in ours]
    masks = _images([x[:20] for x in given], [_unpack(x) for x in final])
    yield row("final boxes, pixels", boxes, parity.PIXELS, absolute)
    yield row("final scores", scores, parity.FINAL_SCORES, absolute)
    yield row("final labels, share", labels, 0.0, share)
    yield row("final masks, share", masks, parity.MASKS, share)
    # Of masks that were not kept, only the areas.
    areas = _images([x.double().mean((1, 2)) for x in given], [_areas(x) for x in final])
    yield row("areas of all masks, share", areas, parity.MASKS, _mean_difference)


# Training


class EvenChoice(parity.EvenChoice):
    """Chooses as the reference, whose proposals come before the objects, and ours behind."""

    def __init__(self, objects: int) -> None:
        super().__init__()
        self.objects = objects

    def __call__(self, candidates: Tensor, number: Tensor, most: int) -> Tensor:
        chosen = super().__call__(candidates.roll(-self.objects, 1), number, most)
        return chosen.roll(self.objects, 1)


def training(detector: Detector, theirs: Reference) -> list[Row]:
    """Compare a training step: what is sampled, losses and gradients."""
    mode = detector.training
    detector.train()
    losses = training_losses(detector, theirs)

    def gradients(of: Detector) -> parity.Gradients:
        return parity.gradients_of(of, training_losses(of, theirs), theirs, our_name)

    rows = [
        *_loss_rows(losses, theirs),
        *_own_rows(detector, theirs),
        *_next_rows(detector, theirs),
        *parity.gradient_rows(detector, gradients(detector), theirs, our_name, gradients, KINKS),
    ]
    detector.train(mode)
    return rows


def training_losses(detector: Detector, theirs: Reference) -> Losses:
    """Return the losses of the anchors and boxes that the reference sampled."""
    batch = training_batch(theirs)
    rpn, scene = detector.dense(batch.images, batch.sizes)
    heads, targets = detector.roi_heads, batch.targets
    labels = torch.stack(theirs["anchor_labels"])
    goals = rpn.anchors.repeat(len(labels), 1, 1)
    goals[labels == 1] = torch.cat(theirs["anchor_gt_boxes_of_positives"])
    losses = detector.rpn.losses_of(rpn, labels == 1, labels == 0, goals)
    features = RoIFeatures(scene.scene, heads.config)
    number = len(heads.stages)
    for i, stage in enumerate(heads.stages):
        samples = _samples(theirs, targets, i)
        # The reference's cascade passes that part of the gradient to what was pooled.
        pooled = features(samples.rois, stage.side)
        pooled = pooled / number + (pooled - pooled / number).detach()
        named = stage.loss(stage(pooled), samples, targets)
        losses |= {f"stage{i + 1}.{name}": value for name, value in named.items()}
    samples = _samples(theirs, targets, 0)
    return losses | heads.masks.loss(0, features, samples, targets, heads.stages[0], None)


def training_batch(theirs: Reference) -> Batch:
    """Return the images of the training step with their objects."""
    batch, objects = batch_of(theirs), theirs["gts"]
    masks = join_crops([crop(mask.bool()) for masks in _each(objects, "masks") for mask in masks])
    targets = Targets.of(_each(objects, "boxes"), _each(objects, "labels"), masks)
    info = [x._replace(view=View.whole(x.view.size)) for x in batch.info]
    images = [x[:, :h, :w] for x, (h, w) in zip(batch.images, batch.sizes.tolist(), strict=True)]
    return replace(Batch.of(images, info), targets=targets)


def _samples(theirs: Reference, targets: Targets, stage: int) -> Samples:
    """Return the RoIs that the reference's box stage learns from."""
    each = theirs["sampled"] if stage == 0 else _by_image(theirs["cascade_stages"][stage - 1])
    rois = _indexed_rois(theirs["box"][stage]["rois"])
    labels = torch.cat(_each(each, "labels"))
    goals = torch.cat(_each(each, "gt_boxes"))
    places = (targets.boxes[rois.image] - goals[:, None]).abs().amax(2).argmin(1)
    gt = torch.where(labels < 6, places + rois.image * targets.boxes.shape[1], -1)
    yes = torch.ones_like(labels, dtype=torch.bool)
    return Samples(rois, labels, gt, ~yes, yes)


def _own_rows(detector: Detector, theirs: Reference) -> Iterator[Row]:
    """Compare what we sample of the reference's proposals, and the first stage's losses of that."""
    batch, heads = training_batch(theirs), detector.roi_heads
    choose = EvenChoice(batch.targets.boxes.shape[1])
    boxes = torch.stack(_each(theirs["proposals"], "boxes"))
    proposals = Proposals(boxes, torch.ones(boxes.shape[:2], dtype=torch.bool))
    with torch.no_grad():
        scene = detector.dense(batch.images, batch.sizes).scene
        features = RoIFeatures(scene.scene, heads.config)
        losses = heads.loss(features, proposals, batch.sizes, batch.targets, choose)
    picks = theirs["picks"][len(boxes) :]
    goals = [[len(x[name]) for x in picks] for name in ("pos_inds", "neg_inds")]
    ours = torch.tensor(choose.counts[:2])
    yield row("samples, number", [Pair("all", ours, torch.tensor(goals))], 0.0, absolute)
    names = {ours: name for name, ours in _names(theirs).items()}
    own = [name for name in losses if name in ("stage1.cls", "stage1.box", "mask")]
    pairs = [Pair(x, losses[x], torch.tensor(theirs["losses"][names[x]])) for x in own]
    yield row("losses of our samples", pairs)


def _next_rows(detector: Detector, theirs: Reference) -> Iterator[Row]:
    """Compare which boxes a stage of the cascade hands on, and what they then stand for."""
    if not theirs["cascade_stages"]:
        return
    batch, pairs, labels = training_batch(theirs), [], []
    heads, targets = detector.roi_heads, batch.targets
    with torch.no_grad():
        scene = detector.dense(batch.images, batch.sizes).scene
        features = RoIFeatures(scene.scene, heads.config)
        for i, stage in enumerate(heads.stages[:-1]):
            now, then = _samples(theirs, targets, i), _samples(theirs, targets, i + 1)
            out = stage(features(now.rois, stage.side))
            rois = stage.refine(out, now.rois, batch.sizes, now.labels)
            pairs.append(Pair(f"stage {i + 1}", rois.boxes, then.rois.boxes))
            boxes = then.rois.boxes.view(len(batch.info), -1, 4)
            valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
            iou = heads.stages[i + 1].stage.iou
            matched = match(overlaps(boxes, valid, targets), iou, iou, iou, low_quality=False)
            own = targets.labels.gather(1, matched.clamp(min=0)).where(matched >= 0, 6)
            labels.append(Pair(f"stage {i + 2}", own.flatten(), then.labels))
    yield row("boxes handed on, pixels", pairs, parity.PIXELS, absolute)
    yield row("labels of those, share", labels, 0.0, share)


def _loss_rows(losses: Losses, theirs: Reference) -> Iterator[Row]:
    names = _names(theirs)
    pairs = [
        Pair(names[name], losses[names[name]].detach(), torch.tensor(value))
        for name, value in theirs["losses"].items()
    ]
    for kind in ("rpn", "stage", "mask"):
        yield row(f"{kind} loss", [pair for pair in pairs if pair.name.startswith(kind)])
    total = torch.stack(list(losses.values())).sum().detach()
    yield row("sum of losses", [Pair("all", total, torch.tensor(theirs["total"]))])


def _names(theirs: Reference) -> dict[str, str]:
    """Return our names of the losses by the reference's."""
    known = {"loss_rpn_cls": "rpn.cls", "loss_rpn_loc": "rpn.box", "loss_mask": "mask"}
    kinds = {"loss_cls": "cls", "loss_box_reg": "box"}
    known |= {name: f"stage1.{ours}" for name, ours in kinds.items()}
    known |= {
        f"{name}_stage{i}": f"stage{i + 1}.{ours}" for name, ours in kinds.items() for i in range(3)
    }
    return {name: ours for name, ours in known.items() if name in theirs["losses"]}


# What the reference stored, and ours in the same form


def _each(records: Sequence[Reference], name: str) -> list[Tensor]:
    return [record[name] for record in records]


def _by_image(stage: Reference) -> list[Reference]:
    names = ("boxes", "labels", "gt_boxes")
    rows = zip(*(stage[name] for name in names), strict=True)
    return [dict(zip(names, values, strict=True)) for values in rows]


def _coarse(name: str, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[Pair]:
    """Return pairs of the levels that the reference kept, which end with the coarsest."""
    start = len(ours) - len(theirs)
    pairs = enumerate(zip(ours[start:], theirs, strict=True), start + 2)
    return [Pair(f"{name}{i}", *pair) for i, pair in pairs]


def _stages(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[Pair]:
    return [Pair(f"stage {i + 1}", *x) for i, x in enumerate(zip(ours, theirs, strict=True))]


def _images(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[Pair]:
    return [Pair(f"image {i + 1}", *x) for i, x in enumerate(zip(ours, theirs, strict=True))]


def _rois(found: Found) -> RoIs:
    return RoIs(found.boxes, found.image)


def _indexed_rois(rois: Tensor) -> RoIs:
    return RoIs(rois[:, 1:], rois[:, 0].long())


def _indexed(rois: RoIs) -> Tensor:
    return torch.cat([rois.image[:, None].to(rois.boxes.dtype), rois.boxes], dim=1)


def _unpack(final: Reference) -> Tensor:
    """Return the masks of an image as pixels, those that were kept."""
    _, height, width = final["masks_shape"]
    bits = np.unpackbits(final["masks_packed"].numpy(), axis=1, count=height * width)
    return torch.from_numpy(bits.reshape(-1, height, width)).bool()


def _areas(final: Reference) -> Tensor:
    """Return the areas of the masks of an image, as shares of it."""
    _, height, width = final["masks_shape"]
    return final["masks_area"].double() / (height * width)


def _mean_difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().mean()) if ours.shape == theirs.shape else math.inf
