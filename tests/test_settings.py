"""Properties of settings that have several kinds, on small dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from scnet.config import to_dict
from scnet.settings import MOST_KNOWN, ConfigError, lay_over, merge, nested, suggest


@dataclass(frozen=True, kw_only=True)
class Plain:
    kind: Literal["plain"] = "plain"
    width: int = 4


@dataclass(frozen=True, kw_only=True)
class Twofold:
    kind: Literal["twofold"] = "twofold"
    width: int = 8
    rounds: int = 2


@dataclass(frozen=True, kw_only=True)
class Nameless:
    width: int = 1


@dataclass(frozen=True, kw_only=True)
class Whole:
    part: Plain | Twofold = Plain()
    extra: Twofold | Plain | None = None
    number: int | float = 1
    switch: str | bool = False


def over(base: Whole, path: str, value: Any) -> Whole:
    return lay_over(Whole, base, nested(path, value))  # type: ignore[no-any-return]


def test_without_a_kind_the_member_stays() -> None:
    base = Whole(part=Twofold(rounds=5))
    assert over(base, "part.width", 9).part == Twofold(rounds=5, width=9)
    assert over(base, "part", True) == base
    assert over(Whole(), "extra", {"width": 3}).extra == Twofold(width=3)
    assert over(Whole(), "extra", True).extra == Twofold()


@pytest.mark.parametrize("value", ["twofold", {"kind": "twofold"}])
def test_another_kind_starts_from_its_own_defaults(value: Any) -> None:
    assert over(Whole(part=Plain(width=7)), "part", value).part == Twofold()
    both = over(Whole(), "part", {"kind": "twofold", "rounds": 3})
    assert both.part == Twofold(rounds=3)


def test_the_same_kind_keeps_what_is_set() -> None:
    assert over(Whole(part=Plain(width=7)), "part", "plain").part == Plain(width=7)


@pytest.mark.parametrize(
    ("over", "merged"),
    [
        ("b", {"kind": "b", "x": 1}),
        ({"kind": "b"}, {"kind": "b", "x": 1}),
        (True, {"kind": "b", "x": 1}),
        ({"x": 2}, {"kind": "b", "x": 2}),
        ("c", {"kind": "c"}),
        ({"kind": "c", "y": 1}, {"kind": "c", "y": 1}),
        (None, None),
        (False, False),
    ],
)
def test_settings_are_merged_in_the_sense_in_which_they_are_laid_over(
    over: Any, merged: Any
) -> None:
    assert merge({"part": {"kind": "b", "x": 1}}, {"part": over}) == {"part": merged}


@pytest.mark.parametrize("off", [None, False])
def test_an_optional_part_of_several_kinds_has_one_switch(off: Any) -> None:
    assert over(Whole(extra=Plain()), "extra", off).extra is None
    with pytest.raises(ConfigError, match=r"part: expected a group of settings"):
        over(Whole(), "part", off)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("part", "twofol", r'part\.kind: there is no \'twofol\'; did you mean "twofold"'),
        ("part.kind", 3, r"part\.kind: there is no 3; known: plain, twofold"),
        ("part.rounds", 3, r"part\.rounds: a setting of kind twofold, but the kind here is plain"),
        ("part.widht", 3, r'part\.widht: unknown setting; did you mean "width"'),
        ("number", "x", r"number: expected int or float, got 'x'"),
        ("switch", 1, r"switch: expected str or bool, got 1"),
    ],
)
def test_a_mistake_says_which_kinds_there_are(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        over(Whole(), path, value)


def test_the_first_scalar_that_takes_a_value_gets_it() -> None:
    assert type(over(Whole(), "number", 2).number) is int
    assert over(Whole(), "number", 2.5).number == 2.5
    assert over(Whole(), "switch", True).switch is True
    assert over(Whole(), "switch", "yes").switch == "yes"


def test_what_is_written_is_read_again() -> None:
    base = Whole(part=Twofold(rounds=5), extra=Plain(width=2))
    assert to_dict(base)["part"] == {"kind": "twofold", "width": 8, "rounds": 5}
    assert lay_over(Whole, Whole(), to_dict(base)) == base


def test_kinds_that_cannot_be_told_apart_are_a_mistake_of_ours() -> None:
    for union in (Plain | Nameless, Plain | int):
        with pytest.raises(AssertionError):
            lay_over(union, None, {"width": 3}, "part")


def test_names_are_listed_where_they_are_few_and_none_is_near() -> None:
    few = [f"name_{n}" for n in range(MOST_KNOWN)]
    assert suggest("zzz", few) == f"; known: {', '.join(few)}"
    assert suggest("zzz", [*few, "one_more"]) == ""
    assert suggest("one_mor", [*few, "one_more"]) == '; did you mean "one_more"?'
