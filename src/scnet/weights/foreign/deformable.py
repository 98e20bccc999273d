"""Deformable convolutions in a backbone of another library: of which kind they are.

The offsets of their 3 x 3 cells are 18 numbers at each place, 27 with a weight for each cell
(modulated), and as many for each group of channels: 54 are 3 groups of 18 or 2 of 27.
"""

from __future__ import annotations

from typing import Any

from scnet.config import DeformableConfig
from scnet.weights.checkpoint import CheckpointError

PATH = "model.backbone.deformable"
_NUMBERS = {False: 18, True: 27}  # for each group of channels; modulated or not


def recognised(stages: tuple[int, ...], numbers: int) -> DeformableConfig:
    """Return deformable convolutions with so many numbers at each place, as plain as they may be.

    Raises:
        CheckpointError: no kind has so many.
    """
    for modulated, groups in _kinds(numbers):
        return DeformableConfig(stages=stages, modulated=modulated, groups=groups)
    raise CheckpointError(
        f"its deformable convolutions have {numbers} numbers at each place; expected 18 or 27 for "
        "each group of channels, as cells of 3 x 3 have"
    )


def settled(found: DeformableConfig, modulated: Any, groups: Any, gives: str) -> dict[str, Any]:
    """Return our settings of deformable convolutions that parameters show.

    Args:
        modulated: whether they are, by a config; None where it does not say it.
        groups: of channels, by a config; None likewise.
        gives: what a file is called that holds a config.

    Raises:
        CheckpointError: the parameters contradict the config, or only one could tell.
    """
    numbers = found.groups * _NUMBERS[found.modulated]
    kinds = [
        kind
        for kind in _kinds(numbers)
        if modulated in (None, kind[0]) and groups in (None, kind[1])
    ]
    told = f"its deformable convolutions have {numbers} numbers at each place"
    if not kinds:
        said = [f"modulated = {modulated}"] * (modulated is not None)
        said += [f"groups = {groups}"] * (groups is not None)
        raise CheckpointError(
            f"{told}, which its config ({', '.join(said)}) contradicts; is it the config of this "
            "file?"
        )
    if len(kinds) > 1:
        raise CheckpointError(
            f"{told}, which may be DCN or DCNv2; only a config says which, give it with "
            f"--config {gives}"
        )
    return {f"{PATH}.modulated": kinds[0][0], f"{PATH}.groups": kinds[0][1]}


def _kinds(numbers: int) -> list[tuple[bool, int]]:
    """Return which kinds have so many numbers at each place, with their groups of channels."""
    return [
        (modulated, numbers // own)
        for modulated, own in _NUMBERS.items()
        if numbers and numbers % own == 0
    ]
