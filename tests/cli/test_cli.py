"""The command line as users meet it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scnet.cli.main import main
from scnet.recipes import RECIPES

COMMANDS = ("train", "eval", "predict", "check-data", "recipes", "demo", "experiment")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"Example: scnet {command}" in capsys.readouterr().out


def test_help_and_recipes_import_nothing_heavy() -> None:
    code = (
        "import sys; from scnet.cli.main import main; main(['recipes']);"
        "heavy = {'torch', 'numpy', 'timm', 'matplotlib', 'PIL'} & sys.modules.keys();"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == list(RECIPES)


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME", None])
def test_the_zoo_is_listed_without_pytorch_and_from_its_folder(
    variable: str | None, tmp_path: Path
) -> None:
    code = (
        "import sys; from scnet.cli.main import main; main(['zoo']); assert 'torch' not in "
        "sys.modules; from scnet.weights import zoo; own = zoo.folder(); import torch;"
        "sys.exit(0 if own == zoo.folder() else f'{own} is not {zoo.folder()}')"
    )
    unset = {k: v for k, v in os.environ.items() if k not in ("TORCH_HOME", "XDG_CACHE_HOME")}
    env = {**unset, variable: str(tmp_path)} if variable else unset
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    assert "scnet_r50_20e" in done.stdout


def test_a_reader_of_the_results_may_stop_reading() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "scnet", "recipes"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_recipes_prints_the_settings_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    from scnet.config import from_dict
    from scnet.recipes import find

    assert main(["recipes", "htc"]) == 0
    assert from_dict(yaml.safe_load(capsys.readouterr().out)) == find("htc")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "scent", "--data", "x"], 2, 'no recipe is named "scent"'),
        (["train", "scnet", "--data", "x", "--modle.channels", "3"], 2, 'did you mean "model"'),
        (["train", "scnet", "--data", "x", "stray"], 2, "unexpected argument 'stray'"),
        (["train", "scnet", "--data", "nowhere"], 1, "nowhere"),
        (["train", "scnet"], 2, "give a RECIPE and --data PATH"),
        (["train", "--resume", "nowhere"], 1, "nowhere"),
        (["eval", "nowhere", "--data", "x"], 1, "nowhere: no such file or folder"),
        (["predict", "nowhere", "missing.jpg"], 1, "missing.jpg: no image found"),
        (["check-data", "nowhere"], 1, ""),
        (["recipes", "scent"], 2, 'did you mean "scnet"'),
    ],
)
def test_a_mistake_has_a_status_and_a_message_and_no_traceback(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == status
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("arguments", [[], ["fly"], ["predict"], ["eval", "x", "--fast"]])
def test_a_wrong_command_line_has_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_the_command_line_runs_from_python_too(capsys: pytest.CaptureFixture[str]) -> None:
    from scnet import cli

    assert cli.main(["recipes", "scnet"]) == 0
    assert "recipe: scnet" in capsys.readouterr().out


def test_resuming_before_the_first_checkpoint_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    assert main(["train", "--resume", str(tmp_path)]) == 1
    assert "no checkpoint yet" in capsys.readouterr().err


def test_resuming_what_is_no_run_folder_says_so_and_names_the_one_above(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "last").mkdir()
    assert main(["train", "--resume", str(tmp_path / "last")]) == 1
    assert "is no run folder" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("{}")
    assert main(["train", "--resume", str(tmp_path / "last")]) == 1
    assert f"the run folder is {tmp_path}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("predict w x.jpg --scor 0.3", "unknown argument --scor; did you mean --score or "),
        ("train r --outptu new", "unknown argument --outptu; did you mean --output"),
        ("train r --modle=off", "unknown argument --modle; did you mean --model"),
        ("eval w --data d --reprot page", "unknown argument --reprot; did you mean --report"),
        ("check-data d --fxi new", "unknown argument --fxi; did you mean --fix"),
        ("predict w x.jpg --score abc", "argument --score: 'abc'; must be between 0 and 1"),
        ("predict w x.jpg --batch 0", "argument --batch: '0'; must be a whole number, at least 1"),
        ("eval w --data d --iou x", "argument --iou: 'x'; must be above 0 and up to 1"),
        ("predict w a.png --scale-factor 0", "--scale-factor: '0'; must be a number above 0"),
        ("eval w --data d --score good", "'good'; must be between 0 and 1, or 'best'"),
        ("eval w --data d --thresholds 0.5 0", "argument --thresholds: '0'; must be above 0 and"),
        ("eval w --data d --metric stardist", "argument --metric: invalid choice: 'stardist'"),
        ("eval w --data d --pictures -1", "'-1'; must be a whole number, 0 or more"),
        ("bench w --size 0x0", "'0x0'; must be height x width, such as 800x1333"),
        ("predict w EMPTY", "argument SOURCE: is empty"),
        ("predict w x.jpg -o EMPTY", "argument -o: is empty"),
        ("train --resume EMPTY", "argument --resume: is empty"),
    ],
)
def test_a_wrong_command_line_is_answered_with_one_line(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line.split()
    with pytest.raises(SystemExit) as stop:
        main(["" if word == "EMPTY" else word for word in words])
    assert stop.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert said in text
    assert text.endswith(f"; see scnet {words[0]} --help\n")


@pytest.mark.parametrize(
    "line",
    [
        "eval w --data d --json mine.txt",
        "eval w --data d --report folder",
        "bench w --json mine.txt",
        "bench w --plot mine.png",
        "check-data d --list mine.txt",
        "check-data d --picture mine.png",
        "check-data d --fix folder",
        "eval w --data d --json folder",
        "eval w --data d --json mine.txt/below.json",
        "eval w --data d --json folder --overwrite",
        "eval w --data d --report folder --overwrite",
        "eval w --data d --report mine.txt --overwrite",
        "check-data d --fix folder --list new.txt --overwrite",
        "predict w x.jpg -o mine.txt",
        "predict w x.jpg -o mine.txt/below",
        "predict w x.jpg -o folder",
    ],
)
def test_nothing_is_written_over_and_that_is_said_first(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = [tmp_path / name for name in ("mine.txt", "mine.png", "folder/mine")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("precious")
    assert main(line.split()) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert any(text in said.err for text in ("exists", "is a file", "is a folder"))
    assert all(file.read_text() == "precious" for file in files)


def test_check_data_replaces_no_picture_unless_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    from scnet.data.synthetic.scene import generate

    data = generate(tmp_path / "shapes", train=1, val=1, size=(64, 64))
    monkeypatch.chdir(tmp_path)
    for name in ("check-data.png", "mine.jpg"):
        Path(name).write_text("precious")
    assert main(["check-data", str(data)]) == 0
    assert "wrote check-data-2.png" in capsys.readouterr().out
    assert Path("check-data.png").read_text() == "precious"
    assert main(["check-data", str(data), "--picture", "mine.jpg", "--overwrite"]) == 0
    for name, kind in (("check-data-2.png", "PNG"), ("mine.jpg", "JPEG")):
        with Image.open(name) as drawn:
            assert drawn.format == kind


@pytest.mark.parametrize("line", ["check-data d --picture a.foo", "bench w --plot a"])
def test_a_picture_of_no_known_kind_is_refused_before_the_work(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert "the name must end in .png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG", "s.yaml: no text; --config takes a YAML file"),
        (b"a: 1\nb: c: d", "s.yaml: line 2: not valid YAML"),
        (None, "s.yaml: no such file; --config takes a YAML file"),
    ],
)
def test_a_file_of_settings_that_is_none_is_named(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "s.yaml"
    if content is not None:
        file.write_bytes(content)
    assert main(["train", "scnet", "--data", "x", "--config", str(file)]) == 1
    text = capsys.readouterr().err
    assert said in text
    assert text.count("\n") == 1


def test_train_eval_and_predict_work_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml
    from tests.quick import QUICK

    from scnet.data.synthetic.scene import generate

    data = generate(tmp_path / "shapes", train=4, val=2, size=(128, 128))
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(QUICK))
    monkeypatch.chdir(tmp_path)
    settings = ["--config", "quick.yaml", "--optim.epochs", "1", "--data.vertical-flip=0.5"]
    assert main(["train", "scnet_lite", "--data", str(data), *settings]) == 0
    stored: dict[str, Any] = yaml.safe_load(Path("runs/scnet_lite/config.yaml").read_text())
    assert stored["data"]["vertical_flip"] == 0.5
    assert stored["optim"]["epochs"] == 1
    asked = ["--json", "ap.json", "--report", "page", "--score", "0.1", "--pictures", "1"]
    assert main(["eval", "runs/scnet_lite", "--data", str(data), *asked]) == 0
    assert json.loads(Path("ap.json").read_text())["images"] == 2
    reported = json.loads(Path("page/report.json").read_text())
    assert reported["counts"] == json.loads(Path("ap.json").read_text())["counts"]
    assert reported["about"]["model"] == "runs/scnet_lite"
    assert "runs/scnet_lite" in Path("page/index.html").read_text()
    assert "AP50" in capsys.readouterr().out
    figures = json.loads(Path("ap.json").read_text())
    few = ["--metric", "matching", "--score", "0.1", "--max-detections", "1", "--json", "m.json"]
    with pytest.warns(UserWarning, match=r"2 of 2 images have the most predictions .* \(1\), all"):
        assert main(["eval", "runs/scnet_lite", "--data", str(data), *few]) == 0
    matched = json.loads(Path("m.json").read_text())
    said = f"{matched['objects']} objects and 2 predictions of score 0.1 or more in 2 images"
    assert said in capsys.readouterr().out
    assert matched["limit"]["images_at_limit"] == matched["limit"]["images_cut"] == 2
    assert (matched["skipped"], matched["predictions"]) == (0, 2)
    other = tmp_path / "other"
    shutil.copytree(data, other)
    for file in other.glob("annotations/*.json"):  # boxes as corners
        content = json.loads(file.read_text())
        for entry in content["annotations"]:
            x, y, width, height = entry["bbox"]
            entry["bbox"] = [x, y, x + width, y + height]
        file.write_text(json.dumps(content))
    again = ["eval", "runs/scnet_lite", "--data", str(other), "--json", "again.json"]
    assert main(again) == 1
    assert "set --data.boxes corners" in capsys.readouterr().err
    assert main([*again, "--data.boxes", "corners"]) == 0
    assert json.loads(Path("again.json").read_text())["segm"] == figures["segm"]
    assert main(["train", "scnet_lite", "--data", str(other), *settings]) == 1
    assert "set --data.boxes corners" in capsys.readouterr().err
    Path("again.json").unlink()
    assert main([*again, "--data.size", "[64,64]"]) == 2
    assert main(["check-data", str(data)]) == 0
    assert Path("check-data.png").is_file()
