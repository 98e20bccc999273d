"""JSON is read as Python's `json` reads it, errors included."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scnet.data import parse
from scnet.data.parse import parse_json

EDGES = [2**53, 2**63, 2**64, 10**19, 10**400, 12345678901234567890]
whole = st.one_of(
    st.integers(),
    st.sampled_from(EDGES).flatmap(lambda n: st.integers(n - 2, n + 2)),
    st.integers(10**17, 10**22),
)
signed = st.tuples(whole, st.sampled_from([1, -1])).map(lambda pair: pair[0] * pair[1])
numerals = st.one_of(
    signed.map(str),
    st.floats().map(json.dumps),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,4})?", fullmatch=True),
    st.sampled_from(["-0", "-0.0", "1e400", "5e-324", "-Infinity", "0.30000000000000004", "01"]),
)
strings = st.builds(
    lambda text, escaped: json.dumps(text, ensure_ascii=escaped),
    st.one_of(
        st.text(st.characters(), max_size=6),  # with halves of surrogate pairs
        signed.map(str),
        signed.map(lambda number: f"a, {number}: [{number}"),
    ),
    st.booleans(),
)
spaces = st.sampled_from(["", "", " ", "\n\t"])


def _list(parts: list[str], space: str) -> str:
    return f"[{space}{f'{space},{space}'.join(parts)}{space}]"


def _object(pairs: list[tuple[str, str]], space: str) -> str:
    return "{" + f"{space},".join(f"{k}{space}:{space}{v}" for k, v in pairs) + space + "}"


keys = st.one_of(strings, st.sampled_from(['"id"', '"\\u0069d"']))  # often the same twice
values = st.recursive(
    st.one_of(numerals, strings, st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.builds(_list, st.lists(inner, max_size=4), spaces),
        st.builds(_object, st.lists(st.tuples(keys, inner), max_size=4), spaces),
    ),
    max_leaves=12,
)
encodings = st.sampled_from(["utf-8"] * 5 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
texts = st.builds(lambda text, kind: text.encode(kind, "surrogatepass"), values, encodings)
pieces = st.integers(1, 60)


def outcome(read: Callable[[bytes], Any], text: bytes) -> str:
    """Return what comes of a text; in `repr`, 1 and 1.0, 0.0 and -0.0 differ and NaN is itself."""
    try:
        return repr(read(text))
    except ValueError as error:
        return f"{type(error).__name__}: {error}"


@given(texts, pieces)
def test_content_is_that_of_json(text: bytes, piece: int) -> None:
    with mock.patch.object(parse, "AT_ONCE", piece):
        assert outcome(parse_json, text) == outcome(json.loads, text)


@given(texts, pieces, st.data())
def test_broken_text_ends_in_the_same_error(text: bytes, piece: int, data: Any) -> None:
    place = data.draw(st.integers(0, len(text)))
    changed = text[:place] + data.draw(st.binary(max_size=2)) + text[place + 1 :]
    with mock.patch.object(parse, "AT_ONCE", piece):
        assert outcome(parse_json, changed) == outcome(json.loads, changed)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30])
@pytest.mark.parametrize("before", range(parse.AT_ONCE - 40, parse.AT_ONCE + 3))
def test_a_large_whole_number_is_found_wherever_it_stands(number: int, before: int) -> None:
    text = f"[{' ' * before}{number},0]".encode()
    assert parse_json(text) == [number, 0]


@pytest.mark.parametrize(
    "text",
    [
        '{"id":9999999999999999999,"area":702.1057499999998,"iscrowd":0}',
        "[9223372036854775808,-999999999999999999, 0.0019999999999527063]",
        '["1403636579763555584123.jpg", 0.00012345678901234567]',
    ],
)
def test_usual_text_needs_no_second_reader(text: str) -> None:
    wanted = json.loads(text)
    with mock.patch.object(json, "loads", side_effect=AssertionError):
        assert parse_json(text.encode()) == wanted


def test_what_is_too_deep_for_both_is_refused() -> None:
    with pytest.raises(RecursionError):
        parse_json(b"[" * 100_000)
