"""Tell a model from the names and shapes of its parameters."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import timm

from scnet import recipes
from scnet.config import (
    BackboneConfig,
    Config,
    DeformableConfig,
    FPNConfig,
    MaskConfig,
    ModelConfig,
    Norm,
    PAFPNConfig,
    ScoringConfig,
)
from scnet.model.layers import GROUPS
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import deformable

_DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
_SHALLOW = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}  # whose blocks are two convolutions of 3x3
_WIDTHS = (64, 128, 256, 512)
# RegNets by their blocks and the width of the first stage.
_REGNETS: dict[tuple[tuple[int, ...], int], str] = {
    ((1, 2, 7, 12), 32): "regnetx_004",
    ((1, 3, 7, 5), 64): "regnetx_008",
    ((2, 4, 10, 2), 72): "regnetx_016",
    ((2, 6, 15, 2), 96): "regnetx_032",
    ((2, 5, 14, 2), 80): "regnetx_040",
    ((2, 4, 10, 1), 168): "regnetx_064",
    ((2, 5, 15, 1), 80): "regnetx_080",
    ((2, 5, 11, 1), 224): "regnetx_120",
}
_RESNET, _REGNET = "backbone.net.layer1.", "backbone.net.s1."
_SCORING = "roi_heads.masks.scoring."
_MUST_HAVE: dict[str, str | tuple[str, ...]] = {
    "a ResNet, ResNeXt or RegNet backbone": (_RESNET, _REGNET),
    "a feature pyramid": "fpn.output.",
    "a region proposal network": "rpn.conv.",
    "box heads with fully connected layers": "roi_heads.stages.0.fc1.",
    "a mask head": "roi_heads.masks.heads.0.",
}


class Shapes:
    """Shapes of parameters by our names; to ask for one that is missing is an error."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = shapes

    def __getitem__(self, name: str) -> tuple[int, ...]:
        if name not in self._shapes:
            raise CheckpointError(f"the parameter that scnet calls {name} is missing")
        if not self._shapes[name]:
            raise CheckpointError(f"the parameter that scnet calls {name} is a single number")
        return self._shapes[name]

    def has(self, prefix: str | tuple[str, ...]) -> bool:
        """Whether a name begins like this, or like one of these."""
        return any(name.startswith(prefix) for name in self._shapes)

    def holds(self, part: str) -> bool:
        """Whether a name has such a part."""
        return any(part in name for name in self._shapes)

    def count(self, prefix: str) -> int:
        """Return how many numbered parts follow a prefix."""
        parts = {n[len(prefix) :].split(".")[0] for n in self._shapes if n.startswith(prefix)}
        return sum(part.isdigit() for part in parts)


def recognise(shapes: Shapes) -> Config:
    """Return the config of the model that has parameters of these names and shapes.

    Raises:
        CheckpointError: another kind of model, or what tells its kind is missing.
    """
    missing = [what for what, prefix in _MUST_HAVE.items() if not shapes.has(prefix)]
    if missing:
        raise CheckpointError(
            "not a Mask R-CNN, Mask Scoring R-CNN, Cascade Mask R-CNN, HTC or SCNet on a ResNet or "
            "RegNet with FPN: "
            f"{', '.join(missing)} not found"
        )
    backbone = _backbone(shapes)
    base = _recipe(shapes, backbone)
    model = base.model
    classes = shapes["roi_heads.stages.0.cls.weight"][0] - 1
    boxes = shapes["roi_heads.stages.0.reg.weight"][0] // 4
    box = replace(
        model.box,
        hidden=shapes["roi_heads.stages.0.fc1.weight"][0],
        convs=shapes.count("roi_heads.stages.0.convs."),
        layers=shapes.count("roi_heads.stages.0.fc"),
    )
    if classes > 1:  # with one class both kinds have one box, and the recipe decides
        box = replace(box, class_agnostic=boxes == 1)
    masks = shapes["roi_heads.masks.heads.0.classifier.weight"][0]
    if masks != classes:
        raise CheckpointError(
            f"it has {masks} masks for {classes} classes (mask_head.class_agnostic); scnet has a "
            "mask for each class"
        )
    semantic = model.semantic and replace(
        model.semantic, num_classes=shapes["branches.semantic.classifier.weight"][0]
    )
    model = replace(
        model,
        rpn=replace(model.rpn, convs=1 + shapes.count("rpn.convs.")),
        num_classes=classes,
        backbone=replace(
            model.backbone,
            name=backbone.name,
            widths=backbone.widths,
            deformable=_deformable(shapes),
        ),
        pyramid=PAFPNConfig() if shapes.has("fpn.down.") else FPNConfig(),
        channels=shapes["fpn.output.0.weight"][0],
        semantic=semantic,
        box=box,
        mask=replace(
            model.mask, size=_mask_size(shapes, model.mask), scoring=_scoring(shapes, model.mask)
        ),
    )
    return replace(base, model=_with_norms(model, shapes))


