"""Figure 1 counts what the sampler returned; Figure 6 takes the images that its rule names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.model_cases import make_batch, make_detector

from scnet.experiments.figure1 import Collected, mask_samples, measure
from scnet.experiments.figure6 import choose
from scnet.model import cascade
from scnet.model.sampling import RandomChoice
from scnet.types import Samples


def plain_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize(
    ("recipe", "stages", "lowest"),
    [("table2_none", (0, 1, 2), 0.5), ("table2_consistency", (2,), 0.7)],
)
def test_mask_samples_are_the_positives_that_the_sampler_returned(
    recipe: str, stages: tuple[int, ...], lowest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = make_detector(recipe)
    batch = make_batch((3, 0, 2))
    sample, seen = cascade.sample_rois, []

    def spy(*args: object) -> Samples:
        seen.append(sample(*args))
        return seen[-1]

    monkeypatch.setattr(cascade, "sample_rois", spy)
    with torch.no_grad():
        kept = list(mask_samples(detector, batch, RandomChoice(torch.arange(3))))
        ious, moved, is_gt = zip(*kept, strict=True)
        sampled = list(seen)
        detector.loss(batch, RandomChoice(torch.arange(3)))
    # A training step draws the same.
    for ours, theirs in zip(sampled, seen[len(sampled) :], strict=True):
        assert torch.equal(ours.rois.boxes, theirs.rois.boxes)
    expected = [
        plain_iou(box, batch.targets.boxes.flatten(0, 1)[gt].tolist())
        for stage in stages
        for box, gt in zip(seen[stage].rois.boxes.tolist(), seen[stage].gt.tolist(), strict=True)
        if gt >= 0
    ]
    found = torch.cat(ious)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert found.min() >= lowest
    assert torch.cat(is_gt).sum() == sum(seen[s].is_gt[seen[s].gt >= 0].sum() for s in stages) > 0
    torch.testing.assert_close(found[torch.cat(is_gt)], torch.ones(int(torch.cat(is_gt).sum())))
    after = torch.cat(moved)
    assert after.shape == found.shape
    assert ((after >= 0) & (after <= 1 + 1e-5)).all()
    assert not torch.equal(after, found)


def test_a_stage_that_moves_nothing_leaves_the_samples_where_they_are() -> None:
    detector = make_detector("table2_consistency")
    for stage in detector.roi_heads.stages:
        torch.nn.init.zeros_(stage.reg.weight)
    with torch.no_grad():
        for ious, moved, _ in mask_samples(
            detector, make_batch((3, 2)), RandomChoice(torch.arange(2))
        ):
            torch.testing.assert_close(moved, ious)


def test_distances_leave_out_what_training_has_not() -> None:
    training = np.array([0.6, 0.8, 1.0])
    moved, is_gt = np.array([0.7, 0.3, 1.0]), np.array([False, False, True])
    inference, scores = np.array([0.1, 0.6, 0.8]), np.array([0.9, 0.4, 0.5])
    collected = Collected(training, moved, is_gt, inference, scores)
    figures = measure(collected)
    assert figures["distance"] == pytest.approx(0.1)  # of 0.6 0.8 1.0 and 0.6 0.8
    assert figures["distance without ground-truth boxes"] == 0
    assert figures["distance, moved"] == pytest.approx(0.1)  # of 0.7 and 0.6 0.8
    assert figures["distance, confident"] == pytest.approx(0.4 / 3)  # of 0.6 0.8 1.0 and 0.8
    assert figures["distance without ground-truth boxes, confident"] == pytest.approx(0.1)
    assert figures["distance, all detections"] == pytest.approx((0.5 + 0.2 + 0.2) / 3)
    assert figures["samples"]["inference from 0.5"] == 2
    assert figures["samples"]["inference from 0.5, confident"] == 1
    assert figures["below"]["inference"]["0.5"] == pytest.approx(1 / 3)


def test_the_rule_takes_the_largest_gain_the_largest_loss_and_three_more() -> None:
    base = [0.5, 0.5, -1.0, 0.5, 0.5, 0.9, 0.2, 0.4]
    ours = [0.6, 0.9, -1.0, 0.4, 0.5, 0.1, 0.2, 0.4]
    choices = choose({"table2_none": base, "htc": base, "scnet": ours})
    assert [(c.index, c.rule) for c in choices[:2]] == [(1, "largest gain"), (5, "largest loss")]
    rest = [c.index for c in choices[2:]]
    assert len(set(rest)) == 3
    assert not {1, 2, 5} & set(rest)
    assert choose({"table2_none": base, "htc": base, "scnet": ours}) == choices


def test_the_rule_copes_with_few_images() -> None:
    scores = {"table2_none": [0.5, -1.0], "htc": [0.5, -1.0], "scnet": [0.4, -1.0]}
    assert [c.index for c in choose(scores)] == [0]
    assert choose({name: [-1.0] for name in scores}) == []
