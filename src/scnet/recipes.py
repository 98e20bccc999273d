"""Architectures, ablations and schedules as values.

Each function returns a `Config`; a variant is the config of another with a field replaced.
`RECIPES` holds every one by the name that the command line knows. Settings follow the released
implementation; where the paper's text says something else, the docstring says so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from scnet.config import (
    BackboneConfig,
    BoxConfig,
    BoxStageConfig,
    Config,
    ContextConfig,
    DataConfig,
    MaskConfig,
    ModelConfig,
    OptimConfig,
    RPNConfig,
    ScoringConfig,
    SemanticConfig,
    replace_at,
)
from scnet.settings import ConfigError, suggest

# The mask branch of Mask R-CNN: four convolutions. Cascades have one behind each box stage.
SHALLOW = MaskConfig(fed_by=(0,), convs=4, residual=False, loss_weights=(1.0,))
THREE_SHALLOW = replace(SHALLOW, fed_by=(0, 1, 2), loss_weights=(1.0, 0.5, 0.25))


def mask_rcnn(num_classes: int = 80) -> Config:
    """Mask R-CNN (He et al. 2017): one box stage, one mask branch."""
    box = BoxConfig(
        stages=(BoxStageConfig(),), class_agnostic=False, box_loss_beta=0.0, score_threshold=0.05
    )
    rpn = RPNConfig(border=True, box_loss_beta=0.0, after_nms_train=1000)
    model = ModelConfig(num_classes=num_classes, rpn=rpn, box=box, mask=SHALLOW)
    return Config(recipe="mask_rcnn", model=model, optim=schedule_1x())


def mask_rcnn_relay(num_classes: int = 80) -> Config:
    """Mask R-CNN whose mask branch receives the box features (Table 4)."""
    return replace_at(mask_rcnn(num_classes), "model.mask.relay", True)


def mask_scoring_rcnn(num_classes: int = 80) -> Config:
    """Mask Scoring R-CNN (Huang et al. 2019): Mask R-CNN with a head that scores its masks."""
    config = replace_at(mask_rcnn(num_classes), "model.mask.scoring", ScoringConfig())
    return replace(config, recipe="mask_scoring_rcnn")


def cascade_mask_rcnn(num_classes: int = 80) -> Config:
    """Cascade Mask R-CNN (Cai and Vasconcelos 2019) in its usual form, without semantic branch."""
    box = BoxConfig(low_quality=False, score_threshold=0.05)
    model = ModelConfig(num_classes=num_classes, box=box, mask=THREE_SHALLOW)
    return Config(recipe="cascade_mask_rcnn", model=model, optim=schedule_20e())


def cascade_mask_rcnn_semantic(num_classes: int = 80) -> Config:
    """Cascade Mask R-CNN with the semantic branch: the baseline of the paper's tables."""
    return replace_at(cascade_mask_rcnn(num_classes), "model.semantic", SemanticConfig())


def cascade_mask_rcnn_d2(num_classes: int = 80) -> Config:
    """Cascade Mask R-CNN as detectron2 has it: one mask branch, class probabilities averaged.

    The mask branch is trained on the boxes that enter the first stage and used on those that leave
    the last. What detectron2 does in training alone is not part of it: its later stages learn from
    all boxes of the stage before, with a third of their gradient for what lies before the heads.
    """
    scales = (10, 20, 30)  # of the deltas, twice as fine for sizes
    stages = tuple(
        BoxStageConfig(iou=iou, delta_std=(1 / s, 1 / s, 2 / s, 2 / s))
        for iou, s in zip((0.5, 0.6, 0.7), scales, strict=True)
    )
    box = BoxConfig(
        stages=stages,
        low_quality=False,
        box_loss_beta=0.0,
        average="probabilities",
        score_threshold=0.05,
    )
    rpn = RPNConfig(border=True, box_loss_beta=0.0)
    model = ModelConfig(num_classes=num_classes, rpn=rpn, box=box, mask=SHALLOW)
    return Config(recipe="cascade_mask_rcnn_d2", model=model, optim=schedule_1x())


def htc(num_classes: int = 80) -> Config:
    """Hybrid Task Cascade (Chen et al. 2019): masks on leaving boxes, with information flow."""
    mask = replace(THREE_SHALLOW, trained_on="leaving", flow=True)
    model = ModelConfig(num_classes=num_classes, semantic=SemanticConfig(), mask=mask)
    return Config(recipe="htc", model=model, optim=schedule_20e())


