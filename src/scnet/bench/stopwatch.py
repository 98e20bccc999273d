"""Where time goes: seconds of the parts of a computation, each without the parts inside it."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch


class Stopwatch:
    """Seconds by part, of functions that were put under watch."""

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, device: torch.device | None = None
    ) -> None:
        """On a GPU the device is waited for at each change of part."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._clock, self._device = clock, device
        self._running: list[str] = []
        self._since = 0.0
        self._undo: list[Callable[[], None]] = []

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Time `owner.name`, of an object, a class or a module, until the watch is closed."""
        function, own = getattr(owner, name), name in vars(owner)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._switch(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch(None)

        def undo() -> None:
            if own:
                setattr(owner, name, function)
            else:
                delattr(owner, name)

        setattr(owner, name, timed)
        self._undo.append(undo)

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, *error: object) -> None:
        while self._undo:
            self._undo.pop()()

    def _switch(self, part: str | None) -> None:
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = self._clock()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        if part is None:
            self._running.pop()
        else:
            self._running.append(part)
        self._since = now
