"""A detector's head that proposes boxes and refines them: RPN, scene branches, RoI heads.

A head is what a detector has behind its pyramid. It is a view of parts that belong to the detector,
so that parameters are named by part, and offers

    dense   what depends on whole images alone; its shapes follow from theirs
    loss    the losses of a batch
    find    candidates: boxes with scores, before suppression
    masks   the masks of boxes that were chosen
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn

from scnet.config import ModelConfig
from scnet.model.features import RoIFeatures, SceneBranches, SceneOutput
from scnet.model.roi_heads import RoIHeads
from scnet.model.rpn import RPN, RPNOutput
from scnet.model.sampling import Choose
from scnet.types import Batch, Candidates, Losses, RoIs


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
        scene = dense.scene.scene
        losses |= self.roi_heads.loss(scene, proposals, batch.sizes, batch.targets, choose)
        return losses

    def find(self, dense: Dense, sizes: Int[Tensor, "B 2"]) -> tuple[Candidates, RoIFeatures]:
        """Return the candidates of a batch, and what `masks` reads."""
        proposals = self.rpn.proposals(dense.rpn, sizes, training=False)
        features = self.roi_heads.features(dense.scene.scene)
        return self.roi_heads.find(features, proposals, sizes), features

    def masks(
        self, features: RoIFeatures, rois: RoIs, labels: Int[Tensor, "R"]
    ) -> Float[Tensor, "R S S"]:
        """Return the mask of each RoI's class, as probabilities on a grid over its box."""
        heads = self.roi_heads
        return heads.masks.probabilities(features, rois, labels, tuple(heads.stages))
