"""The matching metric: equal to StarDist's numbers and to a plain loop over all ways to match."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluation.label_cases import (
    MEAN,
    POOLED,
    THRESHOLDS,
    annotation,
    coco,
    label_maps,
    parts,
    plain_match,
    truth,
)
from tests.evaluation.made_up import SIZE, made_up, rectangle

from scnet.evaluation import label_figures, label_images, label_matching
from scnet.evaluation import label_maps as label_maps_module
from scnet.evaluation.asking import AskedMatching, asking
from scnet.evaluation.label_figures import spread
from scnet.evaluation.label_matching import Tally
from scnet.evaluation.label_metric import THRESHOLDS as STARDISTS
from scnet.evaluation.label_metric import match_instances

Json = dict[str, Any]
Map = np.ndarray[Any, Any]
FIGURES = ("precision", "recall", "F1", "AP", "PQ", "matched_IoU", "object_IoU")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def one_image(annotations: list[Json], classes: int = 1) -> Json:
    image = {"id": 1, "height": SIZE[0], "width": SIZE[1], "file_name": "1.png"}
    return truth([image], annotations, classes)


def thing(x: int, y: int, width: int, height: int, category: int = 1, **more: Any) -> Json:
    return annotation(rectangle(x, y, width, height), 1, category, **more)


def counts(result: Json, place: int = 0) -> tuple[int, int, int]:
    row = result["pooled"][place]
    return row["TP"], row["FP"], row["FN"]


def test_figures_are_those_of_stardist() -> None:
    """Its IoUs have the precision of 32 bits."""
    result = match_instances(*coco(label_maps()), thresholds=THRESHOLDS)
    for place, row in enumerate(result["pooled"]):
        assert counts(result, place) == POOLED[place][:3]
        assert [row[name] for name in FIGURES] == pytest.approx(POOLED[place][3:], abs=2e-6)
    for row, theirs in zip(result["mean"], MEAN, strict=True):
        assert [row[name] for name in FIGURES] == pytest.approx(theirs, abs=2e-6)
    assert [row["IoU"] for row in result["mean"]] == list(THRESHOLDS)
    assert result["mean_AP"]["pooled"] == pytest.approx(np.mean([row[6] for row in POOLED]))
    assert result["mean_AP"]["mean"] == pytest.approx(np.mean([row[3] for row in MEAN]), abs=1e-6)


def test_without_thresholds_they_are_stardists_nine() -> None:
    result = match_instances(*coco(label_maps()))
    assert result["thresholds"] == [row["IoU"] for row in result["pooled"]] == list(STARDISTS)
    assert np.allclose(STARDISTS, np.arange(0.5, 0.95, 0.05))
    assert (result["score"], result["score_from"]) == (0.5, "default")


def test_large_images_are_compared_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = match_instances(*coco(label_maps()), thresholds=THRESHOLDS)
    monkeypatch.setattr(label_maps_module, "_AT_ONCE", 100)
    parted = match_instances(*coco(label_maps()), thresholds=THRESHOLDS)
    assert parted | {"seconds": 0} == whole | {"seconds": 0}


small_maps = st.lists(st.integers(0, 4), min_size=12, max_size=12).map(
    lambda labels: np.kron(np.array(labels).reshape(3, 4), np.ones((2, 3), int))
)


def small_coco(there: Map, found: Map) -> tuple[Json, list[Json]]:
    image = {"id": 1, "height": 6, "width": 12, "file_name": "1.png"}
    objects = [annotation(mask, id=n) for n, mask in enumerate(parts(there), 1)]
    return truth([image], objects), [annotation(mask, score=0.5) for mask in parts(found)]


@settings(max_examples=100, deadline=None)
@given(small_maps, small_maps, st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.6, 1.0]))
def test_the_matching_is_the_best_of_all_ways_to_match(
    there: Map, found: Map, threshold: float
) -> None:
    result = match_instances(*small_coco(there, found), thresholds=[threshold])
    objects, predictions = parts(there), parts(found)
    number, sums = plain_match(objects, predictions, threshold)
    assert counts(result) == (number, len(predictions) - number, len(objects) - number)
    assert any(np.isclose(result["per_image"][0]["sum_IoU"][0], one) for one in sums)


@settings(max_examples=30, deadline=None)
@given(small_maps, small_maps)
def test_objects_and_predictions_may_change_places(there: Map, found: Map) -> None:
    one = match_instances(*small_coco(there, found), thresholds=THRESHOLDS)
    other = match_instances(*small_coco(found, there), thresholds=THRESHOLDS)
    for place in range(len(THRESHOLDS)):
        true, false, missed = counts(one, place)
        assert counts(other, place) == (true, missed, false)
        assert one["pooled"][place]["AP"] == other["pooled"][place]["AP"]


@settings(max_examples=30, deadline=None)
@given(small_maps, small_maps)
def test_ap_falls_with_the_threshold_and_is_1_for_what_is_there(there: Map, found: Map) -> None:
    figures = [row["AP"] for row in match_instances(*small_coco(there, found))["pooled"]]
    assert figures == sorted(figures, reverse=True)
    same = match_instances(*small_coco(there, there), thresholds=[0.01, 1.0])
    expected = 1.0 if there.any() else 0.0
    assert {row[name] for row in same["pooled"] for name in FIGURES} == {expected}


def test_an_iou_of_exactly_the_threshold_is_a_match() -> None:
    objects = one_image([thing(0, 0, 20, 1, id=1)])
    for width, threshold in ((11, 0.55), (14, 0.7), (17, 0.85), (18, 0.9)):
        found = [thing(0, 0, width, 1, score=1.0)]
        assert counts(match_instances(objects, found, thresholds=[threshold])) == (1, 0, 0)
        below = [thing(0, 0, width - 1, 1, score=1.0)]
        assert counts(match_instances(objects, below, thresholds=[threshold])) == (0, 1, 1)


def test_a_pixel_of_several_predictions_belongs_to_the_best_score() -> None:
    objects = one_image([thing(0, 0, 10, 10, id=1)])
    weak, strong = thing(0, 0, 10, 10, score=0.6), thing(5, 0, 10, 10, score=0.8)
    for found in ([weak, strong], [strong, weak]):
        result = match_instances(objects, found, thresholds=[0.5])
        assert counts(result) == (1, 1, 0)
        assert result["pooled"][0]["matched_IoU"] == 0.5
        assert result["shared_pixels"] == {"objects": 0, "predictions": 50}
    tied = [{**strong, "score": 0.6}, weak]
    assert match_instances(objects, tied)["pooled"][0]["matched_IoU"] == 0.5
    assert match_instances(objects, tied[::-1])["pooled"][0]["matched_IoU"] == 1


def test_masks_with_scores_of_their_own_go_by_them() -> None:
    objects = one_image([thing(0, 0, 10, 10, id=1)])
    found = [
        thing(0, 0, 10, 10, score=0.9, mask_score=0.6),
        thing(5, 0, 10, 10, score=0.8, mask_score=0.7),
    ]
    result = match_instances(objects, found, thresholds=[0.5])
    assert (result["pooled"][0]["matched_IoU"], result["score_name"]) == (0.5, "mask_score")
    assert counts(match_instances(objects, found, score=0.65, thresholds=[0.3])) == (1, 0, 0)
    assert match_instances(objects, found, score=0.75)["predictions"] == 0


def test_predictions_without_a_pixel_are_left_out_and_counted() -> None:
    objects = one_image([thing(0, 0, 10, 10, id=1)])
    found = [thing(0, 0, 10, 10, score=0.9), thing(2, 2, 4, 4, score=0.7)]
    result = match_instances(objects, found)
    assert counts(result) == (1, 0, 0)
    assert result["left_out"]["predictions_without_pixel"] == 1
    assert (result["predictions"], result["shared_pixels"]["predictions"]) == (1, 16)


def test_of_overlapping_objects_the_smaller_one_lies_on_top() -> None:
    large, small = thing(0, 0, 10, 10, id=1), thing(2, 2, 4, 4, id=2)
    found = [thing(2, 2, 4, 4, score=0.9)]
    for there in ([large, small], [small, large]):
        result = match_instances(one_image(there), found, thresholds=[1.0])
        assert counts(result) == (1, 0, 1)
        assert result["shared_pixels"]["objects"] == 16
    result = match_instances(one_image([small, {**small, "id": 3}]), found)
    assert (counts(result), result["left_out"]["objects_without_pixel"]) == ((1, 0, 0), 1)


def test_what_is_below_the_score_threshold_is_not_there() -> None:
    objects = one_image([thing(0, 0, 10, 10, id=1)])
    found = [thing(0, 0, 10, 10, score=0.5), thing(20, 0, 10, 10, score=0.4)]
    result = match_instances(objects, found)
    assert (counts(result), result["left_out"]["predictions_below_score"]) == ((1, 0, 0), 1)
    result = match_instances(objects, found, score=0.3)
    assert (counts(result), result["score_from"]) == ((1, 1, 0), "given")


@pytest.mark.parametrize(("seed", "thresholds"), [(0, (0.1, 0.5, 0.7)), (1, STARDISTS)])
def test_the_best_score_is_the_best_of_all(seed: int, thresholds: tuple[float, ...]) -> None:
    objects, found = made_up(seed, classes=1)
    best = match_instances(objects, found, score="best", thresholds=thresholds)
    reached = {}
    for score in {entry["score"] for entry in found}:
        at = match_instances(objects, found, score=score, thresholds=thresholds)
        reached[score] = at["mean_AP"]["pooled"]
    assert (best["score"], best["score_from"]) == (
        max(reached, key=lambda s: (reached[s], s)),
        "best",
    )
    assert best["mean_AP"]["pooled"] == max(reached.values())


def test_counts_grow_with_each_prediction_as_if_counted_anew() -> None:
    """Also where several predictions compete for an object, at low thresholds."""
    data = label_images.read(*coco(label_maps()))
    kept = label_images.cut(data, 0.0, None).rows
    for one in (image.overlaps for image in label_images.mapped(data, kept)):
        grown = label_matching._growth(one, THRESHOLDS)
        first = [
            label_matching.tally(one.first(n), THRESHOLDS, 1) for n in range(len(one.scores) + 1)
        ]
        for kind in ("true", "false"):
            anew = np.diff([getattr(of, kind)[0] for of in first], axis=0)
            assert getattr(grown, kind).tolist() == anew.tolist()


def test_no_best_score_is_said() -> None:
    found = [thing(20, 0, 10, 10, score=0.7)]
    with pytest.warns(UserWarning, match="no prediction is an object at any score"):
        result = match_instances(one_image([thing(0, 0, 9, 9, id=1)]), found, score="best")
    assert (result["score"], result["score_from"]) == (0.5, "default")


@pytest.mark.parametrize("what", ["objects", "predictions", "both", "neither"])
def test_images_without_objects_or_predictions_count_too(what: str) -> None:
    objects, found = coco(label_maps())
    if what not in ("objects", "both"):
        objects["annotations"] = []
    if what not in ("predictions", "both"):
        found = []
    result = match_instances(objects, found)
    there, predicted = len(objects["annotations"]), len(found)
    if what != "both":
        assert counts(result) == (0, predicted, there)
        assert result["mean_AP"] == {"pooled": 0, "mean": 0, "error": 0, "interval": [0, 0]}
    assert (result["objects"], result["predictions"]) == (there, predicted)
    assert result["empty_images"] == {"both": 1, "objects": 1, "predictions": 2, "neither": 6}[what]


def test_each_class_is_matched_by_itself_and_all_without_classes() -> None:
    objects = one_image(
        [thing(0, 0, 10, 10, 1, id=1), thing(20, 0, 10, 10, 2, id=2), thing(40, 0, 9, 9, 2, id=3)],
        3,
    )
    found = [thing(0, 0, 10, 10, 2, score=0.9), thing(20, 0, 10, 10, 2, score=0.8)]
    result = match_instances(objects, found, thresholds=[0.5, 0.7])
    assert counts(result) == (2, 0, 1)
    rows = {name: of["pooled"][0] for name, of in result["per_class"].items()}
    expected = {"class 1": (0, 0, 1), "class 2": (1, 1, 1), "class 3": (0, 0, 0)}
    assert {n: (r["TP"], r["FP"], r["FN"]) for n, r in rows.items()} == expected
    assert result["per_class"]["class 2"]["mean_AP"] == pytest.approx(1 / 3)
    assert (result["per_class"]["class 2"]["objects"], result["predictions"]) == (2, 2)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_class_counts_as_if_it_were_alone(seed: int) -> None:
    """Where masks do not overlap; else pixels go to objects of other classes."""
    objects, found = coco(label_maps(seed=seed))
    random = np.random.RandomState(seed)
    objects = truth(objects["images"], objects["annotations"], 3)
    for entry in (*objects["annotations"], *found):
        entry["category_id"] = int(random.randint(1, 4))
    together = match_instances(objects, found, thresholds=THRESHOLDS)
    for number in (1, 2, 3):
        of_class = [a for a in objects["annotations"] if a["category_id"] == number]
        alone = match_instances(
            {**objects, "annotations": of_class},
            [r for r in found if r["category_id"] == number],
            thresholds=THRESHOLDS,
        )
        rows = together["per_class"][f"class {number}"]["pooled"]
        for row, only in zip(rows, alone["pooled"], strict=True):
            bare = {k: v for k, v in only.items() if k[:3] != "AP_"}
            assert row == pytest.approx(bare)


def test_predictions_on_a_crowd_region_are_neither_true_nor_false() -> None:
    """From the share on that the IoU threshold names, as COCO counts them."""
    region = thing(0, 0, 20, 20, id=1, iscrowd=1)
    objects = one_image([region, thing(30, 0, 10, 10, id=2)], 2)
    within, partly = thing(2, 2, 5, 5, score=0.9), thing(14, 0, 10, 10, score=0.8)
    other = thing(2, 10, 5, 5, 2, score=0.7)
    result = match_instances(objects, [within, partly, other], thresholds=[0.5, 0.7])
    assert [row["on_crowd_regions"] for row in result["pooled"]] == [3, 2]
    assert (counts(result, 0), counts(result, 1)) == ((0, 0, 1), (0, 1, 1))
    second = result["per_class"]["class 2"]
    assert (second["predictions"], second["pooled"][0]["FP"]) == (1, 1)  # the region is of class 1
    assert result["objects"] == 1


def test_a_prediction_on_a_crowd_region_may_be_an_object() -> None:
    objects = one_image([thing(0, 0, 30, 20, id=1, iscrowd=1), thing(0, 0, 10, 10, id=2)])
    found = [thing(0, 0, 10, 10, score=0.9), thing(0, 11, 10, 5, score=0.9)]
    result = match_instances(objects, found)
    assert (counts(result), result["pooled"][0]["on_crowd_regions"]) == ((1, 0, 0), 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_crowd_regions_take_what_a_plain_loop_says(seed: int) -> None:
    """Above an IoU of 0.5, where no two predictions compete for an object."""
    objects, found = made_up(seed, classes=1)
    data = label_images.read(objects, found)
    kept = label_images.cut(data, 0.5, None).rows
    result = match_instances(objects, found, thresholds=[0.6])
    aside = 0
    for image in label_images.mapped(data, kept):
        of = image.overlaps
        matched = set(of.pairs.prediction[of.pairs.iou >= 0.6].tolist())
        aside += sum(
            share >= 0.6 and number not in matched for number, share in enumerate(of.in_region)
        )
    assert aside > 0
    assert result["pooled"][0]["on_crowd_regions"] == aside


def test_spread_is_that_of_resampled_images(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    true, false, missed = random.integers(0, 9, (3, 12, 2))
    images = Tally(true, false, missed, np.zeros_like(true), true * 0.7)
    found = spread(images, resamples=200, seed=5)
    monkeypatch.setattr(label_figures, "_AT_ONCE", 60)  # five resamples at once
    parts = spread(images, resamples=200, seed=5)
    assert found is not None
    assert parts is not None
    draws = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), 200)
    plain = []
    for draw in draws:
        chosen = np.repeat(np.arange(12), draw)
        whole = (true + false + missed)[chosen].sum(0)
        figures = true[chosen].sum(0) / whole
        plain.append([*figures, figures.mean()])
    low, high = np.percentile(plain, (2.5, 97.5), axis=0)
    for one in (found, parts):
        np.testing.assert_allclose(one.error, np.std(plain, axis=0, ddof=1))
        np.testing.assert_allclose((one.low, one.high), (low, high))


def test_spread_is_the_same_every_time_and_falls_with_more_images() -> None:
    objects, found = coco(label_maps())
    first, second = (match_instances(objects, found)["pooled"] for _ in range(2))
    assert first == second
    more = match_instances(*coco(label_maps(images=24)))
    assert 0 < more["pooled"][0]["AP_error"] < first[0]["AP_error"]
    for row in first:
        low, high = row["AP_interval"]
        assert 0 <= low <= row["AP"] <= high <= 1


def test_one_image_has_no_spread() -> None:
    result = match_instances(one_image([thing(0, 0, 9, 9, id=1)]), [thing(0, 0, 9, 9, score=1.0)])
    assert (result["mean_AP"]["error"], result["pooled"][0]["AP_interval"]) == (None, None)
    assert result["mean_AP"]["pooled"] == 1


def test_images_at_the_limit_of_predictions_are_counted() -> None:
    objects = one_image([thing(x, 0, 8, 8, id=x) for x in (1, 11, 21)])
    found = [thing(x, 0, 8, 8, score=s) for x, s in ((1, 0.9), (11, 0.3), (21, 0.8))]
    result = match_instances(objects, found, max_detections=2)
    assert result["limit"] == {"max_detections": 2, "images_at_limit": 1, "images_cut": 1}
    assert result["left_out"]["predictions_beyond_limit"] == 1
    result = match_instances(objects, found, max_detections=3)
    assert result["limit"] == {"max_detections": 3, "images_at_limit": 1, "images_cut": 0}
    assert match_instances(objects, found, max_detections=4)["limit"]["images_at_limit"] == 0
    with pytest.warns(UserWarning, match=r"1 of 1 image has the most .*\(2\), all of score 0\.5"):
        AskedMatching().answer(objects, found, 2, quiet=True)


def test_a_dense_image_is_counted_whole() -> None:
    """COCO's hundred detections an image are no limit here."""
    boxes = [(x, y, 3, 3) for x in range(0, 60, 4) for y in range(0, 48, 4)]
    objects = one_image([thing(*box, id=n) for n, box in enumerate(boxes, 1)])
    result = match_instances(objects, [thing(*box, score=0.9) for box in boxes])
    assert counts(result) == (len(boxes), 0, 0)
    assert len(boxes) > 100


