"""Which image files sources name, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from scnet.data.errors import DataError
from scnet.inference.gather import gather, image_files


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_sources_are_files_folders_and_patterns_and_each_file_counts_once(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.JPG", "c.md")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "way").symlink_to(tmp_path)
    sources = [tmp_path, tmp_path / "*.png", tmp_path / "way" / "b.JPG", tmp_path / "c.md"]
    found = gather([str(source) for source in sources])
    assert [file.path.name for file in found.files] == ["a.png", "b.JPG", "c.md"]
    assert [path.name for path in found.repeated] == ["a.png", "b.JPG"]
    assert image_files([str(tmp_path / "*.png")]) == [tmp_path / "a.png"]
    with pytest.raises(DataError, match="no image found"):
        image_files([str(tmp_path / "*.gif")])


def test_what_is_left_out_of_a_folder_is_counted_by_kind(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.HEIC", "c.heic", "d", "._a.jpg", "x/e.png", "x/y/f.png", "x/g.md")
    fill(tmp_path, ".cache/h.png", "z/i.md")
    found = gather([str(tmp_path)])
    assert [file.path.name for file in found.files] == ["a.jpg"]
    assert found.left_out == (
        "6 files left out: .heic (2), hidden (1), without suffix (1), "
        "sub-folder x (2; --recursive takes it)"
    )


def test_what_another_source_names_is_not_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.heic", "x/c.jpg")
    fill(tmp_path, "c.raw")
    found = gather([str(tmp_path), str(tmp_path / "x"), str(tmp_path / "c.raw")])
    assert len(found.files) == 3
    assert found.left_out == "1 file left out: .heic (1)"


def test_many_kinds_and_folders_are_named_in_part(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", *(f"f.{i}" for i in range(9)), *(f"s{i}/a.jpg" for i in range(5)))
    text = gather([str(tmp_path)]).left_out
    assert text.startswith("14 files left out: .0 (1), ")
    assert "others (3), sub-folders s0 (1), s1 (1), s2 (1), others (2)" in text


def test_folders_within_folders_keep_their_places(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "x/a.jpg", "x/y/a.jpg", ".git/a.jpg")
    (tmp_path / "x" / "round").symlink_to(tmp_path / "x")
    found = gather([str(tmp_path)], recursive=True)
    assert [file.folder for file in found.files] == ["", "x", "x/y"]


def test_a_pattern_takes_a_suffix_that_it_names_and_else_images_alone(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.raw", "c.md")
    assert len(gather([str(tmp_path / "*.raw")]).files) == 1
    found = gather([str(tmp_path / "*")])
    assert [file.path.name for file in found.files] == ["a.png"]
    assert found.left_out == "2 files left out: .raw (1), .md (1)"


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp4", "b.mp4")
    with pytest.raises(DataError, match=r"no image found; 2 files left out: \.mp4 \(2\)"):
        gather([str(tmp_path)])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_text_file_lists_paths(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = fill(tmp_path / "here", "c.png", "both.png")
    lists = fill(tmp_path / "lists", "\u00e4.png", "sub/b.png", "both.png")
    monkeypatch.chdir(here)
    lines = [
        "# mine",
        "",
        "\u00e4.png",
        '"sub\\b.png"',
        "c.png",
        "both.png",
        "no.png",
        "sub",
        "x.mov",
    ]
    fill(lists, "x.mov")
    (lists / "list.TXT").write_text("\n".join(lines), encoding)
    found = gather([str(lists / "list.TXT")])
    names = ["\u00e4.png", "b.png", "c.png", "both.png"]
    assert [file.path.name for file in found.files] == names
    assert found.files[3].path.parent == lists
    assert [fault.partition(": ")[2].split(" ")[:2] for fault in found.faults[:2]] == [
        ["line", "7:"],
        ["line", "8:"],
    ]
    assert "ffmpeg" in found.faults[2]
    assert [note.partition(": ")[2].partition(" of")[0] for note in found.notes] == ["1", "1"]
    with pytest.raises(DataError, match="line 7: no file"):
        image_files([str(lists / "list.TXT")])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"# nothing\n", "names no image"),
        (b"a.png\n", "none of its 1 lines"),
        (b"\xff\x00\x80", "UTF-8"),
    ],
)
def test_a_text_file_without_paths_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=said):
        gather([str(tmp_path / "list.txt")])


def test_videos_and_photos_of_phones_are_answered_with_what_to_do(tmp_path: Path) -> None:
    fill(tmp_path, "a b.MP4", "c.HEIC", "d.jpg")
    sources = [str(tmp_path / name) for name in ("a b.MP4", "c.HEIC", "d.jpg")]
    found = gather(sources)
    assert [file.path.name for file in found.files] == ["d.jpg"]
    assert f"ffmpeg -i '{sources[0]}'" in found.faults[0]
    assert f"heif-convert {sources[1]}" in found.faults[1]
    with pytest.raises(DataError, match="ffmpeg"):
        gather(sources[:1])
