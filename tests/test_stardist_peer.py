"""What StarDist finds is written as results that the matching metric reads unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.stardist_peer import as_results, augment, label_map

from scnet.evaluation.label_metric import match_instances

IMAGE = {"id": 7, "height": 40, "width": 50}


def labels() -> np.ndarray:
    found = np.zeros((40, 50), np.uint16)
    found[3:12, 4:20], found[12:25, 4:20], found[30:31, 49:] = 1, 2, 4  # of 3 nothing is left
    return found


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_label_maps_become_results_and_come_back() -> None:
    entries = as_results(labels(), [0.9, 0.8, 0.7, 0.6])
    assert [entry["score"] for entry in entries] == [0.9, 0.8, 0.6]
    assert entries[0]["bbox"] == [4, 3, 16, 9]
    results = [{"image_id": 7, "category_id": 1, **entry} for entry in entries]
    objects = [
        {"id": n, "image_id": 7, "category_id": 1, "segmentation": r["segmentation"]}
        for n, r in enumerate(results, 1)
    ]
    truth = {
        "images": [IMAGE],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": objects,
    }
    assert match_instances(truth, results, score=0.0)["mean_AP"]["pooled"] == 1
    back = label_map(IMAGE, objects)
    expected = labels()
    expected[expected == 4] = 3
    np.testing.assert_array_equal(back, expected)


def test_an_image_and_its_labels_are_turned_alike() -> None:
    np.random.seed(0)
    for _ in range(10):
        image, turned = augment(labels().astype(np.float32) * 100, labels())
        assert image.shape == turned.shape
        order = np.argsort([image[turned == n].mean() for n in (0, 1, 2, 4)])
        assert order.tolist() == [0, 1, 2, 3]
