"""Settings that no parameter shows, from the config text that MMDetection stores in a checkpoint.

The text is Python. It is parsed and only its literals and `dict(...)` calls are read; nothing runs.
What changes a model's answers and cannot be set here is an error, not a silent difference.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from scnet.config import Config, override, to_dict
from scnet.settings import nested
from scnet.weights.checkpoint import CheckpointError

# Where in the model's config another value than ours would give other answers.
_MUST_BE = {
    "backbone.style": "pytorch",  # caffe's strides in another convolution
    "neck.type": "FPN",
    "neck.num_outs": 5,
    "neck.start_level": 0,
    "rpn_head.anchor_generator.type": "AnchorGenerator",
    "rpn_head.anchor_generator.strides": [4, 8, 16, 32, 64],
    "rpn_head.bbox_coder.type": "DeltaXYWHBBoxCoder",
    "rpn_head.bbox_coder.target_means": [0, 0, 0, 0],
    "rpn_head.bbox_coder.target_stds": [1, 1, 1, 1],
    "roi_head.bbox_roi_extractor.finest_scale": 56,
    "roi_head.bbox_roi_extractor.roi_layer.type": "RoIAlign",
    "roi_head.bbox_roi_extractor.roi_layer.sampling_ratio": 0,
    "roi_head.bbox_roi_extractor.roi_layer.aligned": True,
    "roi_head.bbox_roi_extractor.roi_layer.output_size": 7,
    "roi_head.mask_roi_extractor.roi_layer.output_size": 14,
    "roi_head.bbox_head.bbox_coder.type": "DeltaXYWHBBoxCoder",
    "roi_head.bbox_head.bbox_coder.target_means": [0, 0, 0, 0],
    "test_cfg.rpn.min_bbox_size": 0,
    "test_cfg.rcnn.nms.type": "nms",
    "test_cfg.rcnn.mask_thr_binary": 0.5,
    "data_preprocessor.bgr_to_rgb": True,
    "img_norm_cfg.to_rgb": True,
}


def parse(text: str) -> dict[str, Any]:
    """Return the assignments of a config text whose values are plain; leave out the others.

    >>> parse("a = dict(b=[1, -2])\\nc = open('x')")
    {'a': {'b': [1, -2]}}
    """
    try:
        lines = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return {}
    values: dict[str, Any] = {}
    for line in lines:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            try:
                values[line.targets[0].id] = _plain(line.value)
            except (ValueError, RecursionError):
                continue
    return values


def apply(config: Config, given: Mapping[str, Any]) -> tuple[Config, tuple[str, ...]]:
    """Return the config with what a parsed config text says, and what differs from the recipe.

    Raises:
        CheckpointError: a setting that has no counterpart here.
    """
    # Early 2.x has the test settings beside the model, and all of 2.x the normalisation.
    model = given.get("model")
    given = {**given, **(model if isinstance(model, Mapping) else {})}
    _require_same(given)
    notes = []
    for path, value in _changes(config, given).items():
        changed = override(config, nested(path, value))
        if changed != config:
            notes.append(f"{path} {value}")
        config = changed
    return config, tuple(notes)


def _require_same(given: Mapping[str, Any]) -> None:
    for path, wanted in _MUST_BE.items():
        for value in _at(given, path):
            if value != wanted:
                raise CheckpointError(
                    f"its config has {path} = {value}, but scnet has {wanted} and nothing else; "
                    "its answers would be wrong"
                )


def _changes(config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return new values by the path of our setting."""
    stds = list(_at(given, "roi_head.bbox_head.bbox_coder.target_stds"))
    stages = [to_dict(stage) for stage in config.model.box.stages]
    if len(stds) == len(stages):
        stages = [stage | {"delta_std": std} for stage, std in zip(stages, stds, strict=True)]
    scales = _one(given, "rpn_head.anchor_generator.scales")
    changes = {
        "model.backbone.mean": _unit(_statistic(given, "mean"), IMAGENET_DEFAULT_MEAN),
        "model.backbone.std": _unit(_statistic(given, "std"), IMAGENET_DEFAULT_STD),
        "model.rpn.anchor_scale": None if scales is None else _only(scales),
        "model.rpn.anchor_ratios": _one(given, "rpn_head.anchor_generator.ratios"),
        "model.rpn.before_nms": _one(given, "test_cfg.rpn.nms_pre"),
        "model.rpn.after_nms": _one(
            given, "test_cfg.rpn.max_per_img", "test_cfg.rpn.max_num", "test_cfg.rpn.nms_post"
        ),
        "model.rpn.nms_iou": _one(given, "test_cfg.rpn.nms.iou_threshold", "test_cfg.rpn.nms_thr"),
        "model.box.stages": stages,
        "model.box.score_threshold": _one(given, "test_cfg.rcnn.score_thr"),
        "model.box.nms_iou": _one(
            given, "test_cfg.rcnn.nms.iou_threshold", "test_cfg.rcnn.nms.iou_thr"
        ),
        "model.box.max_detections": _one(given, "test_cfg.rcnn.max_per_img"),
        "data.size": _test_size(given),
    }
    return {path: value for path, value in changes.items() if value is not None}


