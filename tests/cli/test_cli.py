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
from PIL import Image
from tests.model_cases import make_detector

from scnet.cli.main import main
from scnet.recipes import RECIPES
from scnet.weights import checkpoint

COMMANDS = ("train", "eval", "predict", "check-data", "recipes", "demo", "experiment")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    detector = make_detector("scnet_lite", model__box__score_threshold=0.0)
    checkpoint.save(tmp_path / "model", detector)
    return tmp_path / "model"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.effect_noise((90, 60), 50).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


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


def test_predict_writes_a_picture_and_coco_results(
    weights: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(weights), str(photo), "-o", str(out), "--score", "0"]) == 0
    assert {p.name for p in out.iterdir()} == {"photo_masks.png", "photo.json"}
    found = json.loads((out / "photo.json").read_text())
    assert 0 < len(found) <= 100
    assert set(found[0]) == {"image_id", "category_id", "bbox", "score", "segmentation"}
    assert found[0]["segmentation"]["size"] == [60, 90]
    assert str(out) in capsys.readouterr().out


def test_images_of_a_run_have_results_of_different_ids(
    weights: Path, photo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "zebra.png"
    other.write_bytes(photo.read_bytes())
    out = tmp_path / "out"
    arguments = ["predict", str(weights), str(photo), str(other), "-o", str(out), "--score", "0"]
    assert main(arguments) == 0
    ids = [
        {one["image_id"] for one in json.loads((out / f"{name}.json").read_text())}
        for name in ("photo", "zebra")
    ]
    assert ids == [{1}, {2}]


def test_max_detections_caps_and_widens(weights: Path, photo: Path, tmp_path: Path) -> None:
    def count(most: int) -> int:
        out = tmp_path / f"out{most}"
        arguments = ["predict", str(weights), str(photo), "-o", str(out), "--score", "0"]
        assert main([*arguments, "--max-detections", str(most)]) == 0
        return len(json.loads((out / "photo.json").read_text()))

    assert count(5) == 5
    assert count(150) > 100


def test_predict_refuses_to_overwrite(weights: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    assert main(["predict", str(weights), str(photo), "-o", str(tmp_path / "out")]) == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_unreadable_image_is_named_and_the_others_are_done(
    weights: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, out = tmp_path / "broken.jpg", tmp_path / "out"
    broken.write_bytes(b"not an image")
    assert main(["predict", str(weights), str(broken), str(photo), "-o", str(out)]) == 1
    assert "broken.jpg" in capsys.readouterr().err
    assert {p.name for p in out.iterdir()} == {"photo_masks.png", "photo.json"}


def test_images_of_a_batch_are_each_written_and_broken_ones_left_out(
    weights: Path, photo: Path, tmp_path: Path
) -> None:
    folder, out, one = tmp_path / "photos", tmp_path / "out", tmp_path / "one"
    folder.mkdir()
    for name in ("a.png", "c.png", "d.png"):
        Image.open(photo).resize((90 if name == "c.png" else 60, 60)).save(folder / name)
    for name in ("b.png", "e.png"):
        (folder / name).write_bytes(b"not an image")
    command = ["predict", str(weights), str(folder), "--score", "0", "--max-detections", "5"]
    assert main([*command, "-o", str(out), "--batch", "2"]) == 1
    assert main([*command, "-o", str(one), "--proposals", "20", "--precision", "bf16"]) == 1
    assert {p.stem for p in out.glob("*.json")} == {"a", "c", "d"}
    sizes = [json.loads((out / f"{n}.json").read_text())[0]["segmentation"]["size"] for n in "acd"]
    assert sizes == [[60, 60], [60, 90], [60, 60]]
    assert len(json.loads((one / "a.json").read_text())) == 5


def test_no_proposals_are_refused(
    weights: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["predict", str(weights), str(photo), "--proposals", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_resuming_before_the_first_checkpoint_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", str(tmp_path)]) == 1
    assert "no checkpoint yet" in capsys.readouterr().err


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
    assert main(["eval", "runs/scnet_lite", "--data", str(data), "--json", "ap.json"]) == 0
    figures = json.loads(Path("ap.json").read_text())
    assert figures["images"] == 2
    assert "AP50" in capsys.readouterr().out
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
    assert main([*again, "--data.size", "[64,64]"]) == 2
    assert main(["check-data", str(data)]) == 0
    assert Path("check-data.png").is_file()
