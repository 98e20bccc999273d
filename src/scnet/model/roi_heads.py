"""The cascade: one loop over the box stages for every architecture; `loss` beside `predict`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scnet.config import ModelConfig
from scnet.model.box_stage import SIDE, BoxStage
from scnet.model.features import RoIFeatures
from scnet.model.mask_branch import MaskBranches
from scnet.model.sampling import Choose, sample_rois
from scnet.ops.masks import crop_targets
from scnet.ops.nms import class_nms
from scnet.types import Found, Losses, Proposals, RoIs, Samples, Scene, Targets


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
        for i, stage in enumerate(self.stages):
            samples = self._sample(proposals, targets, i, choose)
            out = stage(features(samples.rois, SIDE))
            named = stage.loss(out, samples, targets)
            losses |= {f"stage{i + 1}.{name}": value for name, value in named.items()}
            refined = stage.refine(out, samples.rois, sizes, samples.labels)
            # Ground truth joins the next stage anew, so it is not kept here.
            proposals = _by_image(refined, samples.valid & ~samples.is_gt, len(sizes))
            if not self.masks.of_stage(i):
                continue
            if self.config.mask.trained_on == "entering":
                losses |= self.mask_loss(i, features, samples, out.hidden, targets)
            else:
                samples = self._sample(proposals, targets, i, choose)
                losses |= self.mask_loss(i, features, samples, None, targets)
        return losses

    def predict(
        self,
        scene: Scene,
        proposals: Proposals,
        sizes: Int[Tensor, "B 2"],
        min_score: float = 0.0,
        max_detections: int | None = None,
    ) -> Found:
        """Return detections with their masks; scores are averaged over the stages."""
        config = self.config.box
        threshold = max(config.score_threshold, min_score)
        most = max_detections or config.max_detections
        features = self.features(scene)
        boxes, scores, rois = self._cascade(features, proposals, sizes)
        found = [
            class_nms(boxes[here], scores[here], threshold, config.nms_iou, most)
            for here in (rois.image == i for i in range(len(sizes)))
        ]
        counts = torch.tensor([len(box) for box, _, _ in found], device=boxes.device)
        image = torch.repeat_interleave(torch.arange(len(found), device=boxes.device), counts)
        box, score, label = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Found(
            box, score, label, image, self.mask_probabilities(features, RoIs(box, image), label)
        )

    def mask_loss(
        self,
        stage: int,
        features: RoIFeatures,
        samples: Samples,
        hidden: Float[Tensor, "R hidden"] | None,
        targets: Targets,
    ) -> Losses:
        """Return the losses of the branches fed by a stage, on its positive samples."""
        positive = (samples.gt >= 0).nonzero().squeeze(1)
        rois = RoIs(samples.rois.boxes[positive], samples.rois.image[positive])
        labels = samples.labels[positive]
        relayed = None
        if self.masks.relays is not None:
            # The boxes that enter a stage were already read by its box head.
            relayed = (
                self.stages[stage].hidden(features(rois, SIDE))
                if hidden is None
                else hidden[positive]
            )
        rows = targets.rows.flatten()[samples.gt[positive]]
        goals = crop_targets(targets.masks, rows, rois.boxes, self.config.mask.size)
        pooled = features(rois, self.masks.side)
        losses = {}
        for branch in self.masks.of_stage(stage):
            logits = self.masks(branch, pooled, relayed, labels)
            losses[self.masks.loss_name(branch)] = self.masks.loss(branch, logits, goals)
        return losses

    def features(self, scene: Scene) -> RoIFeatures:
        """Return the pooling of a scene."""
        return RoIFeatures(scene, self.masks.side)

    def mask_probabilities(
        self, features: RoIFeatures, rois: RoIs, labels: Int[Tensor, "R"]
    ) -> Float[Tensor, "R S S"]:
        """Return the mask of each RoI's class, averaged over the branches."""
        pooled = features(rois, self.masks.side)
        logits = self.masks.all_logits(pooled, self._hidden(features, rois), labels)
        return torch.stack([x.sigmoid() for x in logits]).mean(0)[:, 0].float()

    def _cascade(
        self, features: RoIFeatures, proposals: Proposals, sizes: Int[Tensor, "B 2"]
    ) -> tuple[Float[Tensor, "R boxes 4"], Float[Tensor, "R C"], RoIs]:
        """Refine the proposals stage by stage; return final boxes and class probabilities."""
        image, column = proposals.valid.nonzero(as_tuple=True)
        rois = RoIs(proposals.boxes[image, column], image)
        logits, boxes = [], rois.boxes[:, None]
        for i, stage in enumerate(self.stages):
            out = stage(features(rois, SIDE))
            logits.append(out.logits.float())
            if i == len(self.stages) - 1:
                boxes = stage.boxes(out, rois, sizes)
            else:
                rois = stage.refine(out, rois, sizes, None)
        # The release averages logits, not probabilities.
        scores = torch.stack(logits).mean(0).softmax(1)[:, :-1]
        return boxes, scores, rois

    def _sample(
        self, proposals: Proposals, targets: Targets, stage: int, choose: Choose
    ) -> Samples:
        box = self.config.box
        return sample_rois(
            proposals, targets, self.config.num_classes, box.stages[stage].iou, box, choose
        )

    def _hidden(self, features: RoIFeatures, rois: RoIs) -> dict[int, Float[Tensor, "R hidden"]]:
        """Return, for the relay if any, each feeding stage's shared feature of the final boxes."""
        if self.masks.relays is None:
            return {}
        pooled = features(rois, SIDE)
        return {s: self.stages[s].hidden(pooled) for s in set(self.config.mask.fed_by)}


def _by_image(rois: RoIs, valid: Tensor, images: int) -> Proposals:
    return Proposals(rois.boxes.view(images, -1, 4), valid.view(images, -1))
