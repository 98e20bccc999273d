"""The content of a checkpoint of MMDetection, turned into a detector of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import strangers, unwrap
from scnet.weights.foreign.conversion import (
    Conversion,
    Known,
    assembled,
    require_finite,
    require_known,
    with_classes,
)
from scnet.weights.foreign.mmdet import config_text, settings, version_1
from scnet.weights.foreign.mmdet.names import our_names
from scnet.weights.foreign.places import in_place
from scnet.weights.foreign.recognise import Shapes, recognise, require_anchors
from scnet.weights.foreign.tensors import in_float32, in_our_shape, to_rgb

PARTS = ("rpn_head", "roi_head")  # which every model has
_IOU = "roi_heads.masks.scoring.iou"
_GIVES = "FILE.py"  # the file that holds a config
# Keys that a right file may carry in its model, with the reason why they are left.
_LEFT = {
    "roi_head.mask_head.0.conv_res.": "no input ever reaches it",
    "ema_": "averaged copies; the plain weights of the file are the ones to use",
}


def build(content: Mapping[str, Any], entries: list[unwrap.Entry], known: Known) -> Conversion:
    """Return the model in the content of a file.

    Args:
        entries: the tensors in it.

    Raises:
        CheckpointError: there is none, or not a whole one.
    """
    found = _model(content, entries, known.prefix)
    theirs = version_1.upgraded(found.tensors)
    origin = version_1.Origin(_version(content), version_1.is_old(found.tensors))
    source = f"MMDetection {origin.version or ('1.x' if origin.is_1 else '2.x or 3.x')}"
    ours, left, unknown = _rename(theirs)
    given = _config(content, known)
    try:
        ours, spare = _without_spare_iou(ours, source)
        left |= spare
        shapes = Shapes({name: tuple(x.shape) for name, x in ours.items()})
        config = recognise(shapes)
        require_known(unknown)
        applied = settings.apply(config, given, known.leave, origin)
        require_anchors(shapes, applied.config, known=bool(given), gives=_GIVES)
        stored = _stored_names(content, given)
        config, names = with_classes(applied.config, stored, known.classes)
        if applied.bgr:
            ours = to_rgb(ours)
        original = in_place({name: k for k, name in our_names(theirs).items() if name})
        detector = assembled(config, ours, original)
    except CheckpointError as error:
        raise CheckpointError(strangers.change(theirs) or str(error)) from error
    return Conversion(
        detector=detector,
        source=source,
        used=len(ours),
        left=left | found.left,
        settings=applied.changed,
        unread=applied.unread,
        assumed=applied.assumed,
        where=found.where,
        names=names,
        gives=f"--config {_GIVES} of convert does",
    )


def _version(content: Mapping[str, Any]) -> str:
    """Return which version of MMDetection wrote a file; empty where it does not say it."""
    version = config_text.one(content, "meta.mmdet_version")
    return version if isinstance(version, str) else ""


def _model(
    content: Mapping[str, Any], entries: list[unwrap.Entry], prefix: str | None
) -> unwrap.Wrapped:
    """Return the tensors of the model in a checkpoint by MMDetection's names."""
    is_later = unwrap.has(entries, PARTS) or not unwrap.has(entries, version_1.PARTS)
    found = unwrap.find(entries, PARTS if is_later else version_1.PARTS, prefix)
    if found is None:
        texts = [*_texts(content), *(entry.name for entry in entries)]
        holds = ", ".join(sorted(map(str, content)))[:200] or "nothing"
        raise CheckpointError(
            strangers.name(texts)
            or (
                "there is no model of MMDetection in it, such as rpn_head... and roi_head..., "
                f"nor of detectron2 or torchvision; it holds {holds}"
                if entries
                else f"there are no weights in it; it holds {holds}"
            )
        )
    require_finite(found.tensors)
    return found


def _texts(content: Any, folder: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the names of all that a file holds."""
    if isinstance(content, Mapping) and depth < 4:
        for key, value in content.items():
            yield f"{folder}{key}"
            yield from _texts(value, f"{folder}{key}.", depth + 1)


def _config(content: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """Return the config of a checkpoint, parsed: the one given, its own, or else what is known."""
    if known.config is not None:
        if Path(known.config).suffix in (".yaml", ".yml"):
            raise CheckpointError(
                f"--config {known.config}: this is a model of MMDetection, whose config is {_GIVES}"
            )
        try:
            return config_text.parse(Path(known.config).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"--config {known.config}: cannot be read: {error}") from error
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    text = meta.get("cfg", meta.get("config"))
    if isinstance(text, Mapping):
        return {str(key): value for key, value in text.items()}
    return config_text.parse(text) if isinstance(text, str) else dict(known.settings or {})


def _rename(
    theirs: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Return the tensors by our names, the keys that are left with the reason, and the unknown."""
    ours: dict[str, Tensor] = {}
    left: dict[str, str] = {}
    unknown: list[str] = []
    names = our_names(theirs)
    for key, value in in_float32(theirs).items():
        why = next((why for start, why in _LEFT.items() if key.startswith(start)), None)
        name = names[key]
        if why is not None:
            left[key] = why
        elif name is None:
            unknown.append(key)
        else:
            ours[name] = in_our_shape(name, value)
    return in_place(ours), left, unknown


def _without_spare_iou(
    ours: dict[str, Tensor], source: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Leave the output of mask scoring that is of no class, where there is one more than classes.

    Early configs of 2.x have 81 of them, of which the last is never asked. In files of 1.x that
    were upgraded the first one is of the background.

    Raises:
        CheckpointError: nothing says which of them is of no class.
    """
    classes, outputs = (
        len(ours[name]) if name in ours and ours[name].ndim else 0
        for name in ("roi_heads.stages.0.cls.bias", f"{_IOU}.bias")
    )
    if outputs != classes or not classes:
        return ours, {}
    if not source.startswith(("MMDetection 2.", "MMDetection 3.")) or source.endswith(" 3.x"):
        raise CheckpointError(
            f"its mask_iou_head has {outputs} outputs for {classes - 1} classes, and no version "
            "2.x or 3.x (meta.mmdet_version) says that the last is of none"
        )
    own = {k: v[:-1] if k.rpartition(".")[0] == _IOU else v for k, v in ours.items()}
    return own, {"roi_head.mask_iou_head.fc_mask_iou, last output": "it is of no class"}


def _stored_names(content: Mapping[str, Any], given: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the class names of a file: `CLASSES` in 2.x, in `dataset_meta` in 3.x, or a config's.

    Several places may hold some; the first is the surest.
    """
    at = config_text.one
    places = (
        *(at(content, f"meta.{path}") for path in ("CLASSES", "dataset_meta.classes")),
        at(content, "meta.dataset_meta.CLASSES"),
        *(at(given, f"{path}.metainfo.classes") for path in ("test_dataloader.dataset", "dataset")),
        *(at(given, path) for path in ("metainfo.classes", "data.test.classes", "classes")),
    )
    found: list[tuple[str, ...]] = []
    for names in places:
        if isinstance(names, str):
            found.append((names,))
        elif isinstance(names, Sequence) and names and all(isinstance(x, str) for x in names):
            found.append(tuple(names))
    return found