def htc_without_semantic(num_classes: int = 80) -> Config:
    """HTC without its semantic branch."""
    return replace_at(htc(num_classes), "model.semantic", None)


def scnet(num_classes: int = 80) -> Config:
    """SCNet (Vu, Kang and Yoo 2021): sample consistency, feature relay and global context.

    In training the mask branch sees the boxes that enter the last stage, as in the release; the
    paper's text says that it sees those that leave it.
    """
    mask = MaskConfig(relay=True)
    semantic = SemanticConfig(residual=True)
    model = ModelConfig(
        num_classes=num_classes, semantic=semantic, context=ContextConfig(), mask=mask
    )
    return Config(recipe="scnet", model=model, optim=schedule_20e())


def table2(consistency: bool, relay: bool, context: bool, num_classes: int = 80) -> Config:
    """A row of Table 2: Cascade Mask R-CNN + semantic branch, SCNet's three parts on or off.

    With all three it is SCNet but for the settings in which the release's SCNet differs from its
    Cascade Mask R-CNN: residual semantic branch, low-quality matches, score threshold.
    """
    config = cascade_mask_rcnn_semantic(num_classes)
    if consistency:
        config = replace_at(config, "model.mask", MaskConfig())
    if context:
        config = replace_at(config, "model.context", ContextConfig())
    return replace_at(config, "model.mask.relay", relay)


def naive_sample_consistency(num_classes: int = 80) -> Config:
    """Three ordinary mask branches, all fed by the last box stage (Fig. 3a, Table 3)."""
    mask = replace(THREE_SHALLOW, fed_by=(2, 2, 2))
    return replace_at(cascade_mask_rcnn_semantic(num_classes), "model.mask", mask)


def sample_consistency(num_classes: int = 80) -> Config:
    """A deep mask branch on the last box stage (effective sample consistency, Fig. 3b, Table 3)."""
    return table2(True, False, False, num_classes)


def cascade_mask_rcnn_relay(num_classes: int = 80) -> Config:
    """Cascade Mask R-CNN with semantic branch and one feature relay per stage (Table 4)."""
    return table2(False, True, False, num_classes)


def scnet_context(weight: float | None, num_classes: int = 80) -> Config:
    """SCNet with another global-context loss weight; None leaves the branch out (Table 5)."""
    context = None if weight is None else ContextConfig(loss_weight=weight)
    return replace_at(scnet(num_classes), "model.context", context)


def scnet_without_relay(num_classes: int = 80) -> Config:
    """SCNet whose masks see the pyramid, the semantic map and the global context only."""
    return replace_at(scnet(num_classes), "model.mask.relay", False)


def scnet_without_semantic(num_classes: int = 80) -> Config:
    """SCNet without its semantic branch."""
    return replace_at(scnet(num_classes), "model.semantic", None)


def scnet_leaving(num_classes: int = 80) -> Config:
    """SCNet as the paper's text has it: masks train on the boxes that leave the last stage."""
    return replace_at(scnet(num_classes), "model.mask.trained_on", "leaving")


def schedule_1x() -> OptimConfig:
    """12 epochs, the rate falls after 8 and 11."""
    return OptimConfig(epochs=12, milestones=(8, 11))


def schedule_20e() -> OptimConfig:
    """20 epochs, the rate falls after 16 and 19: the paper's."""
    return OptimConfig(epochs=20, milestones=(16, 19))


def with_backbone(config: Config, name: str) -> Config:
    """Return the config with another timm backbone."""
    return replace_at(config, "model.backbone.name", name)


