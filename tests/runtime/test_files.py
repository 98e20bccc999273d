"""Properties of files and folders that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scnet.runtime.files import growing_file, partial, recover, whole_file, whole_folder


class BrokenError(Exception):
    pass


def break_file(file: Path) -> None:
    with whole_file(file) as new:
        new.write_text("half")
        raise BrokenError


def break_folder(folder: Path) -> None:
    with whole_folder(folder) as new:
        (new / "half").write_text("half")
        raise BrokenError


def test_a_file_appears_at_the_end_and_replaces_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.txt"
    for text in ("first", "second"):
        with whole_file(file) as new:
            new.write_text(text)
            assert not file.exists() or file.read_text() == "first"
        assert file.read_text() == text
    assert [p.name for p in file.parent.iterdir()] == ["a.txt"]
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_folder_appears_at_the_end_and_replaces_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for name in ("first", "second"):
        with whole_folder(folder) as new:
            (new / "inner").mkdir()
            (new / "inner" / name).write_text(name)
        assert [p.name for p in (folder / "inner").iterdir()] == [name]
    assert [p.name for p in tmp_path.iterdir()] == ["made"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BrokenError):
        break_file(tmp_path / "file")
    with pytest.raises(BrokenError):
        break_folder(tmp_path / "folder")
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_contents_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, move = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("sync"), sync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("name"), move(a, b))[1])
    with whole_file(tmp_path / "a") as new:
        new.write_text("a")
    assert events == ["sync", "name", "sync"]
    events.clear()
    with whole_folder(tmp_path / "b") as new:
        (new / "c").write_text("c")
    assert events == ["sync"] * 3  # the file, its folder, and the folder above once it is named


def test_a_folder_that_was_being_replaced_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".last-old").mkdir()
    (tmp_path / ".last-half").mkdir()
    recover(tmp_path / "last")
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_a_file_that_grows_is_there_when_all_of_it_is(tmp_path: Path) -> None:
    file = tmp_path / "new" / "list.json"
    with growing_file(file, "[", "]") as add:
        add("1")
        assert partial(file).read_text() == "[1"
        assert not file.exists()
        add(",2")
    assert file.read_text() == "[1,2]"
    assert list(file.parent.iterdir()) == [file]
    with pytest.raises(FileExistsError, match="exists"), growing_file(file):
        pass


def stop_growing(file: Path, text: str) -> None:
    with growing_file(file, "[", "]") as add:
        if text:
            add(text)
        raise KeyboardInterrupt


def test_what_a_file_had_grown_to_stays_with_its_end(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    with pytest.raises(KeyboardInterrupt):
        stop_growing(file, "")
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        stop_growing(file, "1")
    assert [(f, f.read_text()) for f in tmp_path.iterdir()] == [(partial(file), "[1]")]
    with pytest.raises(FileExistsError, match="was left by a run"), growing_file(file):
        pass
