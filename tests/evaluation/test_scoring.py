"""COCO AP: equal to pycocotools, indifferent to what files leave out, strict about results."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as reference_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tests.evaluation.made_up import made_up

from scnet.evaluation.scoring import class_table, score, table

# pycocotools' own, under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
Json = dict[str, Any]


def load(path: Path) -> Json:
    values: Json = json.loads(path.read_text())
    return values


@pytest.fixture(scope="module")
def coco(data_dir: Path) -> Json:
    return load(data_dir / "coco600_400px/annotations/instances_val_orig.json")


@pytest.fixture(scope="module")
def noisy(coco: Json) -> list[Json]:
    return noisy_results(coco, seed=0)


def rle_of(annotation: Json, size: tuple[int, int]) -> Json:
    given = annotation["segmentation"]
    if isinstance(given, list):
        return reference_mask.merge(reference_mask.frPyObjects(given, *size))  # type: ignore[no-any-return]
    if isinstance(given["counts"], list):
        return reference_mask.frPyObjects(given, *size)  # type: ignore[no-any-return]
    return given  # type: ignore[no-any-return]


def row(image: int, category: int, mask: np.ndarray[Any, Any], value: float) -> Json:
    rle = reference_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    box = reference_mask.toBbox(rle).tolist()
    segmentation = {"size": list(mask.shape), "counts": rle["counts"].decode()}
    return {
        "image_id": image,
        "category_id": category,
        "score": value,
        "bbox": box,
        "segmentation": segmentation,
    }


def as_results(truth: Json) -> list[Json]:
    """Return the ground truth as perfect detections; crowd regions are nothing to detect."""
    sizes = {i["id"]: (i["height"], i["width"]) for i in truth["images"]}
    rows = []
    for a in truth["annotations"]:
        if not a.get("iscrowd"):
            size = sizes[a["image_id"]]
            rle = rle_of(a, size)
            counts = rle["counts"]
            counts = counts.decode() if isinstance(counts, bytes) else counts
            segmentation = {"size": list(size), "counts": counts}
            keep = {k: a[k] for k in ("image_id", "category_id", "bbox")}
            rows.append(keep | {"score": 1.0, "segmentation": segmentation})
    return rows


def noisy_results(truth: Json, seed: int) -> list[Json]:
    """Return shifted, shrunken, mislabelled and repeated detections, some inside crowd regions."""
    rng = np.random.default_rng(seed)
    sizes = {i["id"]: (i["height"], i["width"]) for i in truth["images"]}
    categories = [c["id"] for c in truth["categories"]]
    rows = []
    for a in truth["annotations"]:
        mask = reference_mask.decode(rle_of(a, sizes[a["image_id"]]))
        for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
            reach = 1 + int(0.1 * np.sqrt(a["area"]))
            moved = np.roll(mask, rng.integers(-reach, reach + 1, 2), (0, 1))
            moved = moved & np.roll(moved, rng.integers(0, reach + 1), rng.integers(2))
            label = a["category_id"] if rng.random() < 0.8 else rng.choice(categories)
            found = row(a["image_id"], int(label), moved, round(rng.random(), 2))
            found["bbox"] = (np.array(found["bbox"]) + rng.normal(0, reach / 2, 4)).tolist()
            rows.append(found)
    return rows


def reference(
    truth: Json, results: list[Json], kind: str, cap: int
) -> tuple[list[float], list[float]]:
    """Return pycocotools' twelve figures, with AP at `cap`, and the AP of each class."""
    with contextlib.redirect_stdout(io.StringIO()):
        images = COCO()
        images.dataset = copy.deepcopy(truth)
        for number, a in enumerate(images.dataset["annotations"], 1):
            a["id"] = number  # pycocotools takes an annotation with id 0 for unmatched
        images.createIndex()
        drop = "bbox" if kind == "segm" else "segmentation"
        found = images.loadRes(
            [{k: v for k, v in copy.deepcopy(r).items() if k != drop} for r in results]
        )
        run = COCOeval(images, found, kind)
        run.params.maxDets = [1, 10, cap]
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval["precision"], run.eval["recall"]

    def mean(values: np.ndarray[Any, Any]) -> float:
        values = values[values > -1]
        return float(values.mean()) if values.size else -1.0

    ap = [
        mean(precision[:, :, :, 0, 2]),
        mean(precision[0, :, :, 0, 2]),
        mean(precision[5, :, :, 0, 2]),
    ]
    ap += [mean(precision[:, :, :, area, 2]) for area in (1, 2, 3)]
    ar = [mean(recall[:, :, 0, i]) for i in range(3)] + [
        mean(recall[:, :, a, 2]) for a in (1, 2, 3)
    ]
    if cap == 100:
        with contextlib.redirect_stdout(io.StringIO()):
            run.summarize()
        assert np.allclose(run.stats, ap + ar)
    return ap + ar, [mean(precision[:, :, k, 0, 2]) for k in range(precision.shape[2])]


