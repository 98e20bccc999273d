"""The detector, the path of an image from pixels to what is found:

    normalise -> backbone -> pyramid -> head

Two calls, the same in any mode: `loss(batch)` and `predict(images)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn

from scnet.config import Config
from scnet.model.backbone import Backbone
from scnet.model.cascade import Cascade, Dense
from scnet.model.pyramid import make_pyramid
from scnet.model.sampling import Choose, RandomChoice
from scnet.ops.nms import class_nms
from scnet.ops.soft_nms import soft_class_nms
from scnet.types import Batch, Candidates, Found, ImageInfo, Losses, RoIs, View

if TYPE_CHECKING:
    from scnet.inference.detections import Detections


class Detector(nn.Module):
    """Any architecture of the family, as its config says: a body, and a head behind it."""

    mean: Tensor
    std: Tensor
    # Computes `dense` in its place when detecting, as a compiled graph does.
    graph: Callable[[Tensor, Tensor], Dense] | None = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        model = config.model
        self.config = config
        self.classes = config.classes or tuple(f"class {i}" for i in range(model.num_classes))
        self.category_ids = config.category_ids or tuple(range(1, model.num_classes + 1))
        self.backbone = Backbone(model.backbone)
        self.fpn = make_pyramid(model, self.backbone.channels)
        for name, part in Cascade.parts(model).items():
            self.add_module(name, part)
        for name, values in (("mean", self.backbone.mean), ("std", self.backbone.std)):
            pixels = torch.tensor(values, device="cpu").view(-1, 1, 1) * 255
            self.register_buffer(name, pixels, persistent=False)

    @property
    def head(self) -> Cascade:
        """What comes behind the pyramid."""
        return Cascade(*(cast(nn.Module, getattr(self, name)) for name in Cascade._fields))  # type: ignore[arg-type]

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
        return self.head.loss(self.dense(batch.images, batch.sizes), batch, choose)

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
        with evaluating(self):
            dense = (self.graph or self.dense)(batch.images, batch.sizes)
            candidates, features = self.head.find(dense, batch.sizes)
            rois, scores, labels = self.choose(
                candidates, len(batch.info), min_score, max_detections
            )
            masks, ious = self.head.masks(features, rois, labels)
        return Found(rois.boxes, scores, labels, rois.image, masks, ious)

    def choose(
        self,
        candidates: Candidates,
        images: int,
        min_score: float = 0.0,
        max_detections: int | None = None,
    ) -> tuple[RoIs, Float[Tensor, "R"], Int[Tensor, "R"]]:
        """Return boxes, scores and labels of the best candidates after suppression."""
        boxes, scores, labels, valid = self.suppressed(
            candidates, images, min_score, max_detections
        )
        image, place = valid.nonzero(as_tuple=True)
        return RoIs(boxes[image, place], image), scores[image, place], labels[image, place]

    def suppressed(
        self,
        candidates: Candidates,
        images: int,
        min_score: float = 0.0,
        max_detections: int | None = None,
    ) -> tuple[
        Float[Tensor, "B N 4"], Float[Tensor, "B N"], Int[Tensor, "B N"], Bool[Tensor, "B N"]
    ]:
        """Return the best candidates of each image, best first, and which places hold one."""
        box = self.config.model.box
        suppress = class_nms
        if box.soft_nms is not None:
            suppress = partial(soft_class_nms, decay=box.soft_nms, lowest=min_score)
        return suppress(
            *candidates,
            images,
            threshold=max(box.score_threshold, min_score),
            iou=box.nms_iou,
            keep=box.max_detections if max_detections is None else max_detections,
            across=box.nms_across_classes,
        )

    def dense(self, images: Num[Tensor, "B D H W"], sizes: Int[Tensor, "B 2"]) -> Dense:
        """Return what depends on whole images alone: its shapes follow from theirs."""
        return self.head.dense(self.fpn(self.backbone(self.normalise(images, sizes))))

    def predict(self, images: Sequence[Num[Tensor, "D _h _w"]]) -> list[Detections]:
        """Return the detections of each image, in its own pixels.

        Args:
            images: (3, H, W) RGB, or the bands that the model takes, 0..255, of any sizes. They
                are not resized.

        Example:
            >>> detector.predict([torch.rand(3, 480, 640) * 255])[0].boxes.shape  # doctest: +SKIP
            torch.Size([0, 4])
        """
        from scnet.inference.detections import (
            place,  # what the method ends in, not what it is made of
        )

        if not len(images):
            return []
        views = (View.whole((image.shape[-2], image.shape[-1])) for image in images)
        info = [ImageInfo(i, "", view) for i, view in enumerate(views)]
        batch = Batch.of(images, info).to(self.device)
        least = self.config.model.mask.least_visible
        return place(self.detect(batch), batch, self.classes, self.category_ids, least)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def normalise(
        self, images: Num[Tensor, "B D H W"], sizes: Int[Tensor, "B 2"]
    ) -> Float[Tensor, "B D H W"]:
        """Bring images to the statistics that the backbone was trained with; padding becomes 0."""
        if images.shape[1] != len(self.mean):
            raise ValueError(
                f"the images have {images.shape[1]} bands, but the model takes {len(self.mean)} "
                "(model.backbone.bands)"
            )
        images = images.float()
        rows = torch.arange(images.shape[2], device=images.device) < sizes[:, :1]
        columns = torch.arange(images.shape[3], device=images.device) < sizes[:, 1:]
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        normal = (images - self.mean) / self.std * inside
        return normal.contiguous(memory_format=torch.channels_last)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Leave training mode for a while: norms use what they have stored, and learn nothing."""
    was_training = module.training
    if was_training:
        module.eval()
    try:
        yield
    finally:
        if was_training:
            module.train()
