"""Checkpoint files as MMDetection 2.x and 3.x write them, made up for tests."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LAYOUTS = [
    f"{architecture}_{backbone}"
    for architecture in ("mask_rcnn", "cascade_mask_rcnn", "htc", "scnet")
    for backbone in ("r50", "r101", "x101_64x4d")
] + ["htc_without_semantic_r50"]


def layout(reference: Path, name: str) -> dict[str, Tensor]:
    """Return a state dict of the keys and shapes of a full-size model, each with one number."""
    state = {}
    for i, line in enumerate((reference / "keys" / f"{name}.txt").read_text().splitlines()):
        key, kind, shape = line.split("\t")
        number = torch.tensor(i, dtype=getattr(torch, kind))
        state[key] = number.expand(ast.literal_eval(shape))
    return state


def with_norms(state: dict[str, Tensor], norm: str) -> dict[str, Tensor]:
    """Return a Mask R-CNN as the configs with norms in all parts and 4conv1fc heads have it."""
    added = {"weight": (256,), "bias": (256,)}
    if norm == "bn":
        added |= {"running_mean": (256,), "running_var": (256,), "num_batches_tracked": ()}
    boxes = [f"roi_head.bbox_head.shared_convs.{i}" for i in range(4)]
    convs = [*boxes, *(f"roi_head.mask_head.convs.{i}" for i in range(4))]
    convs += [f"neck.{kind}_convs.{i}" for kind in ("lateral", "fpn") for i in range(4)]
    found = {}
    for name, value in state.items():
        conv = name.rpartition(".conv.")[0]
        if norm == "gn" and name.startswith("backbone."):
            name = name.replace("bn", "gn")
            if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
                continue
        if ".shared_fcs.1." not in name and not (conv in convs and name.endswith("bias")):
            found[name] = value
    shapes = {f"{name}.conv.weight": (256, 256, 3, 3) for name in boxes}
    shapes |= {f"{conv}.{norm}.{kind}": shape for conv in convs for kind, shape in added.items()}
    for i, (name, shape) in enumerate(shapes.items(), len(state)):
        kind = torch.int64 if name.endswith("tracked") else torch.float32
        found[name] = torch.tensor(i, dtype=kind).expand(shape)
    return found


def tiny(reference: Path, name: str) -> dict[str, Tensor]:
    """Return the weights of one of the small reference models."""
    state: dict[str, Tensor] = torch.load(
        reference / "mmdet_tiny" / name / "state_dict.pt", weights_only=True
    )
    return state


def save(path: Path, state: dict[str, Tensor], **beside: Any) -> Path:
    """Write a checkpoint file with weights and what lies beside them."""
    torch.save({"state_dict": state, "meta": {"epoch": 12}, **beside}, path)
    return path


@contextmanager
def mmengine() -> Iterator[Any]:
    """Let the class of MMEngine's logs exist, as it does where 3.x files are written."""

    class HistoryBuffer:
        def __init__(self) -> None:
            import numpy as np

            self._log_history = np.array([1.5, 1.25])
            self._count_history = np.array([1, 1])

        def mean(self) -> float:
            return float(self._log_history.mean())

        def __getstate__(self) -> dict[str, Any]:
            return {**self.__dict__, "statistics_methods": {"mean": HistoryBuffer.mean}}

    names = ["mmengine", "mmengine.logging", "mmengine.logging.history_buffer"]
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    HistoryBuffer.__module__ = names[-1]
    HistoryBuffer.__qualname__ = "HistoryBuffer"
    HistoryBuffer.mean.__module__ = names[-1]
    HistoryBuffer.mean.__qualname__ = "HistoryBuffer.mean"
    sys.modules[names[-1]].HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    try:
        yield HistoryBuffer
    finally:
        for name in names:
            del sys.modules[name]
