"""Models and configs of MMDetection 1.x in the form of 2.x, with what 1.x did and no config said.

Up to 1.2 the heads of boxes and masks stood beside the backbone, the background was the first class
and had a row among boxes and masks, too, and anchors and box deltas had their settings in the
heads. The maths were others as well: a box was a pixel wider (x2 - x1 + 1), anchors had whole
numbers, and RoIAlign was half a cell off. 2.x keeps those under names that begin with Legacy (its
configs/legacy_1.x), which are what a config gets here; `rules.py` refuses them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from scnet.weights.foreign.mmdet.config_text import one

PARTS = ("rpn_head", "bbox_head", "mask_head")  # which every model has
LEGACY_ANCHORS, LEGACY_DELTAS = "LegacyAnchorGenerator", "LegacyDeltaXYWHBBoxCoder"
VERSION = "mmdet_version"
_HEAD = re.compile(r"(?:bbox|mask|mask_iou|semantic)_head\.")
_OF_MASKS = r"mask_head\.(?:\d\.)?conv_logits\.|mask_iou_head\.fc_mask_iou\."
# What became part of `roi_head`.
_OF_HEADS = (
    *("bbox_roi_extractor", "bbox_head", "mask_roi_extractor", "mask_head", "shared_head"),
    *("semantic_roi_extractor", "semantic_head", "semantic_fusion", "mask_iou_head"),
    *("num_stages", "interleaved", "mask_info_flow"),
)
_ANCHORS = {
    "anchor_scales": "scales",
    "anchor_ratios": "ratios",
    "anchor_strides": "strides",
    "anchor_base_sizes": "base_sizes",
}
_EXTRACTOR = {"roi_layer": {"sample_num": 2}}  # of all models of 1.x
_DELTAS = {name: name for name in ("target_means", "target_stds")}


class Origin(NamedTuple):
    """What a file says of the version of MMDetection that it is of."""

    version: str = ""  # empty where it has none
    has_old_names: bool = False  # of parameters, as in 1.x alone

    @property
    def is_1(self) -> bool:
        """Whether that is 1.x, or older."""
        major = self.version.partition(".")[0]
        return self.has_old_names or (major.isdigit() and int(major) < 2)


UNKNOWN = Origin()


def in_later_form(model: Mapping[str, Any], origin: Origin) -> Mapping[str, Any]:
    """Return the settings of a model as 2.x has them; those of 2.x and 3.x as they are.

    What a config of 1.x does not say, or no config says, is as all of 1.x had it.
    """
    is_1 = origin.is_1 or {"rpn_head", "bbox_head"} <= model.keys()
    if "roi_head" in model or not is_1:
        return model
    heads = {name: value for name, value in model.items() if name in _OF_HEADS}
    heads["bbox_head"] = _each(model.get("bbox_head", {}), _deltas)
    for name in ("bbox_roi_extractor", "mask_roi_extractor"):
        heads[name] = _each(model.get(name, _EXTRACTOR), _pooling)
    if "semantic_roi_extractor" in model:
        heads["semantic_roi_extractor"] = _each(model["semantic_roi_extractor"], _pooling)
    others = {name: value for name, value in model.items() if name not in _OF_HEADS}
    rpn = _each(model.get("rpn_head", {}), lambda head: _deltas(_anchors(head)))
    return {**others, "rpn_head": rpn, "roi_head": heads}


def contradiction(model: Mapping[str, Any], origin: Origin) -> str | None:
    """Return what to say where a file is of 1.x and its config is of 2.x and says nothing of it.

    Args:
        model: as `in_later_form` returns it.
    """
    if not origin.is_1 or one(model, "rpn_head.anchor_generator.type") == LEGACY_ANCHORS:
        return None
    return (
        f"it is of MMDetection {origin.version or '1.x'}, where a box is a pixel wider, anchors "
        "are of whole numbers and RoIAlign is half a cell off, but its config is of 2.x or later "
        "and says nothing of it"
    )


def is_old(names: Iterable[str]) -> bool:
    """Whether parameters have the names of 1.x."""
    return any(name.startswith("bbox_head.") for name in names)


def upgraded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters of a model of 1.x as 2.x has them; those of 2.x and 3.x as they are.

    The background becomes the last class, and has no row among boxes and masks any more. Boxes and
    masks that are one for all classes have none in 1.x either.
    """
    if not is_old(state):
        return dict(state)
    rows = max((x.numel() for k, x in state.items() if k.endswith("fc_cls.bias")), default=0)
    return {
        f"roi_head.{name}" if _HEAD.match(name) else name: _without_background(name, value, rows)
        for name, value in state.items()
    }


def _without_background(name: str, value: Tensor, rows: int) -> Tensor:
    """Return a parameter whose rows are the classes; others as they are.

    Args:
        rows: number of classes, with the background.
    """
    has = value.shape[:1]
    if name.startswith("bbox_head.") and ".fc_cls." in name and has == (rows,):
        return value.roll(-1, 0)
    if name.startswith("bbox_head.") and ".fc_reg." in name and has == (4 * rows,):
        return value[4:]
    if re.match(_OF_MASKS, name) and has == (rows,):
        return value[1:]
    return value


def _each(value: Any, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
    """Return a group, or one for each stage, changed; what is neither stays as it is."""
    if isinstance(value, list):
        return [_each(item, change) for item in value]
    return change(value) if isinstance(value, Mapping) else value


def _anchors(head: Mapping[str, Any]) -> dict[str, Any]:
    return _grouped(head, _ANCHORS, "anchor_generator", LEGACY_ANCHORS)


def _deltas(head: Mapping[str, Any]) -> dict[str, Any]:
    return _grouped(head, _DELTAS, "bbox_coder", LEGACY_DELTAS)


def _grouped(
    head: Mapping[str, Any], names: Mapping[str, str], group: str, kind: str
) -> dict[str, Any]:
    """Return a head with settings of it in a group of their own, of a kind that 1.x alone had."""
    others = {name: value for name, value in head.items() if name not in names}
    moved = {ours: head[name] for name, ours in names.items() if name in head}
    return {**others, group: {"type": kind, **moved}}


def _pooling(extractor: Mapping[str, Any]) -> dict[str, Any]:
    layer = extractor.get("roi_layer")
    if not isinstance(layer, Mapping):
        return dict(extractor)
    return {**extractor, "roi_layer": {"aligned": False, **layer}}