def _with_norms(model: ModelConfig, shapes: Shapes) -> ModelConfig:
    """Return a model with the norms that its parameters show; one that all parts have stands once.

    In use there is one batch norm, whatever its statistics were taken over.
    """
    scene = [f"branches.{name}.convs.0.norm" for name in ("semantic", "context")]
    masks = "roi_heads.masks.heads.0.convs.0.norm"
    pyramid = _norm(shapes, "fpn.lateral_norm.0")
    box, mask = _norm(shapes, "roi_heads.stages.0.convs.0.norm"), _norm(shapes, masks, f"{masks}1")
    has_scene = model.semantic is not None or model.context is not None
    usual = _norm(shapes, *scene, *(f"{name}1" for name in scene)) if has_scene else pyramid
    return replace(
        model,
        norm=usual,
        pyramid=replace(model.pyramid, norm=None if pyramid == usual else pyramid),
        box=replace(model.box, norm=None if box == usual or not model.box.convs else box),
        mask=replace(model.mask, norm=None if mask == usual or not model.mask.convs else mask),
    )


def _norm(shapes: Shapes, *places: str) -> Norm:
    """Return the norm that stands at one of these places."""
    if any(shapes.has(f"{place}.norm.running_") for place in places):
        return "batch"
    return "group" if any(shapes.has(f"{place}.weight") for place in places) else "none"


def require_anchors(shapes: Shapes, config: Config, *, known: bool, gives: str) -> None:
    """Check that there are as many anchors as an RPN has outputs; only a config says which.

    Args:
        known: whether a config was read.
        gives: what a file is called that holds a config.

    Raises:
        CheckpointError: there are others.
    """
    number, expected = shapes["rpn.cls.weight"][0], config.model.rpn.anchors
    if number == expected:
        return
    told = f"its RPN has {number} anchors at each place, but "
    if known:
        raise CheckpointError(f"{told}its config has {expected}; is it the config of this file?")
    raise CheckpointError(
        f"{told}there is no config in it that says which; give it with --config {gives}"
    )


def _recipe(shapes: Shapes, backbone: BackboneConfig) -> Config:
    """Return the recipe with the same parts, and where there is one, with the same backbone."""
    parts = _parts_of(shapes)
    same = [name for name, own in _known() if own == parts]
    if not same:
        text = ", ".join(f"{what}: {value}" for what, value in parts.items())
        raise CheckpointError(f"no recipe has these parts ({text})")
    for name in same:
        if recipes.find(name).model.backbone.name == backbone.name:
            return recipes.find(name)
    return recipes.find(same[0])


@functools.cache
def _known() -> list[tuple[str, dict[str, Any]]]:
    """Return the recipes with their parts."""
    return [(name, _parts(build().model)) for name, build in recipes.RECIPES.items()]


def _parts(model: ModelConfig) -> dict[str, Any]:
    mask, semantic = model.mask, model.semantic
    return {
        "box stages": len(model.box.stages),
        "mask heads": len(mask.fed_by),
        "convolutions of a mask head": mask.convs,
        "skips in the mask head": mask.residual,
        "flow between mask heads": mask.flow,
        "feature relay": mask.relay,
        "mask scoring": mask.scoring is not None,
        "semantic branch": semantic is not None,
        "skips in the semantic branch": semantic is not None and semantic.residual,
        "global context": model.context is not None,
    }


