"""Bare pickles: arrays are read in all their forms, and nothing else is, whatever it does."""

from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scnet.cli.main import main
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign import convert, pickles
from scnet.weights.foreign.reading import read_file

KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")


def written(folder: Path, content: bytes) -> Path:
    file = folder / "a.pkl"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_kind_and_order_are_read(tmp_path: Path, protocol: int) -> None:
    numbers = np.arange(24).reshape(2, 3, 4)
    arrays = {kind: numbers.astype(kind) for kind in KINDS}
    arrays |= {"big": numbers.astype(">f4"), "columns": np.asfortranarray(numbers.astype("f4"))}
    arrays |= {"step": np.array(7), "none": np.zeros((0, 4), np.float32), "part": numbers[:, ::2]}
    content = {
        "model": OrderedDict(arrays),
        "number": np.float64(0.5),
        "text": "a",
        "__author__": "b",
    }
    read = read_file(written(tmp_path, pickle.dumps(content, protocol)))
    for name, array in arrays.items():
        expected = torch.from_numpy(
            np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="))
        )
        assert torch.equal(read["model"][name].reshape(array.shape), expected.reshape(array.shape))
        assert read["model"][name].dtype == expected.dtype
    assert (read["number"], read["text"], read["__author__"]) == (0.5, "a", "b")


def test_texts_of_python_2_are_read_as_bytes(tmp_path: Path) -> None:
    array = np.array([1.5, -2.0], np.float32)
    raw = array.tobytes()
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nt"
    kind = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
    content = b"T" + struct.pack("<i", len(raw)) + raw
    file = written(tmp_path, b"(S'w'\n" + head + kind + content + b"tbd.")
    assert torch.equal(read_file(file)["w"], torch.tensor([1.5, -2.0]))


class Runs:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def marked(folder: Path) -> str:
    return f"touch {folder / 'ran'}"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("where", ["top", "beside", "inside", "key"])
def test_nothing_in_a_file_runs(tmp_path: Path, where: str, protocol: int) -> None:
    bad = Runs(os.system, marked(tmp_path))
    weights: dict[Any, Any] = {"roi_heads.w": np.zeros(2, np.float32)}
    content = {
        "top": bad,
        "beside": {"model": weights, "hook": bad},
        "inside": {"model": weights | {"x": bad}},
        "key": {"model": weights | {bad: 1}},
    }[where]
    file = written(tmp_path, pickle.dumps(content, protocol))
    with pytest.raises(CheckpointError, match=r"a\.pkl: .*(posix|nt)\.system.*was not loaded"):
        convert.convert(file, tmp_path / "a.safetensors")
    assert [x.name for x in tmp_path.iterdir()] == ["a.pkl"]


UNSAFE: dict[str, bytes] = {
    "eval": b"cbuiltins\neval\n(S'1'\ntR.",
    "exec of Python 2": b"c__builtin__\nexecfile\n(S'a'\ntR.",
    "getattr": b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR.",
    "import": b"cbuiltins\n__import__\n(S'os'\ntR.",
    "a class by INST": b"(S'x'\nios\nsystem\n.",
    "a class by OBJ": b"(cos\nsystem\nS'x'\no.",
    "a class by NEWOBJ": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "a name with dots": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93.",
    "a persistent id": b"Pos.system\n.",
    "a persistent id of protocol 1": b"U\x01aQ.",
    "an extension": b"\x80\x02\x82\x01.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a tensor in a pickle": b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR.",
    "a file's array": b"cnumpy\nload\n(S'x'\ntR.",
    "an array of objects": b"cnumpy\ndtype\n(S'O'\nI0\nI1\ntR.",
    "an array of texts": b"cnumpy\ndtype\n(S'S9'\nI0\nI1\ntR.",
    "bytes of a number": b"cbuiltins\nbytes\n(I9\ntR.",
    "another encoding": b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.",
    "a state for a function": b"c_codecs\nencode\n(dS'x'\nI1\nsb.",
    "attributes of a function": b"c_codecs\nencode\n(N(dS'__call__'\nI1\nstb.",
}


@pytest.mark.parametrize("case", UNSAFE)
def test_what_could_run_is_refused(tmp_path: Path, case: str) -> None:
    file = written(tmp_path, UNSAFE[case])
    with pytest.raises(CheckpointError, match="holds more than weights"):
        pickles.read(file)


