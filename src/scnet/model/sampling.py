"""Match boxes to ground truth and sample them for a training step, in RPN and box stages.

Everything is batched and stays on the device: boxes are padded per image with a flag, and nothing
waits for a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scnet.config import BoxConfig
from scnet.ops import boxes as box_ops
from scnet.types import Proposals, RoIs, Samples, Targets

PAIRS_AT_ONCE = 2**20  # of boxes and objects in an image: 4 MB for each number of a pair
BACKGROUND = -1
IGNORED = -2


@runtime_checkable
class Choose(Protocol):
    """Chooses among candidates; passed in, so that a test can make it deterministic."""

    def __call__(
        self, candidates: Bool[Tensor, "B N"], number: Int[Tensor, "B"], most: int
    ) -> Bool[Tensor, "B N"]:
        """Return `number` candidates of each image, all where there are fewer; `number <= most`."""
        ...


@dataclass
class RandomChoice:
    """Chooses uniformly, for each image by a seed of its own.

    What is chosen in an image depends on its seed, the call and the image alone: not on the other
    images of the batch, the process or the kind of device. So a training is the same on any number
    of processes, and goes on as it was after an interruption.
    """

    seeds: Int[Tensor, "B"]
    calls: int = 0

    def __call__(
        self, candidates: Bool[Tensor, "B N"], number: Int[Tensor, "B"], most: int
    ) -> Bool[Tensor, "B N"]:
        self.calls += 1
        # Columns count from the right, as ground truth is padded on the left.
        column = torch.arange(candidates.shape[1], 0, -1, device=candidates.device)
        seeds = _scramble(self.seeds.to(candidates.device) * 64 + self.calls)
        key = _scramble(column ^ seeds[:, None])
        key, index = key.masked_fill_(~candidates, -1).topk(min(most, key.shape[1]))
        rank = torch.arange(key.shape[1], device=key.device)
        taken = (rank < number[:, None]) & (key >= 0)
        return torch.zeros_like(candidates).scatter(1, index, taken)


def _scramble(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Return 32 well-mixed bits of each number (C. Wellons' `lowbias32`)."""
    x = x & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def match(
    overlap: Iterable[Float[Tensor, "B N _m"]],
    positive: float,
    negative: float,
    minimum: float,
    low_quality: bool,
) -> Int[Tensor, "B N"]:
    """Return for each box the ground truth that it stands for, BACKGROUND or IGNORED.

    A box stands for the object that it overlaps most, from `positive` on; below `negative` it is
    background. With `low_quality` every object also takes the boxes that overlap it most, from
    `minimum` on (Faster R-CNN, sec. 3.1.2); a box that is best for several goes to the last. What
    does not exist has overlap -1. `overlap` comes in parts, each with some of the objects.
    """
    start, best, index, own = 0, None, None, None
    for part in overlap:
        highest = part.amax(dim=1, keepdim=True)
        taken = (part == highest).logical_and_(highest >= minimum)
        number = torch.arange(start, start + part.shape[2], dtype=torch.int32, device=part.device)
        last = torch.where(taken, number, -1).amax(dim=2)
        value, place = part.max(dim=2)
        place += start
        if best is None or index is None or own is None:
            best, index, own = value, place, last
        else:
            index = torch.where(value > best, place, index)
            best, own = torch.maximum(best, value), torch.maximum(own, last)
        start += part.shape[2]
    assert best is not None
    assert index is not None
    assert own is not None
    matched = torch.full_like(index, IGNORED)
    matched = torch.where((best >= 0) & (best < negative), BACKGROUND, matched)
    matched = torch.where(best >= positive, index, matched)
    return torch.where(own >= 0, own.long(), matched) if low_quality else matched


def overlaps(
    boxes: Float[Tensor, "#B N 4"], valid: Bool[Tensor, "#B N"], targets: Targets
) -> Iterator[Float[Tensor, "B N _m"]]:
    """Yield the IoU of every box with every object of its image, some objects at a time.

    It is 0 with objects that are padding, so that a box without any is background, and -1 for boxes
    that are not valid. All at once, 270,000 anchors and 100 objects would take half a GB an image.
    """
    missing = ~valid[:, :, None]
    step = max(1, PAIRS_AT_ONCE // boxes.shape[1])
    for start in range(0, targets.valid.shape[1], step):
        some = slice(start, start + step)
        overlap = box_ops.iou(boxes, targets.boxes[:, some])
        yield overlap.mul_(targets.valid[:, None, some]).masked_fill_(missing, -1)


@torch.no_grad()
def sample_rois(
    proposals: Proposals,
    targets: Targets,
    num_classes: int,
    iou: float,
    config: BoxConfig,
    choose: Choose,
) -> Samples:
    """Choose the RoIs of one box stage.

    Ground truth joins the proposals: early on the RPN finds nothing at IoU 0.5
    (Faster R-CNN, sec. 3.2).
    """
    overlap = overlaps(proposals.boxes, proposals.valid, targets)
    # `minimum` equals `iou`, so an object without a good box takes none.
    matched = match(overlap, iou, iou, iou, config.low_quality)
    own = torch.arange(targets.valid.shape[1], device=matched.device).expand_as(targets.valid)
    matched = torch.cat([own, matched], dim=1)
    boxes = torch.cat([targets.boxes, proposals.boxes], dim=1)
    valid = torch.cat([targets.valid, proposals.valid], dim=1)
    positive, negative = choose_both(
        matched, valid, config.samples, config.positive_fraction, choose
    )
    # The columns of the chosen, positives first; behind them padding.
    count = matched.shape[1]
    key = torch.arange(count, device=matched.device) + count * (
        2 - 2 * positive.long() - negative.long()
    )
    key = key.topk(min(config.samples, count), dim=1, largest=False).values
    return _gathered(key % count, key < 2 * count, boxes, matched, targets, num_classes)


def choose_both(
    matched: Int[Tensor, "B N"],
    valid: Bool[Tensor, "B N"],
    samples: int,
    fraction: float,
    choose: Choose,
) -> tuple[Bool[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """Choose at most `fraction * samples` positives, and negatives to fill up to `samples`."""
    most = int(samples * fraction)
    wanted = torch.full((len(matched),), most, device=matched.device)
    positive = choose((matched >= 0) & valid, wanted, most)
    wanted = samples - positive.sum(dim=1)
    negative = choose((matched == BACKGROUND) & valid, wanted, samples)
    return positive, negative


def _gathered(
    order: Int[Tensor, "B P"],
    taken: Bool[Tensor, "B P"],
    boxes: Float[Tensor, "B N 4"],
    matched: Int[Tensor, "B N"],
    targets: Targets,
    num_classes: int,
) -> Samples:
    matched = torch.where(taken, matched.gather(1, order), BACKGROUND)
    positive = matched >= 0
    slot = matched.clamp(min=0)
    image = torch.arange(len(order), device=order.device)[:, None].expand_as(order)
    places = targets.valid.shape[1]
    return Samples(
        rois=RoIs(
            boxes.gather(1, order[..., None].expand(-1, -1, 4)).flatten(0, 1), image.flatten()
        ),
        labels=torch.where(positive, targets.labels.gather(1, slot), num_classes).flatten(),
        gt=torch.where(positive, slot + image * places, BACKGROUND).flatten(),
        is_gt=(order < places).flatten() & taken.flatten(),
        valid=taken.flatten(),
    )
