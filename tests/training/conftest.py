"""A generated data set, and settings under which a training takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from tests.quick import QUICK, no_curves

from scnet.data.synthetic.scene import generate


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and three validation images of discs and other shapes."""
    return generate(tmp_path_factory.mktemp("data") / "shapes", train=6, val=3, size=(128, 128))


@pytest.fixture
def quick() -> dict[str, Any]:
    """Settings of a training that takes seconds, which a test may change."""
    return deepcopy(QUICK)


@pytest.fixture(autouse=True)
def curves(request: pytest.FixtureRequest) -> Iterator[None]:
    """Draw no curves after an epoch, unless a test asks for `drawn_curves`."""
    with pytest.MonkeyPatch.context() as patch:
        if "drawn_curves" not in request.fixturenames:
            patch.setattr("scnet.pictures.curves.curves", no_curves)
        yield


@pytest.fixture
def drawn_curves() -> None:
    """Have the curves of a training drawn as for a user."""
