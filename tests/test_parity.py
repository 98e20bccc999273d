"""Every quantity equals the reference's; and the comparison notices where it does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests import parity, parity_detectron2

from scnet import recipes
from scnet.config import replace_at
from scnet.model.detector import Detector
from scnet.types import Proposals


def failed(rows: Sequence[parity.Row]) -> set[str]:
    return {row.quantity for row in rows if not row.ok}


@pytest.mark.parametrize("case", parity.CASES)
@pytest.mark.parametrize("model", parity.MODELS)
def test_every_quantity_equals_the_reference(reference_dir: Path, model: str, case: str) -> None:
    rows = parity.check(reference_dir, model, case)
    wrong = [str(row) for row in rows if not row.ok]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("case", parity_detectron2.CASES)
@pytest.mark.parametrize("model", parity_detectron2.MODELS)
def test_every_quantity_equals_detectron2(reference_dir: Path, model: str, case: str) -> None:
    rows = parity_detectron2.check(reference_dir, model, case)
    wrong = [str(row) for row in rows if not row.ok]
    assert not wrong, "\n".join(wrong)


# A setting of detectron2's cascade that is another, and what must and what cannot follow from it.
SETTINGS: dict[str, tuple[object, set[str], set[str]]] = {
    "model.backbone.stride_in": ("3x3", {"pyramid", "proposals"}, set()),
    "model.backbone.mean": ((0.406, 0.456, 0.485), {"pyramid", "proposals"}, set()),
    "model.box.average": (
        "logits",
        {"scores", "final scores"},
        {"pyramid", "proposals", "box logits", "box deltas"},
    ),
    "model.box.stages": (
        recipes.cascade_mask_rcnn().model.box.stages,
        {"boxes, pixels", "final boxes, pixels"},
        {"pyramid", "proposals"},
    ),
    "model.rpn.anchor_sizes": (
        ((16.0,), (64.0,), (128.0,), (256.0,), (512.0,)),
        {"proposals", "box logits"},
        {"pyramid", "RPN logits", "RPN deltas"},
    ),
}


@pytest.mark.parametrize("path", SETTINGS)
def test_another_setting_than_detectron2s_fails_where_it_matters(
    reference_dir: Path, path: str
) -> None:
    model = "cascade_mask_rcnn_caffe"
    theirs = parity_detectron2.read(reference_dir, model, "test_batch")
    value, must, cannot = SETTINGS[path]
    plain = parity_detectron2.load(reference_dir, model, theirs["settings"])
    detector = Detector(replace_at(plain.config, path, value))
    detector.load_state_dict(plain.state_dict())
    wrong = failed(parity_detectron2.compare(detector.eval(), theirs))
    assert must <= wrong
    assert not cannot & wrong


def test_a_weight_changed_by_a_percent_fails_losses_and_gradients_of_detectron2(
    reference_dir: Path,
) -> None:
    model = "cascade_mask_rcnn_rgb"
    theirs = parity_detectron2.read(reference_dir, model, "train")
    detector = parity_detectron2.load(reference_dir, model, theirs["settings"])
    detector.get_parameter("roi_heads.stages.1.cls.weight").data.mul_(1.01)
    wrong = failed(parity_detectron2.compare(detector, theirs))
    assert {"stage loss", "sum of losses", "gradient norm", "gradient"} <= wrong
    assert not {"rpn loss", "mask loss", "losses of our samples", "samples, number"} & wrong


# The changed weight, and what must and what cannot follow from it.
CHANGES = {
    "fpn.output.0.weight": (
        {"pyramid", "RPN logits", "RPN deltas", "proposals", "box logits", "mask logits"},
        {"context logits", "context feature"},
    ),
    "roi_heads.stages.0.cls.weight": (
        {"box logits", "final scores"},
        {"pyramid", "proposals", "semantic logits", "box RoIs", "box deltas"},
    ),
    "roi_heads.masks.relays.0.fc.weight": (
        {"relay", "mask logits"},
        {"box logits", "final boxes, pixels", "final scores", "box features"},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_weight_changed_by_a_percent_fails_where_it_matters(
    reference_dir: Path, name: str
) -> None:
    detector = parity.load(reference_dir, "scnet")
    detector.get_parameter(name).data.mul_(1.01)
    wrong = failed(parity.compare(detector, parity.read(reference_dir, "scnet", "test_img0")))
    must, cannot = CHANGES[name]
    assert must <= wrong
    assert not cannot & wrong


def test_a_weight_changed_by_a_percent_fails_losses_and_gradients(reference_dir: Path) -> None:
    detector = parity.load(reference_dir, "mask_rcnn")
    detector.get_parameter("roi_heads.masks.heads.0.classifier.weight").data.mul_(1.01)
    wrong = failed(parity.compare(detector, parity.read(reference_dir, "mask_rcnn", "train")))
    assert {"mask loss", "sum of losses", "gradient norm", "gradient"} <= wrong
    assert not {"rpn loss", "stage loss", "samples, number"} & wrong


def test_detections_in_another_order_fail(reference_dir: Path) -> None:
    theirs = dict(parity.read(reference_dir, "mask_rcnn", "test_img0"))
    (final,) = theirs["final"]
    theirs["final"] = [
        {**final, "bboxes": final["bboxes"].flip(0), "scores": final["scores"].flip(0)}
    ]
    rows = parity.compare(parity.load(reference_dir, "mask_rcnn"), theirs)
    assert failed(rows) == {"final boxes, pixels", "final scores"}


def test_proposals_that_change_places_without_a_tie_fail(reference_dir: Path) -> None:
    theirs = dict(parity.read(reference_dir, "mask_rcnn", "test_img0"))
    (ours,) = theirs["proposals"]
    gaps = ours["scores"][:-1] - ours["scores"][1:]
    place = int((gaps > 10 * parity.TIED).nonzero()[-1])
    order = torch.arange(len(ours["scores"]))
    order[[place, place + 1]] = order[[place + 1, place]]
    theirs["proposals"] = [{**ours, "bboxes": ours["bboxes"][order]}]
    rows = parity.compare(parity.load(reference_dir, "mask_rcnn"), theirs)
    assert failed(rows) == {"proposals"}


def test_proposals_are_exchanged_where_scores_are_tied_and_nowhere_else() -> None:
    boxes = torch.arange(4.0)[:, None] * 10 + torch.tensor([0.0, 0, 5, 5])
    scores = torch.tensor([0.9, 0.5, 0.5 - parity.TIED / 2, 0.1])
    ours = Proposals(boxes[None, :3], torch.ones(1, 3, dtype=torch.bool))
    among = parity.Candidates(boxes[None], scores[None])

    def settle(order: list[int]) -> tuple[list[int], list[bool]]:
        settled, moved = parity.settle_proposals(ours, among, [boxes[order]])
        return (settled.boxes[0, :, 0] / 10).int().tolist(), moved[0].tolist()

    assert settle([0, 1, 2]) == ([0, 1, 2], [False] * 3)
    assert settle([0, 2, 1]) == ([0, 2, 1], [False, True, True])
    assert settle([1, 0, 2]) == ([0, 1, 2], [False] * 3)
    assert settle([0, 1, 3]) == ([0, 1, 2], [False] * 3)


def test_other_shapes_and_numbers_that_are_not_finite_are_infinitely_far() -> None:
    ones, nan = torch.ones(3), torch.tensor([1.0, math.nan, 1])
    for measure in (parity.relative, parity.absolute, parity.share):
        assert measure(ones, ones) == 0
        assert measure(ones, torch.ones(4)) == math.inf
        assert measure(torch.ones(0), torch.ones(0)) == 0
    assert parity.absolute(nan, ones) == parity.relative(nan, ones) == math.inf
    assert parity.relative(torch.tensor([2.0, 9]), torch.tensor([2.0, 10])) == pytest.approx(0.1)
    assert parity.share(torch.tensor([1, 2]), torch.tensor([1, 3])) == 0.5


def test_samples_are_taken_evenly() -> None:
    candidates = torch.tensor([[True] * 6, [False, True, True, False, False, False]])
    choose = parity.EvenChoice()
    chosen = choose(candidates, torch.tensor([4, 4]), 4)
    assert chosen[0].nonzero().squeeze(1).tolist() == [0, 1, 3, 4]
    assert torch.equal(chosen[1], candidates[1])
    assert not choose(candidates, torch.tensor([0, 0]), 0).any()
    assert choose.counts == [[4, 2], [0, 0]]
