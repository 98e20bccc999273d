"""Settings that no parameter shows, from a config of detectron2, laid over a recipe.

Every setting of the model and of its tests is read, known to be harmless, refused, or told as not
read; `rules.py` says which. What nothing says is taken as in the baselines of the zoo, and told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from scnet.config import Config, replace_at, to_dict
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import deformable
from scnet.weights.foreign.applying import (
    Applied,
    find,
    lay,
    require_allowed,
    told_left,
    unit,
    within,
)
from scnet.weights.foreign.detectron2 import anchors, pooling, rules
from scnet.weights.foreign.detectron2.config_file import Given
from scnet.weights.foreign.detectron2.style import Style

FORMAT, MEAN, STD = "INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"
_STRIDE = "MODEL.RESNETS.STRIDE_IN_1X1"
_WEIGHTS, _CASCADE = "ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS"
_DEFORM = "MODEL.RESNETS.DEFORM_ON_PER_STAGE"
_MODULATED, _GROUPS = "MODEL.RESNETS.DEFORM_MODULATED", "MODEL.RESNETS.DEFORM_NUM_GROUPS"
_SHORT, _LONG = "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"
_MOST = "TEST.DETECTIONS_PER_IMAGE"
# Our setting for each of theirs, where the value is the same.
_SAME = {
    "MODEL.RPN.PRE_NMS_TOPK_TEST": "model.rpn.before_nms",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "model.rpn.after_nms",
    "MODEL.RPN.NMS_THRESH": "model.rpn.nms_iou",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "model.box.score_threshold",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": "model.box.nms_iou",
    _MOST: "model.box.max_detections",
}
# What a file may hold of its statistics, by its own names.
_STORED = {"pixel_mean": MEAN, "pixel_std": STD}


class Images(NamedTuple):
    """What the network expects of its images, by detectron2's paths."""

    values: dict[str, Any]
    assumed: tuple[str, ...]  # paths of those that nothing says
    why: str  # they are these

    @property
    def bgr(self) -> bool:
        """Whether its first layer reads blue before green and red."""
        return bool(self.values[FORMAT] == "BGR")


def images(
    given: Given, tensors: Mapping[str, Tensor], style: Style, leave: tuple[str, ...] = ()
) -> Images:
    """Return what a network expects of its images, the config before the file before the guess.

    Args:
        tensors: of the file, by detectron2's names.
        style: what is taken where nothing says it.
        leave: settings of the config that do not count.
    """
    values = _without(given.values, leave)
    stored = _stored(tensors)
    if MEAN in stored:  # blue comes first where the first mean is that of blue
        stored[FORMAT] = "BGR" if stored[MEAN][0] < stored[MEAN][-1] else "RGB"
    said = {path: values[path] for path in style.settings if path in values}
    unsaid = tuple(path for path in style.settings if path not in stored | said)
    return Images(style.settings | stored | said, unsaid, style.why)


def apply(
    config: Config,
    given: Given,
    tensors: Mapping[str, Tensor],
    seen: Images,
    leave: tuple[str, ...] = (),
) -> Applied:
    """Lay a config of detectron2 over the recipe of a model.

    Args:
        tensors: of the file, by detectron2's names.
        seen: what `images` says of them.
        leave: settings that would be refused, and are only told.

    Raises:
        CheckpointError: a setting that has no counterpart here, or one to leave that is not there.
    """
    refused, unread = _sort(given.values)
    refused |= pooling.refused(given.values)
    refused |= _contradictions(given, tensors) | _other_stages(config, given.values)
    require_allowed(refused, leave)
    values = _without(given.values, leave)
    # Training: no box takes an object that another box overlaps more, as detectron2 has it.
    config = replace_at(config, "model.box.low_quality", False)
    config, notes = lay(config, _changes(config, values, tensors, seen))
    assumed = tuple(_assumed(config, values, tensors, seen))
    told = (*told_left(refused), *given.unread, *unread, *_other_classes(config, given.values))
    return Applied(replace(config, assumed=assumed), notes, told, assumed)


