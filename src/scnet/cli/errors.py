"""What is raised where the command line is wrong."""

from __future__ import annotations


class UsageError(ValueError):
    """The command line is wrong."""
