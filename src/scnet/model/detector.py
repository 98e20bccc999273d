"""The detector, the path of an image from pixels to detections:

    normalise -> backbone -> FPN -> RPN -> RoI heads

Two calls, the same in any mode: `loss(batch)` and `predict(images)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from scnet.config import Config
from scnet.model.backbone import Backbone
from scnet.model.features import SceneBranches, SceneOutput
from scnet.model.pyramid import FPN
from scnet.model.roi_heads import RoIHeads
from scnet.model.rpn import RPN, RPNOutput
from scnet.model.sampling import Choose, RandomChoice
from scnet.ops.images import pad_images
from scnet.types import Batch, Found, ImageInfo, Losses, View

if TYPE_CHECKING:
    from scnet.inference.detections import Detections


class Detector(nn.Module):
    """Any architecture of the family, as its config says."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        model = config.model
        self.config = config
        self.classes = config.classes or tuple(f"class {i}" for i in range(model.num_classes))
        self.category_ids = config.category_ids or tuple(range(1, model.num_classes + 1))
        self.backbone = Backbone(model.backbone)
        self.fpn = FPN(self.backbone.channels, model.channels, model.norm)
        self.rpn = RPN(model.rpn, model.channels)
        self.branches = SceneBranches(model)
        self.roi_heads = RoIHeads(model)

    def loss(self, batch: Batch, choose: Choose | None = None) -> Losses:
        """Return the weighted losses by name; their sum is what is minimised.

        Args:
            batch: with targets, and with semantic maps where the model has a semantic branch.
            choose: how samples are chosen; at random where not given.
        """
        if batch.targets is None:
            raise ValueError("the batch has no targets; a loss needs them")
        if choose is None:
            choose = RandomChoice(torch.randint(2**31, (len(batch.info),)))
        rpn, scene = self.dense(batch.images, batch.sizes)
        losses = self.rpn.loss(rpn, batch.sizes, batch.targets, choose)
        losses |= self.branches.loss(scene, batch.semantic, batch.targets)
        proposals = self.rpn.proposals(rpn, batch.sizes, training=True)
        losses |= self.roi_heads.loss(scene.scene, proposals, batch.sizes, batch.targets, choose)
        return losses

    forward = loss  # what data-parallel wrappers call

    @torch.inference_mode()
    def detect(
        self, batch: Batch, *, min_score: float = 0.0, max_detections: int | None = None
    ) -> Found:
        """Return what is in a batch, in its pixels; masks are still grids over their boxes.

        Args:
            min_score: raises the threshold of the config; what scores less gets no mask,
                which saves its time.
            max_detections: most objects per image; None takes the config's.
        """
        rpn, scene = self.dense(batch.images, batch.sizes)
        proposals = self.rpn.proposals(rpn, batch.sizes, training=False)
        return self.roi_heads.predict(
            scene.scene, proposals, batch.sizes, min_score, max_detections
        )

    def dense(
        self, images: Num[Tensor, "B 3 H W"], sizes: Int[Tensor, "B 2"]
    ) -> tuple[RPNOutput, SceneOutput]:
        """Return what depends on whole images alone: its shapes follow from theirs."""
        pyramid = self.fpn(self.backbone(self.normalise(images, sizes)))
        return self.rpn(pyramid), self.branches(pyramid)

    def predict(self, images: Sequence[Num[Tensor, "3 _h _w"]]) -> list[Detections]:
        """Return the detections of each image, in its own pixels.

        Args:
            images: (3, H, W) RGB, 0..255, of any sizes. They are not resized.

        Example:
            >>> detector.predict([torch.rand(3, 480, 640) * 255])[0].boxes.shape  # doctest: +SKIP
            torch.Size([0, 4])
        """
        from scnet.inference.place import place  # what the method ends in, not what it is made of

        if not len(images):
            return []
        views = (View.whole((image.shape[-2], image.shape[-1])) for image in images)
        info = [ImageInfo(i, "", view) for i, view in enumerate(views)]
        batch = Batch.of(pad_images(images), info).to(self.device)
        return place(self.detect(batch), batch, self.classes, self.category_ids)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def normalise(
        self, images: Num[Tensor, "B 3 H W"], sizes: Int[Tensor, "B 2"]
    ) -> Float[Tensor, "B 3 H W"]:
        """Bring images to the statistics that the backbone was trained with; padding becomes 0."""
        images = images.float()
        mean = images.new_tensor(self.backbone.mean).view(3, 1, 1) * 255
        std = images.new_tensor(self.backbone.std).view(3, 1, 1) * 255
        rows = torch.arange(images.shape[2], device=images.device) < sizes[:, :1]
        columns = torch.arange(images.shape[3], device=images.device) < sizes[:, 1:]
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        return ((images - mean) / std * inside).contiguous(memory_format=torch.channels_last)