def lite(config: Config) -> Config:
    """Shrink a recipe for CPUs and quick fine-tuning: small backbone, narrow heads, small images.

    The backbone is EfficientNet-Lite0, the optimiser AdamW. The last step of the schedule and the
    small batch suit data sets of hundreds of images.
    """
    model = replace(
        config.model,
        backbone=BackboneConfig(name="tf_efficientnet_lite0", frozen_stages=1),
        channels=96,
        rpn=replace(
            config.model.rpn,
            anchor_scale=4.0,
            before_nms_train=500,
            after_nms_train=500,
            before_nms=500,
            after_nms=500,
            samples=128,
        ),
        box=replace(config.model.box, hidden=256, samples=96, score_threshold=0.05),
        mask=_narrow_scoring(config.model.mask),
    )
    optim = OptimConfig(
        epochs=20,
        batch_size=4,
        optimizer="adamw",
        lr=5e-4,
        lr_batch=4,
        weight_decay=0.01,
        warmup_steps=100,
        warmup_factor=0.01,
        schedule="cosine",
        clip_norm=10.0,
    )
    data = DataConfig(size=(384, 512))
    return replace(config, recipe=f"{config.recipe}_lite", model=model, optim=optim, data=data)


def _narrow_scoring(mask: MaskConfig) -> MaskConfig:
    scoring = mask.scoring
    return mask if scoring is None else replace(mask, scoring=replace(scoring, hidden=256))


def dense(config: Config) -> Config:
    """Shrink a recipe for CPUs and hundreds of small objects an image, such as cells.

    A `_lite` recipe with anchors of 8 to 128 px, larger images, more proposals, RoIs and
    detections, and narrower heads, as hundreds of objects of few kinds ask for places more than for
    meanings. How one of them does on nuclei is in `docs/nuclei.md`.
    """
    small = lite(config)
    rpn = replace(
        small.model.rpn,
        anchor_scale=2.0,
        samples=256,
        before_nms=2000,
        before_nms_train=800,
        after_nms=1500,
        after_nms_train=1000,
    )
    box = replace(small.model.box, hidden=128, samples=256, max_detections=600)
    model = replace(small.model, channels=64, rpn=rpn, box=box)
    data = replace(small.data, size=(448, 616))
    return replace(small, recipe=f"{config.recipe}_dense", model=model, data=data)


def modern(config: Config) -> Config:
    """Train as it is done today: longer, on more varied images, from better weights.

    What each part gains is published elsewhere, as box / mask AP on COCO val; together, in these
    architectures, they are not measured.
    """
    # "ResNet strikes back" weights with AdamW, at the rate and decay of MMDetection's configs:
    # Cascade Mask R-CNN R50 at 12 epochs 41.2 / 35.9 to 44.8 / 39.9, Mask R-CNN 38.2 / 34.7 to
    # 41.2 / 38.2 (MMDetection, resnet_strikes_back).
    backbone = replace(config.model.backbone, name="resnet50.a1_in1k")
    # 12 to 36 epochs with varied scales: Cascade Mask R-CNN R50 41.2 / 35.9 to 44.3 / 38.5
    # (MMDetection). The rate falls at the parts of the schedule that detectron2's longer ones have.
    optim = OptimConfig(
        epochs=50,
        milestones=(44, 48),
        optimizer="adamw",
        lr=2e-4,
        weight_decay=0.05,
        warmup_steps=1000,
        clip_norm=10.0,
        # Averaged weights: no isolated figure is published for these architectures.
        ema=0.9998,
    )
    data = replace(
        config.data,
        size=(1024, 1024),
        # Large-scale jitter: part of what takes Mask R-CNN R50 from 41.0 / 37.2 (36 epochs) to
        # 44.6 / 40.3 at 100 and 47.4 / 42.5 at 400 epochs from scratch (detectron2, with SyncBN
        # and deeper heads).
        jitter=(0.1, 2.0),
        # Mask R-CNN R50 43.5 / 39.1 to 45.1 / 40.3 in 270,000 steps of 64 images, and + 0.5 / 0.2
        # in 90,000 (MMDetection, simple_copy_paste).
        copy_paste=0.5,
    )
    model = replace(config.model, backbone=backbone)
    return replace(config, recipe=f"{config.recipe}_modern", model=model, optim=optim, data=data)


Recipe = Callable[[], Config]

_ARCHITECTURES: dict[str, Recipe] = {
    "mask_rcnn": mask_rcnn,
    "mask_scoring_rcnn": mask_scoring_rcnn,
    "cascade_mask_rcnn": cascade_mask_rcnn,
    "cascade_mask_rcnn_semantic": cascade_mask_rcnn_semantic,
    "cascade_mask_rcnn_d2": cascade_mask_rcnn_d2,
    "htc": htc,
    "htc_without_semantic": htc_without_semantic,
    "scnet": scnet,
}

