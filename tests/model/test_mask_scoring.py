"""Mask scoring: what its head computes and learns, and what becomes of the scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.model_cases import CLASSES, make_batch, make_detector, small
from torch import Tensor

from scnet import recipes
from scnet.config import Config, ScoringConfig, from_dict, override, replace_at, to_dict
from scnet.inference.model import Model
from scnet.model.detector import Detector
from scnet.model.mask_scoring import MaskScoring, true_ious
from scnet.ops.masks import crop, join_crops, shares_inside
from scnet.settings import nested

SMALL = ScoringConfig(hidden=8)


def scoring(recipe: str, **changes: Any) -> Detector:
    return make_detector(recipe, model__mask__scoring=SMALL, **changes)


def head(**changes: Any) -> MaskScoring:
    """Return a head in double precision whose every layer does something."""
    torch.manual_seed(0)
    config = replace_at(small("mask_rcnn"), "model.channels", 3)
    config = replace_at(config, "model.mask.scoring", replace(SMALL, **changes))
    made = MaskScoring(config.model).double()
    torch.nn.init.normal_(made.iou.weight)
    for parameter in made.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter)
    return made


def by_hand(made: MaskScoring, feature: Tensor, mask: Tensor, label: int) -> float:
    """Return the foretold IoU of one mask, one cell after the other."""
    side = feature.shape[1]
    pooled = torch.zeros(1, side, side, dtype=torch.float64)
    for row in range(side):
        for column in range(side):
            cells = [mask[2 * row + i, 2 * column + j] for i in (0, 1) for j in (0, 1)]
            pooled[0, row, column] = max(cells)
    x = torch.cat([feature, pooled])
    for number, conv in enumerate(made.convs):
        step = 2 if number == len(made.convs) - 1 else 1
        weight, bias = conv.get_parameter("weight"), conv.get_parameter("bias")
        side = x.shape[1] // step
        out = torch.zeros(len(weight), side, side, dtype=torch.float64)
        around = F.pad(x, (1, 1, 1, 1))
        for row in range(side):
            for column in range(side):
                top, left = row * step, column * step
                seen = around[:, top : top + 3, left : left + 3]
                out[:, row, column] = (weight * seen).sum((1, 2, 3)) + bias
        x = out.clamp(min=0)
    values = x.flatten()
    for layer in made.fcs:
        weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        values = ((weight * values).sum(1) + bias).clamp(min=0)
    return float(made.iou.weight[label] @ values + made.iou.bias[label])


@pytest.mark.parametrize(("convs", "layers"), [(4, 2), (1, 1)])
@torch.no_grad()
def test_the_head_is_the_plain_sum_for_the_class_of_the_mask(convs: int, layers: int) -> None:
    made = head(convs=convs, layers=layers)
    features, masks = torch.randn(3, 3, 14, 14).double(), torch.rand(3, 28, 28).double()
    labels = torch.tensor([2, 0, 1])
    expected = [by_hand(made, *each) for each in zip(features, masks, labels.tolist(), strict=True)]
    torch.testing.assert_close(made(features, masks, labels), torch.tensor(expected))


def plain_iou(mask: Tensor, goal: Tensor, share: float) -> float:
    found, there, both = 0, 0, 0
    for predicted, wanted in zip(mask.flatten().tolist(), goal.flatten().tolist(), strict=True):
        found += predicted >= 0.5
        there += wanted
        both += predicted >= 0.5 and wanted
    return both / max(found + there / (share + 1e-7) - both, 1)


def test_the_goal_is_the_iou_with_the_whole_object() -> None:
    random = torch.Generator().manual_seed(0)
    masks = torch.rand(6, 28, 28, generator=random)
    goals = (torch.rand(6, 28, 28, generator=random) < 0.4).float()
    masks[1], goals[2] = 0.2, 0  # nothing found, nothing there
    masks[3] = goals[3]
    masks[4], goals[4] = 0, 0
    shares = torch.tensor([0.3, 1.0, 0.0, 1.0, 0.0, 0.9])
    ious = true_ious(masks, goals, shares)
    expected = [plain_iou(*x) for x in zip(masks, goals, shares.tolist(), strict=True)]
    torch.testing.assert_close(ious, torch.tensor(expected))
    assert ious[3] == pytest.approx(1)
    assert ious[[1, 2, 4]].tolist() == [0, 0, 0]
    half = goals[3].clone()
    half[:, 14:] = 0
    # A mask that fits all of its box, which holds half of the object, is half right.
    assert true_ious(half[None], half[None], torch.tensor([0.5])).item() == pytest.approx(0.5)


def test_the_loss_is_the_mean_over_masks_that_overlap_their_object() -> None:
    made = head(loss_weight=0.25)
    features, masks = torch.randn(4, 3, 14, 14).double(), torch.rand(4, 28, 28).double()
    goals, labels = (torch.rand(4, 28, 28) < 0.5).double(), torch.tensor([0, 1, 2, 0])
    masks[1] = 0  # overlaps nothing, and is not counted
    shares = torch.full((4,), 0.8).double()
    foretold, total = made(features, masks, labels).tolist(), 0.0
    for i in (0, 2, 3):
        total += (foretold[i] - plain_iou(masks[i], goals[i], 0.8)) ** 2
    loss = made.loss(features, masks, labels, goals, shares)
    assert loss.item() == pytest.approx(0.25 * total / 3, rel=1e-5)


def test_without_an_overlap_the_loss_is_zero_and_every_parameter_has_a_gradient() -> None:
    made = head()
    for number in (0, 2):
        features, masks = torch.randn(number, 3, 14, 14).double(), torch.zeros(number, 28, 28)
        labels = torch.zeros(number, dtype=torch.long)
        loss = made.loss(features, masks.double(), labels, masks.double(), torch.ones(number))
        made.zero_grad()
        loss.backward()
        assert loss == 0
        assert all(p.grad is not None and not p.grad.any() for p in made.parameters())


def test_shares_are_counted_pixels() -> None:
    random = torch.Generator().manual_seed(0)
    height, width = 24, 31
    masks = torch.rand(7, height, width, generator=random) < 0.4
    masks[0, :, :4] = False  # does not begin at the border
    masks[1] = False
    masks[1, 5, 7] = True
    masks[2] = False  # nothing at all
    masks[3] = True
    index = torch.arange(7).repeat(40)
    low = torch.rand(len(index), 2, generator=random) * torch.tensor([width, height])
    high = low + torch.rand(len(index), 2, generator=random) * 20
    high = torch.minimum(high, torch.tensor([float(width), float(height)]))
    boxes = torch.cat([low, high], dim=1)
    shares = shares_inside(join_crops([crop(mask) for mask in masks]), index, boxes)
    expected = []
    for i, box in zip(index.tolist(), boxes.tolist(), strict=True):
        left, top, right, bottom = map(int, box)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        inside = masks[i, top:bottom, left:right].sum().item()
        expected.append(inside / max(masks[i].sum().item(), 1))
    torch.testing.assert_close(shares, torch.tensor(expected))
    nothing = shares_inside(join_crops([]), torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))
    assert nothing.shape == (0,)


@pytest.mark.parametrize("name", ["mask_rcnn", "cascade_mask_rcnn_d2", "htc", "scnet"])
def test_its_loss_reaches_head_and_masks_but_no_box_or_rpn_output(name: str) -> None:
    detector = scoring(name)
    losses = detector.loss(make_batch((3, 2)))
    losses["mask_iou"].backward()
    reached = {n for n, p in detector.named_parameters() if p.grad is not None and p.grad.any()}
    masks = {n for n in reached if n.startswith("roi_heads.masks.")}
    assert {n.split(".")[2] for n in masks} >= {"heads", "scoring"}
    # As in the release the mask that the head reads carries the gradient on.
    assert any(n.endswith("classifier.weight") for n in masks)
    assert any(n.startswith("backbone.") for n in reached)
    assert not any(n.startswith(("rpn.", "branches.context.classifier")) for n in reached)
    assert not any(n.endswith((".cls.weight", ".reg.weight")) for n in reached)


@pytest.mark.parametrize(
    ("name", "taught_by"),
    [("cascade_mask_rcnn", {2}), ("htc", {0, 1, 2}), ("naive_sample_consistency", {0, 1, 2})],
)
def test_it_learns_from_the_branches_of_the_last_stage_that_feeds_any(
    name: str, taught_by: set[int]
) -> None:
    detector = scoring(name)
    detector.loss(make_batch((3, 2)))["mask_iou"].backward()
    branches = {
        i
        for i, branch in enumerate(detector.roi_heads.masks.heads)
        if any(p.grad is not None and p.grad.any() for p in branch.parameters())
    }
    assert branches == taught_by  # in HTC what flows on is of the earlier branches


@pytest.mark.parametrize("name", ["mask_scoring_rcnn", "htc", "scnet"])
def test_scores_of_masks_are_those_of_boxes_times_the_foretold_iou(name: str) -> None:
    detector = scoring(name, model__box__score_threshold=0.0).train()
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-3)
    for step in range(4):
        optimizer.zero_grad()
        torch.stack(list(detector.loss(make_batch((3, 2), step)).values())).sum().backward()
        optimizer.step()
    found = Model(detector, "cpu").predict(torch.rand(3, 64, 90) * 255, score=0.0)
    assert len(found) > 1
    assert found.mask_ious is not None
    assert ((found.mask_ious >= 0) & (found.mask_ious <= 1)).all()
    assert (found.mask_scores <= found.scores).all()
    assert torch.equal(found.mask_scores, found.scores * found.mask_ious)
    assert (found.mask_scores < found.scores).any()
    assert (found.scores.diff() <= 0).all()  # the order is that of the boxes


def test_it_trains_and_predicts_in_half_precision() -> None:
    detector, batch = scoring("htc", model__box__score_threshold=0.0), make_batch((3, 1))
    with torch.autocast("cpu", torch.bfloat16):
        loss = detector.loss(batch)["mask_iou"]
        found = detector.detect(batch)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert found.mask_ious is not None
    assert found.mask_ious.dtype == torch.float32


@torch.no_grad()
def test_the_head_judges_the_mean_of_all_branches() -> None:
    detector, batch = scoring("htc", model__box__score_threshold=0.0), make_batch((2, 1))
    seen: list[Tensor] = []
    masks = detector.roi_heads.masks
    assert masks.scoring is not None
    masks.scoring.register_forward_hook(lambda module, given, out: seen.extend(given[1:]))
    found = detector.detect(batch)
    assert torch.equal(seen[0], found.masks)
    assert torch.equal(seen[1], found.labels)


@pytest.mark.parametrize("name", ["mask_rcnn", "cascade_mask_rcnn", "htc", "scnet"])
def test_it_changes_neither_boxes_nor_masks_and_off_there_is_none_of_it(name: str) -> None:
    plain, scored = make_detector(name), scoring(name)
    given = scored.state_dict()
    added = {key for key in given if key not in plain.state_dict()}
    assert added
    assert all(key.startswith("roi_heads.masks.scoring.") for key in added)
    plain.load_state_dict({k: v for k, v in given.items() if k not in added})
    batch = make_batch((3, 2))
    ours, theirs = plain.detect(batch), scored.detect(batch)
    assert ours.mask_ious is None
    assert all(torch.equal(*x) for x in zip(ours[:5], theirs[:5], strict=True))


def test_no_recipe_but_its_own_has_it() -> None:
    ends = ("", "_r101", "_x101", "_lite", "_dense")
    with_it = {n for n in recipes.RECIPES if recipes.find(n).model.mask.scoring is not None}
    assert with_it == {f"mask_scoring_rcnn{end}" for end in ends}
    assert "mask scoring" in recipes.describe("mask_scoring_rcnn")
    assert recipes.find("mask_scoring_rcnn_lite").model.mask.scoring == ScoringConfig(hidden=256)


@pytest.mark.parametrize("value", [True, {"convs": 2, "layers": 1, "hidden": 16}])
def test_it_is_set_as_other_optional_parts_are(value: Any) -> None:
    config = override(recipes.scnet(), nested("model.mask.scoring", value))
    assert config.model.mask.scoring == ScoringConfig(**({} if value is True else value))
    assert from_dict(to_dict(config)) == config
    off = override(config, nested("model.mask.scoring", None))
    assert off == recipes.scnet()
    assert recipes.scnet() == Config(**{**vars(off)})


def test_parameters_are_those_of_mmdetections_head() -> None:
    with torch.device("meta"):
        made = MaskScoring(recipes.mask_scoring_rcnn().model)
    shapes = {name: tuple(p.shape) for name, p in made.named_parameters()}
    expected: dict[str, tuple[int, ...]] = {"convs.0.weight": (256, 257, 3, 3)}
    expected |= {f"convs.{i}.weight": (256, 256, 3, 3) for i in (1, 2, 3)}
    expected |= {f"convs.{i}.bias": (256,) for i in range(4)}
    expected |= {"fcs.0.weight": (1024, 256 * 7 * 7), "fcs.1.weight": (1024, 1024)}
    expected |= {f"fcs.{i}.bias": (1024,) for i in (0, 1)}
    assert shapes == expected | {"iou.weight": (80, 1024), "iou.bias": (80,)}
    assert CLASSES != 80
