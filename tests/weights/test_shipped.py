"""Weights that come with the package: whole, small, and read without a network."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import scnet
from scnet.cli.main import main
from scnet.config import to_dict
from scnet.weights import checkpoint, zoo
from scnet.weights.public import private
from scnet.weights.zoo import Published

SHIPPED = tuple(p for p in zoo.PUBLISHED.values() if p.package)
FOLDER = Path(zoo.__file__).parent / "shipped"
MOST_BYTES = 12_000_000  # what a wheel may carry for one of them
of_each = pytest.mark.parametrize("published", SHIPPED, ids=lambda p: p.name)


def texts(value: Any) -> Iterator[str]:
    """Yield all texts in nested settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)


@of_each
def test_its_file_is_there_small_and_not_kept_out_of_the_wheel(published: Published) -> None:
    assert published.ready.parent == FOLDER
    assert published.ready.is_file(), f"{published.ready} is not there"
    assert published.ready.stat().st_size <= MOST_BYTES
    # The wheel holds what git does not ignore.
    ignored = subprocess.run(["git", "check-ignore", published.ready], cwd=FOLDER, check=False)
    assert ignored.returncode == 1


def test_every_file_of_the_folder_has_a_name() -> None:
    assert {p.ready for p in SHIPPED} == {*FOLDER.glob("*")}


@of_each
def test_its_parameters_are_float16_and_its_header_says_so(published: Published) -> None:
    detector = checkpoint.load(published.ready)
    parameters = dict(detector.named_parameters())
    with safe_open(published.ready, "pt") as opened:
        assert opened.metadata()["rounded"] == "float16"
        assert "scnet" in opened.metadata()
        kinds = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
    assert {kinds[name] for name in parameters} == {"F16"}
    assert "F16" not in {kind for name, kind in kinds.items() if name not in parameters}


@of_each
def test_its_config_names_no_file_of_the_machine_that_trained(published: Published) -> None:
    config = checkpoint.load(published.ready).config
    assert private(config) == {}
    assert config.data.path == ""
    assert not [text for text in texts(to_dict(config)) if text.startswith(("/", "~"))]
    assert config.classes


@of_each
def test_it_loads_by_name_without_a_network_as_float32(
    published: Published, no_network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = scnet.load(published.name, device="cpu")
    assert {x.dtype for x in model.detector.parameters()} == {torch.float32}
    assert zoo.fetch(published.name) == published.ready
    grey = torch.full((3, 64, 64), 90, dtype=torch.uint8)
    assert model.predict(grey).classes == model.config.classes


@of_each
def test_the_list_says_what_it_is(
    published: Published, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all(0 < figure < 100 for figure in published.figures.values())
    assert main(["zoo"]) == 0
    printed = capsys.readouterr().out
    assert f"  {published.name} " in printed
    for text in (published.finds, published.measured_on, published.licence, *published.figures):
        assert text in printed
    assert "not there" not in printed
    assert main(["zoo", published.name]) == 0
    assert f"{published.name} is at {published.ready}; next: " in capsys.readouterr().out
