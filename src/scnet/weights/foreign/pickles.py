"""Read bare pickles of arrays, as detectron2's model zoo has them, and run nothing that is in them.

A pickle names functions and calls them. Here every name is looked up in one table of stand-ins:
nothing of NumPy, of PyTorch or of Python itself can be reached, and a name that is not in the table
is refused. The steps of the pickle are looked through before any is carried out, so that a small
file cannot ask for much memory.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from pickle import Unpickler, UnpicklingError
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Tensor

from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import faults

_SUFFIXES = (".pkl", ".pickle")
_MAGIC = (
    b"l\xfc\x9cF\xf9 j\xa8P\x19"  # of PyTorch's files before 1.6, pickles with more behind them
)
_KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")  # of numbers in an array
_MOST_STEPS = 2_000_000  # a model of a thousand arrays takes some 30,000
_DEEPEST = 8
# Steps that ask for objects from outside of the pickle, or make some in other ways than a call.
_NEVER = {
    *("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"),
    *("NEXT_BUFFER", "READONLY_BUFFER", "EMPTY_SET", "FROZENSET", "ADDITEMS"),
}


class _UnsafeError(Exception):
    """A pickle names what is in no table; the text is that name."""


def is_bare(file: Path) -> bool:
    """Whether a file is a pickle without PyTorch's form around it."""
    if zipfile.is_zipfile(file):
        return False
    with file.open("rb") as opened:
        begin = opened.read(64)
    old = file.suffix in _SUFFIXES and begin[:1] in (b"(", b"}", b"c", b"]")  # protocols 0 and 1
    return _MAGIC not in begin and (begin[:1] == b"\x80" or old)


def read(file: Path) -> Mapping[str, Any]:
    """Return the content of a pickle: dictionaries of tensors and plain values.

    Raises:
        CheckpointError: damaged, no dictionary, or holding what only running code could make.
    """
    try:
        with file.open("rb") as opened, _mapped(opened.fileno()) as steps:
            _look_through(steps)
            content = _Reader(steps).load()
        plain = _plain(content, set())
    except _UnsafeError as error:
        raise CheckpointError(faults.unsafe(file, [str(error)], bare=True)) from error
    except Exception as error:  # a damaged file fails in any of a dozen ways
        raise CheckpointError(faults.damaged(file, error, "pickle of weights")) from error
    if not isinstance(plain, Mapping):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}, not a checkpoint")
    return plain


def _mapped(number: int) -> mmap.mmap:
    return mmap.mmap(number, 0, access=mmap.ACCESS_READ)


def _look_through(steps: mmap.mmap) -> None:
    """Stop at steps that no pickle of arrays has, and at those that would take much memory.

    Reading the steps also shows that none asks for more bytes than there are.
    """
    for number, (step, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], steps))):
        if step.name in _NEVER:
            raise _UnsafeError(f"a step {step.name}")
        if number > _MOST_STEPS:
            raise UnpicklingError(f"it has more than {_MOST_STEPS} steps")
        # The table of things to come back to is as long as its highest number says.
        if step.name.endswith("PUT") and int(str(argument)) > number:
            raise UnpicklingError(f"it puts something at place {argument} of {number}")
    if steps.tell() != len(steps):
        raise UnpicklingError(f"it ends after {steps.tell()} of {len(steps)} bytes")
    steps.seek(0)


