"""Small checkpoint files of detectron2, made up from the weights of a small Mask R-CNN."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from tests.mmdet_files import mask_rcnn
from torch import Tensor

State = dict[str, Tensor]
CLASSES = ("ash", "oak", "elm", "fir", "yew", "box")
FIRST = "backbone.bottom_up.stem.conv1"

_BLOCK = r"^backbone\.net\.layer(\d)\.(\d+)\."
_THEIRS = {
    r"^backbone\.net\.conv1\.": f"{FIRST}.",
    r"^backbone\.net\.bn1\.": f"{FIRST}.norm.",
    _BLOCK + r"downsample\.0\.": r"backbone.bottom_up.res<\1+1>.\2.shortcut.",
    _BLOCK + r"downsample\.1\.": r"backbone.bottom_up.res<\1+1>.\2.shortcut.norm.",
    _BLOCK + r"bn(\d)\.": r"backbone.bottom_up.res<\1+1>.\2.conv\3.norm.",
    _BLOCK + r"conv2\.conv_offset\.": r"backbone.bottom_up.res<\1+1>.\2.conv2_offset.",
    _BLOCK: r"backbone.bottom_up.res<\1+1>.\2.",
    r"^fpn\.(lateral|output)\.(\d)": r"backbone.fpn_\1<\2+2>",
    r"^rpn\.conv": "proposal_generator.rpn_head.conv",
    r"^rpn\.cls": "proposal_generator.rpn_head.objectness_logits",
    r"^rpn\.reg": "proposal_generator.rpn_head.anchor_deltas",
    r"^roi_heads\.stages\.0\.fc": "roi_heads.box_head.fc",
    r"^roi_heads\.stages\.0\.cls": "roi_heads.box_predictor.cls_score",
    r"^roi_heads\.stages\.0\.reg": "roi_heads.box_predictor.bbox_pred",
    r"^roi_heads\.masks\.heads\.0\.convs\.(\d)\.conv": r"roi_heads.mask_head.mask_fcn<\1+1>",
    r"^roi_heads\.masks\.heads\.0\.upsample": "roi_heads.mask_head.deconv",
    r"^roi_heads\.masks\.heads\.0\.classifier": "roi_heads.mask_head.predictor",
}


def their_name(name: str) -> str:
    """Return detectron2's name of one of our parameters."""
    for ours, theirs in _THEIRS.items():
        if re.match(ours, name):
            renamed = re.sub(ours, theirs, name)
            return re.sub(r"<(\d)\+(\d)>", lambda m: str(int(m[1]) + int(m[2])), renamed)
    raise KeyError(name)


def state(classes: int = 6, **changes: object) -> State:
    """Return the weights of a small Mask R-CNN by detectron2's names, without step counters.

    Args:
        changes: settings of ours (`__` stands for a dot).
    """
    return {
        their_name(name): (x.flatten(1) if name.endswith("fc1.weight") else x).detach().clone()
        for name, x in mask_rcnn(classes, **changes).state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def save(file: Path, weights: State, **beside: Any) -> Path:
    """Write a checkpoint as a trainer does."""
    torch.save({"model": weights, "iteration": 89_999, "trainer": {"iteration": 9}, **beside}, file)
    return file


def save_zoo(file: Path, weights: State, protocol: int = 2) -> Path:
    """Write a file as those of the model zoo are."""
    arrays = {name: x.numpy() for name, x in weights.items()}
    content = {"model": arrays, "__author__": "Detectron2 Model Zoo"}
    file.write_bytes(pickle.dumps(content, protocol))
    return file


def cell_anchors(sizes: tuple[float, ...] = (32, 64, 128, 256, 512)) -> State:
    """Return the anchors that older files hold."""
    found = {}
    for level, size in enumerate(sizes):
        sides = [((size**2 / ratio) ** 0.5, ratio) for ratio in (0.5, 1.0, 2.0)]
        boxes = torch.tensor([[-w / 2, -w * r / 2, w / 2, w * r / 2] for w, r in sides])
        found[f"proposal_generator.anchor_generator.cell_anchors.{level}"] = boxes
    return found


def config(file: Path, text: str) -> Path:
    """Write settings, `PATH VALUE` a line, as a config.yaml."""
    top: dict[str, Any] = {}
    for line in text.strip().splitlines():
        path, _, value = line.strip().partition(" ")
        *groups, last = path.split(".")
        group = top
        for name in groups:
            group = group.setdefault(name, {})
        group[last] = yaml.safe_load(value)
    file.write_text(yaml.safe_dump(top))
    return file


def with_two_rpn_convolutions(state: State) -> State:
    """Return a model as the LSJ baselines are, from one as deep but for its RPN."""
    found = {}
    for name, value in state.items():
        start, conv, end = name.partition("rpn_head.conv.")
        for number in (0, 1) if conv else ():
            found[f"{start}{conv}conv{number}.{end}"] = value + number / 2
        if not conv:
            found[name] = value
    return found


def with_4conv1fc(state: State) -> State:
    """Return a cascade whose box heads have four convolutions with group norm and one layer."""
    found = {name: x for name, x in state.items() if ".fc2." not in name}
    channels = state["backbone.fpn_output2.weight"].shape[0]
    shapes = {
        "weight": (channels, channels, 3, 3),
        "norm.weight": (channels,),
        "norm.bias": (channels,),
    }
    places = [(stage, conv, kind) for stage in range(3) for conv in range(1, 5) for kind in shapes]
    for number, (stage, conv, kind) in enumerate(places, len(state)):
        value = torch.tensor(float(number)).expand(shapes[kind])
        found[f"roi_heads.box_head.{stage}.conv{conv}.{kind}"] = value
    return found


def layout(reference: Path, name: str) -> State:
    """Return a state dict of the keys and shapes of a full-size model, each with one number."""
    found = {}
    lines = (reference / "detectron2" / "keys" / f"{name}.txt").read_text().splitlines()
    for i, line in enumerate(line for line in lines if not line.startswith("#")):
        key, kind, shape, *_ = line.split("\t")
        number = torch.tensor(i, dtype=getattr(torch, kind))
        found[key] = number.expand(ast.literal_eval(shape))
    return found
