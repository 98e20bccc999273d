"""Open PyTorch checkpoint files without running anything that is in them.

A `.pth` file is a pickle, and a pickle can call any function. Files are read with
`weights_only=True` alone, or as bare pickles of arrays (`pickles.py`). What MMDetection 3.x and
detectron2 store beside the weights (logs, counters) is replaced by stand-ins that do nothing; any
other object is refused, and never unpickled instead.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from scnet.weights.checkpoint import CheckpointError, is_own
from scnet.weights.foreign import faults, pickles

# Libraries whose objects lie in checkpoints beside the weights, of MMDetection, detectron2 or
# Lightning. Each is replaced by a stand-in, so nothing of these libraries is imported or
# called.
_BESIDE_WEIGHTS = (
    *("mmengine.", "mmcv.", "mmdet.", "numpy."),
    *("detectron2.", "fvcore.", "yacs.", "iopath."),
    *("pytorch_lightning.", "lightning.", "lightning_fabric.", "omegaconf.", "argparse.Namespace"),
)
_BUILT_IN = ("builtins.getattr", "_codecs.encode")
# Files older than PyTorch 1.6 cannot be searched for names; numbers of NumPy occur in them.
_ALWAYS = (
    *_BUILT_IN,
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)


def read_file(file: Path) -> Mapping[str, Any]:
    """Return the content of a checkpoint file; stand-ins replace all but tensors and plain values.

    Raises:
        CheckpointError: not there, damaged, or holding objects that only running code could make.
    """
    if file.is_dir():
        if is_own(file):
            raise CheckpointError(f"{file}: is scnet's own already; use it as it is")
        raise CheckpointError(f"{file}: is a folder; give a checkpoint file")
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file")
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    if pickles.is_bare(file):
        return pickles.read(file)
    if told := faults.no_checkpoint(file):
        raise CheckpointError(f"{file}: {told}")
    names = _names(file)
    foreign = sorted(n for n in names if not n.startswith(_BESIDE_WEIGHTS) and n not in _BUILT_IN)
    if foreign:
        raise CheckpointError(faults.unsafe(file, foreign))
    try:
        with _stand_ins({*names, *_ALWAYS}):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(faults.unsafe(file, [faults.first_line(error)])) from error
    except Exception as error:  # a damaged file fails in any of a dozen ways
        raise CheckpointError(faults.damaged(file, error)) from error
    if isinstance(content, _StandIn):
        raise CheckpointError(
            f"{file}: holds a whole {type(content).__name__}, not its weights. In the environment "
            "that wrote it: torch.save({'state_dict': model.state_dict()}, 'weights.pth')"
        )
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}, not a checkpoint")
    return content


def _read_safetensors(file: Path) -> Mapping[str, Any]:
    try:
        with safe_open(file, "pt") as opened:
            ours = "scnet" in (opened.metadata() or {})
            content = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(faults.damaged(file, error)) from error
    if ours:
        raise CheckpointError(f"{file}: is a file of scnet already; use it as it is")
    return content


class _StandIn:
    """Takes the place of an object of another library and does nothing."""

    def __new__(cls, *_: object) -> _StandIn:
        return object.__new__(cls)

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


@contextmanager
def _stand_ins(names: set[str]) -> Iterator[None]:
    kinds: list[Any] = []
    for name in sorted(names):
        module, _, own = name.rpartition(".")
        kinds.append(type(own, (_StandIn,), {"__module__": module, "__qualname__": own}))
    with safe_globals(kinds):
        yield


def _names(file: Path) -> set[str]:
    """Return the names in the pickle that PyTorch does not know as harmless."""
    if not zipfile.is_zipfile(file):
        return set()
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"checksum of {damaged} is wrong")
        return set(get_unsafe_globals_in_checkpoint(str(file)))
    except UnpicklingError as error:
        raise CheckpointError(faults.unsafe(file, [faults.first_line(error)])) from error
    except Exception as error:
        raise CheckpointError(faults.damaged(file, error)) from error
