"""Properties of checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.model_cases import make_detector

from scnet.weights import checkpoint
from scnet.weights.checkpoint import CheckpointError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "last", make_detector("scnet"), {"step": 3})
    return tmp_path / "last"


def test_loading_gives_the_same_detector(saved: Path) -> None:
    before, after = make_detector("scnet"), checkpoint.load(saved)
    assert after.config == before.config
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value), name
    assert checkpoint.load_state(saved) == {"step": 3}


def test_weights_lie_aligned_in_memory(saved: Path) -> None:
    state = checkpoint.load(saved).state_dict()
    assert not any(value.data_ptr() % 64 for value in state.values())


def test_run_folder_checkpoint_folder_and_file_all_load(saved: Path) -> None:
    for path in (saved.parent, saved, saved / "model.safetensors"):
        assert checkpoint.load(path).config.recipe == "scnet"


def test_a_file_alone_carries_its_config(saved: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((saved / "model.safetensors").read_bytes())
    assert checkpoint.load(alone).config.model.num_classes == 3


def test_best_is_preferred_to_last(saved: Path) -> None:
    checkpoint.save(saved.with_name("best"), make_detector("scnet", seed=1))
    best = checkpoint.load(saved.parent).state_dict()["rpn.conv.weight"]
    assert torch.equal(best, make_detector("scnet", seed=1).state_dict()["rpn.conv.weight"])


def test_a_failing_write_keeps_the_previous_checkpoint_and_leaves_nothing(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(CheckpointError, match=r"No space.*The one before it is whole"):
        checkpoint.save(saved, make_detector("scnet", seed=1), {"step": 4})
    monkeypatch.undo()
    assert checkpoint.load_state(saved) == {"step": 3}
    assert [p.name for p in saved.parent.iterdir()] == ["last"]


def test_a_file_cut_off_is_named(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read .* cut off"):
        checkpoint.load(saved)


def test_weights_that_do_not_fit_are_counted_and_named(saved: Path) -> None:
    file = saved / "model.safetensors"
    tensors = load_file(file)
    tensors["extra"] = torch.zeros(1)
    del tensors["rpn.conv.bias"]
    tensors["rpn.cls.bias"] = torch.zeros(7)
    save_file(tensors, file)
    with pytest.raises(
        CheckpointError,
        match=r"1 missing: rpn\.conv\.bias; 1 unknown: extra; 1 of another",
    ):
        checkpoint.load(saved)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="carries no config"):
        checkpoint.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("path", ["nothing", "."])
def test_nothing_there_says_what_to_give(tmp_path: Path, path: str) -> None:
    with pytest.raises(CheckpointError, match="give a run folder"):
        checkpoint.load(tmp_path / path)