def test_a_refused_file_leaves_the_next_one_readable(tmp_path: Path) -> None:
    for content in UNSAFE.values():
        with pytest.raises(CheckpointError):
            pickles.read(written(tmp_path, content))
    good = {"model": {"w": np.ones(3, np.float32)}, "__author__": "a"}
    assert pickles.read(written(tmp_path, pickle.dumps(good, 2)))["model"]["w"].tolist() == [
        1,
        1,
        1,
    ]


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
F4 = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"


def array(shape: bytes, content: bytes, kind: bytes = F4) -> bytes:
    return b"(S'w'\n" + ARRAY + b"(I1\n(" + shape + b"t" + kind + b"I00\n" + content + b"tbd."


def again(step: bytes, number: int) -> bytes:
    """A list that holds the result of the same step many times."""
    return b"(l" + b"".join(step + b"a" for _ in range(number)) + b"."


DAMAGED: dict[str, bytes] = {
    "nothing": b"",
    "a list": b"(lp0\nI1\na.",
    "a far place": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a far place as text": b"(dp99999999999\n.",
    "a place that is not there": b"\x80\x02h\x05.",
    "a long text that is not there": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\x00\x00abc.",
    "many bytes that are not there": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00abc.",
    "a large array of few bytes": array(b"I99999\nI99999\n", b"S'abcd'\n"),
    "a negative shape": array(b"I-1\nI-1\n", b"S'abcd'\n"),
    "a shape of nothing": array(b"I0\nI9999999999999\n", b"S''\n"),
    "an array made of a number": array(b"I1\n", b"I1000000000\n"),
    "an array of no kind": array(b"I1\n", b"S'abcd'\n", b"N"),
    "an array without content": b"(S'w'\n" + ARRAY + b"d.",
    "a kind without order": array(b"I1\n", b"S'abcd'\n", b"cnumpy\ndtype\n(S'f4'\ntR(tb"),
    "itself in itself": b"(dp0\nS'a'\ng0\ns.",
    "more behind its end": pickle.dumps({"a": 1}) + b"more",
    "a text made bytes again and again": (
        b"S'" + b"a" * 500 + b"'\np0\n0" + again(b"c_codecs\nencode\n(g0\nS'latin1'\ntR", 20)
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_odd_files_end_with_a_plain_answer(tmp_path: Path, case: str) -> None:
    file = written(tmp_path, DAMAGED[case])
    with pytest.raises(CheckpointError, match=r"a\.pkl: .*(damaged|not a checkpoint)"):
        pickles.read(file)


def test_dictionaries_within_one_another_have_an_end(tmp_path: Path) -> None:
    inner: dict[str, Any] = {"a": 1}
    for _ in range(40):
        inner = {"a": inner, "b": inner}
    with pytest.raises(CheckpointError, match="within one another"):
        pickles.read(written(tmp_path, pickle.dumps(inner)))


def test_many_steps_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "_MOST_STEPS", 1000)
    content = pickle.dumps({"a": [{} for _ in range(2000)]})
    with pytest.raises(CheckpointError, match="more than 1000 steps"):
        pickles.read(written(tmp_path, content))


def test_a_file_that_ends_anywhere_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps({"model": {"w": np.ones(5, np.float32)}, "__author__": "a"}, 2)
    for end in range(0, len(content)):
        with pytest.raises(CheckpointError):
            pickles.read(written(tmp_path, content[:end]))


def test_changed_bytes_give_an_answer(tmp_path: Path) -> None:
    content = pickle.dumps({"model": {"w": np.ones(5, np.float32)}, "__author__": "a"}, 2)
    random = np.random.default_rng(0)
    for _ in range(400):
        changed = bytearray(content)
        changed[random.integers(len(content))] = random.integers(256)
        file = written(tmp_path, bytes(changed))
        with suppress(CheckpointError):
            assert isinstance(pickles.read(file), dict)


def test_a_file_of_pytorch_is_no_bare_pickle(tmp_path: Path) -> None:
    for new in (True, False):
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pkl", _use_new_zipfile_serialization=new)
        assert not pickles.is_bare(tmp_path / "a.pkl")
        assert read_file(tmp_path / "a.pkl")["a"].tolist() == [1, 1]


def test_a_text_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no checkpoint of PyTorch"):
        read_file(written(tmp_path, b"hello"))


def test_the_command_answers_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, pickle.dumps(Runs(os.system, marked(tmp_path))))
    assert main(["convert", str(file), "-o", str(tmp_path / "a.safetensors")]) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "pickle.load(open(" in told
    assert [x.name for x in tmp_path.iterdir()] == ["a.pkl"]