class _Call:
    """Stands for a function or class that a pickle names; it can be called, and nothing else."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _UnsafeError("a state for a function")

    def __setattr__(self, name: str, value: object) -> None:
        raise _UnsafeError("an attribute for a function")


class _Kind:
    """Kind of the numbers in an array."""

    __slots__ = ("kind", "order")

    def __init__(self, kind: Any, *_: object) -> None:
        self.kind, self.order = _text(kind), "<"
        if self.kind not in _KINDS:
            raise _UnsafeError(f"an array of {self.kind}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if _text(state[1]) == ">" else "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.kind)


class _Array:
    """An array, empty until its state is set."""

    __slots__ = ("make", "tensor")

    def __init__(self, make: Callable[..., Tensor]) -> None:
        self.make = make
        self.tensor: Tensor | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_columns, content = state
        self.tensor = self.make(content, kind, shape, "F" if by_columns else "C")


class _Reader(Unpickler):
    """Makes dictionaries, arrays and plain values, of not more bytes than the file has."""

    def __init__(self, steps: mmap.mmap) -> None:
        super().__init__(steps, encoding="latin1")
        self._left = {"text": len(steps), "arrays": len(steps), "items": len(steps)}
        arrays: dict[str, Callable[..., Any]] = {
            "multiarray._reconstruct": lambda *_: _Array(self._tensor),
            "multiarray.scalar": self._number,
            "numeric._frombuffer": self._from_buffer,
        }
        known: dict[str, Callable[..., Any]] = {
            f"{module}.{name}": call
            for module in ("numpy.core", "numpy._core")
            for name, call in arrays.items()
        }
        known |= {"numpy.ndarray": _nothing, "numpy.dtype": _Kind, "_codecs.encode": self._bytes}
        known |= {"collections.OrderedDict": self._dictionary}
        known |= {f"{module}.bytes": _empty for module in ("builtins", "__builtin__")}
        self._known = {name: _Call(call) for name, call in known.items()}

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name of a pickle."""
        if f"{module}.{name}" not in self._known:
            raise _UnsafeError(f"{module}.{name}")
        return self._known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse what lies outside of the pickle."""
        raise _UnsafeError("a persistent id")

    def _spend(self, what: str, number: int) -> None:
        # The same piece of a pickle can be asked for again and again.
        self._left[what] -= number
        if self._left[what] < 0:
            raise UnpicklingError(f"it would make more {what} than the file holds")

    def _bytes(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise _UnsafeError(f"a text in {encoding}")
        self._spend("text", len(text))
        return text.encode("latin-1")

    def _dictionary(self, pairs: Iterable[Any] = ()) -> dict[Any, Any]:
        if not isinstance(pairs, list | tuple):
            raise _UnsafeError("a dictionary of what is no list")
        self._spend("items", len(pairs))
        return dict(pairs)

    def _tensor(self, content: Any, kind: _Kind, shape: tuple[int, ...], order: Any) -> Tensor:
        if type(kind) is not _Kind or not isinstance(content, str | bytes | bytearray):
            raise UnpicklingError(f"an array of {type(kind)} from {type(content)}")
        if type(shape) is not tuple or any(type(n) is not int or n < 0 for n in shape):
            raise UnpicklingError(f"an array of shape {shape}")
        self._spend("arrays", len(content))
        raw = content.encode("latin-1") if isinstance(content, str) else content
        if len(raw) != math.prod(shape) * kind.dtype.itemsize or max(shape, default=0) >= 2**40:
            raise UnpicklingError(f"an array of shape {shape} with {len(raw)} bytes")
        flat = np.frombuffer(raw, kind.dtype)
        shaped = flat.reshape(shape, order="F" if _text(order) == "F" else "C")
        return torch.from_numpy(np.array(shaped, kind.dtype.newbyteorder("="), order="C"))

    def _from_buffer(self, content: Any, kind: _Kind, shape: Any, order: Any, *_: Any) -> _Array:
        array = _Array(self._tensor)
        array.tensor = self._tensor(content, kind, shape, order)
        return array

    def _number(self, kind: _Kind, content: Any) -> Any:
        return self._tensor(content, kind, (), "C").item()


def _nothing(*_: object) -> None:
    """Stand for a class that is only named."""


def _empty(*arguments: object) -> bytes:
    if arguments:
        raise _UnsafeError("bytes of something")
    return b""


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _plain(value: Any, seen: set[int], depth: int = 0) -> Any:
    """Return what was read with tensors for its arrays; of lists texts and numbers alone."""
    if isinstance(value, _Array):
        if value.tensor is None:
            raise UnpicklingError("an array without content")
        return value.tensor
    if isinstance(value, dict):
        # A dictionary that is in itself, or a thousand times in another, would have no end.
        if id(value) in seen or depth > _DEEPEST:
            raise UnpicklingError("dictionaries within one another")
        seen.add(id(value))
        return {_text(key): _plain(inner, seen, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [item for item in value if isinstance(item, str | int | float)]
    return value if isinstance(value, str | bytes | int | float | None) else str(type(value))
