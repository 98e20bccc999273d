"""The cascade: one loop over the box stages for every architecture; `loss` beside `find`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scnet.config import ModelConfig
from scnet.model.box_stage import BoxOutput, BoxStage
from scnet.model.features import RoIFeatures
from scnet.model.mask_branch import MaskBranches
from scnet.model.sampling import Choose, sample_rois
from scnet.types import Candidates, Losses, Proposals, RoIs, Samples, Scene, Targets


class Step(NamedTuple):
    """What a training step computes in one box stage."""

    stage: int
    samples: Samples
    out: BoxOutput  # of the samples
    # what the mask branches fed by the stage learn from; None where there are none
    for_masks: Samples | None


class RoIHeads(nn.Module):
    """Box stages in cascade, and the mask branches that they feed."""

    stages: Sequence[BoxStage]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(  # type: ignore[assignment]
            BoxStage(stage, config) for stage in config.box.stages
        )
        self.masks = MaskBranches(config)

    def loss(
        self,
        scene: Scene,
        proposals: Proposals,
        sizes: Int[Tensor, "B 2"],
        targets: Targets,
        choose: Choose,
    ) -> Losses:
        """Return the losses of every stage and mask branch."""
        features = self.features(scene)
        losses: Losses = {}
        for step in self.steps(features, proposals, sizes, targets, choose):
            named = self.stages[step.stage].loss(step.out, step.samples, targets)
            losses |= {f"stage{step.stage + 1}.{name}": value for name, value in named.items()}
            if step.for_masks is not None:
                losses |= self._mask_loss(step, features, step.for_masks, targets)
        return losses

    def steps(
        self,
        features: RoIFeatures,
        proposals: Proposals,
        sizes: Int[Tensor, "B 2"],
        targets: Targets,
        choose: Choose,
    ) -> Iterator[Step]:
        """Yield what each stage samples and says; its boxes go on to the next."""
        for i, stage in enumerate(self.stages):
            samples = self._sample(proposals, targets, i, choose)
            out = stage(features(samples.rois, stage.side))
            refined = stage.refine(out, samples.rois, sizes, samples.labels)
            # Ground truth joins the next stage anew, so it is not kept here.
            proposals = _by_image(refined, samples.valid & ~samples.is_gt, sizes.shape[0])
            for_masks = samples if self.masks.of_stage(i) else None
            if for_masks is not None and self.config.mask.trained_on == "leaving":
                for_masks = self._sample(proposals, targets, i, choose)
            yield Step(i, samples, out, for_masks)

    def find(
        self, features: RoIFeatures, proposals: Proposals, sizes: Int[Tensor, "B 2"]
    ) -> Candidates:
        """Return the refined proposals with their scores, averaged over the stages, before NMS."""
        images, number, _ = proposals.boxes.shape
        image = torch.arange(images, device=sizes.device)[:, None].expand(images, number)
        rois = RoIs(proposals.boxes.flatten(0, 1), image.flatten())
        logits, boxes = [], rois.boxes[:, None]
        for i, stage in enumerate(self.stages):
            out = stage(features(rois, stage.side))
            logits.append(out.logits.float())
            if i == len(self.stages) - 1:
                boxes = stage.boxes(out, rois, sizes)
            else:
                rois = stage.refine(out, rois, sizes, None)
        # The release averages logits, not probabilities.
        scores = torch.stack(logits).mean(0).softmax(1)[:, :-1]
        nowhere = ~proposals.valid.flatten()[:, None]
        return Candidates(boxes, scores.masked_fill(nowhere, -1), rois.image)

    def mask_probabilities(
        self, features: RoIFeatures, rois: RoIs, labels: Int[Tensor, "R"]
    ) -> Float[Tensor, "R S S"]:
        """Return the mask of each RoI's class."""

        def hidden_of(stage: int) -> Tensor:
            head = self.stages[stage]
            return head.hidden(features(rois, head.side))

        return self.masks.probabilities(features, rois, labels, hidden_of)

    def features(self, scene: Scene) -> RoIFeatures:
        """Return the pooling of a scene."""
        return RoIFeatures(scene, self.masks.side)

    def _mask_loss(
        self, step: Step, features: RoIFeatures, samples: Samples, targets: Targets
    ) -> Losses:
        def hidden_of(rois: RoIs, rows: Tensor) -> Tensor:
            if samples is step.samples:  # already read by the box head
                return step.out.hidden[rows]
            head = self.stages[step.stage]
            return head.hidden(features(rois, head.side))

        return self.masks.loss(step.stage, features, samples, targets, hidden_of)

    def _sample(
        self, proposals: Proposals, targets: Targets, stage: int, choose: Choose
    ) -> Samples:
        box = self.config.box
        return sample_rois(
            proposals, targets, self.config.num_classes, box.stages[stage].iou, box, choose
        )


def _by_image(rois: RoIs, valid: Tensor, images: int) -> Proposals:
    return Proposals(rois.boxes.view(images, -1, 4), valid.view(images, -1))
