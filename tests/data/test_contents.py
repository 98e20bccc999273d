"""What is said of a data set before anything is learnt from it."""

from __future__ import annotations

from scnet.data.contents import Contents


def test_reasons_that_differ_in_numbers_alone_are_one_and_the_commonest_are_named() -> None:
    faults = (
        "box lies outside the image of 640 x 480",
        "box lies outside the image of 32 x 20.5",
        "box has zero width",
        "mask is empty",
        "has no segmentation",
    )
    said = str(Contents(objects=1, crowd=2, faults=faults))
    assert said.startswith("1 object; 2 crowd regions (iscrowd 1), not learnt from; 5 left out")
    assert "(2 x box lies outside the image of .. x ..; 1 x " in said
    assert said.endswith("and 1 more reason)")


def test_a_warning_comes_from_a_tenth_on() -> None:
    assert not Contents(objects=91, crowd=0, faults=("broken",) * 9).warnings
    assert Contents(90, 0, ("broken",) * 10).warnings == [
        "10 of 100 annotations are left out as broken"
    ]
    assert not Contents(objects=91, crowd=9, faults=()).warnings
    [warning] = Contents(objects=4, crowd=8, faults=()).warnings
    assert warning.startswith("8 of 12 annotations are crowd regions (iscrowd 1)")


def test_what_is_whole_is_said_in_a_word() -> None:
    whole = Contents(objects=12_345, crowd=0, faults=())
    assert str(whole) == "12,345 objects"
    assert not whole.warnings
