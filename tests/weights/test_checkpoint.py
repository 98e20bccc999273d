"""Properties of checkpoints."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
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


@pytest.mark.parametrize(
    "message", ["CUDA error: device-side assert triggered", "out of memory", "shapes differ"]
)
def test_only_a_failing_write_is_called_a_full_disk(
    saved: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match=message):
        checkpoint.save(saved, make_detector("scnet", seed=1), {"step": 4})
    assert [p.name for p in saved.parent.iterdir()] == ["last"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        SafetensorError("Error while serializing: I/O error: No space left (os error 28)"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
)
def test_a_failing_write_asks_for_the_disk(
    saved: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full_disk(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(CheckpointError, match="is the disk full"):
        checkpoint.save(saved, make_detector("scnet", seed=1))


def test_another_error_of_files_stays_what_it_is(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoint, "save_file", forbidden)
    with pytest.raises(PermissionError):
        checkpoint.save(saved, make_detector("scnet", seed=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_float_type_load_as_the_detector_computes(
    saved: Path, dtype: torch.dtype
) -> None:
    file = saved / "model.safetensors"
    tensors = load_file(file)
    cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(cast, file)
    loaded = checkpoint.load(saved).state_dict()
    for name, value in tensors.items():
        assert loaded[name].dtype == value.dtype, name
        assert torch.equal(loaded[name], cast[name].to(value.dtype)), name


def test_whole_numbers_in_the_place_of_weights_are_refused(saved: Path) -> None:
    file = saved / "model.safetensors"
    tensors = load_file(file)
    tensors["rpn.conv.bias"] = tensors["rpn.conv.bias"].to(torch.int8)
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"1 of another kind: rpn\.conv\.bias torch\.int8"):
        checkpoint.load(saved)


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
