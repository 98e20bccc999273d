"""Operators of this library in those of ONNX."""

from __future__ import annotations

from typing import Any

import onnxscript
import torch

ANY_NUMBER = 2**31 - 1
LOWEST = -3.4e38  # float32; what scores less is no candidate


def suppress(boxes: Any, scores: Any, iou: float) -> Any:
    """Return `ops.suppress.suppress` as NonMaxSuppression, and a table of what it selects."""
    op: Any = onnxscript.opset18
    selected = op.NonMaxSuppression(boxes, scores, ANY_NUMBER, iou, LOWEST)
    never = op.Expand(op.Constant(value_float=float("-inf")), op.Shape(scores))
    return op.ScatterND(never, selected, op.GatherND(scores, selected))


TABLE: dict[Any, Any] = {torch.ops.scnet.suppress.default: suppress}
