"""NMS of fixed shapes against the one that counts, with its classes, groups and ties."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scnet.ops import nms, suppress

IMAGES, BOXES, CLASSES = 3, 120, 4


def random_boxes(*shape: int) -> Tensor:
    random = torch.Generator().manual_seed(sum(shape))
    corner = torch.rand(*shape, 2, generator=random) * 100
    return torch.cat([corner, corner + torch.rand(*shape, 2, generator=random) * 60], -1)


def random_scores(*shape: int) -> Tensor:
    """Scores of which many are equal."""
    random = torch.Generator().manual_seed(len(shape))
    return torch.randint(0, 40, shape, generator=random) / 40


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("keep", [5, 600])
def test_classes_are_suppressed_as_without_places(per_class: bool, across: bool, keep: int) -> None:
    boxes = random_boxes(IMAGES, BOXES, CLASSES if per_class else 1)
    scores = random_scores(IMAGES, BOXES, CLASSES)
    options = {"threshold": 0.4, "iou": 0.5, "across": across}
    image = torch.arange(IMAGES).repeat_interleave(BOXES)
    counted = nms.class_nms(
        boxes.flatten(0, 1), scores.flatten(0, 1), image, IMAGES, keep=keep, **options
    )
    placed = suppress.class_nms(boxes, scores, keep=keep, **options)
    number = placed[1].shape[1]
    assert number == min(keep, BOXES * CLASSES)
    assert not counted[3][:, number:].any()
    for i in range(IMAGES):
        assert rows(counted, i, number) == rows(placed, i, number)
    assert torch.equal(placed[1], counted[1][:, :number])  # best first
    assert not placed[0][~placed[3]].any()


def rows(found: tuple[Tensor, ...], image: int, number: int) -> set[tuple[float, ...]]:
    """What was found in an image; what scores alike may come in any order."""
    boxes, scores, labels, valid = (x[image, :number] for x in found)
    # Which of those that score as the last one are kept hangs on that order.
    last = scores[valid].min() if valid.all() else -1.0
    kept = valid & (scores > last)
    values = torch.cat([boxes, scores[:, None], labels[:, None].float()], 1)[kept]
    return {tuple(row) for row in values.tolist()}


def test_proposals_are_those_of_the_groups() -> None:
    boxes, scores = random_boxes(IMAGES, BOXES), torch.rand(IMAGES, BOXES) * 6 - 3
    boxes[:, ::10, 2:] = boxes[:, ::10, :2]  # without area
    group = torch.arange(BOXES) % 3
    for keep in (20, 500):
        counted = nms.top_proposals(boxes, scores, group, 0.6, keep)
        placed = suppress.top_proposals(boxes, scores, group, 0.6, keep)
        for one, other in zip(counted, placed, strict=True):
            assert torch.equal(one, other)


def test_without_a_candidate_there_is_nothing() -> None:
    boxes, scores = random_boxes(2, 7, 1), torch.zeros(2, 7, 3)
    *_, valid = suppress.class_nms(boxes, scores, threshold=0.5, iou=0.5, keep=4)
    assert not valid.any()
    boxes[..., 2:] = boxes[..., :2]
    _, valid, _ = suppress.top_proposals(boxes[:, :, 0], scores[..., 0], torch.arange(7), 0.5, 4)
    assert not valid.any()
