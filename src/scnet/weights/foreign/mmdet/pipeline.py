"""What an MMDetection config does to a test image before the network sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign.mmdet.config_text import Unread, at

# Steps that leave the pixels alone, or only bring them in.
_PLAIN = {
    *("LoadAnnotations", "PackDetInputs", "DefaultFormatBundle", "ImageToTensor", "Collect"),
    *("ToTensor", "ToDataContainer", "LoadImageFromNDArray", "WrapFieldsToLists"),
}
# Of the steps that are read: settings that change no pixel, or hardly one. Their resizing does not
# average over all pixels, ours does.
_HARMLESS = {
    "LoadImageFromFile": (
        *("to_float32", "backend_args", "file_client_args", "imdecode_backend", "ignore_empty"),
    ),
    "MultiScaleFlipAug": ("flip_direction",),
    "Resize": ("backend", "clip_object_border", "override", "multiscale_mode", "bbox_clip_border"),
    "RandomFlip": ("direction",),
    "Normalize": (),
    "Pad": (),
}
_USED: dict[str, dict[str, Any]] = {  # None = any value is read
    "LoadImageFromFile": {"color_type": ("color",)},
    "MultiScaleFlipAug": {"img_scale": None, "transforms": None, "flip": (False,)},
    "Resize": {"scale": None, "img_scale": None, "keep_ratio": None, "interpolation": ("bilinear",)}
    | {"ratio_range": (None,), "scale_factor": (None,)},
    "RandomFlip": {"prob": (0, None), "flip_ratio": (0, None)},
    "Normalize": {"mean": None, "std": None, "to_rgb": None},
    "Pad": {"size_divisor": (32,), "pad_to_square": (False,), "size": (None,)}
    | {"pad_val": (0, {"img": 0}, {"img": 0, "masks": 0, "seg": 255})},
}


class Pipeline(NamedTuple):
    """How a test image is prepared; None where the config does not say."""

    size: tuple[int, int] | None  # as `data.size`
    keep_ratio: bool | None
    normalisation: Mapping[str, Any]  # of 2.x, with its names
    unread: tuple[str, ...]  # what is not done
    changed: tuple[str, ...]  # steps that change images, and are not done


def read(given: Mapping[str, Any]) -> Pipeline:
    """Return what the test pipeline of a parsed config does.

    Raises:
        CheckpointError: the images would have a size that cannot be set here.
    """
    where, found = _pipeline(given)
    if isinstance(found, Unread):
        return Pipeline(None, None, {}, (f"{where} = {found}",), ())
    steps = list(_steps(found))
    names = [str(step.get("type", "a step without type")).rpartition(".")[2] for step in steps]
    changed = [n for n in names if n not in _PLAIN and n not in _USED]
    unread = [
        f"{where}: {name}.{key} = {value}"
        for name, step in zip(names, steps, strict=True)
        if name in _USED
        for key, value in step.items()
        if not _is_read(name, str(key), value)
    ]
    by_name = dict(zip(names, steps, strict=True))
    size, keep_ratio, more = _resizing(by_name)
    unread += [f"{where}: {line}" for line in more]
    if "MultiScaleFlipAug" in names:  # which decides on flips alone
        unread = [line for line in unread if "RandomFlip." not in line]
    twice = {name for name in names if name in _USED and names.count(name) > 1}
    unread += [f"{where}: {name} twice, but for the last" for name in sorted(twice)]
    return Pipeline(size, keep_ratio, by_name.get("Normalize", {}), tuple(unread), tuple(changed))


def _is_read(name: str, key: str, value: Any) -> bool:
    allowed = _USED[name].get(key, ())
    return key == "type" or allowed is None or value in allowed or key in _HARMLESS[name]


def _pipeline(given: Mapping[str, Any]) -> tuple[str, Any]:
    """Return a test pipeline and where it stands."""
    for top in ("test_dataloader", "data.test", "test_pipeline", "val_dataloader", "data.val"):
        for value in at(given, top):
            for path, found in _named_pipeline(value, top):
                if found:
                    return path, found
    return "test_pipeline", []


def _named_pipeline(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the pipelines in a data set and in those that it wraps."""
    named = path.endswith("pipeline") and isinstance(value, list)
    if named or isinstance(value, Unread):
        yield path, value
    elif isinstance(value, Mapping):
        for key in ("pipeline", "dataset", "datasets"):
            if key in value:
                yield from _named_pipeline(value[key], f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _named_pipeline(item, path)


def _steps(found: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the steps, those inside of augmentation steps too."""
    for step in found if isinstance(found, list) else []:
        if isinstance(step, Mapping):
            yield step
            yield from _steps(step.get("transforms"))
        elif isinstance(step, list):
            yield from _steps(step)
        else:
            yield {"type": str(step)}


def _resizing(
    steps: Mapping[str, Mapping[str, Any]],
) -> tuple[tuple[int, int] | None, bool | None, list[str]]:
    """Return size, whether the shape is kept, and what of both is not done."""
    resize = steps.get("Resize")
    several = steps.get("MultiScaleFlipAug", {}).get("img_scale")
    if resize is None and several is None:
        return None, None, []
    resize = resize or {}
    # 3.x calls the size `scale` and keeps no shape unless told to; 2.x does.
    new = "scale" in resize or "scale_factor" in resize
    keep_ratio = bool(resize.get("keep_ratio", not new))
    scale = resize.get("scale", resize.get("img_scale", several))
    unread: list[str] = []
    if isinstance(scale, list) and scale and all(isinstance(x, list) for x in scale):
        unread += [f"sizes {scale}, but for the first"] * (len(scale) > 1)
        scale = scale[0]
    if type(scale) is int:
        scale = [scale, scale]
    if not isinstance(scale, list) or len(scale) != 2 or any(type(x) is not int for x in scale):
        told = resize.get("scale_factor", scale)
        raise CheckpointError(f"its test images are resized by {told}; scnet needs two numbers")
    # A size is (width, height); where the shape is kept, its order does not matter there.
    size = (min(scale), max(scale)) if keep_ratio else (scale[1], scale[0])
    return size, keep_ratio, unread
