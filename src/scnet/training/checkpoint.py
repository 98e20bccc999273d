"""Checkpoints: safetensors weights, config and class names beside them, what resuming needs.

A checkpoint is a folder:

    model.safetensors  weights; its header repeats the config, so the file alone can be loaded too
    config.json        architecture, data settings, class names
    state.pt           optimiser, position and random numbers; only in a run's own checkpoints
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from scnet.config import Config, from_dict, to_dict
from scnet.model.detector import Detector

WEIGHTS, CONFIG, STATE = "model.safetensors", "config.json", "state.pt"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or does not fit; says which file and why."""


def save(folder: Path, detector: Detector, state: dict[str, Any] | None = None) -> None:
    """Write a checkpoint; the folder appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = json.dumps(to_dict(detector.config), indent=1)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        tensors = {k: v.detach().cpu().contiguous() for k, v in detector.state_dict().items()}
        save_file(tensors, new / WEIGHTS, metadata={"format": "pt", "scnet": config})
        (new / CONFIG).write_text(config + "\n")
        if state is not None:
            torch.save(state, new / STATE)
        new.chmod(0o755)
        _swap(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


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
    detector = Detector(override(_config(file, header), changes))
    _fill(detector, tensors, file)
    return detector.eval()


def load_state(folder: Path) -> dict[str, Any]:
    """Return the state that resuming needs."""
    file = folder / STATE
    if not file.is_file():
        raise CheckpointError(
            f"{file}: not there, so this training cannot be resumed; start a new one"
        )
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def find_weights(path: Path) -> Path:
    """Return the weight file that a path means."""
    places = [path, path / WEIGHTS, path / "best" / WEIGHTS, path / "last" / WEIGHTS]
    for place in places:
        if place.is_file():
            return place
    if path.is_dir():
        raise CheckpointError(
            f"{path}: holds no {WEIGHTS}, nor best/ or last/ with one; give a run folder or a file"
        )
    raise CheckpointError(
        f"{path}: no such file or folder; "
        "give a run folder, a checkpoint folder or a .safetensors file"
    )


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


def _fill(detector: Detector, tensors: dict[str, torch.Tensor], file: Path) -> None:
    own = detector.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    wrong = [k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape]
    if missing or extra or wrong:
        parts = {"missing": missing, "unknown": extra, "of another shape": sorted(wrong)}
        text = "; ".join(f"{len(v)} {k}, first {v[0]}" for k, v in parts.items() if v)
        raise CheckpointError(f"{file}: weights do not fit their config: {text}")
    detector.load_state_dict(tensors)


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`; at every moment one of the two is whole on disk."""
    if not folder.exists():
        new.rename(folder)
        return
    old = folder.with_name(f".{folder.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)
