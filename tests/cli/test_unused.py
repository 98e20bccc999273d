"""An option that was given is used, or the command line is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scnet.cli.arguments import make_parser
from scnet.cli.errors import UsageError
from scnet.cli.main import main
from scnet.cli.parser import Parser, given, read_settings
from scnet.cli.unused import TABLE, refuse_unused
from scnet.config import Config, override
from scnet.config_model import PAFPNConfig
from scnet.data.synthetic.scene import generate

# A command line with an option that has no effect, the option, and part of the reason.
UNUSED = (
    ("train scnet --resume run", "RECIPE scnet", "goes on with the recipe"),
    ("train --resume run --config a.yaml", "--config", "goes on with the settings"),
    ("train --resume run -o other", "-o", "goes on in the folder"),
    ("train --resume run --from weights", "--from", "goes on with the weights"),
    ("train --resume run --finetune", "--finetune", "goes on with the rate"),
    ("eval weights --data FILE --split test", "--split", "named for no split"),
    ("eval weights --data x --iou 0.5", "--iou", "over COCO's IoUs"),
    ("eval weights --data x --pictures 3 --score 0.5", "--pictures", "only a report"),
    ("eval weights --data x --thresholds 0.5 0.7", "--thresholds", "over IoUs of COCO's own"),
    ("eval w --data x --metric matching --iou 0.5", "--iou", "IoU thresholds of its own"),
    ("eval w --data x --metric matching --score 0.5 --iou 0.5", "--iou", "thresholds of its own"),
    ("eval w --data x --metric matching --report page", "--report", "is of the coco metric"),
    ("eval w --data x --metric matching --pictures 3", "--pictures", "is of the coco metric"),
    ("eval found.json --data x --device cpu", "--device", "no model runs"),
    ("eval found.json --data x --batch 1", "--batch", "no model runs"),
    ("eval found.json --data x --precision fp32", "--precision", "no model runs"),
    ("eval found.json --data x --proposals 9", "--proposals", "no model runs"),
    ("eval found.json --data x --scale-factor 2", "--scale-factor", "no model runs"),
    ("eval found.json --data x --least-visible 0.5", "--least-visible", "no model runs"),
    ("eval found.json --data x --image-size 64x96", "--image-size", "no model runs"),
    ("eval found.json --data x --compile", "--compile", "no model runs"),
    ("eval found.json --data x --tta flips", "--tta", "no model runs"),
    ("eval weights --data x --tta flips --batch 4", "--batch", "one image pass at a time"),
    ("predict weights a.png --tta flips --batch 4", "--batch", "one image pass at a time"),
    ("eval found.json --data x --same-class a=b", "--same-class", "ids of classes and no names"),
    ("experiment speed --seeds 3", "--seeds", "trains nothing"),
    ("experiment figure6 --seeds 1", "--seeds", "each model once"),
    ("experiment figure1 --no-speed", "--no-speed", "column of speeds"),
    ("experiment carparts --no-speed", "--no-speed", "column of speeds"),
    ("experiment table1 --image-size 10x20", "--image-size", "size that they train with"),
    ("experiment table1 --steps 9", "--steps", "as long as --size says"),
    ("experiment speed --test", "--test", "no images to test on"),
    ("bench torchvision --plot a.png", "--plot", "parts whose time"),
    ("bench torchvision --compile", "--compile", "as it is"),
    ("eval weights --data x --overwrite --score 0.5", "--overwrite", "nothing is named"),
    ("bench scnet --overwrite", "--overwrite", "nothing is named"),
    ("check-data x --overwrite --fix new", "--overwrite", "nothing is named"),
    ("convert model.pth --dry-run --overwrite", "--overwrite", "no file is named to write"),
    ("convert RUN --dry-run --classes coco", "--classes", "says itself what it is"),
    ("convert WEIGHTS --dry-run --config a.py", "--config", "says itself what it is"),
    ("convert WEIGHTS --dry-run --prefix a", "--prefix", "says itself what it is"),
    ("convert WEIGHTS --dry-run --leave a", "--leave", "says itself what it is"),
    ("convert WEIGHTS --dry-run --norm-eps 0", "--norm-eps", "says itself what it is"),
)

USED = (
    "train --resume run --data elsewhere",
    "train scnet --data x --from weights --finetune",
    "eval weights --data FOLDER --split test",
    "eval weights --data FILE",
    "eval weights --data x --score 0.5 --iou 0.5 --device cpu",
    "eval weights --data x --same-class a=b c=b",
    "eval found.json --data x --report page --iou 0.5 --pictures 3",
    "eval weights --data x --overwrite --json a.json",
    "eval weights --data x --metric matching --thresholds 0.5 0.7 --score best --device cpu",
    "eval found.json --data x --metric matching --max-detections 400 --json a.json",
    "eval found.json --data x --metric coco --score 0.5",
    "bench scnet --overwrite --plot a.png",
    "check-data x --overwrite --list a.txt",
    "experiment figure6",
    "experiment figure1 --seeds 3",
    "experiment carparts --seeds 3",
    "experiment table1 --no-speed",
    "experiment speed --image-size 10x20",
    "experiment stardist --steps 9 --test --seeds 1",
    "convert model.pth -o mine.safetensors --overwrite",
    "convert model.pth -o mine.safetensors --half --classes coco --norm-eps 0",
    "convert RUN -o mine.safetensors --half --overwrite",
    "convert OTHER --dry-run --half --classes coco --prefix a --leave b --norm-eps 0",
    "convert FOLDER --dry-run --classes coco",
    "bench --peer torchvision --plot a.png --compile --proposals 300",
)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "mine.json"
    file.write_text("{}")
    own, other = tmp_path / "run" / "last" / "model.safetensors", tmp_path / "other.safetensors"
    own.parent.mkdir(parents=True)
    save_file({"a": torch.zeros(1)}, own, {"scnet": "{}"})
    save_file({"a": torch.zeros(1)}, other, {"format": "pt"})
    named = {"FILE": file, "FOLDER": tmp_path, "RUN": own.parents[1], "WEIGHTS": own}
    return {name: str(place) for name, place in (named | {"OTHER": other}).items()}


def parse(line: str, places: dict[str, str]) -> None:
    words = [places.get(word, word) for word in line.split()]
    options, rest = make_parser().parse_known_args(words)
    assert not rest
    refuse_unused(options)


@pytest.mark.parametrize(("line", "option", "why"), UNUSED)
def test_an_option_without_effect_is_refused(
    line: str, option: str, why: str, places: dict[str, str]
) -> None:
    with pytest.raises(UsageError, match=f"^{option}: has no effect, as .*{why}"):
        parse(line, places)


@pytest.mark.parametrize("line", USED)
def test_an_option_with_an_effect_is_not(line: str, places: dict[str, str]) -> None:
    parse(line, places)


def test_every_row_of_the_table_is_tried() -> None:
    tried = {(line.split()[0], why) for line, _, why in UNUSED}
    for row in TABLE:
        assert any(row.command == command and why in row.why for command, why in tried), row


def test_a_refused_option_has_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", "run", "-o", "other"]) == 2
    assert "error: -o: has no effect, as --resume goes on in the folder" in capsys.readouterr().err


def test_what_was_given_is_known_as_it_was_typed() -> None:
    options = make_parser().parse_args(["experiment", "table1", "--no-speed", "-o", "here"])
    assert given(options) == {"speed": "--no-speed", "output": "-o"}
    assert (options.speed, options.output, options.quiet) == (False, "here", False)
    assert given(make_parser().parse_args(["recipes"])) == {}


def test_a_switch_may_be_off_where_it_is_given() -> None:
    parser = Parser()
    parser.add_argument("--no-pictures", dest="pictures", action="store_false")
    assert parser.parse_args([]).pictures
    options = parser.parse_args(["--no-pictures"])
    assert (options.pictures, given(options)) == (False, {"pictures": "--no-pictures"})


@pytest.mark.parametrize(
    "words",
    [["--seeds", "1", "--seeds", "2"], ["-o", "a", "--output", "b"], ["--speed", "--no-speed"]],
)
def test_two_values_for_one_option_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["experiment", "table1", *words])
    assert stop.value.code == 2
    assert f"argument {words[-2] if words[-1][0] != '-' else words[-1]}" in capsys.readouterr().err


def test_the_same_value_twice_is_one() -> None:
    options = make_parser().parse_args(["recipes", "--quiet", "--quiet"])
    assert options.quiet
    assert read_settings(["--optim.lr", "1", "--optim.lr=1"]) == {"optim": {"lr": 1}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--optim.lr 1 --optim.lr 2", "--optim.lr: given as 1 and as 2"),
        ("--optim.batch-size 1 --optim.batch_size 2", "--optim.batch_size: given as 1 and as 2"),
        ("--model.pyramid fpn --model.pyramid pafpn", "kind: given as fpn and as pafpn"),
        (
            "--model.semantic off --model.semantic.residual",
            "--model.semantic.residual: has no effect beside --model.semantic off",
        ),
        (
            "--model.semantic.residual --model.semantic off",
            "--model.semantic.residual: has no effect beside --model.semantic off",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(line: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_settings(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "--model.semantic --model.semantic.residual off",
        "--model.semantic.residual off --model.semantic on",
    ],
)
def test_a_group_may_be_switched_on_beside_its_parts(line: str) -> None:
    assert read_settings(line.split()) == {"model": {"semantic": {"residual": False}}}


@pytest.mark.parametrize(
    "line",
    [
        "--model.pyramid pafpn --model.pyramid.relu true",
        "--model.pyramid.relu true --model.pyramid pafpn",
        "--model.pyramid.kind=pafpn --model.pyramid=pafpn --model.pyramid.relu=on",
    ],
)
def test_the_kind_of_a_group_may_be_named_beside_its_parts(line: str) -> None:
    settings = read_settings(line.split())
    assert settings == {"model": {"pyramid": {"kind": "pafpn", "relu": True}}}
    assert override(Config(), settings).model.pyramid == PAFPNConfig(relu=True)


def test_an_idle_setting_of_a_training_has_status_2_before_anything_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "scnet_lite", "--data", "nowhere", "--optim.momentum", "0.9"]) == 2
    assert "optim.momentum: has no effect, as optim.optimizer is adamw" in capsys.readouterr().err


def test_the_place_of_the_data_is_no_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = generate(tmp_path / "data", train=1, val=1, size=(64, 64))
    assert main(["check-data", str(data), "--data.path", "other"]) == 2
    assert main(["train", "scnet_lite", "--data", str(data), "--data.path", "other"]) == 2
    assert capsys.readouterr().err.count("data.path: has no effect") == 2


def test_speed_refuses_data_without_trained_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["experiment", "speed", "--data", "my_data", "-o", str(tmp_path), "--quiet"]
    assert main(words) == 1
    assert "--data my_data: has no effect, as there are no two models" in capsys.readouterr().err


def test_settings_may_stand_before_the_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their values are theirs, and not the recipe."""
    parse = make_parser().parse_known_args
    line = "train --optim.lr 0.5 --data.drop-invalid scnet_lite --data d --data.flip=1 --data.flip"
    options, rest = parse(line.split())
    assert (options.recipe, options.data) == ("scnet_lite", "d")
    assert rest == ["--optim.lr=0.5", "--data.drop-invalid", "--data.flip=1", "--data.flip"]
    options, rest = parse(
        ["train", "--resume", "run", "--data.keep-ratio", "off", "--optim.lr", "1"]
    )
    assert (options.recipe, rest) == (None, ["--data.keep-ratio=off", "--optim.lr=1"])
    data = generate(tmp_path / "data", train=1, val=1, size=(64, 64))
    assert (
        main(["check-data", "--data.drop-invalid", str(data), "--picture", str(tmp_path / "a.png")])
        == 0
    )
    assert "--data.drop-invalid true" in capsys.readouterr().out
