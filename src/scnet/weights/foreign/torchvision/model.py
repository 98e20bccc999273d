"""A Mask R-CNN of torchvision in memory, read with all of its settings.

What its modules are and how they are set is looked at one by one; what has no counterpart here is
refused by its name in the model.
"""

from __future__ import annotations

from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import Bottleneck
from torchvision.ops import Conv2dNormActivation, FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from scnet.model.detector import Detector
from scnet.model.rpn import STRIDES
from scnet.ops.boxes import MAX_LOG_RATIO
from scnet.types import DIVISOR
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign.anchors import Anchors
from scnet.weights.foreign.conversion import Conversion
from scnet.weights.foreign.torchvision import convert
from scnet.weights.foreign.torchvision.names import BODY, our_names
from scnet.weights.foreign.torchvision.settings import USUAL

# What each part must be; a class of its own may compute anything.
_KINDS: dict[str, tuple[type, ...]] = {
    "transform": (GeneralizedRCNNTransform,),
    "backbone": (BackboneWithFPN,),
    "backbone.body": (IntermediateLayerGetter,),
    "backbone.fpn": (FeaturePyramidNetwork,),
    "backbone.fpn.extra_blocks": (LastLevelMaxPool,),
    "rpn": (RegionProposalNetwork,),
    "rpn.anchor_generator": (AnchorGenerator,),
    "rpn.head": (RPNHead,),
    "roi_heads": (RoIHeads,),
    "roi_heads.box_roi_pool": (MultiScaleRoIAlign,),
    "roi_heads.box_head": (TwoMLPHead, FastRCNNConvFCHead),
    "roi_heads.box_predictor": (FastRCNNPredictor,),
    "roi_heads.mask_roi_pool": (MultiScaleRoIAlign,),
    "roi_heads.mask_head": (MaskRCNNHeads,),
    "roi_heads.mask_predictor": (MaskRCNNPredictor,),
}
_NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d, nn.SyncBatchNorm)  # alike when they do not learn
_POOLERS = ("roi_heads.box_roi_pool", "roi_heads.mask_roi_pool")
_LEVELS = ["0", "1", "2", "3"]
# Settings that must have one value, as there is no other here.
_MUST_BE: dict[str, Any] = {
    "transform.fixed_size": None,
    "transform.size_divisible": DIVISOR,
    "rpn.score_thresh": 0.0,
    "rpn.min_size": 1e-3,
    "rpn.fg_bg_sampler.positive_fraction": 0.5,
    "rpn.box_coder.weights": (1.0, 1.0, 1.0, 1.0),
    "rpn.box_coder.bbox_xform_clip": MAX_LOG_RATIO,
    "roi_heads.box_coder.bbox_xform_clip": MAX_LOG_RATIO,
    "roi_heads.keypoint_head": None,
    **{
        f"{pooler}.{name}": value
        for pooler in _POOLERS
        for name, value in {
            "featmap_names": _LEVELS,
            "sampling_ratio": 2,
            "canonical_scale": 224,
            "canonical_level": 4,
        }.items()
    },
}
# Our setting for each of theirs, where the value is the same.
_SAME = {
    "rpn.nms_thresh": "model.rpn.nms_iou",
    "rpn.proposal_matcher.high_threshold": "model.rpn.positive_iou",
    "rpn.proposal_matcher.low_threshold": "model.rpn.negative_iou",
    "rpn.fg_bg_sampler.batch_size_per_image": "model.rpn.samples",
    "roi_heads.score_thresh": "model.box.score_threshold",
    "roi_heads.nms_thresh": "model.box.nms_iou",
    "roi_heads.detections_per_img": "model.box.max_detections",
    "roi_heads.fg_bg_sampler.batch_size_per_image": "model.box.samples",
    "roi_heads.fg_bg_sampler.positive_fraction": "model.box.positive_fraction",
}


def read(model: nn.Module, classes: tuple[str, ...] = ()) -> Conversion:
    """Return the detector that does what a model does; the model stays as it is.

    Args:
        classes: names of its classes, without the background.

    Raises:
        CheckpointError: it is no Mask R-CNN of torchvision, or has a part or setting that has no
            counterpart here.
    """
    _require_kinds(model)
    for path, wanted in _MUST_BE.items():
        value = _at(model, path)
        if value != wanted:
            raise CheckpointError(f"{path} is {value!r}; scnet has {wanted!r} alone")
    matcher = _at(model, "roi_heads.proposal_matcher")
    if matcher.low_threshold != matcher.high_threshold:
        raise CheckpointError(
            f"roi_heads.proposal_matcher leaves out boxes between {matcher.low_threshold} and "
            f"{matcher.high_threshold} (box_bg_iou_thresh, box_fg_iou_thresh); scnet has one limit"
        )
    anchors = _anchors(_at(model, "rpn.anchor_generator"))
    given = convert.Given(
        settings=USUAL | _settings(model) | anchors.changes(),
        eps=_eps(model),
        sizes=len(anchors.sizes[0]),
        source="torchvision, a model in memory",
    )
    state = {name: x.detach().cpu() for name, x in model.state_dict().items()}
    conversion = convert.build_from(state, given, classes)
    _require_same_convolutions(model, conversion.detector)
    return conversion


