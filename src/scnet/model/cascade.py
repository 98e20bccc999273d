"""A detector's head that proposes boxes and refines them: RPN, scene branches, box stages, masks.

The cascade is one loop over the box stages for every architecture, `loss` beside `find`. A head is
what a detector has behind its pyramid; it is a view of parts that belong to the detector, so that
parameters are named by part, and offers

    dense   what depends on whole images alone; its shapes follow from theirs
    loss    the losses of a batch
    find    candidates: boxes with scores, before suppression
    masks   the masks of boxes that were chosen
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scnet.config import ModelConfig
from scnet.model.box_stage import BoxOutput, BoxStage
from scnet.model.features import RoIFeatures, SceneBranches, SceneOutput
from scnet.model.mask_branch import FoundMasks, MaskBranches
from scnet.model.rpn import RPN, RPNOutput
from scnet.model.sampling import Choose, sample_rois
from scnet.types import Batch, Candidates, Losses, Proposals, RoIs, Samples, Targets


class Dense(NamedTuple):
    """What the head says of whole images."""

    rpn: RPNOutput
    scene: SceneOutput


class Cascade(NamedTuple):
    """Faster R-CNN's two steps, the second in one stage or several."""

    rpn: RPN
    branches: SceneBranches
    roi_heads: RoIHeads

    @staticmethod
    def parts(config: ModelConfig) -> dict[str, nn.Module]:
        """Return new parts, by the names that a detector gives them."""
        return {
            "rpn": RPN(config.rpn, config.channels),
            "branches": SceneBranches(config),
            "roi_heads": RoIHeads(config),
        }

    def dense(self, pyramid: Sequence[Float[Tensor, "B D _h _w"]]) -> Dense:
        """Return proposals before they are chosen, and the scene."""
        return Dense(self.rpn(pyramid), self.branches(pyramid))

    def loss(self, dense: Dense, batch: Batch, choose: Choose) -> Losses:
        """Return the losses of RPN, scene branches, box stages and mask branches."""
        assert batch.targets is not None
        losses = self.rpn.loss(dense.rpn, batch.sizes, batch.targets, choose)
        losses |= self.branches.loss(dense.scene, batch.semantic, batch.targets)
        proposals = self.rpn.proposals(dense.rpn, batch.sizes, training=True)
        heads = self.roi_heads
        features = RoIFeatures(dense.scene.scene, heads.config)
        losses |= heads.loss(features, proposals, batch.sizes, batch.targets, choose)
        return losses

    def find(self, dense: Dense, sizes: Int[Tensor, "B 2"]) -> tuple[Candidates, RoIFeatures]:
        """Return the candidates of a batch, and what `masks` reads."""
        proposals = self.rpn.proposals(dense.rpn, sizes, training=False)
        features = RoIFeatures(dense.scene.scene, self.roi_heads.config)
        return self.roi_heads.find(features, proposals, sizes), features

    def masks(self, features: RoIFeatures, rois: RoIs, labels: Int[Tensor, "R"]) -> FoundMasks:
        """Return the mask of each RoI's class, on a grid over its box, and its foretold IoU."""
        heads = self.roi_heads
        return heads.masks.find(features, rois, labels, tuple(heads.stages))


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
        features: RoIFeatures,
        proposals: Proposals,
        sizes: Int[Tensor, "B 2"],
        targets: Targets,
        choose: Choose,
    ) -> Losses:
        """Return the losses of every stage and mask branch."""
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
            out = stage(features(samples.rois, stage.side), samples.valid)
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
        logits, boxes = [], rois.boxes[:, None]  # of each stage; of the last
        for i, stage in enumerate(self.stages):
            out = stage(features(rois, stage.side))
            logits.append(out.logits.float())
            if i == len(self.stages) - 1:
                boxes = stage.boxes(out, rois, sizes)
            else:
                rois = stage.refine(out, rois, sizes, None)
        scores = mean_scores(torch.stack(logits), self.config.box.average)
        nowhere = ~proposals.valid.flatten()[:, None]
        return Candidates(boxes, scores.masked_fill(nowhere, -1), rois.image)


def mean_scores(
    logits: Float[Tensor, "K R classes"], average: Literal["logits", "probabilities"]
) -> Float[Tensor, "R C"]:
    """Return the scores of all classes but background, averaged over the stages."""
    if average == "probabilities":
        return logits.softmax(2).mean(0)[:, :-1]
    return logits.mean(0).softmax(1)[:, :-1]
