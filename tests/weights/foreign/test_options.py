"""Options of the conversion: they are used, or an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.weights.foreign.files import NAMES, State, save, state, text

import scnet
from scnet.cli.main import main
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> State:
    return state(tmp_path_factory.mktemp("weights"))


def test_an_option_that_nothing_needs_is_an_error(weights: State, tmp_path: Path) -> None:
    file = save(tmp_path / "a.pth", weights, text())
    with pytest.raises(CheckpointError, match="--leave CLAHE: not refused"):
        convert.read(file, leave=["CLAHE"])
    with pytest.raises(CheckpointError, match="--prefix student: it has models under state_dict"):
        convert.read(file, prefix="student")
    with pytest.raises(CheckpointError, match=r"--config .*none\.py: cannot be read"):
        convert.read(file, config=tmp_path / "none.py")


def test_given_names_win_where_their_number_fits(
    weights: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "a.pth", weights, text(), names=("ash", "oak", "elm"))
    output = tmp_path / "a.safetensors"
    command = ["convert", str(file), "-o", str(output)]
    assert main(command) == 1
    assert "predicts 6 classes, but names 3 (ash, oak, elm)" in capsys.readouterr().err
    assert main([*command, "--classes", "a,b,c,d,e"]) == 1
    assert "predicts 6 classes, but 5 names are given" in capsys.readouterr().err
    assert main([*command, "--classes", "a,b,c,d,e,f"]) == 0
    assert "given; the file has others: ash, oak, elm" in capsys.readouterr().out
    assert scnet.load(output, device="cpu").classes == tuple("abcdef")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("a,b,c,a,e,f", "a stands there twice"),
        ("a,b,,d,e,f", "a name is missing"),
        ("names.txt", "no such file"),
        (",", "a name is missing"),
    ],
)
def test_names_that_are_none_are_an_error(
    weights: State, tmp_path: Path, given: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "a.pth", weights, text())
    assert main(["convert", str(file), "-o", str(tmp_path / "a.safetensors"), "--classes", given])
    assert told in capsys.readouterr().err


def test_names_of_a_config_count_where_the_file_has_none(weights: State, tmp_path: Path) -> None:
    named = text(("type='CocoDataset',", f"metainfo=dict(classes={NAMES}),"))
    found = convert.read(save(tmp_path / "a.pth", weights, named, names=None))
    assert found.detector.classes == NAMES