def _at(model: nn.Module, path: str) -> Any:
    value: Any = model
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _require_kinds(model: nn.Module) -> None:
    if type(model) is not MaskRCNN:
        raise CheckpointError(
            f"a {type(model).__name__} is given; from_torchvision takes a "
            "torchvision.models.detection.MaskRCNN, as one derived from it may compute anything"
        )
    for path, kinds in _KINDS.items():
        _require_kind(path, _at(model, path), kinds)
    for name, module in _at(model, "backbone.body").named_modules():
        if name.startswith("layer") and name.count(".") == 1:
            _require_kind(f"{BODY}{name}", module, (Bottleneck,))
    for name, module in model.named_modules():
        *_, last = name.split(".")
        if last.startswith("bn") or name.endswith("downsample.1"):
            _require_kind(name, module, _NORMS)
        elif isinstance(module, Conv2dNormActivation):
            _require_block(name, list(module))


def _require_block(path: str, parts: list[nn.Module]) -> None:
    """Check a convolution and what is behind it: a norm or none, and in heads ReLU."""
    norms, ends = parts[1:], []
    if not path.startswith("backbone.fpn."):
        norms, ends = parts[1:-1], parts[-1:]
    wanted = [(nn.Conv2d,), *[_NORMS] * len(norms), *[(nn.ReLU,)] * len(ends)]
    for i, (part, kinds) in enumerate(zip(parts, wanted, strict=True)):
        _require_kind(f"{path}.{i}", part, kinds)


def _require_kind(path: str, part: object, kinds: tuple[type, ...]) -> None:
    if type(part) not in kinds:
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise CheckpointError(f"{path} is a {type(part).__name__}; scnet reads a {wanted}")


def _eps(model: nn.Module) -> dict[str, float]:
    return {
        name: float(module.eps)
        for name, module in model.named_modules()
        if isinstance(module, _NORMS)
    }


def _settings(model: nn.Module) -> dict[str, Any]:
    """Return our settings by their paths, without anchors."""
    transform, rpn, heads = (_at(model, name) for name in ("transform", "rpn", "roi_heads"))
    short, long = int(transform.min_size[-1]), int(transform.max_size)
    stage = {
        "iou": heads.proposal_matcher.high_threshold,
        "delta_std": [1 / weight for weight in heads.box_coder.weights],
        "side": _side(heads.box_roi_pool),
    }
    return {
        "data.size": (min(short, long), long),
        "model.backbone.mean": _statistics(transform.image_mean, IMAGENET_DEFAULT_MEAN),
        "model.backbone.std": _statistics(transform.image_std, IMAGENET_DEFAULT_STD),
        "model.box.stages": [stage],
        "model.mask.size": 2 * _side(heads.mask_roi_pool),
        "model.rpn.before_nms": rpn._pre_nms_top_n["testing"],
        "model.rpn.before_nms_train": rpn._pre_nms_top_n["training"],
        "model.rpn.after_nms": rpn._post_nms_top_n["testing"],
        "model.rpn.after_nms_train": rpn._post_nms_top_n["training"],
        **{ours: _at(model, theirs) for theirs, ours in _SAME.items()},
    }


def _side(pooler: MultiScaleRoIAlign) -> int:
    height, width = pooler.output_size
    if height != width:
        raise CheckpointError(f"a RoIAlign gives {height} x {width} bins; scnet's is square")
    return int(height)


def _statistics(values: Any, usual: tuple[float, ...]) -> tuple[float, ...] | None:
    """Return mean or std of pixels of 0..1; None where they are the usual ones."""
    given = tuple(float(value) for value in values)
    return None if given == usual else given


def _anchors(generator: AnchorGenerator) -> Anchors:
    sizes = tuple(tuple(float(size) for size in level) for level in generator.sizes)
    ratios = {tuple(float(ratio) for ratio in level) for level in generator.aspect_ratios}
    if len(ratios) != 1 or len(sizes) != len(STRIDES):
        raise CheckpointError(
            f"rpn.anchor_generator has sizes {generator.sizes} and aspect ratios "
            f"{generator.aspect_ratios}; scnet has {len(STRIDES)} levels with the same ratios"
        )
    return Anchors(sizes, ratios.pop())


def _require_same_convolutions(model: nn.Module, ours: Detector) -> None:
    """Stop where a convolution strides or spreads otherwise, which no parameter shows."""
    names = our_names(model.state_dict())
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        mine: Any = ours.get_submodule(names[f"{name}.weight"].removesuffix(".weight"))
        for setting in ("stride", "padding", "dilation", "groups", "padding_mode"):
            theirs, expected = getattr(module, setting), getattr(mine, setting)
            if theirs != expected:
                raise CheckpointError(f"{name} has {setting} {theirs}; scnet's has {expected}")