@pytest.mark.parametrize("cap", [100, 300, 20])
def test_equals_pycocotools_on_noisy_detections(coco: Json, noisy: list[Json], cap: int) -> None:
    result = score(coco, noisy, max_detections=cap)
    names = [f"AR{cap}" if n == "AR100" else n for n in NAMES]
    for kind in ("bbox", "segm"):
        figures, classes = reference(coco, noisy, kind, cap)
        assert list(result[kind]) == names
        assert np.allclose(list(result[kind].values()), figures, atol=1e-6)
        by_id = sorted(
            zip(coco["categories"], result["per_class"].values(), strict=True),
            key=lambda p: p[0]["id"],
        )
        assert np.allclose([entry[kind] for _, entry in by_id], classes, atol=1e-6)
    assert 0.05 < result["segm"]["AP"] < 0.95


def test_more_than_a_hundred_objects_need_a_higher_cap() -> None:
    truth = grid_truth(15)
    results = as_results(truth)
    assert score(truth, results)["segm"]["AP"] < 0.6
    capped = score(truth, results, max_detections=300)
    assert capped["segm"]["AP"] == capped["bbox"]["AR300"] == 1.0
    assert np.allclose(
        list(capped["segm"].values()), reference(truth, results, "segm", 300)[0], atol=1e-6
    )


@pytest.mark.parametrize("cap", [1, 5])
def test_a_cap_below_ten_reaches_ap(cap: int) -> None:
    truth = grid_truth(4)
    result = score(truth, as_results(truth), max_detections=cap)
    assert result["bbox"]["AP"] == pytest.approx(np.floor(100 * cap / 16 + 1) / 101, abs=1e-6)
    assert result["bbox"][f"AR{cap}"] == pytest.approx(cap / 16)


@pytest.mark.parametrize(
    "name",
    [
        "coco600_400px/annotations/instances_train_orig.json",
        "coco600_400px/annotations/instances_val_orig.json",
        "dsb2018_le360/annotations/instances_val.json",
    ],
)
def test_ground_truth_as_detections_is_perfect(data_dir: Path, name: str) -> None:
    truth = load(data_dir / name)
    result = score(truth, as_results(truth))
    assert result["bbox"]["AP"] == result["segm"]["AP"] == 1.0
    assert result["images"] == len(truth["images"])


