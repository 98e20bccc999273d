"""Count where the host would wait for a GPU, or copy to or from it, without having one.

On a GPU most operators only join a queue. Some wait until it is empty, as the size or the value of
their result is needed on the host: `nonzero`, a boolean index, `item`, `unique`, NMS. A tensor made
of Python numbers is copied from memory that is not pinned, for which the host waits as well.

CPU tensors stand in for those of the GPU. A tensor is taken to lie on the host if it was made there
(`torch.tensor(...)` and the like without a device, `.cpu()`), or from such tensors alone; every
other is taken to lie on the GPU.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from tests.model_cases import HEIGHT, WIDTH, make_batch, make_detector
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import scnet
from scnet.inference.model import Model
from scnet.model.sampling import RandomChoice
from scnet.ops import nms_groups

SOURCE = str(Path(scnet.__file__).parent)

# Operators whose result has a size, or is a value, that only the GPU knows.
WAITS = {
    "aten::nonzero": "nonzero",
    "aten::_local_scalar_dense": "item",
    "aten::equal": "item",
    "aten::is_nonzero": "item",
    "aten::_unique2": "unique",
    "aten::unique_dim": "unique",
    "aten::unique_consecutive": "unique",
    "aten::masked_select": "masked_select",
    "aten::bincount": "bincount",
    "aten::histc": "histc",
    "torchvision::nms": "nms",
}
INDEX = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
INDEX |= {"aten::_unsafe_index", "aten::_unsafe_index_put"}

# What makes a tensor on the host, unless told a device.
MAKERS = {torch.tensor, torch.as_tensor, torch.arange, torch.linspace, torch.empty, torch.full}
MAKERS |= {torch.ones, torch.zeros, torch.rand, torch.randn, torch.randint}
# What decides between CPU and GPU in the model, and what it decides on a GPU.
CHOICES = {
    "scnet.ops.pooling._is_sparse_faster": lambda features: False,
    "scnet.ops.nms_groups._group_by_group": nms_groups._all_groups,
    "scnet.model.sparse_head.pays": lambda x: False,
    "scnet.model.layers._pays": lambda layer, x: False,
    "scnet.model.layers.has_avx512": lambda: False,
}


@contextmanager
def gpu_path() -> Iterator[None]:
    """Let the model compute as it would on a GPU, but on the CPU."""
    with ExitStack() as stack:
        for name, choice in CHOICES.items():
            stack.enter_context(patch(name, choice))
        yield


def in_training_step(recipe: str, images: int) -> HostWaits:
    """Return the waits of the loss and the backward pass of a small detector."""
    detector = make_detector(recipe).train()
    batch = make_batch((3, 2, 0, 1)[:images])
    choose = RandomChoice(torch.arange(images))
    with gpu_path(), HostWaits() as waits:
        torch.stack(list(detector.loss(batch, choose).values())).sum().backward()
    return waits


def in_prediction(recipe: str, images: int) -> HostWaits:
    """Return the waits of `Model.predict` of a small detector that finds all it may in each image.

    The images come from the host, and what is found goes back there.
    """
    model = Model(make_detector(recipe, model__box__score_threshold=0.0), "cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (images, HEIGHT, WIDTH, 3), np.uint8)
    with gpu_path(), HostWaits() as waits:
        model.predict(list(pixels), score=0.0, batch_size=images)
    return waits


class HostWaits:
    """Counts waits and copies, by kind and place, in what runs inside `with`.

    >>> with HostWaits() as waits:
    ...     found = torch.ones(3, device="cpu").nonzero()  # taken for a GPU's as a device is named
    >>> waits.total
    1
    """

    def __init__(self) -> None:
        self.places: Counter[tuple[str, str]] = Counter()  # of (place, kind)
        self._modes = ExitStack()

    def __enter__(self) -> HostWaits:
        from_numpy = torch.from_numpy  # which no mode sees
        self._modes.enter_context(
            patch("torch.from_numpy", lambda values: _mark(from_numpy(values)))
        )
        self._modes.enter_context(_Operators(self))
        self._modes.enter_context(_Calls(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._modes.close()

    def add(self, kind: str) -> None:
        """Count one more at the present place."""
        self.places[_place(), kind] += 1

    @property
    def total(self) -> int:
        """How many there were."""
        return self.places.total()

    @property
    def kinds(self) -> Counter[str]:
        """How many there were of each kind."""
        kinds: Counter[str] = Counter()
        for (_, kind), number in self.places.items():
            kinds[kind] += number
        return kinds


class _Operators(TorchDispatchMode):
    """Sees each operator, also in the backward pass."""

    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func._can_decompose():
            with self:  # without autograd an operator that is made of others arrives whole
                return func.decompose(*args, **kwargs)
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on_host = bool(given) and all(map(_on_host, given))
        kind = None if on_host else _kind(func, args, kwargs)
        if kind is not None:
            self.waits.add(kind)
        out = func(*args, **kwargs)
        if on_host:
            _mark(out)
        return out


def _kind(func: Any, args: Any, kwargs: Any) -> str | None:
    """Return why an operator waits; None where it does not."""
    name = func._schema.name
    if name in INDEX:
        return _index_kind(args)
    if name == "aten::repeat_interleave" and func._overloadname == "Tensor":
        known = kwargs.get("output_size") is not None or len(args) > 1
        return None if known else "repeat_interleave"
    if name == "aten::copy_" and _on_host(args[0]) != _on_host(args[1]):
        return "copy to host" if _on_host(args[0]) else "copy to device"
    return WAITS.get(name)


def _index_kind(args: Any) -> str | None:
    indices = [x for x in args[1] if x is not None]
    if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
        # A value for all chosen places is a fill under a mask, which needs no number of them.
        fills = len(args) > 2 and args[2].numel() == 1 and len(indices) == 1 and not any(args[3:])
        return None if fills else "boolean index"
    return "copy to device" if any(map(_on_host, indices)) and not _on_host(args[0]) else None


class _Calls(TorchFunctionMode):
    """Sees each function called: what makes tensors, and what moves them."""

    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            return self._made_of_data(func, args, kwargs)
        if func in (Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.to, Tensor.cuda):
            return self._moved(func, args, kwargs)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and not _on_host(args[0]):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(x, list | np.ndarray) for x in index):
                self.waits.add("constant to device")
        out = func(*args, **kwargs)
        if func in MAKERS and kwargs.get("device") is None:
            _mark(out)
        return out

    def _made_of_data(self, func: Any, args: Any, kwargs: Any) -> Any:
        out = func(*args, **kwargs)
        of = args[0] if func is Tensor.new_tensor else None
        device = kwargs.get("device")
        if device in ("cpu", None) and (of is None or _on_host(of)):
            return _mark(out)
        self.waits.add("constant to device")
        return out

    def _moved(self, func: Any, args: Any, kwargs: Any) -> Any:
        was = _on_host(args[0])
        to_host = _goes_to_host(func, args, kwargs)
        if to_host is None or to_host == was:
            out = func(*args, **kwargs)
            return _mark(out) if was else out
        self.waits.add("copy to host" if to_host else "copy to device")
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor):
            return out
        out = (
            out.detach() if out is args[0] else out
        )  # another object, which has a place of its own
        return _mark(out, to_host)


def _goes_to_host(func: Any, args: Any, kwargs: Any) -> bool | None:
    """Return whether a call moves a tensor to the host (True), the GPU (False) or nowhere."""
    if func is Tensor.cuda:
        return False
    if func is not Tensor.to:
        return True
    for value in (*args[1:], kwargs.get("device")):
        if isinstance(value, Tensor):
            return _on_host(value)
        if isinstance(value, str | torch.device):
            return value == "cpu"  # `torch.device("cpu")` stands in for a GPU
    return None


def _on_host(tensor: Tensor) -> bool:
    return getattr(tensor, "_made_on_host", False)


def _mark(out: Any, on_host: bool = True) -> Any:
    for tensor in tree_leaves(out):
        if isinstance(tensor, Tensor):
            tensor._made_on_host = on_host  # type: ignore[attr-defined]
    return out


def _place() -> str:
    """Return the line of our own code that is being run."""
    for frame, line in traceback.walk_stack(None):
        name = frame.f_code.co_filename
        if name.startswith(SOURCE):
            return f"{Path(name).relative_to(SOURCE)}:{line}"
    return "backward"
