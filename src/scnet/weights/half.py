"""Weights at half size: what a model has learnt, rounded to float16.

A number of float16 has 11 binary digits, so rounding changes it by 0.05 % at most. Below 6e-5 the
steps stay the same, 6e-8, and what is under half of one becomes 0. Statistics of norms and counters
stay as they are: a variance may be larger or smaller than float16 can say, things are divided by
it, and all of them together take a few hundredths of a file.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scnet.model.detector import Detector

LIMITS = torch.finfo(torch.float16)


@dataclass(frozen=True, kw_only=True, eq=False)
class Half:
    """The weights of a detector, rounded."""

    tensors: dict[str, Tensor]  # parameters as float16, all else as it is
    rounded: int  # numbers that are float16 now
    small: int  # of these, numbers not 0 that were below float16's usual range
    zeros: int  # and of these, numbers that became 0

    def __str__(self) -> str:
        text = f"rounded          {self.rounded:,} numbers to float16, by 0.05 % at most"
        if self.small:
            text += (
                f"\n  {self.small:,} of them, smaller than {LIMITS.smallest_normal:.0e}, by 3e-08 "
                f"at most; {self.zeros:,} became 0"
            )
        return text


def halved(detector: Detector) -> Half:
    """Return the weights of a detector, which are finite, its parameters rounded to float16.

    Raises:
        ValueError: a parameter holds what float16 cannot hold; names it.
    """
    parameters = dict(detector.named_parameters())
    tensors: dict[str, Tensor] = {}
    small = zeros = 0
    for name, value in detector.state_dict().items():
        if name not in parameters:
            tensors[name] = value
            continue
        tensors[name] = value.to(torch.float16)
        _require_finite(name, value, tensors[name])
        tiny = (value != 0) & (value.abs() < LIMITS.smallest_normal)
        small += int(tiny.sum())
        zeros += int((tiny & (tensors[name] == 0)).sum())
    return Half(
        tensors=tensors,
        rounded=sum(x.numel() for x in tensors.values() if x.dtype == torch.float16),
        small=small,
        zeros=zeros,
    )


def _require_finite(name: str, before: Tensor, after: Tensor) -> None:
    lost = before[~after.isfinite()]
    if lost.numel():
        raise ValueError(
            f"{name} holds {float(lost[0]):g}, and float16 ends at {LIMITS.max:g}; write the "
            "weights as they are, without --half"
        )
