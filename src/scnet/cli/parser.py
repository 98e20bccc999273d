"""A parser of the command line that knows what was given, and refuses two values for one option."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from scnet.cli.errors import UsageError
from scnet.settings import leaves, merge, nested

_BOOLEANS = ("true", "false", "on", "off", "yes", "no")  # of YAML


class Parser(argparse.ArgumentParser):
    """Puts `given` into what it parses: the options that were given, by name, as they were typed.

    It is not there where none was given; `given` of this module returns it. What looks like an
    option and is none can be kept for `read_settings`, with the value behind it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.takes_settings = False
        self._known: set[str] = set()
        super().__init__(*args, **kwargs)
        self.register("action", None, _Value)
        self.register("action", "store_true", partial(_Flag, value=True))
        self.register("action", "store_false", partial(_Flag, value=False))

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        action = super().add_argument(*args, **kwargs)
        self._known |= set(action.option_strings)
        return action

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line, as every other mistake does."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")

    def refuse(self, word: str) -> NoReturn:
        """End as there is no such option; name near ones."""
        known = {*self._known, *(_groups() if self.takes_settings else ())}
        near = difflib.get_close_matches(word.partition("=")[0], known, n=2, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        self.error(f"unknown argument {word}{hint}")

    def refuse_unknown(self, words: Sequence[str]) -> None:
        """End where one of the words is neither an option nor a setting or a group of settings."""
        for word in words:
            name = word.partition("=")[0]
            if name[:2] == "--" and "." not in name and name.replace("_", "-") not in _groups():
                self.refuse(name)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; settings are taken out first, or their values would be taken for arguments."""
        words, settings = list(sys.argv[1:] if args is None else args), list[str]()
        if self.takes_settings:
            words, settings = _split(words, self._known)
        options, rest = super().parse_known_args(words, namespace)
        return options, [*rest, *settings]


def given(options: argparse.Namespace) -> dict[str, str]:
    """Return the options that were given: how each was typed, by its name."""
    return dict(vars(options).get("given", {}))


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """Nest settings: `--group.field VALUE`, `--group.field=VALUE`, the switch `--group.field`.

    A text for a group of several kinds, as in `--model.pyramid pafpn`, is its field `kind`.

    Raises:
        UsageError: something else stands there, or a setting has two values.
    """
    import yaml

    settings: dict[str, Any] = {}
    rest = list(words)
    while rest:
        name, has_value, text = rest.pop(0).partition("=")
        if not name.startswith("--") or len(name) == 2:
            raise UsageError(
                f"unexpected argument {name!r}; settings are given as --group.field VALUE"
            )
        if not has_value:
            text = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"{name}: cannot read the value {text!r}") from error
        names_kind = isinstance(value, str) and hasattr(_usual(name), "kind")
        path = f"{name[2:]}.kind" if names_kind else name[2:]
        settings = _joined(settings, nested(path, value))
    return settings


def _groups() -> set[str]:
    """Return the groups of settings as they are given, such as `--model`."""
    from dataclasses import fields

    from scnet.config import Config

    return {f"--{field.name.replace('_', '-')}" for field in fields(Config)}


def _split(words: Sequence[str], known: set[str]) -> tuple[list[str], list[str]]:
    """Return what is left without settings, and those, each as one word."""
    left: list[str] = []
    settings: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, has_value, _ = word.partition("=")
        if len(name) < 3 or not name.startswith("--") or name in known:
            left.append(word)
        elif has_value or not rest or not _is_value(rest[0], name):
            settings.append(word)
        else:
            settings.append(f"{word}={rest.pop(0)}")
    return left, settings


def _is_value(word: str, name: str) -> bool:
    """Return whether the word behind a setting belongs to it: a switch may stand alone."""
    switch = isinstance(_usual(name), bool)
    return not word.startswith("--") and (not switch or word.lower() in _BOOLEANS)


def _usual(name: str) -> Any:
    """Return the value that a setting has by itself; None where there is no such setting."""
    from scnet.config import Config

    value: Any = Config()
    for part in name[2:].replace("-", "_").split("."):
        value = getattr(value, part, None)
    return value


def _joined(before: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return settings with another one.

    A part of a group also switches it on, whichever of the two comes first.

    Raises:
        UsageError: it was given before, with another value, or its group was switched off.
    """
    for path, value in leaves(new):
        for other, was in leaves(before):
            if path == other and value != was:
                raise _twice(path, was, value)
            if path.startswith(f"{other}.") and was is not True:
                raise _beside(other, was, path)
            if other.startswith(f"{path}."):
                if value is not True:
                    raise _beside(path, value, other)
                return before
    return merge(before, new)


def _twice(path: str, was: Any, value: Any) -> UsageError:
    return UsageError(
        f"--{path}: given as {_spoken(was)} and as {_spoken(value)}; give one of them"
    )


def _beside(group: str, value: Any, part: str) -> UsageError:
    return UsageError(
        f"--{part}: has no effect beside --{group} {_spoken(value)}; give one of them"
    )


def _spoken(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _note(
    parser: argparse.ArgumentParser,
    namespace: argparse.Namespace,
    action: argparse.Action,
    value: Any,
    typed: str | None,
) -> None:
    """Set an option's value, and keep that it was given."""
    if value == "" or (isinstance(value, list) and "" in value):
        # What an unset variable of the shell leaves; as a path it would be the working folder.
        parser.error(f"argument {typed or action.metavar}: is empty")
    if typed is not None:
        noted: dict[str, str] = given(namespace)
        before = getattr(namespace, action.dest)
        if action.dest in noted and before != value:
            parser.error(f"argument {typed}: given twice; only one of them can be")
        namespace.given = {**noted, action.dest: typed}
    setattr(namespace, action.dest, value)


def _noting(value_of: Callable[[Any, Any, str | None], Any]) -> Any:
    """Return what an action does: it sets the value of its option, and keeps that it was given."""

    def call(
        action: argparse.Action,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        _note(parser, namespace, action, value_of(action, values, option_string), option_string)

    return call


class _Value(argparse.Action):
    """An option with a value, or an argument."""

    __call__ = _noting(lambda action, values, typed: values)


class _Flag(argparse.Action):
    """An option that is there or not."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, *, value: bool, help: str | None = None
    ) -> None:
        super().__init__(option_strings, dest, nargs=0, default=not value, help=help)
        self.value = value

    __call__ = _noting(lambda action, values, typed: action.value)


class Switch(argparse.BooleanOptionalAction):
    """An option with an opposite: `--memory`, `--no-memory`."""

    __call__ = _noting(lambda action, values, typed: not (typed or "").startswith("--no-"))