def _only(scales: list[Any]) -> float:
    if len(scales) != 1:
        raise CheckpointError(f"its anchors have scales {scales}; scnet has one for each level")
    return float(scales[0])


def _statistic(given: Mapping[str, Any], name: str) -> Any:
    """Return a statistic of the images: 3.x has a preprocessor, 2.x a step of the pipeline."""
    value = _one(given, f"data_preprocessor.{name}", f"img_norm_cfg.{name}")
    steps = (step for step in _test_steps(given) if step.get("type") == "Normalize")
    return value or next((step.get(name) for step in steps), None)


def _unit(values: Any, usual: tuple[float, ...]) -> tuple[float, ...] | None:
    """Bring statistics of pixels 0..255 to images of 0..1; None where they are ImageNet's."""
    if values is None:
        return None
    scaled = tuple(float(v) / 255 for v in values)
    return None if np.allclose(scaled, usual, atol=1e-6) else scaled


def _test_size(given: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return shorter and longer side of a test image."""
    for step in _test_steps(given):
        for key in ("img_scale", "scale"):
            size = step.get(key)
            if isinstance(size, list) and len(size) == 2 and all(type(v) is int for v in size):
                return min(size), max(size)
    return None


def _test_steps(given: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of the test pipeline, those inside of augmentation steps too."""
    steps = _one(given, "data.test.pipeline", "test_dataloader.dataset.pipeline", "test_pipeline")
    waiting = list(steps) if isinstance(steps, list) else []
    while waiting:
        step = waiting.pop(0)
        if isinstance(step, Mapping):
            yield step
            inner = step.get("transforms")
            waiting = (inner if isinstance(inner, list) else []) + waiting


def _at(values: Any, path: str) -> Iterator[Any]:
    """Yield every value at a path; a list on the way holds one for each box stage."""
    if isinstance(values, list):
        for value in values:
            yield from _at(value, path)
    elif isinstance(values, Mapping):
        name, _, rest = path.partition(".")
        if name in values and not rest:
            yield values[name]
        elif name in values:
            yield from _at(values[name], rest)


def _one(given: Mapping[str, Any], *paths: str) -> Any:
    """Return the first value found at one of the paths."""
    return next((value for path in paths for value in _at(given, path)), None)


def _plain(node: ast.expr) -> Any:
    """Return the value of a literal or of a `dict(...)` of such, tuples as lists.

    Raises:
        ValueError: anything else.
    """
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args
        if not named or any(keyword.arg is None for keyword in node.keywords):
            raise ValueError("not a dict")
        return {keyword.arg: _plain(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_plain, node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(item) for item in node.elts]
    return ast.literal_eval(node)
