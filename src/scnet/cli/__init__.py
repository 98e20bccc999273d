"""The command line; `scnet.cli.main([...])` runs it from Python and returns the exit status."""

from scnet.cli.main import main

__all__ = ["main"]