def _sort(values: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return why settings are refused, by their paths, and what is not read."""
    refused: dict[str, str] = {}
    unread = []
    for path, value in values.items():
        wanted = find(rules.MUST_BE, path)
        if wanted is not None and value not in wanted:
            told = rules.WHY.get(path, f", but scnet has {wanted[0]!r}")
            refused[path] = f"its config has {path} = {value}{told}"
        elif path == _MOST and _is_number(value) and value < 0:
            refused[path] = f"its config has {path} = {value}, all boxes; scnet has a number"
        elif wanted is None and not within(rules.HANDLED + rules.HARMLESS, path):
            unread.append(f"{path} = {value}")
    return refused, unread


def _contradictions(given: Given, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return why settings are refused that are others than what the file itself holds."""
    stored = _stored(tensors)
    found = anchors.of_file(tensors)
    told = {
        path: f"its config has {path} = {given.values[path]}, but the file itself {value}"
        for path, value in stored.items()
        if path in given.values and not _alike(value, given.values[path])
    }
    said = {anchors.SIZES, anchors.RATIOS} & given.values.keys()
    if found is not None and said and anchors.of_config(given.values) != found:
        told[anchors.SIZES] = f"its config has other anchors than the file itself: {found}"
    return told


def _other_stages(config: Config, values: Mapping[str, Any]) -> dict[str, str]:
    """Return that a config has other deformable stages than the weights, if it has."""
    deform = config.model.backbone.deformable
    stages = [deform is not None and i in deform.stages for i in (1, 2, 3, 4)]
    if values.get(_DEFORM, stages) == stages:
        return {}
    return {_DEFORM: f"its config has {_DEFORM} = {values[_DEFORM]}, but its weights {stages}"}


def _alike(stored: list[float], said: Any) -> bool:
    return isinstance(said, list) and all(map(_is_number, said)) and np.allclose(stored, said)


def _without(values: Mapping[str, Any], leave: tuple[str, ...]) -> dict[str, Any]:
    """Return settings without those that are left: what they say cannot be done here."""
    undone = {path for path in leave if path in rules.MUST_BE or path == _MOST}
    return {path: value for path, value in values.items() if path not in undone}


def _changes(
    config: Config, values: Mapping[str, Any], tensors: Mapping[str, Tensor], seen: Images
) -> dict[str, Any]:
    """Return new values by the path of our setting."""
    stages = [to_dict(stage) for stage in config.model.box.stages]
    weights = _box_weights(values, len(stages))
    if weights is not None:
        stages = [
            stage | {"delta_std": [1 / w for w in own]}
            for stage, own in zip(stages, weights, strict=True)
        ]
    order = -1 if seen.bgr else 1
    mean, std = (_three(path, seen.values[path])[::order] for path in (MEAN, STD))
    found = None if anchors.SIZES in values else anchors.of_file(tensors)
    changes = {
        **_deformable(config, values),
        "model.backbone.stride_in": "1x1" if seen.values[_STRIDE] else "3x3",
        "model.backbone.mean": unit(mean, IMAGENET_DEFAULT_MEAN),
        "model.backbone.std": unit(std, IMAGENET_DEFAULT_STD),
        "model.roi_align": pooling.of_config(values),
        "model.box.stages": stages,
        **(found or anchors.of_config(values)).changes(),
        **{ours: values[theirs] for theirs, ours in _SAME.items() if theirs in values},
    }
    if _SHORT in values or _LONG in values:
        changes["data.size"] = _size(config, values)
    return changes


def _deformable(config: Config, values: Mapping[str, Any]) -> dict[str, Any]:
    found = config.model.backbone.deformable
    if found is None:
        return {}
    return deformable.settled(found, values.get(_MODULATED), values.get(_GROUPS), "config.yaml")


def _box_weights(values: Mapping[str, Any], stages: int) -> list[list[float]] | None:
    """Return the weights of box deltas of each stage, whose inverse is our scale."""
    path = f"MODEL.{_CASCADE if stages > 1 else _WEIGHTS}"
    if path not in values:
        return None
    found = values[path] if stages > 1 else [values[path]]
    right = isinstance(found, list) and len(found) == stages and all(map(_is_weights, found))
    if not right:
        raise CheckpointError(f"its config has {path} = {values[path]}; expected 4 numbers a stage")
    return [list(map(float, own)) for own in found]


def _is_weights(own: Any) -> bool:
    return isinstance(own, list) and len(own) == 4 and all(_is_number(w) and w > 0 for w in own)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _three(path: str, value: Any) -> list[float]:
    if not isinstance(value, list) or len(value) != 3 or not all(map(_is_number, value)):
        raise CheckpointError(f"its config has {path} = {value}; scnet reads images of 3 colours")
    return [float(n) for n in value]


def _size(config: Config, values: Mapping[str, Any]) -> tuple[int, int]:
    short, long = (
        values.get(path, usual)
        for path, usual in zip((_SHORT, _LONG), config.data.size, strict=True)
    )
    if type(short) is not int or type(long) is not int or short <= 0 or long <= 0:
        raise CheckpointError(
            f"its test images have {_SHORT} = {short} and {_LONG} = {long}; scnet needs two "
            "sizes. Write the size of your images there and give the file with --config"
        )
    return min(short, long), long


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the statistics of images that a file holds, without what float32 added to them."""
    for name in _STORED.keys() & tensors.keys():
        if tensors[name].numel() != 3:
            raise CheckpointError(f"its {name} has not 3 values; scnet reads images of 3 colours")
    return {
        path: [float(f"{n:.6g}") for n in tensors[name].double().flatten().tolist()]
        for name, path in _STORED.items()
        if name in tensors
    }


def _other_classes(config: Config, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield that a config counts other classes than the weights have, as many do."""
    number = values.get("MODEL.ROI_HEADS.NUM_CLASSES")
    if number not in (None, config.model.num_classes):
        yield (
            f"MODEL.ROI_HEADS.NUM_CLASSES = {number}; the weights have {config.model.num_classes}"
        )


def _assumed(
    config: Config,
    values: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    seen: Images,
) -> Iterator[str]:
    """Yield what neither the file nor a config says."""
    if seen.assumed:
        yield f"{', '.join(_told(path, seen.values[path]) for path in seen.assumed)}: {seen.why}"
    model, usual = config.model, anchors.of_file(tensors) is not None
    rpn, box = model.rpn, model.box
    if anchors.SIZES not in values and not usual:
        yield f"model.rpn.anchor_scale {rpn.anchor_scale}"
    if anchors.RATIOS not in values and not usual:
        yield f"model.rpn.anchor_ratios {list(rpn.anchor_ratios)}"
    ours = {
        **{f"model.rpn.{n}": getattr(rpn, n) for n in ("before_nms", "after_nms", "nms_iou")},
        **{
            f"model.box.{n}": getattr(box, n)
            for n in ("score_threshold", "nms_iou", "max_detections")
        },
    }
    for theirs, path in _SAME.items():
        if theirs not in values:
            yield f"{path} {ours[path]}"
    if _box_weights(values, len(box.stages)) is None:
        yield f"box deltas with standard deviations {[stage.delta_std for stage in box.stages]}"
    if _SHORT not in values or _LONG not in values:
        yield f"data.size {list(config.data.size)}"
    if pooling.BOX_TYPE not in values:
        yield "RoIAlign as now (ROIAlignV2, aligned), scores by softmax"


def _told(path: str, value: Any) -> str:
    """Return a setting of the images in words."""
    if path == _STRIDE:
        return f"stride in the {'1x1' if value else '3x3'} convolution"
    return f"{({FORMAT: 'images', MEAN: 'mean', STD: 'std'})[path]} {value}"
