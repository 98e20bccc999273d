"""What goes wrong when a model is written for other runtimes."""

from __future__ import annotations


class ExportError(ValueError):
    """A model that cannot be exported, or whose file differs from it; says what to do."""
