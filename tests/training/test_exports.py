"""Data sets as they come: the right objects or a clear word, in the check and in training alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.export_cases import CASES, sound, write

from scnet.config import Config, override
from scnet.data.check import check
from scnet.data.errors import DataError
from scnet.training.loop import Trainer
from scnet.training.run import train


@pytest.mark.parametrize("name", CASES)
def test_real_exports_are_read_right_or_refused_with_the_way_out(
    name: str,
    quick: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = CASES[name]
    files = sound(tmp_path / "data")
    case.change(files, tmp_path / "data")
    write(files, tmp_path / "data")
    report = check(tmp_path / "data", config=override(Config(), {"data": case.settings}).data)
    said = "\n".join(str(problem) for problem in report.problems)
    assert re.search(case.checked, said) if case.checked else not report.problems, said
    assert report.ok != case.stops or case.settings.get("drop_invalid"), said
    learnt: list[int] = []

    def introduce(trainer: Trainer) -> None:
        trainer._introduce()
        learnt.append(trainer.dataset.contents.objects)

    monkeypatch.setattr(Trainer, "run", introduce)
    settings = {**quick, "data": {**quick["data"], **case.settings}}
    try:
        train("mask_rcnn", tmp_path / "data", output=tmp_path / "run", settings=settings)
        said = capsys.readouterr().err
    except DataError as error:
        said = str(error)
    assert re.search(case.trained, said), said
    assert learnt == ([] if case.stops else [case.objects])
