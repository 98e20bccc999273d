"""How MMDetection pools the features of a box: RoIAlign as now, or as it was in 1.x.

That of 1.x, which later configs may ask for, is that of torchvision's models: half a cell off, with
2 x 2 samples in each bin. Either is there with other samples, too; here it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scnet.config import Align
from scnet.weights.foreign.mmdet.config_text import at

_EXTRACTORS = ("bbox_roi_extractor", "mask_roi_extractor", "semantic_roi_extractor")
_ALIGNED, _RATIO, _OLD_RATIO = "aligned", "sampling_ratio", "sample_num"  # the last in 2.0
PATHS = tuple(
    f"roi_head.{extractor}.roi_layer.{setting}"
    for extractor in _EXTRACTORS
    for setting in (_ALIGNED, _RATIO, _OLD_RATIO)
)
# Our setting, by whether half a cell is right and by the samples along a side of a bin; with 0 it
# is about one for each cell.
_OURS: dict[tuple[bool, int], Align] = {(True, 0): "aligned", (False, 2): "legacy"}


def of_config(model: Mapping[str, Any]) -> Align | None:
    """Return how boxes are pooled by a config, None where it says nothing that is done here."""
    return next((align for _, layer in _layers(model) if (align := _align(layer))), None)


def refused(model: Mapping[str, Any]) -> dict[str, str]:
    """Return why the pooling of a config is refused, by the path of the setting."""
    why: dict[str, str] = {}
    first: tuple[str, Align] | None = None
    for path, layer in _layers(model):
        align = _align(layer)
        aligned, ratio = f"{path}.{_ALIGNED}", f"{path}.{_ratio_name(layer)}"
        if align is None:
            why[ratio] = (
                f"its config has {ratio} = {_ratio(layer)} with {_ALIGNED} = "
                f"{layer.get(_ALIGNED, True)}, but scnet has 0 where that is True, 2 where False"
            )
        elif first is None:
            first = path, align
        elif align != first[1]:
            why[aligned] = (
                f"its config has {aligned} = {align == 'aligned'}, but another in {first[0]}; "
                "scnet pools all alike"
            )
    return why


def _layers(model: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the layers that pool, each with its path; those of several stages have one path."""
    for extractor in _EXTRACTORS:
        path = f"roi_head.{extractor}.roi_layer"
        yield from ((path, layer) for layer in at(model, path) if isinstance(layer, Mapping))


def _align(layer: Mapping[str, Any]) -> Align | None:
    pairs = _OURS.items()
    said = (layer.get(_ALIGNED, True), _ratio(layer))
    return next((ours for theirs, ours in pairs if theirs == said), None)


def _ratio(layer: Mapping[str, Any]) -> Any:
    return layer.get(_ratio_name(layer), 0)


def _ratio_name(layer: Mapping[str, Any]) -> str:
    return _OLD_RATIO if _OLD_RATIO in layer else _RATIO
