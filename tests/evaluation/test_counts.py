"""Counts at a score threshold: equal to a plain loop, to hotcoco's matrix, and defined or None."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from tests.evaluation.made_up import NAMES, entry, made_up, plain_counts

from scnet.evaluation import counts, matching

Json = dict[str, Any]
THRESHOLDS = (0.0, 0.25, 0.3, 0.5, 0.9, 1.0, 1.1)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def of_class(matches: matching.Matches, label: int | None, score: float) -> tuple[int, int, int]:
    found = counts.curve(matches, label).at(score)
    return found.true, found.false, found.missed


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize(("iou", "cap"), [(0.5, 100), (0.75, 2), (0.3, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_one_matching_counts_as_a_plain_loop_at_every_threshold(
    seed: int, iou: float, cap: int, kind: matching.Kind
) -> None:
    truth, results = made_up(seed)
    matches = matching.match(truth, results, kind=kind, iou=iou, max_detections=cap)
    for score in THRESHOLDS:
        plain = plain_counts(truth, results, score, iou, cap, kind)
        for label, category in enumerate(truth["categories"]):
            assert of_class(matches, label, score) == plain[category["id"]]
        total = tuple(map(sum, zip(*plain.values(), strict=True)))
        assert of_class(matches, None, score) == total


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_threshold_is_the_best_of_the_plain_loop(seed: int) -> None:
    truth, results = made_up(seed)
    matches = matching.match(truth, results)
    for label, category in enumerate(truth["categories"]):
        f1 = {}
        for score in {r["score"] for r in results}:
            true, false, missed = plain_counts(truth, results, score)[category["id"]]
            f1[score] = 2 * true / max(1, 2 * true + false + missed)
        best = counts.curve(matches, label).best()
        if not any(f1.values()):
            assert best is None
            continue
        reached = counts.curve(matches, label).at(best or 0.0).f1
        assert reached == max(f1.values())
        assert all(value < max(f1.values()) for score, value in f1.items() if score > (best or 0))


def test_counts_of_images_sum_to_those_of_the_data() -> None:
    truth, results = made_up(3)
    matches = matching.match(truth, results)
    for score in THRESHOLDS:
        images = counts.by_image(matches, score)
        total = counts.curve(matches).at(score)
        assert (images.true.sum(), images.false.sum()) == (total.true, total.false)
        assert images.missed.sum() == total.missed
        one = {**truth, "images": truth["images"][4:5]}
        one["annotations"] = [a for a in truth["annotations"] if a["image_id"] == 5]
        found = [r for r in results if r["image_id"] == 5]
        assert images.of(4) == counts.curve(matching.match(one, found)).at(score)


@pytest.mark.parametrize("score", [0.0, 0.3, 0.8])
def test_the_confusion_matrix_is_that_of_hotcoco(score: float) -> None:
    from hotcoco import COCO, COCOeval

    truth, results = made_up(4)
    truth["annotations"] = [a for a in truth["annotations"] if not a["iscrowd"]]
    matrix = counts.confusion(matching.match(truth, results), score)
    objects = COCO(truth)
    evaluator = COCOeval(objects, objects.load_res([dict(r) for r in results]), "segm")
    theirs = evaluator.confusion_matrix(iou_thr=0.5, max_det=10_000, min_score=score)
    assert matrix.tolist() == theirs["matrix"].tolist()


@pytest.mark.parametrize("score", THRESHOLDS)
def test_the_confusion_matrix_sums_to_objects_and_finds(score: float) -> None:
    truth, results = made_up(5)
    matches = matching.match(truth, results)
    matrix = counts.confusion(matches, score)
    there = Counter(a["category_id"] for a in truth["annotations"] if not a["iscrowd"])
    assert matrix[:-1].sum(1).tolist() == [there[c["id"]] for c in truth["categories"]]
    assert matrix[-1, -1] == 0
    ignored = matches.finds.partner_of_any_class == matching.REGION
    finds = Counter(matches.finds.label[~ignored & (matches.finds.score >= score)].tolist())
    assert matrix[:, :-1].sum(0).tolist() == [finds[n] for n in range(len(NAMES))]


def test_finds_on_a_crowd_region_are_neither_true_nor_false() -> None:
    truth = one_image([entry(1, 1, (0, 0, 30, 30), id=1, iscrowd=1)])
    finds = [entry(1, 1, (n, n, 8, 8), score=0.9) for n in (1, 12, 20)]
    finds += [entry(1, 1, (40, 30, 8, 8), score=0.9)]
    matches = matching.match(truth, finds)
    assert of_class(matches, None, 0.5) == (0, 1, 0)
    assert counts.confusion(matches, 0.5).sum() == 1


def test_what_is_not_defined_is_none() -> None:
    none = counts.Counts(0, 0, 0)
    assert (none.precision, none.recall, none.f1) == (None, None, None)
    assert counts.Counts(0, 2, 0).recall is None
    assert counts.Counts(0, 0, 2).precision is None
    assert counts.Counts(0, 0, 2).f1 == 0


@pytest.mark.parametrize("what", ["objects", "finds", "both"])
def test_nothing_to_find_or_nothing_found_counts_too(what: str) -> None:
    truth, results = made_up(6)
    if what != "finds":
        truth["annotations"] = []
    if what != "objects":
        results = []
    matches = matching.match(truth, results)
    found = counts.curve(matches).at(0.0)
    assert (found.true, found.false) == (0, len(results))
    assert found.missed == sum(not a["iscrowd"] for a in truth["annotations"])
    assert counts.curve(matches).best() is None
    assert counts.mean_iou(matches, 0.0) is None
    assert counts.confusion(matches, 0.0).sum() == found.false + found.missed


def test_results_without_masks_are_matched_by_boxes() -> None:
    truth, results = made_up(7)
    bare = [{k: v for k, v in r.items() if k != "segmentation"} for r in results]
    assert matching.match(truth, bare).kind == "bbox"
    assert matching.match(truth, results).kind == "segm"
    assert of_class(matching.match(truth, bare), None, 0.5) == of_class(
        matching.match(truth, results, kind="bbox"), None, 0.5
    )


def test_finds_beyond_the_cap_are_counted_as_left_out() -> None:
    truth, results = made_up(8)
    matches = matching.match(truth, results, max_detections=1)
    cells = {(r["image_id"], r["category_id"]) for r in results}
    assert (len(matches.finds.score), matches.beyond) == (len(cells), len(results) - len(cells))


def test_mean_iou_is_that_of_the_matched_pairs() -> None:
    truth = one_image([entry(1, 1, (0, 0, 10, 10), id=7), entry(1, 1, (20, 20, 10, 10), id=9)])
    finds = [entry(1, 1, (0, 0, 10, 8), score=0.9), entry(1, 1, (20, 20, 10, 10), score=0.4)]
    matches = matching.match(truth, finds)
    assert counts.mean_iou(matches, 0.3) == pytest.approx(0.9)
    assert counts.mean_iou(matches, 0.5) == pytest.approx(0.8)


def test_the_mean_f1_counts_classes_with_objects() -> None:
    of_classes = [counts.Counts(1, 0, 0), counts.Counts(0, 0, 3), counts.Counts(0, 5, 0)]
    assert counts.mean_f1(of_classes) == 0.5
    assert counts.mean_f1(of_classes[2:]) is None


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [(0.4251, 0.43712, 0.43), (0.0, 0.5, 0.5), (0.29, 0.3, 0.3), (-1.0, -0.5, -0.5), (0.0, 1.0, 1)],
)
def test_a_threshold_has_as_few_decimals_as_can_be(
    below: float, above: float, expected: float
) -> None:
    assert counts.shortest_between(below, above) == expected
    rng = np.random.default_rng(0)
    for low, high in np.sort(rng.random((50, 2)), 1).tolist():
        assert low < counts.shortest_between(low, high) <= high


@pytest.mark.parametrize("iou", [0.0, 1.5, -1.0])
def test_an_iou_out_of_range_is_refused(iou: float) -> None:
    with pytest.raises(ValueError, match="expected above 0 and up to 1"):
        matching.match(one_image([]), [], iou=iou)


def one_image(annotations: list[Json]) -> Json:
    truth, _ = made_up(0, images=1)
    return {**truth, "annotations": annotations}
