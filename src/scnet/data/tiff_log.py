"""What tifffile logs while it reads.

Where pages of a file or files beside it are missing it goes on, and says so in its log alone.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from scnet.data.errors import DataError

PARTS_MISSING = re.compile(r"zeroed|is missing|incompletely|ignoring predictor|failed to reshape")
TAG = re.compile(r"<tifffile\.TiffTag (\d+)")
PRIVATE = 32768  # tags from this number on are of single programs; no picture depends on them


class _Listener(logging.Filter):
    """Keeps records of a thread that listens; those of others pass."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        heard: list[logging.LogRecord] | None = getattr(self.here, "heard", None)
        if heard is None:
            return True
        heard.append(record)
        return False


_LISTENER = _Listener()


@contextmanager
def whole_or_refused() -> Iterator[None]:
    """Raise `DataError` where tifffile says that what it read in the block is not all of the file.

    What else it says is dropped: it is about what a file tells of its picture.
    """
    logging.getLogger("tifffile").addFilter(_LISTENER)  # once, as filters are compared
    heard: list[logging.LogRecord] = []
    _LISTENER.here.heard = heard
    try:
        yield
    finally:
        del _LISTENER.here.heard
    for record in heard:
        text = record.getMessage()
        if _is_serious(record.levelno, text):
            said = re.sub(r"<[^<>]*>\s*", "", text).partition(", raised")[0].strip()
            raise DataError(f"is not whole: {said}; replace or remove the file")


def _is_serious(level: int, text: str) -> bool:
    tag = TAG.search(text)
    if tag and int(tag[1]) >= PRIVATE:
        return False
    return level >= logging.ERROR or bool(PARTS_MISSING.search(text))
