"""Mask branches: heads, mask information flow (HTC, sec. 3.2) and feature relay (SCNet, sec. 4.2).

A recipe has one branch or several, each fed by a box stage. At inference all of them read the final
boxes and their probabilities are averaged. Mask scoring (`mask_scoring.py`) is one head for all of
them: it learns on the last of the stages that feed a branch, from the mean mask of the branches fed
there, and at inference judges the mean of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from scnet.config import MaskConfig, ModelConfig
from scnet.model.box_stage import BoxStage
from scnet.model.features import RoIFeatures
from scnet.model.layers import ConvReLU, init_classifier, kaiming_normal, stack
from scnet.model.mask_scoring import MaskScoring
from scnet.ops.masks import crop_targets, shares_inside
from scnet.runtime.distributed import mean_count
from scnet.types import Losses, RoIs, Samples, Targets


class MaskFeatures(NamedTuple):
    """What a mask head gives, before its last layers."""

    own: Float[Tensor, "R D s s"]  # what its logits are made of
    shared: Float[Tensor, "R D s s"]  # what other parts read: the next head, with information flow


class FoundMasks(NamedTuple):
    """The masks of RoIs."""

    probabilities: Float[Tensor, "R S S"]
    ious: Float[Tensor, "R"] | None  # with the object, as mask scoring foretells; None without it


class MaskHead(nn.Module):
    """Predicts one mask per class from a RoI feature of half the mask's side."""

    def __init__(self, config: ModelConfig, receives_flow: bool) -> None:
        super().__init__()
        mask, channels = config.mask, config.channels
        self.convs = stack(channels, mask.convs, mask.residual, config.norms.mask)
        self.flow = ConvReLU(channels, kernel=1) if receives_flow else None
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.classifier = nn.Conv2d(channels, config.num_classes, 1)
        kaiming_normal(self.upsample)
        init_classifier(self.classifier)

    def forward(
        self, x: Float[Tensor, "R D s s"], previous: Float[Tensor, "R D s s"] | None
    ) -> MaskFeatures:
        """Return what `logits` and other parts read; `previous` is `shared` of the head before."""
        if self.flow is not None and previous is not None:
            x = x + self.flow(previous)
        out: Tensor = self.convs(x)
        return MaskFeatures(out, out)

    def logits(
        self, feature: Float[Tensor, "R D s s"], labels: Int[Tensor, "R"] | None = None
    ) -> Float[Tensor, "R n S S"]:
        """Return the mask logits of the given class alone (n = 1), or of every class."""
        x = F.relu(self.upsample(feature))
        if labels is None:
            every: Tensor = self.classifier(x)
            return every
        # One class of 80 is asked for: computing just that one is a dot product per pixel.
        bias = cast(Tensor, self.classifier.bias)[labels, None, None]
        weight = self.classifier.weight[labels, :, 0, 0]
        chosen = torch.bmm(weight[:, None], x.flatten(2)) + bias
        return chosen.view(x.shape[0], 1, *x.shape[2:])


