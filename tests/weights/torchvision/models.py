"""Mask R-CNNs of torchvision with made-up weights, and what they compute on the way."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

SEED = 0  # of weights: with these the noise of the tests holds more objects than are kept
CLASSES = ("ash", "oak", "elm", "fir")


class Computed(NamedTuple):
    """What a model computes of a batch."""

    images: Tensor  # normalised and padded
    sizes: list[tuple[int, int]]
    pyramid: list[Tensor]
    logits: list[Tensor]  # of the RPN, by level
    deltas: list[Tensor]
    proposals: list[Tensor]  # by image
    classes: Tensor  # logits of the box head, background first
    boxes: Tensor
    found: list[dict[str, Tensor]]  # before masks are placed
    masks: Tensor  # logits of all classes, for what was found
    final: list[dict[str, Tensor]]


def first_version(**settings: object) -> MaskRCNN:
    """Return the first Mask R-CNN with frozen norms and eps 0, as with its COCO weights."""
    torch.manual_seed(SEED)
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None)
    model = MaskRCNN(backbone, len(CLASSES) + 1, **{"rpn_post_nms_top_n_test": 100, **settings})
    overwrite_eps(model, 0.0)
    return perturbed(model)


def second_version(**settings: object) -> MaskRCNN:
    """Return the second Mask R-CNN: deeper heads, and batch norm wherever it may stand."""
    torch.manual_seed(SEED)
    more = {"rpn_post_nms_top_n_test": 100, **settings}
    return perturbed(
        maskrcnn_resnet50_fpn_v2(
            weights=None, weights_backbone=None, num_classes=len(CLASSES) + 1, **more
        )
    )


@torch.no_grad()
def perturbed(model: MaskRCNN) -> MaskRCNN:
    """Return a model in inference mode with weights, statistics and logits of all sizes."""
    random = torch.Generator().manual_seed(0)

    def between(low: float, high: float, like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=random) * (high - low) + low

    for name, norm in model.named_modules():
        if not isinstance(norm, FrozenBatchNorm2d | nn.BatchNorm2d):
            continue
        # The last norm of a block is small, or the sums of the blocks would grow and grow.
        scale = 0.2 if name.endswith("bn3") else 1.0
        norm.weight.copy_(between(0.5 * scale, 1.5 * scale, norm.weight))
        norm.bias.copy_(between(-0.2, 0.2, norm.bias))
        norm.running_mean.copy_(between(-0.2, 0.2, norm.bias))
        norm.running_var.copy_(between(0.5, 2, norm.bias))
        # Nearly dead channels, for which eps matters.
        norm.running_var[:2] = 1e-6
        norm.weight[:2] *= 1e-3
    # Outputs that differ as those of a trained model do.
    model.rpn.head.cls_logits.weight.mul_(30)
    model.rpn.head.bbox_pred.weight.mul_(5)
    model.roi_heads.box_predictor.cls_score.weight.mul_(20)
    model.roi_heads.box_predictor.bbox_pred.weight.mul_(5)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") and parameter.ndim == 1 and ".bn" not in name:
            parameter.add_(between(-0.05, 0.05, parameter))
    return model.eval()


@torch.inference_mode()
def compute(model: MaskRCNN, images: list[Tensor]) -> Computed:
    """Run a model on images of 0..1, which it does not resize."""
    model.transform.min_size = (min(min(image.shape[1:]) for image in images),)
    seen: dict[str, list[object]] = {}
    parts = {
        "pyramid": model.backbone,
        "head": model.rpn.head,
        "rpn": model.rpn,
        "box": model.roi_heads.box_predictor,
        "masks": model.roi_heads.mask_predictor,
        "heads": model.roi_heads,
        "transform": model.transform,
    }
    hooks = [
        part.register_forward_hook(
            lambda module, given, out, name=name: seen.setdefault(name, []).append(out)
        )
        for name, part in parts.items()
    ]
    # Placing changes what was found where it lies.
    keep = model.roi_heads.register_forward_hook(
        lambda module, given, out: seen.__setitem__("found", [dict(x) for x in out[0]])
    )
    final = model(images)
    for hook in (*hooks, keep):
        hook.remove()
    batch = seen["transform"][0][0]
    head, boxes = seen["head"][0], seen["box"][0]
    return Computed(
        batch.tensors,
        batch.image_sizes,
        list(seen["pyramid"][0].values()),
        head[0],
        head[1],
        seen["rpn"][0][0],
        boxes[0],
        boxes[1],
        seen["found"],
        seen["masks"][0],
        final,
    )
