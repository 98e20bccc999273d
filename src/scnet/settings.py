"""Nested settings: laid over one another, and strictly over frozen dataclasses."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, cast


class ConfigError(ValueError):
    """A setting that does not exist, has the wrong type or cannot be combined with another."""


class Range(NamedTuple):
    """Numbers that a setting may have, beside its type: `Annotated[float, Range(0, 1)]`."""

    low: int | float = -math.inf
    high: int | float = math.inf
    ends: str = "[]"  # a round bracket leaves the bound itself out

    def fault(self, value: int | float) -> str | None:
        """Return what the value has to be, if it is not."""
        above = self.low < value or (self.ends[0] == "[" and self.low == value)
        below = value < self.high or (self.ends[1] == "]" and self.high == value)
        return None if math.isfinite(value) and above and below else f"must be {self}"

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'at least' if self.ends[0] == '[' else 'above'} {self.low}"
        low = f", above {self.low}" if self.ends[0] == "(" else ""
        return f"in {self.low}..{self.high}{low}" + (
            f", below {self.high}" if self.ends[1] == ")" else ""
        )


class NotEmpty(NamedTuple):
    """A list that holds something, beside its type."""

    def fault(self, value: tuple[Any, ...]) -> str | None:
        """Return what the value has to be, if it is not."""
        return None if value else "must hold at least one value"


MOST_KNOWN = 12  # names that are listed in a message

Count = Annotated[int, Range(1)]
CountOrNone = Annotated[int, Range(0)]  # what 0 means stands beside the field
Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, ends="()")]
Weight = Annotated[float, Range(0)]
Finite = Annotated[float, Range()]


def nested(path: str, value: Any) -> dict[str, Any]:
    """Return `{"a": {"b": value}}` for the path `a.b`; dashes count as underscores."""
    for name in reversed(path.replace("-", "_").split(".")):
        value = {name: value}
    return cast(dict[str, Any], value)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dicts laid one over the other, of the sense that `lay_over` gives them.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, Mapping) else value
    return result


def _merged(below: Mapping[str, Any], over: Any) -> Any:
    """Lay a value over a group of settings: True leaves it on, and a text names its kind."""
    if over is True:
        return below
    if isinstance(over, str) and "kind" in below:
        over = {"kind": over}
    if not isinstance(over, Mapping):
        return over
    kinds = {part["kind"] for part in (below, over) if "kind" in part}
    return over if len(kinds) > 1 else merge(below, over)  # another kind has other settings


def leaves(settings: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of each nested setting.

    >>> dict(leaves({"a": {"b": 1}, "c": 2}))
    {'a.b': 1, 'c': 2}
    """
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{start}{name}.")
        else:
            yield f"{start}{name}", value


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a hint such as `; did you mean "scnet"?`, or a short list where nothing is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return "; did you mean " + " or ".join(f'"{n}"' for n in near) + "?"
    return "; known: " + ", ".join(known) if len(known) <= MOST_KNOWN else ""


def check(config: Any, path: str) -> None:
    """Hold every field of a dataclass to the ranges that its type names; `path` is its own.

    Raises:
        ConfigError: a number out of range, or an empty list; gives the path and what is allowed.
    """
    for name, kind in _ranges(cast(Hashable, type(config))).items():
        _check(kind, getattr(config, name), f"{path}.{name}" if path else name)


@functools.cache
def _ranges(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cast(Any, kind), include_extras=True)


def _check(kind: Any, value: Any, path: str) -> None:
    if value is None:
        return
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    is_list = tuple in (origin, typing.get_origin(args[0]) if args else None)
    if is_list and not isinstance(value, tuple):  # a word beside a list, in a union of the two
        return
    if origin is Annotated:
        for rule in args[1:]:
            if fault := rule.fault(value):
                raise ConfigError(f"{path}: {value!r}; {fault}")
        _check(args[0], value, path)
    elif origin in (types.UnionType, typing.Union):
        for member in args:
            _check(member, value, path)
    elif origin is tuple:
        kinds = [args[0]] * len(value) if args[1:] == (Ellipsis,) else args
        for i, (inner, item) in enumerate(zip(kinds, value, strict=True)):
            _check(inner, item, f"{path}[{i}]")