def test_each_image_has_its_counts_under_its_id() -> None:
    objects, found = coco(label_maps())
    names = {1: 40, 2: 7, 3: 9, 4: 3, 5: 100, 6: 5}
    for entry in objects["images"]:
        entry["id"] = names[entry["id"]]
    for entry in (*objects["annotations"], *found):
        entry["image_id"] = names[entry["image_id"]]
    result = match_instances(objects, found, thresholds=THRESHOLDS)
    assert [of["image_id"] for of in result["per_image"]] == sorted(names.values())
    for place in range(len(THRESHOLDS)):
        sums = tuple(sum(of[k][place] for of in result["per_image"]) for k in ("TP", "FP", "FN"))
        assert sums == counts(result, place) == POOLED[place][:3]
    assert next(of for of in result["per_image"] if of["image_id"] == 40)["objects"] == 0


def test_what_has_no_masks_is_refused() -> None:
    objects, found = coco(label_maps())
    bare = [{k: v for k, v in entry.items() if k != "segmentation"} for entry in found]
    with pytest.raises(ValueError, match="the results have no masks, which the matching metric"):
        match_instances(objects, bare)
    with pytest.raises(ValueError, match=r"detection 1 \(image .*segmentation is not packed"):
        match_instances(objects, [found[0], bare[1]])
    boxes = [{k: v for k, v in a.items() if k != "segmentation"} for a in objects["annotations"]]
    with pytest.raises(ValueError, match="the annotations have no masks"):
        match_instances({**objects, "annotations": boxes}, found)