def grid_truth(side: int) -> Json:
    """Return one image with side x side squares of one class."""
    pixels = 12 * side
    rows = []
    for i in range(side * side):
        mask = np.zeros((pixels, pixels), np.uint8)
        y, x = 12 * (i // side), 12 * (i % side)
        mask[y : y + 8, x : x + 9] = 1
        rle = reference_mask.encode(np.asfortranarray(mask))
        segmentation = {"size": [pixels, pixels], "counts": rle["counts"].decode()}
        rows.append(
            {
                "id": i,
                "image_id": 3,
                "category_id": 7,
                "bbox": [x, y, 9, 8],
                "area": 72,
                "iscrowd": 0,
            }
            | {"segmentation": segmentation}
        )
    return {
        "images": [{"id": 3, "height": pixels, "width": pixels, "file_name": "a.png"}],
        "categories": [{"id": 7, "name": "square"}],
        "annotations": rows,
    }


def test_what_an_annotation_file_may_leave_out_changes_nothing(
    coco: Json, noisy: list[Json]
) -> None:
    expected = score(coco, noisy)
    lean = copy.deepcopy(coco)
    del lean["info"]
    for number, a in enumerate(lean["annotations"]):
        a["id"] = number
        if not a["iscrowd"]:
            del a["iscrowd"]
    got = score(lean, noisy)
    assert [got[k] for k in ("bbox", "segm", "per_class")] == [
        expected[k] for k in ("bbox", "segm", "per_class")
    ]


@pytest.mark.parametrize("flag", ["0", "no", 2, [1]])
def test_a_flag_that_says_neither_yes_nor_no_is_refused(flag: Any) -> None:
    truth = grid_truth(3)
    truth["annotations"][1]["iscrowd"] = flag
    with pytest.raises(ValueError, match=r"annotation \d+ \(image \d+\): iscrowd is .*expected 0"):
        score(truth, as_results(truth))


def test_missing_box_and_area_come_from_the_mask() -> None:
    truth = grid_truth(3)
    lean = copy.deepcopy(truth)
    for a in lean["annotations"]:
        del a["area"], a["bbox"]
    expected, got = score(truth, as_results(truth)), score(lean, as_results(truth))
    assert [got[k] for k in ("bbox", "segm")] == [expected[k] for k in ("bbox", "segm")]


def test_annotation_number_zero_is_matched_like_any_other() -> None:
    truth = grid_truth(1)
    assert truth["annotations"][0]["id"] == 0
    assert score(truth, as_results(truth))["bbox"]["AP"] == pytest.approx(1.0)


def test_arguments_are_left_as_they_were(coco: Json, noisy: list[Json]) -> None:
    before = copy.deepcopy((coco, noisy))
    score(coco, noisy)
    assert (coco, noisy) == before


def test_nothing_found_is_zero_and_nothing_to_find_is_undefined() -> None:
    truth = grid_truth(2)
    result = score(truth, [])
    assert result["bbox"]["AP"] == result["segm"]["AP"] == result["segm"]["AR100"] == 0.0
    assert result["bbox"]["APl"] == -1
    truth["annotations"] = []
    empty = score(truth, [])
    assert empty["segm"]["AP"] == -1
    assert empty["per_class"] == {"square": {"objects": 0, "bbox": -1, "segm": -1}}


def test_boxes_alone_need_no_masks() -> None:
    truth = grid_truth(2)
    results = as_results(truth)
    for a in truth["annotations"] + results:
        del a["segmentation"]
    result = score(truth, results, kinds=("bbox",))
    assert result["bbox"]["AP"] == 1.0
    assert "segm" not in result


def test_order_of_categories_and_names_given_twice_are_no_trouble() -> None:
    truth = grid_truth(2)
    truth["categories"] = [{"id": 9, "name": "square"}, {"id": 7, "name": "square"}]
    classes = score(truth, as_results(truth))["per_class"]
    assert classes["square (7)"] == {"objects": 4, "bbox": 1.0, "segm": 1.0}
    assert classes["square (9)"]["segm"] == -1


def test_ids_may_be_larger_than_a_float_tells_apart(coco: Json, noisy: list[Json]) -> None:
    def far(rows: list[Json], key: str) -> list[Json]:
        return [r | {key: r[key] + 2**60} for r in rows]

    truth = coco | {
        "images": far(coco["images"], "id"),
        "categories": far(coco["categories"], "id"),
        "annotations": far(far(coco["annotations"], "image_id"), "category_id"),
    }
    expected, got = score(coco, noisy), score(truth, far(far(noisy, "image_id"), "category_id"))
    assert [got[k] for k in ("bbox", "segm")] == [expected[k] for k in ("bbox", "segm")]


def test_objects_of_a_category_that_is_not_listed_are_no_objects(coco: Json) -> None:
    annotation = coco["annotations"][0] | {"category_id": 12345}
    truth = coco | {"annotations": [*coco["annotations"], annotation]}
    results = as_results(coco)
    expected, got = score(coco, results), score(truth, results)
    assert [got[k] for k in ("bbox", "segm")] == [expected[k] for k in ("bbox", "segm")]


def test_run_lengths_may_be_bytes() -> None:
    truth = grid_truth(2)
    results = as_results(truth)
    for r in results:
        r["segmentation"]["counts"] = r["segmentation"]["counts"].encode()
    assert score(truth, results)["segm"]["AP"] == 1.0


GOOD = row(3, 7, np.eye(24), 0.5)["segmentation"]["counts"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": {"size": [24, 25], "counts": GOOD}}, "the image has"),
        ({"segmentation": {"size": 24, "counts": GOOD}}, "segmentation"),
        ({"segmentation": {"size": [24, 24], "counts": GOOD[:-2]}}, "cover"),
        ({"segmentation": {"size": [24, 24], "counts": ""}}, "empty"),
        ({"segmentation": {"size": [24, 24], "counts": GOOD + "o"}}, "cut off"),
        ({"segmentation": {"size": [24, 24], "counts": "@@zz!! no"}}, "does not belong"),
        ({"segmentation": {"size": [24, 24], "counts": "é"}}, "does not belong"),
        ({"segmentation": {"size": [24, 24], "counts": GOOD + "5O"}}, "negative|cover"),
        ({"segmentation": {"size": [24, 24], "counts": [576]}}, "packed"),
        ({"segmentation": [[0, 0, 5, 0, 5, 5]]}, "packed"),
        ({"segmentation": None}, "packed"),
        ({"image_id": 4}, "no such image"),
        ({"category_id": 8}, "category 8"),
        ({"score": float("nan")}, "finite"),
        ({"score": None}, "finite"),
        ({"bbox": [0, 0, 5]}, "four finite"),
        ({"bbox": [0, 0, float("inf"), 2]}, "four finite"),
    ],
)
def test_a_malformed_result_is_named(change: Json, message: str) -> None:
    truth = grid_truth(2)
    results = as_results(truth)
    results[2] |= change
    with pytest.raises(ValueError, match=rf"detection 2 \(image [34]\): .*({message})"):
        score(truth, results)


