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
