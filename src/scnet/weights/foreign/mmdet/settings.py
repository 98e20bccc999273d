"""Settings that no parameter shows, from the parsed config of a checkpoint, laid over a recipe.

Every setting of the model, of its test settings and of its test pipeline is read, known to be
harmless, refused, or told as not read; `rules.py` says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from scnet.config import Config, to_dict
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
from scnet.weights.foreign.mmdet import pipeline, pooling, rules, version_1
from scnet.weights.foreign.mmdet.config_text import Unread, at, leaves, one
from scnet.weights.foreign.mmdet.version_1 import UNKNOWN, Origin

_SHARED = ("test_cfg", "train_cfg", "data_preprocessor", "img_norm_cfg")
_ANCHORS = "rpn_head.anchor_generator"
_SHALLOW = ("resnet18", "resnet34")  # whose blocks have no 1x1 convolution, in any style
# What a reader of the result should know that it was not said; the rest follows from a recipe.
_NEEDED = (
    *("model.rpn.anchor_scale", "model.rpn.anchor_ratios", "model.rpn.nms_iou"),
    *("model.rpn.before_nms", "model.rpn.after_nms", "model.box.score_threshold"),
    *("model.box.nms_iou", "model.box.max_detections", "data.size", "data.keep_ratio"),
)


def apply(
    config: Config,
    given: Mapping[str, Any],
    leave: tuple[str, ...] = (),
    origin: Origin = UNKNOWN,
) -> Applied:
    """Lay a parsed config over the recipe of a model.

    Args:
        given: what `config_text.parse` returns; empty where there is no config.
        leave: settings and steps of the test pipeline that would be refused, and are only told.
        origin: what the file says of the version that it is of.

    Raises:
        CheckpointError: a setting that has no counterpart here, or one to leave that is not there.
    """
    model = version_1.in_later_form(_model(given), origin)
    images = pipeline.read(given)
    refused, unread = _sort(model)
    refused |= pooling.refused(model)
    if doubt := version_1.contradiction(model, origin):
        if origin.has_old_names:
            refused[version_1.VERSION] = doubt
        else:  # weights that may have been brought to 2.x, as the config says
            unread.append(doubt)
    refused |= {
        step: f"images pass {step} before its network, which scnet does not do"
        for step in images.changed
    }
    require_allowed(refused, leave)
    others = [f"{k} = {v}" for k, v in given.items() if _is_statement(k, v)]
    unread = [*told_left(refused), *others, *unread]
    changes = _changes(config, model, images)
    config, notes = lay(config, changes)
    assumed = tuple(_assumed(config, model, changes, bool(images.normalisation)))
    told = (*unread, *images.unread)
    config = replace(config, assumed=assumed)
    return Applied(config, notes, told, assumed, _is_bgr(model, images))


def _model(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of the model, and those that stand beside it in some versions."""
    model = given.get("model")
    beside = {key: given[key] for key in _SHARED if key in given}
    if not isinstance(model, Mapping):
        return beside if model is None else {**beside, "model": model}
    inner = model.get("detector")  # of semi-supervised training
    if isinstance(inner, Mapping) and "roi_head" in inner:
        model = {**{k: v for k, v in model.items() if k not in ("detector", "type")}, **inner}
    return {**beside, **model}


def _is_statement(key: str, value: Any) -> bool:
    """Whether an entry of a parsed text may change any other: another file, or what has to run."""
    return key == "_base_" or (isinstance(value, Unread) and (" " in key or key == "config"))


