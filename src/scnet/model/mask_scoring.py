"""Mask scoring: a head that tells how well a predicted mask fits its object (Huang et al. 2019).

A box's score says how surely its class is right, and nothing of its mask. The head reads the RoI
feature of the mask branches and the mask of the RoI's class, and foretells their IoU for each
class. The score of a mask is that of its box times this IoU.

As in the authors' release and in MMDetection, the loss reaches the mask branches through the mask
that the head reads; its goal is a constant. Two things are otherwise here. The goal is the IoU of
the mask from a probability of 0.5 on, as it is given out; both compare logits with 0.5, which is a
probability of 0.62. And a foretold IoU is cut to 0..1, so that a mask scores no more than its box.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from scnet.config import ModelConfig, ScoringConfig
from scnet.model.layers import Conv2d, kaiming_normal
from scnet.runtime.distributed import mean_count


class MaskScoring(nn.Module):
    """Foretells the IoU of masks with their objects."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.mask.scoring is not None
        self.config: ScoringConfig = config.mask.scoring
        last, side = self.config.convs - 1, config.mask.size // 4  # of the RoI feature, halved
        self.convs = nn.ModuleList(
            Conv2d(
                config.channels + (i == 0), config.channels, 3, stride=1 + (i == last), padding=1
            )
            for i in range(self.config.convs)
        )
        widths = [config.channels * side**2, *[self.config.hidden] * self.config.layers]
        self.fcs = nn.ModuleList(map(nn.Linear, widths, widths[1:]))
        self.iou = nn.Linear(self.config.hidden, config.num_classes)
        _initialise(self)

    def forward(
        self,
        features: Float[Tensor, "R D s s"],
        masks: Float[Tensor, "R S S"],
        labels: Int[Tensor, "R"],
    ) -> Float[Tensor, "R"]:
        """Return the foretold IoU of each mask, for the class that it is of.

        Args:
            features: what the mask branches read, before a relay joins it; half the mask's side.
            masks: probabilities.
        """
        x = torch.cat((features, F.max_pool2d(masks[:, None], 2)), dim=1)
        for conv in self.convs:
            x = F.relu(conv(x))
        x = x.flatten(1)
        for layer in self.fcs:
            x = F.relu(layer(x))
        every: Tensor = self.iou(x)
        return every.gather(1, labels[:, None])[:, 0].float()

    def loss(
        self,
        features: Float[Tensor, "R D s s"],
        masks: Float[Tensor, "R S S"],
        labels: Int[Tensor, "R"],
        goals: Float[Tensor, "R S S"],
        shares: Float[Tensor, "R"],
    ) -> Float[Tensor, ""]:
        """Return the weighted mean squared error over the masks that overlap their object.

        Args:
            goals: what the masks shall be, 0 or 1.
            shares: which part of each object lies in its box.
        """
        wanted = true_ious(masks.detach(), goals, shares)
        counted = wanted > 0
        error = (self(features, masks, labels) - wanted).square()
        total = torch.where(counted, error, 0).sum()
        return self.config.loss_weight * total / mean_count(counted.sum())


def true_ious(
    masks: Float[Tensor, "R S S"], goals: Float[Tensor, "R S S"], shares: Float[Tensor, "R"]
) -> Float[Tensor, "R"]:
    """Return the IoU of each mask with the whole of its object, also where that leaves the box.

    Args:
        masks: probabilities; from 0.5 on a cell belongs to the mask.
        goals: the object in the box, 0 or 1.
        shares: which part of each object that is. What lies outside is counted by it, in cells.
    """
    found = (masks >= 0.5).to(goals)
    overlap = (found * goals).sum((1, 2))
    whole = goals.sum((1, 2)) / (shares + 1e-7)
    return overlap / (found.sum((1, 2)) + whole - overlap).clamp(min=1)


def _initialise(head: MaskScoring) -> None:
    """Initialise as MMDetection does."""
    for conv in head.convs:
        kaiming_normal(conv)  # type: ignore[arg-type]
    for layer in head.fcs:
        nn.init.kaiming_uniform_(layer.weight, a=1)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    nn.init.normal_(head.iou.weight, std=0.01)
    nn.init.zeros_(head.iou.bias)
