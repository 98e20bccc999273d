"""Kinds of mistakes: equal to hotcoco's TIDE, and each named as a reader would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.evaluation.made_up import entry, made_up

from scnet.evaluation import counts
from scnet.evaluation.matching import match
from scnet.evaluation.mistakes import FALSE_KINDS, kinds, mistakes, worst
from scnet.evaluation.summary import judge, line, summarise

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

THEIRS = {
    "wrong class": "Cls",
    "bad location": "Loc",
    "wrong class and location": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
}


def tide(truth: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, int]:
    from hotcoco import COCO, COCOeval

    objects = COCO(truth)
    evaluator = COCOeval(objects, objects.load_res([dict(r) for r in results]), "segm")
    evaluator.evaluate()
    found: dict[str, int] = evaluator.tide_errors(pos_thr=0.5, bg_thr=0.1)["counts"]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_false_finds_are_of_tides_kinds(seed: int) -> None:
    truth, results = made_up(seed)
    truth["annotations"] = [a for a in truth["annotations"] if not a["iscrowd"]]
    for score in (0.0, 0.5):
        passed = [r for r in results if r["score"] >= score]
        found = kinds(mistakes(match(truth, results), score).false_finds, FALSE_KINDS)
        theirs = tide(truth, passed)
        assert {THEIRS[name]: n for name, n in found.items()} == {
            name: theirs[name] for name in THEIRS.values()
        }


@pytest.mark.parametrize("score", [0.0, 0.5, 1.1])
def test_there_is_a_mistake_for_each_false_find_and_miss(score: float) -> None:
    matches = match(*made_up(9))
    found, total = mistakes(matches, score), counts.curve(matches).at(score)
    assert len({f.find for f in found.false_finds}) == len(found.false_finds) == total.false
    assert len({m.object for m in found.misses}) == len(found.misses) == total.missed


def test_each_kind_is_named_as_it_looks() -> None:
    boxes = {name: (12 * n, 0, 10, 10) for n, name in enumerate(("a", "b", "c", "d", "e"))}
    truth, _ = made_up(0, images=1)
    truth["annotations"] = [entry(1, 1, box, id=n) for n, box in enumerate(boxes.values(), 1)]
    finds = [
        entry(1, 1, boxes["a"], score=0.9),
        entry(1, 1, boxes["a"], score=0.8),  # duplicate
        entry(1, 2, boxes["b"], score=0.8),  # wrong class
        entry(1, 1, (24, 7, 10, 10), score=0.8),  # bad location
        entry(1, 1, boxes["d"], score=0.2),  # low score
        entry(1, 2, (50, 7, 10, 10), score=0.8),  # wrong class and location
        entry(1, 1, (0, 30, 10, 10), score=0.7),  # background
    ]
    found = mistakes(match(truth, finds), 0.5)
    names = {truth["annotations"][m.object]["id"]: m.kind for m in found.misses}
    assert names == {2: "wrong class", 3: "bad location", 4: "low score", 5: "not found"}
    assert kinds(found.false_finds, FALSE_KINDS) == dict.fromkeys(FALSE_KINDS, 1)
    assert found.false_finds[-1].kind == "background"


def test_the_worst_are_of_different_images() -> None:
    matches = match(*made_up(10))
    found = mistakes(matches, 0.0)
    shown = worst(found.false_finds, 100)
    images = [f.image for f in shown]
    assert max(images.count(i) for i in images) == 3
    scores = [matches.finds.score[f.find] for f in shown]
    assert scores == sorted(scores, reverse=True)
    areas = matches.areas(np.array([m.object for m in found.misses])).tolist()
    assert areas == sorted(areas, reverse=True)
    assert worst(found.misses, 2) == found.misses[:2]


def test_masks_with_scores_of_their_own_are_counted_by_these() -> None:
    truth, results = made_up(2)
    scored = [{**r, "mask_score": r["score"] / 2} for r in results]
    ours, theirs = (
        summarise(judge(match(truth, found), threshold))
        for found, threshold in ((scored, 0.3), (results, 0.6))
    )
    assert (ours.pop("score_name"), theirs.pop("score_name")) == ("mask_score", "score")
    assert ours["overall"]["TP"] == theirs["overall"]["TP"] > 0
    assert ours["confusion"] == theirs["confusion"]
    boxes = summarise(judge(match(truth, scored, kind="bbox"), 0.6))
    assert boxes["score_name"] == "score"
    assert "at mask score 0.3 and IoU 0.5 of masks" in line({**ours, "score_name": "mask_score"})


def test_the_summary_counts_at_the_best_threshold() -> None:
    matches = match(*made_up(11))
    summary = summarise(judge(matches, "best"))
    best = summary["overall"]["best_score"]
    assert (summary["score"], summary["score_from"]) == (best, "best")
    assert summary["overall"]["F1"] == summary["overall"]["best_F1"]
    assert f"at score {best:g} and IoU 0.5 of masks" in line(summary)
    assert sum(summary["false_finds"].values()) == summary["overall"]["FP"]
    assert sum(summary["misses"].values()) == summary["overall"]["FN"]


def test_no_threshold_is_the_best_where_nothing_is_found() -> None:
    truth, _ = made_up(11)
    matches = match(truth, [])
    with pytest.warns(UserWarning, match="no find is an object at any score"):
        judged = judge(matches, "best")
    assert (judged.score, judged.score_from) == (0.5, "default")
    assert line(summarise(judge(matches, 0.5))).endswith("no threshold finds any")
    assert "precision -, recall 0.0" in line(summarise(judge(matches, 0.5)))


def test_counting_compares_the_numbers_of_each_image() -> None:
    truth, _ = made_up(0, images=2)
    truth["annotations"] = [entry(1, 1, (0, 0, 9, 9), id=1), entry(1, 1, (20, 0, 9, 9), id=2)]
    finds = [entry(2, 1, (x, 0, 9, 9), score=0.9) for x in (0, 20, 40)]
    found = summarise(judge(match(truth, finds), 0.5))["counting"]
    assert found == {"images": 2, "mean_absolute_error": 2.5, "bias": 0.5}


def test_images_with_more_objects_than_the_cap_are_counted() -> None:
    truth, _ = made_up(0, images=3)
    truth["annotations"] = [
        entry(image, 1, (12 * n, 0, 9, 9), id=10 * image + n)
        for image, number in ((1, 2), (2, 3), (3, 4))
        for n in range(number)
    ]
    for cap, crowded in ((1, 3), (2, 2), (3, 1), (4, 0)):
        matches = match(truth, [], max_detections=cap)
        assert summarise(judge(matches, 0.5))["crowded_images"] == crowded