def _sort(model: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return why settings are refused, by their paths, and what is not read."""
    soft = one(model, "test_cfg.rcnn.nms.type") == "soft_nms"
    must_be = rules.MUST_BE
    if _type(model, "neck") == "PAFPN":
        must_be = rules.OF_PAFPN | must_be  # the first that fits counts
    refused: dict[str, str] = {}
    unread: dict[str, None] = {}
    for path, value in leaves(model):
        wanted, never = find(must_be, path), find(rules.MUST_NOT_BE, path)
        if wanted is not None and value not in wanted:
            told = rules.WHY.get(str(value), f", but scnet has {wanted[0]}")
            refused[path] = f"its config has {path} = {value}{told}"
        elif never is not None and value in never:
            refused[path] = f"its config has {path} = {value}, whose scores are no softmax"
        elif wanted is None and not _is_fine(path, value, soft):
            unread[f"{path} = {value}"] = None
    return refused, list(unread)


def _is_fine(path: str, value: Any, soft: bool) -> bool:
    known = find(rules.KNOWN, path)
    if known is not None:
        return value in known
    if _is_unread(value):
        return within(rules.HARMLESS, path)
    if within(rules.HANDLED_IN_SOFT_NMS, path):
        return soft
    return within(rules.HANDLED + rules.HARMLESS, path)


def _is_unread(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, Unread) for item in items)


def _is_bgr(model: Mapping[str, Any], images: pipeline.Pipeline) -> bool:
    """Whether the network reads blue before green and red, as files of images are loaded."""
    preprocessor = model.get("data_preprocessor")
    if isinstance(preprocessor, Mapping):
        return not preprocessor.get("bgr_to_rgb", False)
    to_rgb = images.normalisation.get("to_rgb", one(model, "img_norm_cfg.to_rgb"))
    return to_rgb is False


def _changes(config: Config, model: Mapping[str, Any], images: pipeline.Pipeline) -> dict[str, Any]:
    """Return new values by the path of our setting."""
    stds = list(at(model, "roi_head.bbox_head.bbox_coder.target_stds"))
    stages = [to_dict(stage) for stage in config.model.box.stages]
    if len(stds) == len(stages):
        stages = [stage | {"delta_std": std} for stage, std in zip(stages, stds, strict=True)]
    rpn, rcnn = "test_cfg.rpn", "test_cfg.rcnn"
    soft = one(model, f"{rcnn}.nms.type") == "soft_nms"
    order = -1 if _is_bgr(model, images) else 1
    mean, std = (_statistic(model, images, name, order) for name in ("mean", "std"))
    changes = {
        "model.backbone.stride_in": _stride_in(config, model),
        **_deformable(config, model),
        "model.roi_align": pooling.of_config(model),
        "model.pyramid.relu": True if _is_pafpn_with_relu(model) else None,
        "model.backbone.mean": _unit(mean, IMAGENET_DEFAULT_MEAN),
        "model.backbone.std": _unit(std, IMAGENET_DEFAULT_STD),
        **_anchors(model),
        "model.rpn.before_nms": one(model, f"{rpn}.nms_pre"),
        "model.rpn.after_nms": one(
            model, f"{rpn}.max_per_img", f"{rpn}.max_num", f"{rpn}.nms_post"
        ),
        "model.rpn.nms_iou": one(
            model, f"{rpn}.nms.iou_threshold", f"{rpn}.nms.iou_thr", f"{rpn}.nms_thr"
        ),
        "model.box.stages": stages,
        "model.box.score_threshold": one(model, f"{rcnn}.score_thr"),
        "model.box.nms_iou": one(model, f"{rcnn}.nms.iou_threshold", f"{rcnn}.nms.iou_thr")
        or (0.3 if soft else None),  # mmcv's own
        "model.box.nms_across_classes": one(model, f"{rcnn}.nms.class_agnostic"),
        "model.box.soft_nms": _soft_nms(model) if soft else None,
        "model.box.max_detections": one(model, f"{rcnn}.max_per_img"),
        "data.size": images.size,
        "data.keep_ratio": images.keep_ratio,
    }
    return {
        path: value
        for path, value in changes.items()
        if value is not None and not _is_unread(value)
    }


def _deformable(config: Config, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what deformable convolutions are, where there are some."""
    kind = _type(model, "backbone.dcn")
    modulated = kind == "DCNv2" if kind in ("DCN", "DCNv2") else None
    found, wanted = config.model.backbone.deformable, one(model, "backbone.stage_with_dcn")
    if found is None and modulated is not None and isinstance(wanted, list) and any(wanted):
        return {f"{deformable.PATH}.modulated": modulated}  # whose parameters are missing
    if found is None:
        return {}  # a kind of which no stage has any
    groups = one(model, "backbone.dcn.deform_groups", "backbone.dcn.deformable_groups")
    if modulated is not None and groups is None:
        groups = 1  # mmcv's own
    if _is_unread(groups):
        groups = None
    return deformable.settled(found, modulated, groups, "FILE.py")


def _is_pafpn_with_relu(model: Mapping[str, Any]) -> bool:
    return (_type(model, "neck"), _type(model, "neck.act_cfg")) == ("PAFPN", "ReLU")


def _type(model: Mapping[str, Any], path: str) -> str:
    """Return the name of a class, which newer configs name with its module."""
    return str(one(model, f"{path}.type")).rpartition(".")[2]


def _stride_in(config: Config, model: Mapping[str, Any]) -> str | None:
    """Return in which convolution of a bottleneck the map is halved, where that is not usual."""
    name = config.model.backbone.name.split(".")[0]
    if one(model, "backbone.style") != "caffe" or name in _SHALLOW:
        return None
    if name.startswith("regnet"):
        raise CheckpointError("its config has backbone.style = caffe; scnet's RegNet has pytorch")
    return "1x1"


def _soft_nms(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return our settings of Soft-NMS; what is not said is as mmcv has it, and so are ours."""
    given = one(model, "test_cfg.rcnn.nms")
    return {key: given[key] for key in ("method", "sigma", "min_score") if key in given} | {
        "method": given.get("method", "linear")
    }


def _anchors(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the smallest anchor, the further ones as multiples of it, and their shapes."""
    scales = one(model, f"{_ANCHORS}.scales")
    base = one(model, f"{_ANCHORS}.octave_base_scale")
    number = one(model, f"{_ANCHORS}.scales_per_octave")
    if scales is None and base is not None and number is not None:
        scales = [base * 2 ** (i / number) for i in range(number)]
    if scales is not None and not isinstance(scales, list):
        scales = [scales]
    if scales and len(scales) > 1 and one(model, f"{_ANCHORS}.scale_major") is False:
        raise CheckpointError(
            f"its config has {_ANCHORS}.scale_major = False with anchors of {len(scales)} sizes; "
            "scnet has another order of them"
        )
    ratios = one(model, f"{_ANCHORS}.ratios")
    return {
        "model.rpn.anchor_scale": scales and float(scales[0]),
        "model.rpn.anchor_multiples": scales and [scale / scales[0] for scale in scales],
        "model.rpn.anchor_ratios": ratios,
    }


def _statistic(model: Mapping[str, Any], images: pipeline.Pipeline, name: str, order: int) -> Any:
    """Return a statistic of the images: 3.x has a preprocessor, 2.x a step of the pipeline.

    Args:
        order: -1 where blue stands first.
    """
    preprocessor = model.get("data_preprocessor")
    if isinstance(preprocessor, Mapping):  # without statistics nothing is normalised
        usual = [0.0] * 3 if name == "mean" else [1.0] * 3
        found = preprocessor.get(name) or usual
    else:
        found = images.normalisation.get(name) or one(model, f"img_norm_cfg.{name}")
    return found[::order] if isinstance(found, list) else found


def _unit(values: Any, usual: tuple[float, ...]) -> tuple[float, ...] | None:
    """Bring statistics of pixels to ours; None where they are ImageNet's or not read."""
    if not isinstance(values, list) or _is_unread(values):
        return None
    return unit([float(value) for value in values], usual)


def _assumed(
    config: Config, model: Mapping[str, Any], changes: Mapping[str, Any], normalised: bool
) -> Iterator[str]:
    """Yield what neither a weight nor the config says."""
    values = to_dict(config)
    for path in _NEEDED:
        if path not in changes:
            yield f"{path} {one(values, path)}"
    if not (normalised or "data_preprocessor" in model or "img_norm_cfg" in model):
        yield "images RGB, mean and std those of ImageNet"
    if not isinstance(model.get("backbone"), Mapping):
        yield "backbone of style pytorch: strides in the 3x3 convolutions, not caffe's"
        if "group" in config.model.norms or config.model.backbone.name.endswith("_gn"):
            yield "group norm of 32 groups, convolutions without weight standardisation (WS)"
    if "model.box.stages" in changes and not list(
        at(model, "roi_head.bbox_head.bbox_coder.target_stds")
    ):
        stds = [stage.delta_std for stage in config.model.box.stages]
        yield f"box deltas with standard deviations {stds}"
