"""Checkpoints: safetensors weights, config and class names beside them, what resuming needs.

A checkpoint is a folder:

    model.safetensors  weights; its header repeats the config, so the file alone can be loaded too
    config.json        architecture, data settings, class names
    state.pt           optimiser, position and random numbers; only in the last checkpoint of a run

A file to hand on may hold its weights as float16; they become float32 when they are loaded.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scnet.config import Config, from_dict, to_dict
from scnet.model.detector import Detector
from scnet.runtime.files import whole_file, whole_folder
from scnet.weights.half import Half

WEIGHTS, CONFIG, STATE = "model.safetensors", "config.json", "state.pt"
ROUNDED = "rounded"  # in the header of a file whose weights were rounded: to what
_COUNTER = "num_batches_tracked"  # of batch norm


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or does not fit; says which file and why."""


def save(folder: Path, detector: Detector, state: dict[str, Any] | None = None) -> None:
    """Write a checkpoint; the folder appears whole or not at all.

    Raises:
        CheckpointError: it cannot be written; the one before is still there.
    """
    with writing(folder), whole_folder(folder) as new:
        _write_weights(new / WEIGHTS, detector)
        write_config(new / CONFIG, detector)
        if state is not None:
            torch.save(state, new / STATE)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the error of a full disk, while a checkpoint is written, into a `CheckpointError`."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _is_of_writing(error):
            raise
        raise CheckpointError(
            f"{folder}: the checkpoint cannot be written ({error}); is the disk full? "
            + ("The one before it is whole" if folder.is_dir() else "There is none before it")
        ) from error


def write_weights(file: Path, detector: Detector, half: Half | None = None) -> None:
    """Write weights and config to a safetensors file, which appears whole or not at all.

    Args:
        half: the weights rounded, to be written instead; the header says so.
    """
    with whole_file(file) as new:
        if half is None:
            _write_weights(new, detector)
        else:
            _write_tensors(new, detector.config, half.tensors, {ROUNDED: "float16"})


def write_config(file: Path, detector: Detector) -> None:
    """Write the config that lies beside weights."""
    file.write_text(json.dumps(to_dict(detector.config), indent=1) + "\n")


def _write_weights(file: Path, detector: Detector) -> None:
    _write_tensors(file, detector.config, detector.state_dict(), {})


def _write_tensors(
    file: Path, config: Config, tensors: Mapping[str, Tensor], more: Mapping[str, str]
) -> None:
    """Write tensors below a header of the config and `more`."""
    text = json.dumps(to_dict(config), indent=1)
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_file(whole, file, metadata={"format": "pt", "scnet": text, **more})


def _is_of_writing(error: Exception) -> bool:
    """Whether an error is that of a full disk; PyTorch's writer has no own kind of error."""
    if isinstance(error, OSError):
        return error.errno in (None, errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, RuntimeError):
        return any(word in str(error) for word in ("PytorchStreamWriter", "inline_container"))
    return any(word in str(error).lower() for word in ("i/o", "os error", "ioerror"))