class FeatureRelay(nn.Module):
    """Makes the box stage's shared feature spatial, to join the mask feature (SCNet, sec. 4.2)."""

    def __init__(self, hidden: int, channels: int, side: int) -> None:
        super().__init__()
        self.channels, self.side = channels, side
        self.fc = nn.Linear(hidden, channels * (side // 2) ** 2)
        kaiming_normal(self.fc)

    def forward(self, hidden: Float[Tensor, "R hidden"]) -> Float[Tensor, "R D s s"]:
        x: Tensor = self.fc(hidden).view(-1, self.channels, self.side // 2, self.side // 2)
        # `interpolate` refuses no RoIs at all; a graph that is captured has it without that check.
        if not torch.compiler.is_compiling() and not x.shape[0]:
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        size = (self.side, self.side)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class MaskBranches(nn.Module):
    """All mask branches of a model: everything about masks between RoIs and probabilities."""

    heads: Sequence[MaskHead]
    relays: Sequence[FeatureRelay] | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config: MaskConfig = config.mask
        self.side = config.mask.size // 2  # of the RoI feature that a branch reads
        branches = range(len(config.mask.fed_by))
        self.heads = nn.ModuleList(  # type: ignore[assignment]
            MaskHead(config, config.mask.flow and i > 0) for i in branches
        )
        self.relays = (
            nn.ModuleList(  # type: ignore[assignment]
                FeatureRelay(config.box.hidden, config.channels, self.side) for _ in branches
            )
            if config.mask.relay
            else None
        )
        self.scoring = MaskScoring(config) if config.mask.scoring else None

    def loss(
        self,
        stage: int,
        features: RoIFeatures,
        samples: Samples,
        targets: Targets,
        box: BoxStage,
        hidden: Float[Tensor, "R hidden"] | None,
    ) -> Losses:
        """Return the losses of the branches fed by a stage, on its positive samples.

        Args:
            box: the box stage, whose shared feature a relay reads.
            hidden: that feature of the samples, where it is known already.
        """
        positive = (samples.gt >= 0).nonzero().squeeze(1)
        rois = RoIs(samples.rois.boxes[positive], samples.rois.image[positive])
        labels = samples.labels[positive]
        if hidden is not None:
            hidden = hidden[positive]
        elif self.relays is not None:
            hidden = box.hidden(features(rois, box.side))
        rows = targets.rows.flatten()[samples.gt[positive]]
        goals = crop_targets(targets.masks, rows, rois.boxes, self.config.size)
        # Each loss is the weighted mean cross-entropy over the pixels of all positive RoIs.
        pixels = mean_count(goals.new_full((), goals.shape[0])) * self.config.size**2
        pooled, losses, all_logits = features(rois, self.side), {}, []
        for branch, fed_by in enumerate(self.config.fed_by):
            if fed_by == stage:
                logits = self(branch, pooled, hidden, labels)[:, 0]
                total = F.binary_cross_entropy_with_logits(logits, goals, reduction="sum")
                name = f"mask{branch + 1}" if len(self.heads) > 1 else "mask"
                losses[name] = self.config.loss_weights[branch] * total / pixels
                all_logits.append(logits)
        if self.scoring is not None and stage == max(self.config.fed_by):
            found = torch.stack(all_logits).sigmoid().mean(0)
            shares = shares_inside(targets.masks, rows, rois.boxes)
            losses["mask_iou"] = self.scoring.loss(pooled, found, labels, goals, shares)
        return losses

    def find(
        self,
        features: RoIFeatures,
        rois: RoIs,
        labels: Int[Tensor, "R"],
        boxes: Sequence[BoxStage],
    ) -> FoundMasks:
        """Return the mask of each RoI's class, averaged over the branches, and its foretold IoU.

        Args:
            boxes: the box stages, whose shared features a relay reads.
        """
        hidden: dict[int, Tensor] = {}  # by stage
        if self.relays is not None:
            fed_by = set(self.config.fed_by)
            hidden = {s: boxes[s].hidden(features(rois, boxes[s].side)) for s in fed_by}
        pooled = features(rois, self.side)
        if self.config.flow and self.relays is None:
            logits = self._flowing(pooled, labels)
        else:
            logits = [
                self(branch, pooled, hidden.get(stage), labels)
                for branch, stage in enumerate(self.config.fed_by)
            ]
        found = torch.stack([x.sigmoid() for x in logits]).mean(0)[:, 0].float()
        if self.scoring is None:
            return FoundMasks(found, None)
        return FoundMasks(found, self.scoring(pooled, found, labels).clamp(0, 1))

    def forward(
        self,
        branch: int,
        features: Float[Tensor, "R D s s"],
        hidden: Float[Tensor, "R hidden"] | None,
        labels: Int[Tensor, "R"] | None,
    ) -> Float[Tensor, "R n S S"]:
        """Return the mask logits of one branch, of every class or of `labels` alone.

        `hidden` is the shared feature of the box stage that feeds the branch, for the same RoIs;
        None without relay.
        """
        if self.relays is not None and hidden is not None:
            features = features + self.relays[branch](hidden)
        head, shared = self.heads[branch], None
        if self.config.flow:
            for earlier in self.heads[:branch]:
                shared = earlier(features, shared).shared
        return head.logits(head(features, shared).own, labels)

    def _flowing(
        self, features: Float[Tensor, "R D s s"], labels: Int[Tensor, "R"]
    ) -> list[Float[Tensor, "R 1 S S"]]:
        """Return what `forward` gives of every branch; what flows on is computed once.

        That needs heads that all read the same feature, so none with a relay.
        """
        logits, shared = [], None
        for head in self.heads:
            own, shared = head(features, shared)
            logits.append(head.logits(own, labels))
        return logits