def lay_over(kind: Any, base: Any, value: Any, path: str = "") -> Any:
    """Check `value` against the annotation `kind`; dataclasses take missing fields from `base`.

    Raises:
        ConfigError: unknown key or wrong type; gives its path and near matches.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _union(args, base, value, path)
    if dataclasses.is_dataclass(kind):
        return _part((cast(type, kind),), base, value, path)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{path}: {value!r} is not one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        return _tuple(args, value, path)
    return _scalar(kind, value, path)


def _union(args: tuple[Any, ...], base: Any, value: Any, path: str) -> Any:
    """Lay over `A | B | None`; several dataclasses are told apart by their field `kind`."""
    members = tuple(a for a in args if a is not type(None))
    parts = tuple(a for a in members if dataclasses.is_dataclass(a))
    assert parts in ((), members), f"{path}: dataclasses and scalars in one union"
    if type(None) in args and (value is None or (value is False and parts)):
        return None
    if parts and value is True:
        return cast(Any, parts[0])() if base is None else base
    return _part(parts, base, value, path) if parts else _first(members, value, path)


def _first(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    """Return the value as the first kind that takes it."""
    if len(kinds) == 1:
        return lay_over(kinds[0], None, value, path)
    for kind in kinds:
        with contextlib.suppress(ConfigError):
            return lay_over(kind, None, value, path)
    names = " or ".join(_kind_name(kind) for kind in kinds)
    raise ConfigError(f"{path}: expected {names}, got {value!r}")


def _kind_name(kind: Any) -> str:
    """Return how a kind of value is called in a message."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _kind_name(args[0])
    if origin is Literal:
        return ", ".join(map(str, args))
    if origin is tuple:
        items = [_kind_name(arg) if arg is not Ellipsis else "..." for arg in args]
        return f"a list [{', '.join(items)}]"
    return cast(str, kind.__name__)


def _part(members: tuple[Any, ...], base: Any, value: Any, path: str) -> Any:
    """Lay settings over the member of a union that they name, else over the base's own.

    A member that was not the base's starts from its defaults. A text alone names the member.
    """
    kinds = _kinds(members)
    if isinstance(value, str) and kinds:
        value = {"kind": value}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: expected a group of settings, got {value!r}")
    member = members[0] if base is None else type(base)
    if kinds and "kind" in value:
        name = value["kind"]
        if name not in list(kinds):
            raise ConfigError(f"{path}.kind: there is no {name!r}{suggest(str(name), kinds)}")
        member = kinds[name]
    others = {k: m for k, m in kinds.items() if m is not member}
    return _merge_dataclass(member, base if type(base) is member else None, value, path, others)


def _kinds(members: tuple[Any, ...]) -> dict[str, Any]:
    """Return dataclasses by their `kind: Literal[...]`; one alone may have none."""
    kinds: dict[str, Any] = {}
    for member in members:
        hint = typing.get_type_hints(member).get("kind")
        names = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        assert len(names) == 1 or members[1:] == (), f"{member.__name__}: no kind of its own"
        kinds |= dict.fromkeys(names, member)
    assert not kinds or set(map(id, kinds.values())) == set(map(id, members)), "two of one kind"
    return kinds


def _merge_dataclass(
    kind: type, base: Any, value: Mapping[str, Any], path: str, others: Mapping[str, Any]
) -> Any:
    hints = typing.get_type_hints(kind)
    base = kind() if base is None else base
    changes = {}
    for key, new in value.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in hints:
            raise ConfigError(f"{where}: {_unknown(str(key), hints, base, others)}")
        changes[key] = lay_over(hints[key], getattr(base, key), new, where)
    return dataclasses.replace(base, **changes)


def _unknown(key: str, hints: Iterable[str], base: Any, others: Mapping[str, Any]) -> str:
    """Return what is wrong with a key: of another kind, or of none."""
    owners = [name for name, other in others.items() if key in typing.get_type_hints(other)]
    if owners:
        return f"a setting of kind {' and '.join(owners)}, but the kind here is {base.kind}"
    hint = suggest(key, hints) or "; `scnet recipes NAME` prints all"
    return f"unknown setting{hint}"


def _tuple(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise ConfigError(f"{path}: expected a list, got {value!r}")
    items = list(value)
    kinds = [args[0]] * len(items) if args[1:] == (Ellipsis,) else list(args)
    if len(kinds) != len(items):
        raise ConfigError(f"{path}: expected {len(kinds)} values, got {len(items)}: {items}")
    return tuple(
        lay_over(k, None, v, f"{path}[{i}]")
        for i, (k, v) in enumerate(zip(kinds, items, strict=True))
    )


def _scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            pass
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{path}: expected {kind.__name__}, got {value!r}")
    return value
