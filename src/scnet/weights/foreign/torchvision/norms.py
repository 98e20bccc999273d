"""The eps of batch norm, which no file holds, taken into its scale.

torchvision's first COCO weights run with eps 0, and so does what was fine-tuned from them: frozen
norms, whose statistics are in the file without a step counter. Models that began from ImageNet's
weights run with 1e-5, and so does any norm that learns, which has a counter.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from scnet.weights.checkpoint import CheckpointError

EPS = 1e-5  # of PyTorch's norms, and ours
FROZEN_EPS = 0.0  # of torchvision's COCO weights with frozen norms
_VARIANCE, _COUNTER = ".running_var", ".num_batches_tracked"


def names(theirs: Mapping[str, Tensor], within: str = "") -> list[str]:
    """Return the names of the norms whose own begin like this."""
    return [
        key.removesuffix(_VARIANCE)
        for key in theirs
        if key.startswith(within) and key.endswith(_VARIANCE)
    ]


def are_frozen(theirs: Mapping[str, Tensor], within: str) -> bool:
    """Whether norms never learnt: then they have no counter of steps."""
    return not any(f"{name}{_COUNTER}" in theirs for name in names(theirs, within))


def with_eps(theirs: Mapping[str, Tensor], eps: Mapping[str, float]) -> dict[str, Tensor]:
    """Return parameters with which norms of our eps do what those of other ones did.

    The scale takes it in: in the variance, most of a small one would be lost to rounding.

    Args:
        eps: by the name of each norm.

    Raises:
        CheckpointError: a norm would divide by nothing.
    """
    changed = dict(theirs)
    for name, own in eps.items():
        variance = theirs[f"{name}{_VARIANCE}"].double()
        if not (variance + own > 0).all():
            raise CheckpointError(
                f"{name}{_VARIANCE} is {float(variance.min()):g} somewhere, and with eps {own:g} "
                "the norm divides by nothing; was it another eps (--norm-eps 1e-5)?"
            )
        weight = theirs.get(f"{name}.weight")
        if own == EPS or weight is None or weight.shape != variance.shape:
            continue  # what does not fit is told where the model is put together
        scale = ((variance + EPS) / (variance + own)).sqrt()
        changed[f"{name}.weight"] = (weight.double() * scale).to(weight.dtype)
    return changed
