"""Places of parameters that depend on what else a model has: its norms, and how deep its RPN is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

_NORM = re.compile(r"((?:fpn|branches|roi_heads)\..*norm\d?(?:\.\d+)?)\.\w+")
_RPN = re.compile(r"rpn\.convs\.(\d+)\.conv\.")
_ONE = "rpn.conv."


def in_place(given: Mapping[str, T]) -> dict[str, T]:
    """Return parameters of a pyramid and heads by our names, from those that tell no more.

    Batch norms lie one deeper here than group norms do, and of an RPN's convolutions the last has
    a name of its own.

    >>> list(in_place({"fpn.output_norm.0.weight": 1, "fpn.output_norm.0.running_var": 2}))
    ['fpn.output_norm.0.norm.weight', 'fpn.output_norm.0.norm.running_var']
    >>> list(in_place({"rpn.convs.0.conv.bias": 1, "rpn.convs.1.conv.bias": 2}))
    ['rpn.convs.0.conv.bias', 'rpn.conv.bias']
    """
    ends = ".running_var"
    batch_norms = {name.removesuffix(ends) for name in given if name.endswith(ends)}
    numbers = {int(found[1]) for name in given if (found := _RPN.match(name))}
    last = f"rpn.convs.{max(numbers, default=0)}.conv."
    whole = any(name.startswith(_ONE) for name in given)

    def place(name: str) -> str:
        norm = _NORM.fullmatch(name)
        if norm is not None and norm[1] in batch_norms:
            return f"{norm[1]}.norm{name[norm.end(1) :]}"
        return name if whole or not name.startswith(last) else _ONE + name.removeprefix(last)

    return {place(name): value for name, value in given.items()}
