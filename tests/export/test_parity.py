"""What counts as the same, and what does not."""

from __future__ import annotations

from typing import Any

import numpy as np

from scnet.export.parity import difference
from scnet.export.session import Arrays

BOXES = np.array([[0, 0, 10, 10], [20, 20, 40, 50], [20, 60, 50, 90]], np.float32)
OURS = Arrays(
    BOXES,
    np.array([0.9, 0.6, 0.3], np.float32),
    np.array([0, 1, 0]),
    np.full((3, 4, 4), 0.5, np.float32),
)


def changed(**values: Any) -> Arrays:
    return OURS._replace(**{k: np.asarray(v, getattr(OURS, k).dtype) for k, v in values.items()})


def differs(theirs: Arrays, edges: tuple[float, ...] = (0.05,)) -> bool:
    return not difference(OURS, theirs, "image", (100, 100), edges).holds


def test_rounding_and_the_order_of_equal_scores_are_no_difference() -> None:
    assert not differs(OURS)
    assert not differs(changed(boxes=BOXES + 0.005, scores=[0.90001, 0.6, 0.3]))
    order = [2, 0, 1]
    assert not differs(Arrays(*(x[order] for x in OURS[:4])))


def test_each_value_that_moves_is_seen() -> None:
    assert differs(changed(boxes=BOXES + 0.02))
    assert differs(changed(scores=[0.9, 0.6, 0.3003]))
    assert differs(changed(labels=[0, 0, 0]))
    assert differs(changed(masks=OURS.masks + 0.002))
    assert differs(changed(masks=OURS.masks * np.nan))
    assert differs(changed(boxes=BOXES * np.nan))


def test_foretold_ious_are_compared_too() -> None:
    ious = np.array([0.5, 0.6, 0.7], np.float32)
    scored = OURS._replace(mask_ious=ious)

    def holds(theirs: Arrays) -> bool:
        return difference(scored, theirs, "image", (100, 100), ()).holds

    assert holds(scored)
    assert not holds(OURS)
    assert not holds(scored._replace(mask_ious=ious + 0.001))


def test_a_detection_too_few_counts_but_at_the_edge() -> None:
    fewer = Arrays(*(x[:2] for x in OURS[:4]))
    assert differs(fewer)
    assert not differs(fewer, edges=(0.05, 0.30005))
    assert differs(Arrays(*(x[:0] for x in OURS[:4])))
