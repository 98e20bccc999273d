"""The content of a checkpoint of detectron2, turned into a detector of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from scnet.data.classes import coco_classes
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import unwrap
from scnet.weights.foreign.conversion import (
    Conversion,
    Known,
    assembled,
    require_known,
    require_readable,
    with_classes,
)
from scnet.weights.foreign.detectron2 import anchors, config_file, settings
from scnet.weights.foreign.detectron2.changes import change
from scnet.weights.foreign.detectron2.config_file import Given
from scnet.weights.foreign.detectron2.names import our_name, rename
from scnet.weights.foreign.detectron2.style import guess
from scnet.weights.foreign.places import in_place
from scnet.weights.foreign.recognise import Shapes, recognise, require_anchors
from scnet.weights.foreign.tensors import in_float32, to_rgb

PARTS = ("proposal_generator", "roi_heads")  # which every model has
_GIVES = "config.yaml"  # the file that holds a config
_MASK = "roi_heads.masks.heads.0.classifier"
_COCO = ("coco_2017", "coco_2014")  # how the names of its data sets begin
# Keys that a right file may carry in its model, with the reason why they are left.
_LEFT = {
    anchors.STORED: "its anchors, which are read",
    "pixel_": "statistics of images, which are read",
    "sem_seg_head.": "the semantic segmentation of Panoptic FPN, which scnet does not do",
}


def build(content: Mapping[str, Any], entries: list[unwrap.Entry], known: Known) -> Conversion:
    """Return the model in the content of a file.

    Args:
        entries: the tensors in it.

    Raises:
        CheckpointError: there is none, or not a whole one.
    """
    found = unwrap.found(entries, PARTS, known.prefix)
    theirs = found.tensors
    require_readable(theirs, change)
    left, unknown = _others(theirs)
    ours, given = rename(in_float32(theirs)), _config(known)
    shapes, more = _recognisable(ours)
    require_known(unknown)
    seen = settings.images(given, theirs, guess(ours), known.leave)
    applied = settings.apply(recognise(shapes), given, theirs, seen, known.leave)
    require_anchors(shapes, applied.config, known=bool(given.values), gives=_GIVES)
    if seen.bgr:
        ours = to_rgb(ours)
    stored = _class_names(content, given, applied.config.model.num_classes)
    config, names = with_classes(applied.config, stored, known.classes, _told_names(content))
    original = in_place({name: key for key in theirs if (name := our_name(key))})
    detector = assembled(config, ours, original)
    return Conversion(
        detector=detector,
        source=_source(content, given),
        used=len(theirs) - len(left),
        left=left | found.left,
        settings=(*applied.changed, *more),
        unread=applied.unread,
        assumed=applied.assumed,
        where=found.where_unless_trained,
        names=names,
        gives=f"--config {_GIVES} of convert does",
    )


def _others(theirs: Mapping[str, Tensor]) -> tuple[dict[str, str], list[str]]:
    """Return keys that are left, with the reason, and those that are not known."""
    left: dict[str, str] = {}
    unknown = []
    for key in theirs:
        why = next((why for start, why in _LEFT.items() if key.startswith(start)), None)
        if why is not None:
            left[key] = why
        elif our_name(key) is None:
            unknown.append(key)
    return left, unknown


def _recognisable(ours: dict[str, Tensor]) -> tuple[Shapes, list[str]]:
    """Return the shapes of parameters, after what detectron2 may have in another shape is brought.

    One mask for all classes is the same as one for each with equal weights.
    """
    shapes = Shapes({name: tuple(x.shape) for name, x in ours.items()})
    deltas, logits = shapes["rpn.reg.weight"][0], shapes["rpn.cls.weight"][0]
    if deltas == 5 * logits:
        raise CheckpointError("it has rotated boxes (RRPN), of five numbers; scnet's have four")
    classes = shapes["roi_heads.stages.0.cls.weight"][0] - 1
    if shapes[f"{_MASK}.weight"][0] != 1 or classes == 1:
        return shapes, []
    for kind in ("weight", "bias"):
        name = f"{_MASK}.{kind}"
        ours[name] = ours[name].expand(classes, *ours[name].shape[1:])
    told = "one mask for all classes, which every class has here (CLS_AGNOSTIC_MASK)"
    return Shapes({name: tuple(x.shape) for name, x in ours.items()}), [told]


def _config(known: Known) -> Given:
    """Return the config that is given, else the one beside the file."""
    if known.settings is not None:
        return Given(dict(known.settings))
    if known.config is not None:
        if Path(known.config).suffix == ".py":
            raise CheckpointError(
                f"--config {known.config}: this is a model of detectron2, whose config is the "
                f"{_GIVES} that its training writes; a LazyConfig in Python is not read"
            )
        return config_file.read(Path(known.config))
    beside = config_file.beside(Path(known.folder)) if known.folder is not None else None
    return Given({}) if beside is None else config_file.read(beside)


def _source(content: Mapping[str, Any], given: Given) -> str:
    """Return what a file says of itself; none holds a version."""
    kind = "weights alone"
    if "__author__" in content:
        kind = f"file of {content['__author__']}"
    elif type(content.get("iteration")) is int:
        kind = f"checkpoint of a trainer, iteration {content['iteration']}"
    return f"detectron2, {kind}" + (f", with {given.name}" if given.name else "")


def _class_names(content: Mapping[str, Any], given: Given, number: int) -> list[tuple[str, ...]]:
    """Return the class names: those of a file's metadata, else of the data set of its config."""
    metadata = content.get("metadata")
    for place in (content, metadata if isinstance(metadata, Mapping) else {}):
        names = place.get("thing_classes")
        if isinstance(names, Sequence) and names and all(isinstance(x, str) for x in names):
            return [tuple(names)]
    sets = given.values.get("DATASETS.TRAIN")
    of_coco = isinstance(sets, list) and any(str(x).startswith(_COCO) for x in sets)
    # Many train on data of their own and leave the data set as it was.
    return [coco_classes()] if of_coco and number == len(coco_classes()) else []


def _told_names(content: Mapping[str, Any]) -> str:
    named = "thing_classes" in content or "metadata" in content
    return "" if named else "COCO's, the data set of its config"
