"""The config text that MMDetection stores in a checkpoint, as plain values.

The text is Python. It is parsed and only its literals, `dict(...)` calls and names of values before
are read; nothing runs. What is anything else stays in its place as `Unread`, so that it can be told
instead of missed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unread:
    """A value that only running the text would give."""

    text: str

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> dict[str, Any]:
    """Return the assignments of a config text; a statement of another kind is `Unread`.

    >>> parse("a = dict(b=[1, -2])\\nc = open('x')")
    {'a': {'b': [1, -2]}, 'c': Unread(text="open('x')")}
    """
    try:
        lines = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError) as error:
        return {"config": Unread(f"a text that is not Python ({type(error).__name__})")}
    values: dict[str, Any] = {}
    for line in lines:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            values[line.targets[0].id] = _plain(line.value, values)
        elif not isinstance(line, ast.Import | ast.ImportFrom | ast.Expr) or _calls(line):
            values[f"line {line.lineno}"] = Unread(_source(line))
    return values


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value with its path; a list of groups, one for each stage, has one path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for item in value:
            yield from leaves(item, path)
    else:
        # Newer configs name a class with its module.
        named = path.rpartition(".")[2] == "type" and isinstance(value, str)
        yield path, value.rpartition(".")[2] if named else value


def at(values: Any, path: str) -> Iterator[Any]:
    """Yield every value at a path; a list on the way holds one for each box stage."""
    if isinstance(values, list):
        for value in values:
            yield from at(value, path)
    elif isinstance(values, Mapping):
        name, _, rest = path.partition(".")
        if name in values and not rest:
            yield values[name]
        elif name in values:
            yield from at(values[name], rest)


def one(values: Any, *paths: str) -> Any:
    """Return the first value found at one of the paths."""
    return next((value for path in paths for value in at(values, path)), None)


def _calls(line: ast.stmt) -> bool:
    """Whether a statement without an assignment does something, as `model.update(...)` does."""
    return isinstance(line, ast.Expr) and not isinstance(line.value, ast.Constant)


def _source(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """Return the value of a literal or of a `dict(...)` of such, tuples as lists."""
    try:
        return _value(node, known)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return Unread(_source(node))


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return known.get(node.id, Unread(node.id))
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args
        if not named:
            raise ValueError("not a dict")
        return _group([(k.arg, k.value) for k in node.keywords], known)
    if isinstance(node, ast.Dict):
        keys = [None if key is None else ast.literal_eval(key) for key in node.keys]
        return _group(list(zip(keys, node.values, strict=True)), known)
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(item, known) for item in node.elts]
    return ast.literal_eval(node)


def _group(items: list[tuple[Any, ast.expr]], known: Mapping[str, Any]) -> dict[Any, Any]:
    """Return a dictionary; an item without a key is one that is unpacked into it."""
    group: dict[Any, Any] = {}
    for key, node in items:
        value = _plain(node, known)
        if key is not None:
            group[key] = value
        elif isinstance(value, Mapping):
            group |= value
        else:
            group["**"] = value
    return group