_ABLATIONS: dict[str, Recipe] = {
    "table2_none": functools.partial(table2, False, False, False),
    "table2_consistency": functools.partial(table2, True, False, False),
    "table2_relay": functools.partial(table2, False, True, False),
    "table2_context": functools.partial(table2, False, False, True),
    "table2_consistency_relay": functools.partial(table2, True, True, False),
    "table2_consistency_context": functools.partial(table2, True, False, True),
    "table2_relay_context": functools.partial(table2, False, True, True),
    "table2_all": functools.partial(table2, True, True, True),
    "naive_sample_consistency": naive_sample_consistency,
    "sample_consistency": sample_consistency,
    "mask_rcnn_relay": mask_rcnn_relay,
    "cascade_mask_rcnn_relay": cascade_mask_rcnn_relay,
    "scnet_without_context": functools.partial(scnet_context, None),
    **{f"scnet_context_{w}": functools.partial(scnet_context, float(w)) for w in (0, 1, 2, 3, 5)},
    "scnet_without_relay": scnet_without_relay,
    "scnet_without_semantic": scnet_without_semantic,
    "scnet_leaving": scnet_leaving,
}


def _changed(recipe: Recipe, change: Callable[..., Config], *values: Any) -> Config:
    return change(recipe(), *values)


def _variant(recipe: Recipe, change: Callable[..., Config], *values: Any) -> Recipe:
    """Return the recipe of a changed config; `describe` finds the one that it changes."""
    return functools.partial(_changed, recipe, change, *values)


RECIPES: dict[str, Recipe] = {
    **_ARCHITECTURES,
    **{
        f"{name}_{short}": _variant(recipe, with_backbone, full)
        for name, recipe in _ARCHITECTURES.items()
        for short, full in (("r101", "resnet101.tv_in1k"), ("x101", "resnext101_64x4d.tv_in1k"))
    },
    "mask_rcnn_20e": _variant(mask_rcnn, replace_at, "optim", schedule_20e()),
    **{
        f"{name}_1x": _variant(_ARCHITECTURES[name], replace_at, "optim", schedule_1x())
        for name in ("cascade_mask_rcnn", "htc", "scnet")
    },
    **_ABLATIONS,
    **{
        f"{name}_lite": _variant(recipe, lite)
        for name, recipe in {**_ARCHITECTURES, **_ABLATIONS}.items()
    },
    **{f"{name}_dense": _variant(recipe, dense) for name, recipe in _ARCHITECTURES.items()},
    **{
        f"{name}_modern": _variant(_ARCHITECTURES[name], modern)
        for name in ("mask_rcnn", "cascade_mask_rcnn", "scnet")
    },
}


def find(name: str) -> Config:
    """Return the recipe of that name.

    Raises:
        ConfigError: no recipe has that name; the text names near ones.
    """
    if name not in RECIPES:
        raise ConfigError(
            f'no recipe is named "{name}"{suggest(name, RECIPES)} (`scnet recipes` lists all)'
        )
    return replace(RECIPES[name](), recipe=name)


def describe(name: str) -> str:
    """Return two lines: what a recipe is, and which parts it has."""
    recipe = RECIPES[name]
    while isinstance(recipe, functools.partial):
        recipe = recipe.args[0] if recipe.args and callable(recipe.args[0]) else recipe.func
    sentence = (recipe.__doc__ or "").splitlines()[0]
    return f"{sentence}\n{', '.join(_parts(RECIPES[name]()))}"


def _parts(config: Config) -> list[str]:
    """Return what tells a recipe from the others."""
    model, mask = config.model, config.model.mask
    stages, convs = len(model.box.stages), f"{mask.convs} convs"
    fed = " ".join(str(stage + 1) for stage in mask.fed_by)
    parts = [model.backbone.name, f"{stages} box stage{'s' if stages > 1 else ''}"]
    parts.append(f"masks after {fed}, {convs}")
    parts += ["semantic"] * (model.semantic is not None)
    if model.context is not None:
        parts.append(f"context x {model.context.loss_weight:g}")
    parts += ["averaged probabilities"] * (model.box.average == "probabilities")
    parts += ["relay"] * mask.relay + ["flow"] * mask.flow
    parts += ["mask scoring"] * (mask.scoring is not None)
    return [*parts, f"{config.optim.epochs} epochs"]