def _parts_of(shapes: Shapes) -> dict[str, Any]:
    convs = "roi_heads.masks.heads.0.convs."
    skips = shapes.has(f"{convs}0.conv1.")
    return {
        "box stages": shapes.count("roi_heads.stages."),
        "mask heads": shapes.count("roi_heads.masks.heads."),
        "convolutions of a mask head": shapes.count(convs) * (2 if skips else 1),
        "skips in the mask head": skips,
        "flow between mask heads": shapes.has("roi_heads.masks.heads.1.flow."),
        "feature relay": shapes.has("roi_heads.masks.relays.0."),
        "mask scoring": shapes.has(_SCORING),
        "semantic branch": shapes.has("branches.semantic."),
        "skips in the semantic branch": shapes.has("branches.semantic.convs.0.conv1."),
        "global context": shapes.has("branches.context."),
    }


def _scoring(shapes: Shapes, mask: MaskConfig) -> ScoringConfig | None:
    """Return how deep and wide the head is that scores masks, where there is one."""
    if mask.scoring is None:
        return None
    return replace(
        mask.scoring,
        convs=shapes.count(f"{_SCORING}convs."),
        layers=shapes.count(f"{_SCORING}fcs."),
        hidden=shapes[f"{_SCORING}iou.weight"][-1],
    )


def _mask_size(shapes: Shapes, mask: MaskConfig) -> int:
    """Return the side of a mask; only a relay shows it, as it gives a quarter of that side."""
    if not mask.relay:
        return mask.size
    channels = shapes["fpn.output.0.weight"][0]
    return 4 * math.isqrt(shapes["roi_heads.masks.relays.0.fc.weight"][0] // channels)


def _backbone(shapes: Shapes) -> BackboneConfig:
    """Return timm's name and the widths of a ResNet, ResNeXt or RegNet."""
    if shapes.has(_REGNET):
        return _regnet(shapes)
    stages = [f"backbone.net.layer{i}." for i in (1, 2, 3, 4)]
    blocks = tuple(shapes.count(stage) for stage in stages)
    deep = shapes.has(f"{stages[0]}0.conv3.")
    depths = _DEPTHS if deep else _SHALLOW
    if blocks not in depths:
        kind = "bottleneck" if deep else "basic"
        raise CheckpointError(
            f"no ResNet of depth {', '.join(map(str, depths.values()))} has {blocks} {kind} blocks"
        )
    widths = tuple(shapes[f"{stage}0.conv1.weight"][0] for stage in stages)
    width, of_group = shapes[f"{stages[0]}0.conv2.weight"][:2]
    if width == of_group:
        name = f"resnet{depths[blocks]}"
    else:
        name, widths = f"resnext{depths[blocks]}_{width // of_group}x{of_group}d", _WIDTHS
    if not shapes.has("backbone.net.bn1.running_"):
        if any(number % GROUPS for number in widths):
            raise CheckpointError(f"group norm of {GROUPS} groups has no stages of width {widths}")
        name = f"{name}_gn"
    if not timm.is_model(name):
        raise CheckpointError(f"timm, which builds the backbones, has no {name}")
    return BackboneConfig(name=_tagged(name), widths=None if widths == _WIDTHS else widths)


def _deformable(shapes: Shapes) -> DeformableConfig | None:
    """Return which stages have deformable convolutions; of some only a config says the kind."""
    if shapes.has(_REGNET) and shapes.holds(".conv_offset."):
        raise CheckpointError(
            "it has deformable convolutions in a RegNet; scnet has them in ResNets and ResNeXts"
        )
    offsets = {i: f"backbone.net.layer{i}.0.conv2.conv_offset.bias" for i in (1, 2, 3, 4)}
    stages = tuple(i for i, name in offsets.items() if shapes.has(name))
    return deformable.recognised(stages, shapes[offsets[stages[0]]][0]) if stages else None


def _regnet(shapes: Shapes) -> BackboneConfig:
    blocks = tuple(shapes.count(f"backbone.net.s{i}.b") for i in (1, 2, 3, 4))
    width = shapes[f"{_REGNET}b1.conv1.conv.weight"][0]
    if (blocks, width) not in _REGNETS:
        raise CheckpointError(f"no RegNetX of MMDetection has {blocks} blocks, {width} wide")
    return BackboneConfig(name=_REGNETS[blocks, width])


def _tagged(name: str) -> str:
    """Name torchvision's ImageNet weights, with which the published models began, if it has any."""
    tagged = f"{name}.tv_in1k"
    return tagged if timm.is_model_pretrained(tagged) else name
