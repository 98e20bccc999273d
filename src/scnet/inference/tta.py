"""Test-time augmentation: an image is seen mirrored and turned, and what is seen is averaged.

As in MMDetection 2.x (`aug_test`), the views are joined before anything is decided:

    proposals   those of all views, the best after NMS
    boxes       every view refines all of them; boxes and scores are averaged, then suppressed
    masks       of the boxes that are left, each view gives probabilities, which are averaged

So boxes and masks are found once, whatever the number of views, and time grows with it. In a mirror
image the left thing of a pair is the right one (`data.flip_swaps`), which is undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Num
from torch import Tensor

from scnet.config import Config
from scnet.data.sides import find_swaps
from scnet.model.cascade import Dense
from scnet.model.detector import Detector, evaluating
from scnet.model.features import RoIFeatures
from scnet.model.mask_branch import FoundMasks
from scnet.ops.nms_groups import group_nms
from scnet.settings import ConfigError
from scnet.types import Batch, Candidates, Found, ImageInfo, Proposals, RoIs, Size, View

Views = Literal["mirror", "flips", "turns"]
VIEWS: tuple[Views, ...] = get_args(Views)


class Pose(NamedTuple):
    """One of the eight ways to lay an image: mirrored, upside down, then turned."""

    horizontal: bool = False
    vertical: bool = False
    turned: bool = False  # by a quarter to the left

    def image(self, image: Num[Tensor, "*D h w"]) -> Num[Tensor, "*D _h _w"]:
        """Lay an image, or a map of one."""
        image = image.flip(self._mirrored) if self._mirrored else image
        return image.rot90(1, (-2, -1)) if self.turned else image

    def image_back(self, image: Num[Tensor, "*D h w"]) -> Num[Tensor, "*D _h _w"]:
        """Undo `image`."""
        image = image.rot90(-1, (-2, -1)) if self.turned else image
        return image.flip(self._mirrored) if self._mirrored else image

    def boxes(self, boxes: Float[Tensor, "*n 4"], size: Size) -> Float[Tensor, "*n 4"]:
        """Move boxes of an image of this size to where they lie in `image` of it."""
        x0, y0, x1, y1 = self._mirror(boxes, size).unbind(-1)
        corners = (y0, size[1] - x1, y1, size[1] - x0) if self.turned else (x0, y0, x1, y1)
        return torch.stack(corners, -1)

    def boxes_back(self, boxes: Float[Tensor, "*n 4"], size: Size) -> Float[Tensor, "*n 4"]:
        """Undo `boxes`; the size is that of the image before it was laid."""
        if self.turned:
            x0, y0, x1, y1 = boxes.unbind(-1)
            boxes = torch.stack((size[1] - y1, x0, size[1] - y0, x1), -1)
        return self._mirror(boxes, size)

    @property
    def reflected(self) -> bool:
        """Whether left and right of things are exchanged."""
        return self.horizontal != self.vertical

    @property
    def _mirrored(self) -> tuple[int, ...]:
        return (-1,) * self.horizontal + (-2,) * self.vertical

    def _mirror(self, boxes: Float[Tensor, "*n 4"], size: Size) -> Float[Tensor, "*n 4"]:
        x0, y0, x1, y1 = boxes.unbind(-1)
        if self.horizontal:
            x0, x1 = size[1] - x1, size[1] - x0
        if self.vertical:
            y0, y1 = size[0] - y1, size[0] - y0
        return torch.stack((x0, y0, x1, y1), -1)


def poses(views: str) -> tuple[Pose, ...]:
    """Return how an image is laid, first as it is.

    Raises:
        ConfigError: there are no such views.

    >>> [len(poses(views)) for views in ("mirror", "flips", "turns")]
    [2, 4, 8]
    """
    if views not in VIEWS:
        raise ConfigError(f"tta is {views!r}; give one of {', '.join(VIEWS)}")
    both = (False, True)
    if views == "mirror":
        return tuple(Pose(horizontal) for horizontal in both)
    turned = both if views == "turns" else (False,)
    return tuple(Pose(h, v, t) for t, v, h in product(turned, both, both))


class Seen(NamedTuple):
    """A view of an image, and what the network says of it as a whole."""

    pose: Pose
    batch: Batch  # of one image
    dense: Dense
    features: RoIFeatures


class Augmented:
    """Finds what is in a batch as a `Detector` does, from several views of each image."""

    def __init__(self, detector: Detector, views: Views) -> None:
        self.detector, self.poses = detector, poses(views)
        setting = detector.config.data.flip_swaps
        swaps = find_swaps(setting, detector.classes, None, mirrors=True)
        # Label of each class in a mirror image, and back.
        self.swapped = swaps.labels.to(detector.device)
        self.notes = swaps.notes  # what changes in mirror images, a sentence each

    @property
    def config(self) -> Config:
        """Settings that the model was trained with."""
        return self.detector.config

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.detector.device

    @torch.inference_mode()
    def detect(
        self, batch: Batch, *, min_score: float = 0.0, max_detections: int | None = None
    ) -> Found:
        """Return what is in a batch; as `Detector.detect`, but image by image."""
        with evaluating(self.detector):
            sizes: list[list[int]] = batch.sizes.tolist()
            found = [
                self._detect(batch.images[i, :, :h, :w], (h, w), min_score, max_detections)
                for i, (h, w) in enumerate(sizes)
            ]
            found = [one._replace(image=one.image + i) for i, one in enumerate(found)]
        parts = zip(*found, strict=True)
        joined = [None if part[0] is None else torch.cat(part) for part in parts]
        return Found(*joined)  # type: ignore[arg-type]

    def _detect(
        self, image: Num[Tensor, "D h w"], size: Size, least: float, most: int | None
    ) -> Found:
        seen = [self._see(image, pose) for pose in self.poses]
        proposals = self._proposals(seen, size)
        candidates = self._candidates(seen, proposals, size)
        rois, scores, labels = self.detector.choose(candidates, 1, least, most)
        masks: list[FoundMasks] = []
        for view in seen:
            laid = RoIs(view.pose.boxes(rois.boxes, size), rois.image)
            of_view = self.swapped[labels] if view.pose.reflected else labels
            masks.append(self.detector.head.masks(view.features, laid, of_view))
        shapes = [v.pose.image_back(m.probabilities) for v, m in zip(seen, masks, strict=True)]
        ious = [m.ious for m in masks if m.ious is not None]
        return Found(
            rois.boxes, scores, labels, rois.image, _mean(shapes), _mean(ious) if ious else None
        )

    def _see(self, image: Num[Tensor, "D h w"], pose: Pose) -> Seen:
        detector = self.detector
        laid = pose.image(image)
        view = View.whole((laid.shape[1], laid.shape[2]))
        batch = Batch.of([laid], [ImageInfo(0, "", view)]).to(self.device)
        dense = (detector.graph or detector.dense)(batch.images, batch.sizes)
        features = RoIFeatures(dense.scene.scene, detector.config.model)
        return Seen(pose, batch, dense, features)

    def _proposals(self, seen: Sequence[Seen], size: Size) -> Proposals:
        """Return the best proposals of all views, as they lie in the image as it is."""
        rpn = self.detector.head.rpn
        boxes, logits = [], []
        for view in seen:
            found = rpn.proposals(view.dense.rpn, view.batch.sizes, training=False)
            assert found.logits is not None
            boxes.append(view.pose.boxes_back(found.boxes[found.valid], size))
            logits.append(found.logits[found.valid])
        every, logit = torch.cat(boxes), torch.cat(logits)
        group = torch.zeros(len(every), dtype=torch.long, device=every.device)
        kept = group_nms(every, logit, group, rpn.config.nms_iou)[: rpn.config.after_nms]
        valid = torch.ones(1, len(kept), dtype=torch.bool, device=every.device)
        return Proposals(every[kept][None], valid)

    def _candidates(self, seen: Sequence[Seen], proposals: Proposals, size: Size) -> Candidates:
        """Return the refined proposals, averaged over the views."""
        all_boxes, all_scores = [], []
        for view in seen:
            laid = proposals._replace(boxes=view.pose.boxes(proposals.boxes, size))
            boxes, scores, _ = self.detector.head.roi_heads.find(
                view.features, laid, view.batch.sizes
            )
            if view.pose.reflected:
                scores = scores[:, self.swapped]
                boxes = boxes if boxes.shape[1] == 1 else boxes[:, self.swapped]
            all_boxes.append(view.pose.boxes_back(boxes, size))
            all_scores.append(scores)
        image = torch.zeros(len(all_scores[0]), dtype=torch.long, device=self.device)
        return Candidates(_mean(all_boxes), _mean(all_scores), image)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(0)
