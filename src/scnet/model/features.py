"""What an image offers to its RoIs: the pyramid, the semantic branch and the global-context branch.

The semantic branch is that of HTC (Chen et al. 2019, sec. 3.4), the global context that of SCNet
(sec. 4.2). A RoI's feature is the sum of what the three give. `RoIFeatures` is the only caller of
RoIAlign, in training and inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from scnet.config import ContextConfig, ModelConfig, SemanticConfig
from scnet.model.backbone import STRIDES
from scnet.model.layers import ConvReLU, init_classifier, stack
from scnet.ops.pooling import make_pooler
from scnet.types import IGNORE, Losses, RoIs, Scene, Targets

SEMANTIC_STRIDE = 8  # of P3, the level that the others are resized to


class SceneOutput(NamedTuple):
    """The scene, and the raw predictions that its branches are trained by."""

    scene: Scene
    semantic_logits: Float[Tensor, "B classes h8 w8"] | None
    context_logits: Float[Tensor, "B C"] | None


class SceneBranches(nn.Module):
    """The two branches that look at the whole image; either may be absent."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.semantic = SemanticBranch(config.semantic, config) if config.semantic else None
        self.context = ContextBranch(config.context, config) if config.context else None

    def forward(self, pyramid: Sequence[Float[Tensor, "B D _h _w"]]) -> SceneOutput:
        """Run the branches on P2..P6."""
        semantic_logits, semantic = self.semantic(pyramid) if self.semantic else (None, None)
        context_logits, context = self.context(pyramid[-1]) if self.context else (None, None)
        scene = Scene(tuple(pyramid[: len(STRIDES)]), semantic, context)
        return SceneOutput(scene, semantic_logits, context_logits)

    def loss(
        self, out: SceneOutput, semantic: Int[Tensor, "B H W"] | None, targets: Targets
    ) -> Losses:
        """Return the weighted losses of the branches that exist.

        Raises:
            ValueError: there is a semantic branch but the batch has no semantic map to learn from.
        """
        losses: Losses = {}
        if self.semantic and out.semantic_logits is not None:
            if semantic is None:
                raise ValueError(
                    "the model has a semantic branch, but the batch has no semantic maps; "
                    "load the data with them, or switch the branch off: --model.semantic off"
                )
            losses["semantic"] = self.semantic.loss(out.semantic_logits, semantic)
        if self.context and out.context_logits is not None:
            losses["context"] = self.context.loss(out.context_logits, targets)
        return losses


class SemanticBranch(nn.Module):
    """Fuses all levels at P3's size; gives class logits per pixel and an embedding for the RoIs."""

    def __init__(self, config: SemanticConfig, model: ModelConfig) -> None:
        super().__init__()
        self.config, channels = config, model.channels
        self.lateral = nn.ModuleList(ConvReLU(channels, kernel=1) for _ in range(len(STRIDES) + 1))
        self.convs = stack(channels, 4, config.residual, model.norm)
        self.embedding = ConvReLU(channels, kernel=1)
        self.classifier = nn.Conv2d(channels, model.semantic_classes, 1)
        init_classifier(self.classifier)

    def forward(
        self, pyramid: Sequence[Float[Tensor, "B D _h _w"]]
    ) -> tuple[Float[Tensor, "B classes h8 w8"], Float[Tensor, "B D h8 w8"]]:
        size = pyramid[1].shape[-2:]
        x = self.lateral[1](pyramid[1])
        for i, (lateral, level) in enumerate(zip(self.lateral, pyramid, strict=True)):
            if i != 1:
                resized = F.interpolate(level, size=size, mode="bilinear", align_corners=True)
                x = x + lateral(resized)
        x = self.convs(x)
        return self.classifier(x), self.embedding(x)

    def loss(
        self, logits: Float[Tensor, "B classes h8 w8"], target: Int[Tensor, "B H W"]
    ) -> Float[Tensor, ""]:
        """Return the weighted cross-entropy; as in the release its mean counts ignored pixels."""
        target = target[:, ::SEMANTIC_STRIDE, ::SEMANTIC_STRIDE].long()
        total = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum")
        return self.config.loss_weight * total / target.numel()


class ContextBranch(nn.Module):
    """Says which classes are in the image; its pooled feature joins every RoI of the image."""

    def __init__(self, config: ContextConfig, model: ModelConfig) -> None:
        super().__init__()
        self.config, channels = config, model.channels
        self.convs = stack(channels, 4, residual=True, norm=model.norm)
        self.classifier = nn.Linear(channels, model.num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self, top: Float[Tensor, "B D h64 w64"]
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B D"]]:
        """Read P6. As in the release the mean includes the padding of the batch."""
        pooled = self.convs(top).mean(dim=(2, 3))
        return self.classifier(pooled), pooled

    def loss(self, logits: Float[Tensor, "B C"], targets: Targets) -> Float[Tensor, ""]:
        """Return the weighted multi-label cross-entropy."""
        # Padding has label 0, so what is there is told by the largest.
        present = torch.zeros_like(logits).scatter_reduce(
            1, targets.labels, targets.valid.to(logits.dtype), "amax"
        )
        return self.config.loss_weight * F.binary_cross_entropy_with_logits(logits, present)


class RoIFeatures:
    """Pools the features of RoIs from one scene."""

    def __init__(self, scene: Scene, config: ModelConfig) -> None:
        self.context, self.dtype = scene.context, scene.pyramid[0].dtype
        align = config.roi_align
        self.pyramid = make_pooler(scene.pyramid, STRIDES, align)
        self.semantic = None
        if scene.semantic is not None:
            self.semantic = make_pooler([scene.semantic], [SEMANTIC_STRIDE], align)
        # The semantic map is always pooled to the mask's size, and averaged for boxes.
        self.semantic_side = config.mask.size // 2

    def __call__(self, rois: RoIs, side: int) -> Float[Tensor, "R D {side} {side}"]:
        """Return pyramid + semantic + global context for each RoI."""
        x = self.pyramid.pool(rois, side)
        if self.semantic is not None:
            x = x + self.semantic.pool(rois, side, self.semantic_side)
        if self.context is not None:
            x = x + self.context[rois.image, :, None, None]
        return x.to(self.dtype)
