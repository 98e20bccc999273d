"""The command line: `scnet train | eval | predict | check-data | bench | experiment | convert |
export | recipes | zoo | demo`.

Progress goes to stderr, results to stdout. Exit status: 0 done, 1 the input is wrong or a check
failed, 2 the command line is wrong, 130 interrupted, 141 nobody reads the results any more, as in
`scnet recipes | head`. Heavy modules are imported by the command that
needs them.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from scnet.cli.arguments import TAKE_SETTINGS, make_parser
from scnet.cli.errors import UsageError
from scnet.cli.outputs import refuse_outputs
from scnet.cli.parser import read_settings
from scnet.cli.unused import refuse_unused


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    if not arguments:
        parser.exit(2, parser.format_help())
    options, rest = parser.parse_known_args(arguments)
    if options.command == "predict":
        rest = _more_sources(options, rest)
    if options.command in TAKE_SETTINGS:
        options.parser.refuse_unknown(rest)
    elif rest:
        options.parser.refuse(rest[0])
    try:
        options.settings = read_settings(rest) if rest else {}
        refuse_unused(options)
        refuse_outputs(options)
        with _plain_warnings(options):
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
        print(f"error: {_said(error)}", file=sys.stderr)
        return 2 if _is_usage(error) else 1


def _more_sources(options: argparse.Namespace, rest: list[str]) -> list[str]:
    """Take images that stand behind options, which argparse leaves; return what is left then."""
    options.source += [word for word in rest if not word.startswith("-")]
    return [word for word in rest if word.startswith("-")]


@contextmanager
def _plain_warnings(options: argparse.Namespace) -> Iterator[None]:
    """Let warnings be lines like all others; `--debug` shows where they come from."""
    usual = warnings.formatwarning

    def plain(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
        if category is not UserWarning:
            return usual(message, category, *place, **line)
        return f"warning: {message}\n"

    try:
        if not options.debug:
            warnings.formatwarning = plain
        yield
    finally:
        warnings.formatwarning = usual


def _said(error: Exception) -> str:
    """Return what to say of an error; what the system says of a file begins with its name."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error)


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
