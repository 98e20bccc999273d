"""Models in folders and on the Hugging Face hub, which is never asked here."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from tests.model_cases import make_detector

import scnet
from scnet.cli.main import main
from scnet.config import from_dict, replace_at
from scnet.inference.model import Model
from scnet.weights import hub
from scnet.weights.checkpoint import CheckpointError

FILES = {"model.safetensors", "config.json", "README.md"}


def make_model() -> Model:
    """A small model that was trained from folders of this machine."""
    detector = make_detector("scnet_lite")
    config = replace(detector.config, classes=("cat", "dog", "cow"), category_ids=(1, 2, 5))
    config = replace_at(config, "data.path", "/home/me/secret_project")
    config = replace_at(config, "data.stuff_maps", "/home/me/maps")
    config = replace_at(config, "model.backbone.weights", "/home/me/backbone.pth")
    weights = detector.state_dict()
    detector = type(detector)(config)
    detector.load_state_dict(weights)
    return Model(detector, "cpu")


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model()


def names(folder: Path) -> set[str]:
    """Names of all that lies in a folder, hidden files too."""
    return {p.name for p in folder.iterdir()}


def same(a: Model, b: Model) -> bool:
    theirs = b.detector.state_dict()
    return all(torch.equal(x, theirs[name]) for name, x in a.detector.state_dict().items())


class Hub:
    """Takes the place of HfApi and keeps what would be uploaded."""

    def __init__(self, card: bool = False) -> None:
        self.card = card  # whether the repository has a model card
        self.calls: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}

    def __call__(self, **options: Any) -> Hub:
        self.calls["HfApi"] = options
        return self

    def create_repo(self, repo_id: str, **options: Any) -> SimpleNamespace:
        self.calls["create_repo"] = options
        return SimpleNamespace(repo_id=f"owner/{repo_id}" if "/" not in repo_id else repo_id)

    def file_exists(self, repo_id: str, name: str, **_: Any) -> bool:
        return self.card and name == "README.md"

    def upload_folder(self, *, folder_path: Path, **options: Any) -> SimpleNamespace:
        self.calls["upload_folder"] = options
        self.files = {p.name: p.read_bytes() for p in folder_path.iterdir()}
        url = f"https://hub/{options['repo_id']}/commit/1"
        pr = f"https://hub/{options['repo_id']}/pull/1" if options.get("create_pr") else None
        return SimpleNamespace(commit_url=url, pr_url=pr)


@pytest.fixture
def remote(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub that holds the model as owner/cells; returns the options of the last download."""
    model.save_pretrained(tmp_path / "snapshot")
    seen: dict[str, Any] = {}

    def download(repo_id: str, name: str, **options: Any) -> str:
        if repo_id != "owner/cells":
            raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")
        seen.update(options)
        return str(tmp_path / "snapshot" / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return seen


def test_what_is_saved_loads_from_the_folder(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cells"
    model.save_pretrained(folder)
    assert names(folder) == FILES
    for again in (Model.from_pretrained(folder, device="cpu"), scnet.load(folder, device="cpu")):
        assert same(again, model)
        assert again.classes == ("cat", "dog", "cow")
        assert again.detector.category_ids == (1, 2, 5)


def test_what_is_saved_names_no_folder_of_this_machine(model: Model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    for name in FILES:
        assert b"/home/me" not in (tmp_path / name).read_bytes()
    config = from_dict(json.loads((tmp_path / "config.json").read_text()))
    assert config.data.stuff_maps == "auto"
    assert config.model.backbone.weights == "imagenet"
    assert model.config.data.path == "/home/me/secret_project"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_weights_and_config_are_replaced_only_when_asked(
    name: str, model: Model, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("precious")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=name):
        model.save_pretrained(tmp_path)
    assert names(tmp_path) == {name, "notes.txt"}
    assert (tmp_path / name).read_text() == "precious"
    model.save_pretrained(tmp_path, overwrite=True)
    assert names(tmp_path) == {*FILES, "notes.txt"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert same(Model.from_pretrained(tmp_path, device="cpu"), model)


def test_a_card_that_is_there_stays(model: Model, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("my own words")
    model.save_pretrained(tmp_path, overwrite=True)
    assert (tmp_path / "README.md").read_text() == "my own words"


def test_a_failing_write_leaves_the_folder_as_it_was(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    (tmp_path / "config.json").write_text("old")
    monkeypatch.setattr("scnet.weights.checkpoint.save_file", full_disk)
    with pytest.raises(CheckpointError, match="No space"):
        model.save_pretrained(tmp_path, overwrite=True)
    assert names(tmp_path) == {"config.json"}
    assert (tmp_path / "config.json").read_text() == "old"


def stop_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process, as it were, before so many files are in their place."""
    replace, placed = os.replace, []

    def stopping(*args: Any) -> None:
        if len(placed) == number:
            raise KeyboardInterrupt
        placed.append(args)
        replace(*args)

    monkeypatch.setattr(os, "replace", stopping)


@pytest.mark.parametrize("placed", [0, 1, 2])
def test_a_save_that_is_stopped_leaves_no_new_folder(
    placed: int, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(placed, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        model.save_pretrained(tmp_path / "cells")
    assert names(tmp_path) == set()


@pytest.mark.parametrize("placed", [0, 1])
def test_a_save_over_another_that_is_stopped_leaves_the_old_model_or_the_new(
    placed: int, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Model(make_detector("mask_rcnn_lite"), "cpu")
    old.save_pretrained(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    stop_at(placed, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        model.save_pretrained(tmp_path, overwrite=True)
    assert names(tmp_path) == {*FILES, "notes.txt"}
    assert same([old, model][placed], Model.from_pretrained(tmp_path, device="cpu"))


def test_the_card_tells_the_hub_what_it_is(model: Model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "cells", license="mit")
    card = huggingface_hub.ModelCard.load(tmp_path / "cells" / "README.md")
    assert card.data.library_name == "scnet"
    assert card.data.pipeline_tag == "image-segmentation"
    assert card.data.license == "mit"
    assert "Classes (3): cat, dog, cow" in card.text
    assert 'scnet.load("cells")' in card.text
    assert "scnet_lite, backbone resnet18" in card.text


def test_the_card_names_a_licence_only_if_given(model: Model) -> None:
    assert "license" not in hub.model_card(model.config, "owner/cells")


def test_pushing_uploads_weights_config_and_card(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", api)
    url = model.push_to_hub("owner/cells", private=True, license="mit", token="secret")
    assert url == "https://hub/owner/cells/commit/1"
    assert set(api.files) == FILES
    assert b'scnet.load("owner/cells")' in api.files["README.md"]
    assert b"license: mit" in api.files["README.md"]
    assert api.calls == {
        "HfApi": {"token": "secret"},
        "create_repo": {"private": True, "exist_ok": True},
        "upload_folder": {"repo_id": "owner/cells", "commit_message": "Upload model"},
    }


def test_pushing_keeps_a_card_that_is_there_and_can_open_a_request(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Hub(card=True)
    monkeypatch.setattr(huggingface_hub, "HfApi", api)
    url = model.push_to_hub("cells", create_pr=True, commit_message="Better")
    assert url == "https://hub/owner/cells/pull/1"
    assert set(api.files) == FILES - {"README.md"}
    assert api.calls["upload_folder"]["commit_message"] == "Better"


def test_a_hub_id_loads(model: Model, remote: dict[str, Any]) -> None:
    assert same(Model.from_pretrained("owner/cells", device="cpu", revision="v2"), model)
    assert remote == {"revision": "v2"}
    assert same(scnet.load("owner/cells", device="cpu"), model)


def test_an_existing_path_wins_over_the_hub(
    remote: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = Model(make_detector("mask_rcnn_lite"), "cpu")
    other.save_pretrained(tmp_path / "owner" / "cells")
    assert scnet.load("owner/cells", device="cpu").config.recipe == "mask_rcnn_lite"
    assert Model.from_pretrained("owner/cells", device="cpu").config.recipe == "mask_rcnn_lite"


def test_a_slip_in_a_path_does_not_ask_the_hub(
    remote: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    with pytest.raises(CheckpointError, match="the hub was not asked"):
        scnet.load("owner/cells")
    assert not remote


def test_what_the_hub_does_not_give_is_an_error_with_the_cause(
    remote: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError, match=r"owner/unknown: no such file .*no connection"):
        scnet.load("owner/unknown")
    assert main(["eval", "owner/unknown", "--data", "x"]) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["cells", "a/b/c", "/a/b", "../a", "./a", "a/b.pth", "a/b.safetensors", "a/ b"]
)
def test_other_texts_are_no_hub_ids(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # where nothing has such a name
    assert not hub.is_id(text)
    with pytest.raises(CheckpointError, match="nor a hub id"):
        Model.from_pretrained(text)


def test_help_does_not_import_the_hub() -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom scnet.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(' '.join({'huggingface_hub', 'torch', 'rich'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
