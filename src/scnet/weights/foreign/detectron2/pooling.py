"""How detectron2 pools the features of a box: by the RoIAlign of today, or by its first one.

The first, which the comparisons with its predecessor have, is that of torchvision's models: half a
cell off, with 2 x 2 samples in each bin. Either is there with other samples, too; here it is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from scnet.config import Align

BOX_TYPE, MASK_TYPE = (f"MODEL.ROI_{head}_HEAD.POOLER_TYPE" for head in ("BOX", "MASK"))
_RATIOS = {kind: kind.replace("TYPE", "SAMPLING_RATIO") for kind in (BOX_TYPE, MASK_TYPE)}
PATHS = (*_RATIOS, *_RATIOS.values())
_USUAL, _USUAL_RATIO = "ROIAlignV2", 0  # where nothing is said


class _Pooling(NamedTuple):
    align: Align
    ratio: int  # samples along a side of a bin; 0 = about one for each cell


_OURS = {"ROIAlignV2": _Pooling("aligned", 0), "ROIAlign": _Pooling("legacy", 2)}


def of_config(values: Mapping[str, Any]) -> Align:
    """Return how boxes are pooled by a config; what is refused in it is not looked at."""
    kind = str(values.get(BOX_TYPE, _USUAL))
    return _OURS.get(kind, _OURS[_USUAL]).align


def refused(values: Mapping[str, Any]) -> dict[str, str]:
    """Return why the pooling of a config is refused, by the path of the setting."""
    why = {}
    for path, ratio_path in _RATIOS.items():
        kind, ratio = values.get(path, _USUAL), values.get(ratio_path, _USUAL_RATIO)
        if str(kind) not in _OURS:
            known = " and ".join(_OURS)
            why[path] = f"its config has {path} = {kind}, a pooling beside {known}, which scnet has"
        elif ratio != _OURS[str(kind)].ratio:
            told = "" if ratio_path in values else ", as it says no other"
            why[ratio_path] = (
                f"its config has {ratio_path} = {ratio}{told}, but scnet has "
                f"{_OURS[str(kind)].ratio} with {kind}"
            )
    mask, align = str(values.get(MASK_TYPE, _USUAL)), of_config(values)
    if mask in _OURS and _OURS[mask].align != align:
        box = next(kind for kind, own in _OURS.items() if own.align == align)
        why[MASK_TYPE] = (
            f"its config has {MASK_TYPE} = {mask}, but {box} for boxes; scnet pools both alike"
        )
    return why
