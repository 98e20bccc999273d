"""The command line: `scnet train | eval | predict | check-data | bench | experiment | convert |
recipes | zoo | demo`.

Progress goes to stderr, results to stdout. Exit status: 0 done, 1 the input is wrong or a check
failed, 2 the command line is wrong, 130 interrupted, 141 nobody reads the results any more, as in
`scnet recipes | head`. Heavy modules are imported by the command that
needs them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from scnet.cli.arguments import make_parser
from scnet.cli.commands import UsageError

TAKE_SETTINGS = ("train", "eval", "check-data")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in TAKE_SETTINGS:
        parser.error(f"unknown argument {rest[0]}; see scnet {options.command} --help")
    try:
        options.settings = _settings(rest) if rest else {}
        status = int(options.run(options) or 0)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # What is still in the buffer would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug or not _caused_by_user(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if _is_usage(error) else 1


def _settings(rest: Sequence[str]) -> dict[str, Any]:
    """Nest settings: `--group.field VALUE`, `--group.field=VALUE`, the switch `--group.field`."""
    import yaml

    from scnet.settings import merge, nested

    settings: dict[str, Any] = {}
    words = list(rest)
    while words:
        name, has_value, value = words.pop(0).partition("=")
        if not name.startswith("--") or len(name) == 2:
            raise UsageError(
                f"unexpected argument {name!r}; settings are given as --group.field VALUE"
            )
        if not has_value:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        try:
            settings = merge(settings, nested(name[2:], yaml.safe_load(value)))
        except yaml.YAMLError as error:
            raise UsageError(f"{name}: cannot read the value {value!r}") from error
    return settings


def _caused_by_user(error: Exception) -> bool:
    return isinstance(error, ValueError | OSError | FloatingPointError | ImportError)


def _is_usage(error: Exception) -> bool:
    from scnet.settings import ConfigError

    return isinstance(error, UsageError | ConfigError)


def run() -> NoReturn:
    """Entry point of the `scnet` command."""
    sys.exit(main())


if __name__ == "__main__":
    run()