def load(path: str | os.PathLike[str], **changes: Any) -> Detector:
    """Return the detector of a run folder (best checkpoint), checkpoint folder or safetensors file.

    `changes` are laid over the stored config, as `scnet.config.override` takes them.

    Raises:
        CheckpointError: not there, damaged, or the weights do not fit the config.
    """
    from scnet.config import override

    file = find_weights(Path(path))
    try:
        with safe_open(file, "pt") as opened:
            header = (opened.metadata() or {}).get("scnet")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: cannot be read as safetensors ({error}); is it cut off?"
        ) from error
    try:
        return assemble(override(_config(file, header), changes), tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error


def load_state(folder: Path) -> dict[str, Any]:
    """Return the state that resuming needs."""
    file = folder / STATE
    if not file.is_file():
        raise CheckpointError(
            f"{file}: not there, so this training cannot be resumed; start a new one"
        )
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def is_own(path: Path) -> bool:
    """Return whether a path holds a model of scnet: a folder of one, or a file that says so."""
    if path.is_dir():
        return _find(path) is not None
    return path.is_file() and path.suffix == ".safetensors" and "scnet" in _header(path)


def rounded_to(file: Path) -> str:
    """Return what the weights of a safetensors file were rounded to; empty where they were not."""
    return _header(file).get(ROUNDED, "")


def _header(file: Path) -> Mapping[str, str]:
    """Return what a safetensors file says of itself; nothing where it cannot be read."""
    try:
        with safe_open(file, "pt") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def find_weights(path: Path) -> Path:
    """Return the weight file that a path means.

    Raises:
        CheckpointError: there is none; says where one was looked for.
    """
    if file := _find(path):
        return file
    if path.is_dir():
        raise CheckpointError(
            f"{path}: holds no {WEIGHTS}, nor best/ or last/ with one; give a run folder or a file"
        )
    raise CheckpointError(
        f"{path}: no such file or folder; "
        "give a run folder, a checkpoint folder or a .safetensors file"
    )


def _find(path: Path) -> Path | None:
    places = [path, path / WEIGHTS, path / "best" / WEIGHTS, path / "last" / WEIGHTS]
    return next((place for place in places if place.is_file()), None)


def _config(file: Path, header: str | None) -> Config:
    beside = file.parent / CONFIG
    if header is None and not beside.is_file():
        raise CheckpointError(
            f"{file}: carries no config and there is no {CONFIG} beside it; is it a file of scnet?"
        )
    text = header if header is not None else beside.read_text()
    try:
        return from_dict(json.loads(text))
    except ValueError as error:
        raise CheckpointError(f"{file}: its config cannot be used: {error}") from error


def assemble(
    config: Config, tensors: Mapping[str, Tensor], names: Mapping[str, str] | None = None
) -> Detector:
    """Return the detector of a config with these weights, in inference mode.

    Args:
        tensors: every parameter and buffer; only the step counters of batch norm may be missing.
        names: what to call a tensor in messages, where it came under another name.

    Raises:
        CheckpointError: tensors are missing, unknown, of another shape, or whole numbers in the
            place of others.
    """
    with torch.device("meta"):  # no time and no memory for numbers that are replaced at once
        detector = Detector(config)
    own = detector.state_dict()
    counters = {k: own[k].new_zeros((), device="cpu") for k in own if k.endswith(_COUNTER)}
    given = counters | dict(tensors)
    _require_fit(own, given, names or {})
    # Tensors lie in a mapped file at any address, and matrix products round by their alignment. So
    # each is copied, and a resumed training goes on to the last bit as one that never stopped.
    # Files of half or double precision become what the detector computes in.
    given = {
        k: v.to(own[k].dtype, copy=True, memory_format=torch.contiguous_format)
        for k, v in given.items()
    }
    detector.load_state_dict(given, assign=True)
    if any(x.is_meta for x in (*detector.parameters(), *detector.buffers())):
        detector = Detector(config)  # a backbone with buffers that no file holds
        detector.load_state_dict(given)
    return detector.eval()


def _require_fit(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], names: Mapping[str, str]
) -> None:
    wrong = [
        f"{names.get(k, k)} {tuple(given[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if k in given and own[k].shape != given[k].shape
    ]
    kinds = [
        f"{names.get(k, k)} {given[k].dtype} instead of {own[k].dtype}"
        for k in own
        if k in given and own[k].is_floating_point() != given[k].is_floating_point()
    ]
    parts = {
        "missing": [names.get(k, k) for k in own if k not in given],
        "unknown": [names.get(k, k) for k in given if k not in own],
        "of another shape": wrong,
        "of another kind": kinds,
    }
    text = "; ".join(f"{len(v)} {k}: {', '.join(v[:20])}" for k, v in parts.items() if v)
    if text:
        raise CheckpointError(f"weights do not fit their config: {text}")
