"""A machine without a network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse every address, with empty caches of weights; the test fails where one was asked."""
    asked: list[Any] = []
    connect = socket.socket.connect

    def refuse(*address: Any, **_: Any) -> None:
        asked.append(address)
        raise OSError("no network")

    def connect_here(self: socket.socket, address: Any) -> None:
        """Let processes of this machine talk to each other."""
        if self.family != socket.AF_UNIX:
            refuse(address)
        connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", connect_here)
    for variable in ("TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    yield
    assert not asked
    assert not [*tmp_path.glob("*_HOME/**/*.safetensors")]