def test_masks_go_by_their_own_score_and_boxes_by_theirs(tmp_path: Path) -> None:
    truth, results = made_up(0)
    random = np.random.default_rng(0)
    scored = [{**r, "mask_score": r["score"] * random.random()} for r in results]
    as_masks = [{**r, "score": r["mask_score"]} for r in scored]
    found = score(truth, scored)
    assert found["bbox"] == score(truth, results)["bbox"]
    assert found["segm"] == score(truth, as_masks)["segm"]
    assert found["segm"] != score(truth, results)["segm"]
    # Where only some have one, the others keep their score.
    half = [s if i % 2 else r for i, (r, s) in enumerate(zip(results, scored, strict=True))]
    mixed = [m if i % 2 else r for i, (r, m) in enumerate(zip(results, as_masks, strict=True))]
    assert score(truth, half)["segm"] == score(truth, mixed)["segm"]
    # To pycocotools a file of them is one of the scores of boxes.
    (tmp_path / "truth.json").write_text(json.dumps({**truth, "info": {}}))
    (tmp_path / "found.json").write_text(json.dumps(scored))
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "found.json"))
    assert [loaded.anns[i + 1]["score"] for i in range(len(scored))] == [
        r["score"] for r in results
    ]


@pytest.mark.parametrize("value", ["high", None, float("nan"), [1]])
def test_a_mask_score_that_is_no_number_is_named(value: Any) -> None:
    truth, results = made_up(0)
    results[3] = {**results[3], "mask_score": value}
    with pytest.raises(ValueError, match=r"detection 3 .*: mask_score .* is not a finite number"):
        score(truth, results)
    assert score(truth, results, kinds=["bbox"])["bbox"]["AP"] >= 0  # no mask, no score of it


def test_masks_of_every_shape_pass_the_check_of_run_lengths() -> None:
    rng = np.random.default_rng(0)
    truth = grid_truth(2)
    masks = [rng.random((24, 24)) < p for p in (0, 0.02, 0.1, 0.5, 0.9, 1) for _ in range(20)]
    score(truth, [row(3, 7, m, 0.5) for m in masks])


def test_tables_show_percent_and_leave_out_classes_without_objects() -> None:
    truth = grid_truth(2)
    truth["categories"].append({"id": 8, "name": "absent"})
    result = score(truth, as_results(truth))
    assert table(result).row_count == 12
    assert next(iter(table(result).columns[1].cells)) == "100.0"
    assert class_table(result).row_count == 1
