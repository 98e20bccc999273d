"""Run an exported file with onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from scnet.export.errors import ExportError


class Arrays(NamedTuple):
    """What is in an image, in its pixels, the best first."""

    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, "N"]
    labels: Int[np.ndarray, "N"]
    masks: Float[np.ndarray, "N S S"]
    # of each mask with its object, as mask scoring foretells; None where the model has none
    mask_ious: Float[np.ndarray, "N"] | None = None


class Session:
    """A file in memory, ready to run on the CPU."""

    def __init__(self, file: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        try:
            self.session = onnxruntime.InferenceSession(
                os.fspath(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no class of their own
            raise ExportError(f"{file}: onnxruntime cannot load it: {error}") from error
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, images: UInt8[np.ndarray, "B D H W"]) -> list[Arrays]:
        """Return what is in each image."""
        values = self.session.run(None, {"image": images})
        out = dict(zip(self.names, values, strict=True))
        arrays = {name: out[name] for name in Arrays._fields if name in out}
        if "count" not in out:
            return [Arrays(**arrays)]
        return [
            Arrays(**{name: x[i, :n] for name, x in arrays.items()})
            for i, n in enumerate(out["count"])
        ]
