"""Region proposal network (Faster R-CNN, sec. 3.1) on a pyramid: anchors, head, proposals, loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from scnet.config import AnchorGrid, RPNConfig
from scnet.model import sparse_head
from scnet.model.layers import ConvReLU
from scnet.model.sampling import Choose, choose_both, match, overlaps
from scnet.ops import boxes as box_ops
from scnet.ops.nms import top_proposals
from scnet.runtime.distributed import mean_count
from scnet.types import DIVISOR, UNIT, Losses, Proposals, Size, Targets

STRIDES = (4, 8, 16, 32, 64)


class RPNOutput(NamedTuple):
    """Raw outputs over all anchors of all levels, finest first, by row, column and shape."""

    logits: Float[Tensor, "B A"]  # object or not
    deltas: Float[Tensor, "B A 4"]
    anchors: Float[Tensor, "A 4"]
    level: Int[Tensor, "A"]
    counts: tuple[int, ...]  # anchors of each level


class RPN(nn.Module):
    """Proposes boxes that may hold an object."""

    shapes: Tensor
    unit: Tensor

    def __init__(self, config: RPNConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        number = config.anchors
        # All 3x3 convolutions but the last, which is part of the head that has a sparse gradient.
        self.convs = nn.Sequential(*(ConvReLU(channels) for _ in range(config.convs - 1)))
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.cls = nn.Conv2d(channels, number, 1)
        self.reg = nn.Conv2d(channels, 4 * number, 1)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.normal_(conv.weight, std=0.01)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.register_buffer("shapes", anchor_shapes(config), persistent=False)
        self.register_buffer("unit", UNIT.clone(), persistent=False)

    def forward(self, pyramid: Sequence[Float[Tensor, "B D _h _w"]]) -> RPNOutput:
        logits, deltas = [], []
        for level in map(self.convs, pyramid):
            if sparse_head.pays(level):
                layers = (self.conv, self.cls, self.reg)
                weights = (x for layer in layers for x in (layer.weight, cast(Tensor, layer.bias)))
                cls, reg = sparse_head.head(level, sparse_head.Weights(*weights))
            else:
                hidden = F.relu(self.conv(level))
                cls, reg = self.cls(hidden), self.reg(hidden)
            logits.append(cls.permute(0, 2, 3, 1).flatten(1))
            deltas.append(reg.permute(0, 2, 3, 1).reshape(reg.shape[0], -1, 4))
        counts = tuple(x.shape[1] for x in logits)
        device = logits[0].device
        maps = [(p.shape[-2], p.shape[-1]) for p in pyramid]
        anchors = make_anchors(maps, self.shapes, self.config.anchor_grid)
        # `repeat_interleave` would wait for the device to know how many there are.
        level = torch.cat([torch.full((n,), i, device=device) for i, n in enumerate(counts)])
        return RPNOutput(torch.cat(logits, 1), torch.cat(deltas, 1), anchors, level, counts)

    @torch.no_grad()
    def proposals(self, out: RPNOutput, sizes: Int[Tensor, "B 2"], training: bool) -> Proposals:
        """Return the best boxes of each image after NMS, inside the image, best first."""
        config = self.config
        before = config.before_nms_train if training else config.before_nms
        after = config.after_nms_train if training else config.after_nms
        # Scores would be in the same order, but for ties: float32 has few numbers just below 1.
        logits = out.logits.float()
        levels = torch.split(logits, list(out.counts), dim=1)
        starts = accumulate(out.counts, initial=0)
        best = [
            x.topk(min(before, x.shape[1]), dim=1).indices + start
            for x, start in zip(levels, starts, strict=False)
        ]
        index = torch.cat(best, dim=1)
        deltas = out.deltas.float().gather(1, index[..., None].expand(-1, -1, 4))
        boxes = box_ops.decode(out.anchors[index], deltas, sizes=sizes[:, None])
        # Every image keeps the same number of each level, so the levels of one stand for all.
        level = out.level[index[0]]
        logit = logits.gather(1, index)
        return Proposals(*top_proposals(boxes, logit, level, config.nms_iou, after))

    def loss(
        self, out: RPNOutput, sizes: Int[Tensor, "B 2"], targets: Targets, choose: Choose
    ) -> Losses:
        """Return the losses of sampled anchors, both divided by the number of samples."""
        config, limit = self.config, sizes.flip(1)[:, None]
        first, last = out.anchors[:, :2], out.anchors[:, 2:]
        if config.border:
            # Cells in the padding of the batch do not count; those in an image's own, up to a
            # multiple of 32, do, as in the release. Anchors are centred on multiples of 4.
            padded = (limit + DIVISOR - 1) // DIVISOR * DIVISOR
            inside = ((first + last) / 2 < padded - 1).all(2)
        else:
            inside = (first >= 0).all(1) & (last < limit).all(2)
        with torch.no_grad():
            matched = match(
                overlaps(out.anchors[None], inside, targets),
                positive=config.positive_iou,
                negative=config.negative_iou,
                minimum=config.negative_iou,
                low_quality=True,
            )
            positive, negative = choose_both(matched, inside, config.samples, 0.5, choose)
        goals = targets.boxes.gather(1, matched.clamp(min=0)[..., None].expand(-1, -1, 4))
        return self.losses_of(out, positive, negative, goals)

    def losses_of(
        self,
        out: RPNOutput,
        positive: Bool[Tensor, "B A"],
        negative: Bool[Tensor, "B A"],
        goals: Float[Tensor, "B A 4"],
    ) -> Losses:
        """Return the losses of anchors that were chosen; `goals` count where they are positive."""
        number = mean_count(positive.sum() + negative.sum())
        cls = F.binary_cross_entropy_with_logits(
            out.logits, positive.to(out.logits.dtype), reduction="none"
        )
        # Some box, where none is aimed at.
        goals = torch.where(positive[..., None], goals, self.unit)
        moves = box_ops.encode(out.anchors.expand_as(goals), goals)
        reg = F.smooth_l1_loss(out.deltas, moves, reduction="none", beta=self.config.box_loss_beta)
        return {
            "rpn.cls": (cls * (positive | negative)).sum() / number,
            "rpn.box": (reg * positive[..., None]).sum() / number,
        }


def anchor_shapes(config: RPNConfig) -> Float[Tensor, "levels n 2"]:
    """Return half the width and height of the anchors of each level."""
    shapes = _exact_shapes(config)
    return shapes if config.anchor_grid == "exact" else shapes.round()


def _exact_shapes(config: RPNConfig) -> Float[Tensor, "levels n 2"]:
    ratio = torch.tensor(config.anchor_ratios, device="cpu").sqrt()[:, None]
    if config.anchor_sizes is not None:
        # All shapes of one size lie together, as in detectron2.
        sizes = torch.tensor(config.anchor_sizes, device="cpu")[..., None]
        return torch.stack([sizes / ratio.T, sizes * ratio.T], dim=-1).flatten(1, 2) / 2
    multiples = torch.tensor(config.anchor_multiples, device="cpu")
    # All sizes of one shape lie together, as in the release.
    sides = [stride * config.anchor_scale * multiples for stride in STRIDES]
    shapes = [(side / ratio, side * ratio) for side in sides]
    return torch.stack([torch.stack(shape, dim=-1).flatten(0, 1) / 2 for shape in shapes])


def make_anchors(
    maps: Sequence[Size],
    shapes: Float[Tensor, "levels n 2"],
    grid: AnchorGrid = "exact",
) -> Float[Tensor, "A 4"]:
    """Return the anchors of every level, centred on the corner of their cell as in the release."""
    anchors = []
    for (height, width), stride, half in zip(maps, STRIDES, shapes, strict=True):
        down = right = stride
        if grid == "torchvision":
            # Images are padded to whole cells of P5, so that its map tells their size. P6 has half
            # of its cells, rounded up.
            down, right = maps[3][0] * STRIDES[3] // height, maps[3][1] * STRIDES[3] // width
        y = torch.arange(height, device=half.device) * down
        x = torch.arange(width, device=half.device) * right
        center = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[:, :, None]
        anchors.append(torch.cat([center - half, center + half], dim=-1).reshape(-1, 4))
    return torch.cat(anchors)
