"""Fixtures of all tests. Shapes written in annotations are checked while tests run."""

from __future__ import annotations

import os
from pathlib import Path

import jaxtyping
import pytest

jaxtyping.install_import_hook("scnet", "beartype.beartype")


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set; it names the folder with {what}")
    return Path(value)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data sets."""
    return _folder("SCNET_DATA", "real data sets, such as coco600_400px and dsb2018_le360")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder of what other implementations computed."""
    return _folder("SCNET_REFERENCE", "outputs of other implementations")
