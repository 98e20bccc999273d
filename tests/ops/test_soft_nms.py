"""Soft-NMS and NMS across classes against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from tests.model_cases import make_batch, make_detector
from torch import Tensor

from scnet.config import SoftNMSConfig
from scnet.ops.boxes import iou
from scnet.ops.nms import class_nms
from scnet.ops.soft_nms import soft_class_nms

Found = list[tuple[float, int, list[float]]]  # score, label and box


def candidates(rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of two images that overlap, with scores of three classes."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(rows, 1, 2, generator=random) * 40
    size = 15 + torch.rand(rows, 1, 2, generator=random) * 20
    scores = torch.rand(rows, 3, generator=random)
    return torch.cat([corner, corner + size], 2), scores, torch.arange(rows) % 2


def plain(
    boxes: Tensor, scores: Tensor, *, across: bool, keep: int, threshold: float, how: SoftNMSConfig
) -> Found:
    """Take the best that is left, lower what overlaps it, and drop what falls too low."""
    left = [
        [float(scores[r, c]), c, boxes[r, 0]]
        for r in range(len(boxes))
        for c in range(scores.shape[1])
        if scores[r, c] >= threshold
    ]
    found: Found = []
    while left and len(found) < keep:
        best = max(range(len(left)), key=lambda i: left[i][0])
        score, label, box = left.pop(best)
        found.append((score, label, box.tolist()))
        for other in left:
            if across or other[1] == label:
                overlap = float(iou(box[None], other[2][None]))
                if how.method == "gaussian":
                    other[0] *= math.exp(-(overlap**2) / how.sigma)
                elif overlap >= 0.3:
                    other[0] *= 1 - overlap
        left = [other for other in left if other[0] >= how.min_score]
    return found


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(("rows", "keep"), [(0, 5), (1, 5), (40, 12), (40, 200)])
def test_soft_nms_equals_a_plain_loop(method: str, across: bool, rows: int, keep: int) -> None:
    boxes, scores, image = candidates(rows)
    how = SoftNMSConfig(method=method, min_score=0.1)  # type: ignore[arg-type]
    out = soft_class_nms(
        boxes,
        scores,
        image,
        2,
        threshold=0.2,
        iou=0.3,
        keep=keep,
        across=across,
        decay=how,
        lowest=0.0,
    )
    for i in range(2):
        here = image == i
        expected = plain(
            boxes[here], scores[here], across=across, keep=keep, threshold=0.2, how=how
        )
        found, score, label, valid = (x[i] for x in out)
        assert int(valid.sum()) == len(expected)
        assert label[valid].tolist() == [entry[1] for entry in expected]
        assert score[valid].tolist() == pytest.approx([entry[0] for entry in expected], rel=1e-5)
        assert found[valid].tolist() == [entry[2] for entry in expected]


def test_what_has_fallen_below_the_lowest_score_is_not_returned() -> None:
    boxes = torch.tensor([[[0.0, 0, 20, 20]], [[0.0, 0, 20, 18]]])
    options = {"threshold": 0.5, "iou": 0.3, "keep": 5, "across": False}
    decay = SoftNMSConfig()
    for lowest, number in ((0.0, 2), (0.5, 1)):
        *_, valid = soft_class_nms(
            boxes,
            torch.tensor([[0.9], [0.8]]),
            torch.zeros(2, dtype=torch.long),
            1,
            **options,  # type: ignore[arg-type]
            decay=decay,
            lowest=lowest,
        )
        assert int(valid.sum()) == number


def test_across_classes_a_box_suppresses_any_that_scores_less() -> None:
    boxes, scores, image = candidates(60, seed=1)
    found, score, label, valid = class_nms(
        boxes, scores, image, 2, threshold=0.2, iou=0.5, keep=500, across=True
    )
    for i in range(2):
        here = (image == i).nonzero()[:, 0].tolist()
        left = sorted(
            ((float(scores[r, c]), c, r) for r in here for c in range(3) if scores[r, c] >= 0.2),
            reverse=True,
        )
        kept: list[tuple[float, int, int]] = []
        for entry in left:
            box = boxes[entry[2]]
            if all(float(iou(box, boxes[other[2]])) <= 0.5 for other in kept):
                kept.append(entry)
        assert score[i][valid[i]].tolist() == [entry[0] for entry in kept]
        assert label[i][valid[i]].tolist() == [entry[1] for entry in kept]
        assert torch.equal(found[i][valid[i]], boxes[[entry[2] for entry in kept], 0])


@pytest.mark.parametrize("soft", [None, SoftNMSConfig(), SoftNMSConfig(method="gaussian")])
@pytest.mark.parametrize("across", [False, True])
def test_a_detector_finds_with_each_kind(soft: SoftNMSConfig | None, across: bool) -> None:
    changes = {"model__box__soft_nms": soft, "model__box__nms_across_classes": across}
    detector = make_detector("scnet", model__box__score_threshold=0.0, **changes)
    found = detector.detect(make_batch((2, 1)), max_detections=20)
    assert set(found.image.tolist()) == {0, 1}
    for i in range(2):
        scores = found.scores[found.image == i]
        assert len(scores) <= 20
        assert torch.equal(scores, scores.sort(descending=True).values)
    if across and soft is None:
        for i in range(2):
            boxes = found.boxes[found.image == i]
            assert (iou(boxes, boxes) - torch.eye(len(boxes))).max() <= 0.5
