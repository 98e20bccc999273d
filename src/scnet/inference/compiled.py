"""A detector for inference whose fixed-size part is compiled, for a few padded sizes.

All that depends on whole images alone has shapes that follow from the batch's: it is compiled once
for each of them, on a GPU as a CUDA graph. Images are padded to a few sizes, so that photographs of
any size soon meet code that is there. Padding acts as it does in a batch of several images: the
global context of SCNet averages over it, and convolutions see it at the border.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Int, Num
from torch import Tensor

from scnet.model.cascade import Dense
from scnet.model.detector import Detector
from scnet.model.features import SceneOutput
from scnet.types import DIVISOR, Size

# Sides that images are padded to, over the shorter side of the settings. The last three are those
# of usual photographs; the first is for the shorter side of very long images.
STOPS = (0.5, 1.0, 4 / 3, 3 / 2)
MOST_SIZES = 64  # of batches; PyTorch compiles no more than this often


def compiled(detector: Detector) -> Detector:
    """Return a detector that shares all weights, its fixed-size part compiled when first used."""
    fast = copy.copy(detector)
    fast.graph = CompiledDense(detector)
    return fast


def padded_side(side: int, limits: tuple[int, int]) -> int:
    """Return the next larger of a few sides, all multiples of 32.

    Args:
        limits: shorter side, and the most that the longer side has; beyond it any multiple is left.

    >>> [padded_side(side, (800, 1333)) for side in (300, 800, 1067, 1333, 2000)]
    [416, 800, 1088, 1344, 2016]
    """
    short, long = limits
    stops = sorted({_multiple(round(short * stop)) for stop in STOPS} | {_multiple(long)})
    return next((stop for stop in stops if side <= stop <= _multiple(long)), _multiple(side))


class CompiledDense:
    """`Detector.dense` with the same results, but for the padding that is added."""

    def __init__(self, detector: Detector) -> None:
        self.limits = detector.config.data.size
        self.most = 0  # images in the largest batch so far
        mode = "reduce-overhead" if detector.device.type == "cuda" else None  # CUDA graphs
        self.run = torch.compile(detector.dense, fullgraph=True, dynamic=False, mode=mode)

    def __call__(self, images: Num[Tensor, "B D H W"], sizes: Int[Tensor, "B 2"]) -> Dense:
        number = len(images)
        # The last images of a list may be fewer: computing some twice beats compiling once more.
        self.most = max(self.most, number)
        size = [padded_side(side, self.limits) for side in images.shape[-2:]]
        filled = _fill(images, sizes, self.most, (size[0], size[1]))
        config = torch._dynamo.config
        # The limit is the process's own: it is raised only while code may be compiled.
        with config.patch(recompile_limit=max(config.recompile_limit, MOST_SIZES)):
            dense = self.run(*filled)
        return _first(dense, number)


def _fill(
    images: Num[Tensor, "B D H W"], sizes: Int[Tensor, "B 2"], number: int, size: Size
) -> tuple[Num[Tensor, "n D h w"], Int[Tensor, "n 2"]]:
    """Pad images to a size, and their number by repeating the last."""
    right, below = size[1] - images.shape[3], size[0] - images.shape[2]
    index = torch.arange(number, device=images.device).clamp(max=len(images) - 1)
    return F.pad(images, (0, right, 0, below))[index], sizes[index]


def _first(dense: Dense, number: int) -> Dense:
    """Return the outputs of the first images alone."""
    rpn, out = dense
    scene = out.scene

    def first(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[:number]

    return Dense(
        rpn._replace(logits=rpn.logits[:number], deltas=rpn.deltas[:number]),
        SceneOutput(
            scene._replace(
                pyramid=tuple(level[:number] for level in scene.pyramid),
                semantic=first(scene.semantic),
                context=first(scene.context),
            ),
            first(out.semantic_logits),
            first(out.context_logits),
        ),
    )


def _multiple(side: int) -> int:
    return -(-side // DIVISOR) * DIVISOR
