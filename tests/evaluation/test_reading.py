"""An evaluation reads its own file: settings of the training's hold for that one alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from scnet.config import DataConfig
from scnet.evaluation.reading import reading_of
from scnet.settings import ConfigError

TRAINED = DataConfig(path="mine", boxes="corners", crowd="objects", size=(100, 200))


def test_the_data_of_the_training_are_read_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("mine", "mine/", tmp_path / "mine"):
        assert reading_of(TRAINED, path, None) == (TRAINED, [])


def test_what_the_numbers_of_one_file_mean_says_nothing_of_another() -> None:
    config, notes = reading_of(TRAINED, "theirs", None)
    assert (config.boxes, config.crowd, config.size) == ("xywh", "objects", (100, 200))
    assert notes == ["data.boxes corners of the training is not used, as these are other data"]


def test_what_is_given_counts() -> None:
    for path in ("mine", "theirs"):
        config, notes = reading_of(TRAINED, path, {"data": {"boxes": "centres"}})
        assert config.boxes == "centres"
        assert not notes


@pytest.mark.parametrize("name", ["size", "range", "classes"])
def test_what_is_the_models_cannot_be_changed(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"data.{name}: is what the model was trained with"):
        reading_of(TRAINED, "mine", {"data": {name: None}})


def test_unknown_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="boxs"):
        reading_of(TRAINED, "mine", {"data": {"boxs": "corners"}})
    with pytest.raises(ConfigError, match=r"optim: only settings of the data"):
        reading_of(TRAINED, "mine", {"optim": {"lr": 1}})
