"""A checkpoint of a Mask R-CNN of torchvision, turned into a detector of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from scnet.config import Config, to_dict
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import unwrap
from scnet.weights.foreign.applying import lay, require_allowed
from scnet.weights.foreign.conversion import (
    Conversion,
    Known,
    assembled,
    require_known,
    require_readable,
    with_classes,
)
from scnet.weights.foreign.recognise import Shapes, recognise
from scnet.weights.foreign.tensors import in_float32
from scnet.weights.foreign.torchvision import background, norms, settings
from scnet.weights.foreign.torchvision.changes import change
from scnet.weights.foreign.torchvision.names import BODY, FC1, our_names, rename

PARTS = ("rpn.head", "roi_heads.box_predictor", "roi_heads.mask_predictor")
_GIVES = "scnet.from_torchvision(model) reads it from a model in memory"


class Given(NamedTuple):
    """What is known beside the parameters."""

    settings: Mapping[str, Any]  # by our paths
    eps: Mapping[str, float]  # of each norm, by its name
    source: str
    sizes: int = 1  # of anchors at each place
    assumed: tuple[str, ...] = ()
    is_whole: bool = True  # whether the settings are all that there are, so nothing is assumed


def build(content: Mapping[str, Any], entries: list[unwrap.Entry], known: Known) -> Conversion:
    """Return the model in the content of a file.

    Args:
        entries: the tensors in it.

    Raises:
        CheckpointError: there is none, or not a whole one.
    """
    found = unwrap.found(entries, PARTS, known.prefix)
    if known.config is not None:
        raise CheckpointError(
            f"--config {known.config}: torchvision's models have no config; to read the settings "
            "of a model too, load it with torchvision and call scnet.from_torchvision(model)"
        )
    require_allowed({}, known.leave)
    conversion = build_from(found.tensors, _given(content, found.tensors, known), known.classes)
    return replace(
        conversion,
        left=conversion.left | found.left,
        where=found.where_unless_trained,
    )


def build_from(theirs: Mapping[str, Tensor], given: Given, classes: tuple[str, ...]) -> Conversion:
    """Return a model of its parameters.

    Raises:
        CheckpointError: they are not those of a model that is read here.
    """
    require_readable(theirs, change)
    known = our_names(theirs)
    require_known(key for key in theirs if key not in known)
    ours = rename(norms.with_eps(in_float32(theirs), given.eps))
    kept = background.choose(background.number(ours), classes)
    ours = background.take(ours, kept.rows)
    shapes = Shapes({name: tuple(x.shape) for name, x in ours.items()})
    config, notes = lay(_recognised(shapes), given.settings)
    _require_anchors(shapes, config)
    if given.sizes > 1:
        ours = _by_size(ours, given.sizes)
    assumed = kept.assumed
    if not given.is_whole:
        assumed = (*kept.assumed, *given.assumed, *settings.assumed(config))
    stored = [kept.names] if kept.names else []
    config, names = with_classes(config, stored, classes, "COCO's, by their category ids")
    config = replace(config, assumed=assumed)
    return Conversion(
        detector=assembled(config, ours, {name: key for key, name in our_names(theirs).items()}),
        source=given.source,
        used=len(theirs),
        left={},
        settings=notes,
        unread=kept.unread,
        assumed=assumed,
        where="",
        names=names,
        gives=_GIVES,
    )


def _given(content: Mapping[str, Any], theirs: Mapping[str, Tensor], known: Known) -> Given:
    """Return what a file does not hold, as torchvision's functions have it."""
    frozen = norms.are_frozen(theirs, BODY)
    eps = known.norm_eps
    if eps is not None and not 0 <= eps < 1:
        raise CheckpointError(f"--norm-eps {eps:g}: expected 0, 1e-5 or another small number")
    if eps is None:
        eps = norms.FROZEN_EPS if frozen else norms.EPS
    assumed: tuple[str, ...] = ()
    if known.norm_eps is None and frozen:
        assumed = (
            f"eps {eps:g} in frozen batch norm, as in torchvision's COCO weights and what began "
            "from them; for a model that began from ImageNet's weights: --norm-eps 1e-5",
        )
    epoch = content.get("epoch")
    kind = f"checkpoint of epoch {epoch}" if type(epoch) is int else "weights alone"
    return Given(
        settings.USUAL,
        dict.fromkeys(norms.names(theirs), norms.EPS)
        | dict.fromkeys(norms.names(theirs, BODY), eps),
        source=f"torchvision, {kind}",
        assumed=assumed,
        is_whole=known.settings is not None,
    )


def _recognised(shapes: Shapes) -> Config:
    """Return the recipe with what parameters show."""
    config = recognise(shapes)
    side = shapes[FC1][-1]
    stages = [to_dict(stage) | {"side": side} for stage in config.model.box.stages]
    return lay(config, {"model.box.stages": stages})[0]


def _require_anchors(shapes: Shapes, config: Config) -> None:
    number, deltas = shapes["rpn.cls.weight"][0], shapes["rpn.reg.weight"][0]
    expected = config.model.rpn.anchors
    if number != expected or deltas != 4 * number:
        raise CheckpointError(
            f"its RPN has {number} anchors at each place, and {expected} are expected; no file "
            "says which: load the model with torchvision and call scnet.from_torchvision(model)"
        )


def _by_size(ours: Mapping[str, Tensor], sizes: int) -> dict[str, Tensor]:
    """Return parameters with all shapes of a size together; torchvision has all sizes of a shape.

    Args:
        sizes: of anchors at each place.
    """
    changed = dict(ours)
    for layer, numbers in (("rpn.cls", 1), ("rpn.reg", 4)):
        for name in (f"{layer}.weight", f"{layer}.bias"):
            by_shape = ours[name].reshape(-1, sizes, numbers, *ours[name].shape[1:])
            changed[name] = by_shape.transpose(0, 1).flatten(0, 2)
    return changed
