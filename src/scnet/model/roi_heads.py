"""The cascade: one loop over the box stages for every architecture; `loss` beside `find`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
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
                hidden = step.out.hidden if step.for_masks is step.samples else None
                losses |= self.masks.loss(
                    step.stage,
                    features,
                    step.for_masks,
                    targets,
                    self.stages[step.stage],
                    hidden,
                )
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
        classes, box = self.config.num_classes, self.config.box
        for i, stage in enumerate(self.stages):
            iou = stage.stage.iou
            samples = sample_rois(proposals, targets, classes, iou, box, choose)
            out = stage(features(samples.rois, stage.side))
            refined = stage.refine(out, samples.rois, sizes, samples.labels)
            # Ground truth joins the next stage anew, so it is not kept here.
            by_image = sizes.shape[0], -1
            valid = samples.valid & ~samples.is_gt
            proposals = Proposals(refined.boxes.view(*by_image, 4), valid.view(by_image))
            for_masks = samples if i in self.config.mask.fed_by else None
            if for_masks is not None and self.config.mask.trained_on == "leaving":
                for_masks = sample_rois(proposals, targets, classes, iou, box, choose)
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

    def features(self, scene: Scene) -> RoIFeatures:
        """Return the pooling of a scene."""
        return RoIFeatures(scene, self.masks.side)
