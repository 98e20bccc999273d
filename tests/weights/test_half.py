"""Weights at half size: what float16 holds, what stays, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.mmdet_files import mask_rcnn, write
from tests.model_cases import make_detector

import scnet
from scnet.cli.main import main
from scnet.config import replace_at
from scnet.model.detector import Detector
from scnet.types import Size
from scnet.weights import checkpoint
from scnet.weights.half import halved

KEY = "rpn.conv.weight"
HALF, WHOLE = torch.float16, torch.float32


def make_trained() -> Detector:
    """A small detector with batch norm whose statistics are none that float16 holds."""
    detector = make_detector("mask_rcnn_lite", model__norm="batch", model__box__convs=1)
    for name, buffer in detector.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(1e5)
        elif name.endswith("num_batches_tracked"):
            buffer.fill_(70_001)
    return detector


def set_weight(detector: Detector, value: float) -> None:
    with torch.no_grad():
        detector.get_parameter(KEY)[0, 0, 0, 0] = value


def save_run(folder: Path, detector: Detector, **changes: str) -> Path:
    """Write the folder of a training with its last checkpoint."""
    config = replace(detector.config, classes=("ash", "oak", "elm"), category_ids=(1, 2, 3))
    for path, value in changes.items():
        config = replace_at(config, path.replace("__", "."), value)
    named = Detector(config)
    named.load_state_dict(detector.state_dict())
    checkpoint.save(folder / "last", named, {"step": 3})
    return folder


@pytest.fixture(scope="module")
def trained() -> Detector:
    return make_trained()


@pytest.fixture
def run(tmp_path: Path, trained: Detector) -> Path:
    places = {"data__path": "/home/me/data", "start": "/home/me/runs/first"}
    return save_run(tmp_path / "run", trained, **places)


def header(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as opened:
        return dict(opened.metadata())


def test_parameters_are_rounded_and_statistics_and_counters_are_not(trained: Detector) -> None:
    tensors, parameters = halved(trained).tensors, dict(trained.named_parameters())
    assert tensors.keys() == trained.state_dict().keys()
    for name, before in trained.state_dict().items():
        assert tensors[name].dtype == (HALF if name in parameters else before.dtype), name
        if name in parameters:
            # What rounding to 11 binary digits may change, below the usual range half a step.
            limit = (before.abs() * 2.0**-11).clamp(min=2.0**-25)
            assert ((tensors[name].to(WHOLE) - before).abs() <= limit).all(), name
        else:
            assert torch.equal(tensors[name], before), name
    kept = {name.rpartition(".")[2] for name in tensors.keys() - parameters.keys()}
    assert {"running_mean", "running_var", "num_batches_tracked"} <= kept


def test_what_is_written_loads_as_float32_of_the_rounded_values(
    tmp_path: Path, trained: Detector
) -> None:
    file = tmp_path / "a.safetensors"
    half = halved(trained)
    checkpoint.write_weights(file, trained, half)
    assert load_file(file)[KEY].dtype == HALF
    assert header(file)["rounded"] == "float16"
    loaded = checkpoint.load(file)
    assert all(x.dtype == WHOLE for x in loaded.parameters())
    assert all(x.dtype == WHOLE for x in loaded.buffers() if x.is_floating_point())
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, half.tensors[name].to(value.dtype)), name
    again = halved(loaded)
    assert all(torch.equal(again.tensors[name], x) for name, x in half.tensors.items())


def test_files_that_are_not_rounded_do_not_say_so(tmp_path: Path, trained: Detector) -> None:
    checkpoint.write_weights(tmp_path / "a.safetensors", trained)
    assert "rounded" not in header(tmp_path / "a.safetensors")


@pytest.mark.parametrize("value", [65520.0, -1e30])
def test_what_float16_cannot_hold_is_refused_by_name(value: float) -> None:
    detector = make_detector("mask_rcnn")
    set_weight(detector, value)
    with pytest.raises(ValueError, match=rf"^{KEY} holds \S+, and float16 ends at 65504"):
        halved(detector)


def test_the_largest_number_of_float16_is_held() -> None:
    detector = make_detector("mask_rcnn")
    set_weight(detector, 65504.0)
    assert halved(detector).tensors[KEY][0, 0, 0, 0] == 65504.0


def test_numbers_that_lose_more_are_counted() -> None:
    detector = make_detector("mask_rcnn")
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.fill_(1.0)
        detector.get_parameter(KEY).view(-1)[:5] = torch.tensor([0.0, 1e-5, -1e-6, 2e-8, -1e-9])
    half = halved(detector)
    assert (half.small, half.zeros) == (4, 2)
    assert half.rounded == sum(x.numel() for x in detector.parameters())
    assert "4 of them, smaller than 6e-05" in str(half)
    assert "2 became 0" in str(half)


def test_a_run_becomes_one_file_of_half_the_size(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, small = tmp_path / "whole.safetensors", tmp_path / "small.safetensors"
    assert main(["convert", str(run), "-o", str(whole)]) == 0
    assert "rounded" not in capsys.readouterr().out
    assert main(["convert", str(run), "-o", str(small), "--half"]) == 0
    printed = capsys.readouterr().out
    assert f"scnet, {run / 'last' / 'model.safetensors'}" in printed
    assert "3: ash, oak, elm (from the file)" in printed
    assert "numbers to float16" in printed
    assert f"wrote {small} (" in printed.splitlines()[-1]
    assert f"next: scnet predict {small} IMAGE" in printed.splitlines()[-1]
    assert {p.name for p in tmp_path.iterdir()} == {"run", whole.name, small.name}
    assert small.stat().st_size < 0.6 * whole.stat().st_size
    assert load_file(whole)[KEY].dtype == WHOLE
    assert scnet.load(small, device="cpu").classes == ("ash", "oak", "elm")


@pytest.mark.parametrize(
    ("words", "size", "factor"),
    [
        ([], None, None),
        (["--scale-factor", "1.5"], None, 1.5),
        (["--image-size", "96x200"], (96, 200), None),
    ],
)
def test_a_file_to_hand_on_can_see_images_otherwise(
    run: Path,
    tmp_path: Path,
    words: list[str],
    size: Size | None,
    factor: float | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "a.safetensors"
    assert main(["convert", str(run), "-o", str(file), "--least-visible", "0.5", *words]) == 0
    told = capsys.readouterr().out
    assert "at least 50% visible" in told
    assert ("enlarged 1.5 times" in told) == (factor is not None)
    assert ("short side 96, long side at most 200" in told) == (size is not None)
    assert checkpoint.load(file).config.model.mask.least_visible == 0.5
    data = checkpoint.load(file).config.data
    assert data.size == (size or checkpoint.load(run).config.data.size)
    assert data.scale_factor == factor


def test_a_file_to_hand_on_names_nothing_of_this_machine(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert b"/home/me" in (run / "last" / "model.safetensors").read_bytes()
    file = tmp_path / "a.safetensors"
    assert main(["convert", str(run), "-o", str(file), "--half"]) == 0
    told = "left out         data.path, start, which name files of this machine"
    assert told in capsys.readouterr().out.splitlines()
    assert b"/home/me" not in file.read_bytes()
    stored, config = json.loads(header(file)["scnet"]), checkpoint.load(file).config
    assert (stored["data"]["path"], stored["start"]) == ("", "")
    assert config.model == checkpoint.load(run).config.model


@pytest.mark.parametrize(
    ("start", "stays"),
    [
        ("scnet_r50_20e", True),
        ("owner/cells", True),
        ("/data/runs/cells", False),
        (r"C:\runs\cells", False),
    ],
)
def test_what_a_model_began_with_stays_where_it_is_a_name(
    start: str, stays: bool, tmp_path: Path, trained: Detector
) -> None:
    run, file = save_run(tmp_path / "run", trained, start=start), tmp_path / "a.safetensors"
    assert main(["convert", str(run), "-o", str(file)]) == 0
    assert checkpoint.load(file).config.start == (start if stays else "")


def test_the_command_refuses_what_cannot_be_rounded_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = make_detector("mask_rcnn_lite")
    set_weight(detector, 7e4)
    run, file = save_run(tmp_path / "run", detector), tmp_path / "a.safetensors"
    for more in (["--dry-run"], ["-o", str(file)]):
        assert main(["convert", str(run), "--half", *more]) == 1
        assert f"error: {run}: {KEY} holds 70000, and float16 ends" in capsys.readouterr().err
    assert not file.exists()
    assert main(["convert", str(run), "-o", str(file)]) == 0


@pytest.mark.parametrize("name", [KEY, "norm"])
def test_a_training_that_went_wrong_is_not_handed_on(
    name: str, tmp_path: Path, trained: Detector, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = save_run(tmp_path / "run", trained), tmp_path / "a.safetensors"
    weights = run / "last" / "model.safetensors"
    tensors = load_file(weights)
    key = next(k for k in tensors if k.endswith("running_var")) if name == "norm" else name
    tensors[key].view(-1)[0] = float("nan")
    save_file(tensors, weights, header(weights))
    for more in ([], ["--half"]):
        assert main(["convert", str(run), "-o", str(file), *more]) == 1
        said = capsys.readouterr().err
        assert f"{weights}: not all numbers are finite in {key}; the training went wrong" in said
        assert "--half" not in said
    assert not file.exists()


def test_weights_that_were_rounded_before_are_said_to_be(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, again = tmp_path / "small.safetensors", tmp_path / "again.safetensors"
    assert main(["convert", str(run), "-o", str(small), "--half"]) == 0
    assert "before" not in capsys.readouterr().out
    assert main(["convert", str(small), "-o", str(again)]) == 0
    assert f"scnet, {small}, rounded to float16 before" in capsys.readouterr().out


def test_a_file_that_is_there_is_kept(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_text("mine")
    assert main(["convert", str(run), "-o", str(file), "--half"]) == 1
    assert file.read_text() == "mine"
    assert main(["convert", str(run), "-o", str(file), "--half", "--overwrite"]) == 0
    assert checkpoint.load(file).config.recipe == "mask_rcnn_lite"


def test_a_look_at_a_run_writes_nothing_and_says_what_would(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(run), "--half", "--dry-run"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"next: scnet convert {run} -o FILE.safetensors --half")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_folder_without_weights_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(tmp_path), "--dry-run"]) == 1
    assert f"error: {tmp_path}: holds no model.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", ["--classes a", "--config x.py", "--prefix p", "--leave a", "--norm-eps 0"]
)
def test_a_run_needs_nothing_said_about_it(
    option: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(run), "--dry-run", *option.split()]) == 2
    assert f"{option.split()[0]}: has no effect, as a model of scnet" in capsys.readouterr().err


def test_a_file_of_another_library_can_be_halved_too(tmp_path: Path) -> None:
    file, output = write(tmp_path / "a.pth", mask_rcnn(num_classes=3)), tmp_path / "a.safetensors"
    assert main(["convert", str(file), "-o", str(output), "--half", "--classes", "a,b,c"]) == 0
    assert load_file(output)[KEY].dtype == HALF


def test_a_safetensors_file_of_another_library_is_no_model_of_scnet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    theirs = torch.load(write(tmp_path / "a.pth", mask_rcnn(num_classes=3)))["state_dict"]
    save_file({name: x.contiguous() for name, x in theirs.items()}, file)
    assert main(["convert", str(file), "-o", str(output), "--half", "--classes", "a,b,c"]) == 0
    assert "read             MMDetection" in capsys.readouterr().out
    assert load_file(output)[KEY].dtype == HALF
    assert checkpoint.load(output).classes == ("a", "b", "c")


def test_a_name_of_the_zoo_needs_no_conversion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "nuclei", "--half", "--dry-run"]) == 1
    assert "`scnet zoo nuclei` says where their file lies" in capsys.readouterr().err