def test_an_empty_mask_is_no_object() -> None:
    nothing = {**thing(0, 0, 4, 4, score=0.9), "segmentation": {"size": [48, 64], "counts": "PP3"}}
    result = match_instances(one_image([thing(0, 0, 4, 4, id=1)]), [nothing])
    assert (counts(result), result["left_out"]["predictions_without_pixel"]) == ((0, 0, 1), 1)


def test_arguments_are_left_as_they_were() -> None:
    objects, found = made_up(0)
    before = repr((objects, found))
    match_instances(objects, found, score="best", max_detections=3)
    assert repr((objects, found)) == before


def test_options_of_one_metric_are_refused_by_the_other() -> None:
    assert asking(None, None, None, None, metric="matching") == AskedMatching()
    given = asking("best", None, None, None, metric="matching", thresholds=[0.7])
    assert given == AskedMatching(score="best", thresholds=(0.7,))
    for options in ((None, 0.5, None, None), (None, None, "page", None), (None, None, None, 3)):
        with pytest.raises(ValueError, match="is of the coco metric and has no effect"):
            asking(*options, metric="matching")
    with pytest.raises(ValueError, match="thresholds have no effect on the coco metric"):
        asking(None, None, None, None, thresholds=[0.5])
    with pytest.raises(ValueError, match="there is no metric 'stardist'; expected 'coco'"):
        asking(None, None, None, None, metric="stardist")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"thresholds": ()}, "thresholds are none"),
        ({"thresholds": (0.5, 0.0)}, r"thresholds have 0\.0; expected above 0"),
        ({"thresholds": (0.5, 0.5)}, r"thresholds have 0\.5 twice"),
        ({"score": 1.5}, "score is 1.5; expected 0 to 1, or 'best'"),
    ],
)
def test_what_is_out_of_range_is_refused(wrong: Json, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AskedMatching(**wrong)


def test_a_score_below_what_the_model_keeps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"score 0.01 is below 0.05.*counts would lack some"):
        AskedMatching(score=0.01).check(lowest=0.05)
    with pytest.raises(ValueError, match=r"score 0.5 is below 0.6"):
        AskedMatching().check(lowest=0.6)
