"""NMS against a plain loop, for few boxes and many, which torchvision handles differently."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scnet.ops import nms_groups
from scnet.ops.boxes import iou
from scnet.ops.nms import class_nms, top_proposals
from scnet.ops.nms_groups import group_nms

FEW, MANY = 60, 1500


def candidates(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores of which many are equal, and three groups."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * 100
    boxes = torch.cat([corner, corner + 10 + torch.rand(count, 2, generator=random) * 30], 1)
    scores = torch.randint(0, 20, (count,), generator=random) / 20
    return boxes, scores, torch.randint(0, 3, (count,), generator=random)


def plain_nms(boxes: Tensor, scores: Tensor, group: Tensor, threshold: float) -> list[int]:
    """Take the best box that is left, the first of equal ones, and drop what it suppresses."""
    left = sorted(range(len(boxes)), key=lambda i: (-scores[i].item(), i))
    suppresses = ((iou(boxes, boxes) > threshold) & (group == group[:, None])).tolist()
    kept = []
    while left:
        kept.append(left.pop(0))
        left = [i for i in left if not suppresses[kept[-1]][i]]
    return kept


@pytest.mark.parametrize("count", [0, 1, FEW, MANY])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_nms_equals_a_plain_loop_also_in_the_order_of_equal_scores(
    count: int, threshold: float
) -> None:
    boxes, scores, group = candidates(count)
    kept = group_nms(boxes, scores, group, threshold)
    assert kept.tolist() == plain_nms(boxes, scores, group, threshold)


@pytest.mark.parametrize("count", [FEW, MANY])
def test_the_first_of_equal_boxes_with_equal_scores_survives(count: int) -> None:
    boxes = torch.tensor([[10.0, 10, 30, 40]]).repeat(count, 1)
    group = torch.arange(count) % 3
    kept = group_nms(boxes, torch.full((count,), 0.5), group, 0.5)
    assert kept.tolist() == [0, 1, 2]


def test_classes_do_not_suppress_each_other_and_only_the_best_are_kept() -> None:
    boxes = torch.tensor([[[0.0, 0, 20, 20]], [[1.0, 1, 21, 21]], [[50.0, 50, 70, 70]]])
    scores = torch.tensor([[0.9, 0.4], [0.8, 0.7], [0.3, 0.05]])
    image = torch.zeros(3, dtype=torch.long)
    found, score, label, valid = class_nms(boxes, scores, image, 1, threshold=0.1, iou=0.5, keep=2)
    assert torch.equal(score, torch.tensor([[0.9, 0.7]]))
    assert label.tolist() == [[0, 1]]
    assert torch.equal(found[0], boxes[:2, 0])
    assert valid.all()
    _, score, _, valid = class_nms(boxes, scores, image, 1, threshold=0.1, iou=0.5, keep=10)
    assert torch.equal(score[valid], torch.tensor([0.9, 0.7, 0.3]))
    assert valid.tolist() == [[True] * 3 + [False] * 7]


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_a_score_counts_from_the_threshold_on(threshold: float) -> None:
    scores = torch.tensor([[0.7], [0.5], [0.2]])
    boxes, image = torch.rand(3, 1, 4).sort(dim=2).values, torch.zeros(3, dtype=torch.long)
    *_, valid = class_nms(boxes, scores, image, 1, threshold=threshold, iou=1.0, keep=3)
    assert valid.sum() == (scores >= threshold).sum()


@pytest.mark.parametrize("at_once", [False, True])
def test_images_of_a_batch_are_suppressed_each_for_itself(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if at_once:  # as on a GPU
        monkeypatch.setattr(nms_groups, "_group_by_group", nms_groups._all_groups)
    boxes, scores, _ = candidates(400)
    scores = scores[:, None] * torch.tensor([1.0, 0.8])
    image = torch.arange(400) % 4
    together = class_nms(boxes[:, None], scores, image, 4, threshold=0.1, iou=0.5, keep=30)
    for i in range(4):
        here, none = image == i, torch.zeros(100, dtype=torch.long)
        alone = class_nms(boxes[here, None], scores[here], none, 1, threshold=0.1, iou=0.5, keep=30)
        for a, b in zip(together, alone, strict=True):
            assert torch.equal(a[i], b[0])


def test_groups_all_at_once_equal_group_by_group_far_out_too() -> None:
    boxes, scores, group = candidates(MANY)
    rows = nms_groups._group_by_group(boxes, scores, group * 500, 0.5)
    again = nms_groups._all_groups(boxes, scores, group * 500, 0.5)
    assert set(rows.tolist()) == set(again.tolist())


def test_no_candidate_gives_no_box() -> None:
    none, options = torch.zeros(5, dtype=torch.long), {"threshold": 0.1, "iou": 0.5, "keep": 10}
    *_, valid = class_nms(torch.rand(5, 3, 4), torch.zeros(5, 3), none, 1, **options)
    assert valid.tolist() == [[False] * 10]


def test_proposals_drop_empty_boxes_and_are_padded() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [5, 5, 5, 9], [30, 30, 40, 40]], [[0.0, 0, 0, 0]] * 3])
    scores = torch.tensor([[0.2, 0.9, 0.6], [0.5, 0.5, 0.5]])
    best, valid, scored = top_proposals(boxes, scores, torch.zeros(3, dtype=torch.long), 0.7, 4)
    assert valid.tolist() == [[True, True, False], [False] * 3]  # no more places than boxes
    assert best[0, :2].tolist() == [[30, 30, 40, 40], [0, 0, 10, 10]]
    assert torch.equal(scored[0], torch.tensor([0.6, 0.2, 0]))
