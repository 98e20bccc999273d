"""Properties of the parts of the model."""

from __future__ import annotations

import pytest
import torch
from tests.model_cases import CLASSES, make_batch, make_detector, small
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from scnet.data.transforms import view_boxes
from scnet.inference.detections import place
from scnet.model.cascade import mean_scores
from scnet.model.features import RoIFeatures
from scnet.model.mask_branch import MaskHead
from scnet.model.rpn import RPNOutput, anchor_shapes, make_anchors
from scnet.model.sampling import (
    BACKGROUND,
    IGNORED,
    PAIRS_AT_ONCE,
    RandomChoice,
    match,
    overlaps,
    sample_rois,
)
from scnet.ops import boxes as box_ops
from scnet.ops.masks import join_crops
from scnet.types import Batch, Found, ImageInfo, Proposals, RoIs, Size, Targets, View


def random_boxes(*shape: int) -> Tensor:
    corner = torch.rand(*shape, 2) * 100
    return torch.cat([corner, corner + 1 + torch.rand(*shape, 2) * 50], dim=-1)


def test_decode_inverts_encode() -> None:
    boxes, goals = random_boxes(50), random_boxes(50)
    torch.testing.assert_close(box_ops.decode(boxes, box_ops.encode(boxes, goals)), goals)


def test_iou_equals_torchvision() -> None:
    from torchvision.ops import box_iou

    a, b = random_boxes(2, 20), random_boxes(2, 30)
    expected = torch.stack([box_iou(x, y) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(box_ops.iou(a, b), expected)


def test_decode_keeps_each_box_inside_its_image() -> None:
    boxes, sizes = torch.tensor([[-5.0, -5, 500, 500], [10, 10, 20, 20]]), [[30, 40], [15, 12]]
    cut = box_ops.decode(boxes, torch.zeros(2, 4), sizes=torch.tensor(sizes))
    assert cut.tolist() == [[0, 0, 40, 30], [10, 10, 12, 15]]


def test_anchors_start_at_the_corner_and_keep_their_area() -> None:
    maps = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    anchors = make_anchors(maps, anchor_shapes(small("scnet").model.rpn))
    assert len(anchors) == 3 * sum(h * w for h, w in maps)
    square = anchors[1]  # ratio 1 of the first cell: side 8 * stride, centred on pixel 0
    assert square.tolist() == [-16, -16, 16, 16]
    ratio = (anchors[0, 3] - anchors[0, 1]) / (anchors[0, 2] - anchors[0, 0])
    assert ratio == pytest.approx(0.5)
    area = (anchors[:3, 2:] - anchors[:3, :2]).prod(1)
    torch.testing.assert_close(area, torch.full((3,), 1024.0))


def test_match_follows_thresholds_and_gives_each_object_its_best_box() -> None:
    overlap = torch.tensor([[[0.8, 0.1], [0.4, 0.35], [0.1, 0.2], [-1, -1]]])
    plain = match([overlap], 0.7, 0.3, 0.3, low_quality=False)
    assert plain.tolist() == [[0, IGNORED, BACKGROUND, IGNORED]]
    low = match([overlap], 0.7, 0.3, 0.3, low_quality=True)
    assert low.tolist() == [[0, 1, BACKGROUND, IGNORED]]


def test_choice_takes_all_where_few_and_as_many_as_asked_where_many() -> None:
    candidates = torch.rand(4, 200) > 0.5
    candidates[3] = False
    candidates[2, 5:] = False
    chosen = RandomChoice(torch.arange(4))(candidates, torch.tensor([10, 0, 9, 9]), 10)
    assert (chosen & ~candidates).sum() == 0
    assert chosen.sum(1).tolist() == [10, 0, int(candidates[2].sum()), 0]


def test_choice_is_uniform() -> None:
    candidates = torch.ones(4000, 8, dtype=torch.bool)
    chosen = RandomChoice(torch.arange(4000))(candidates, torch.full((4000,), 2), 2)
    share = chosen.float().mean(0)
    assert (share - 0.25).abs().max() < 0.03


def test_choice_in_an_image_does_not_depend_on_the_others_or_on_padding() -> None:
    candidates = torch.rand(3, 50) > 0.3
    whole = RandomChoice(torch.tensor([7, 8, 9]))
    alone = RandomChoice(torch.tensor([8]))
    for _ in range(2):  # every call draws anew, in the same way
        chosen = whole(candidates, torch.full((3,), 5), 5)
        padded = torch.cat([torch.zeros(1, 4, dtype=torch.bool), candidates[1:2]], dim=1)
        assert torch.equal(alone(padded, torch.tensor([5]), 5)[:, 4:], chosen[1:2])
    assert not torch.equal(
        chosen, RandomChoice(torch.tensor([7, 8, 9]))(candidates, torch.full((3,), 5), 5)
    )


def test_padding_of_ground_truth_moves_no_object() -> None:
    batch = make_batch((1, 3, 0))
    assert batch.targets is not None
    targets, objects = batch.targets, torch.arange(16.0).view(4, 4)
    assert targets.valid.tolist() == [[False, False, True], [True] * 3, [False] * 3]
    assert targets.rows[targets.valid].tolist() == [0, 1, 2, 3]
    assert not targets.boxes[~targets.valid].any()
    again = Targets.of(
        objects.split((1, 3, 0)), targets.labels[targets.valid].split((1, 3, 0)), targets.masks
    )
    assert torch.equal(again.boxes[again.valid], objects)
    assert torch.equal(again.labels, targets.labels)


def test_samples_hold_ground_truth_first_and_the_label_of_their_object() -> None:
    batch = make_batch((3, 0))
    assert batch.targets is not None
    config = small("scnet").model.box
    boxes = torch.cat([batch.targets.boxes[:1] + 1, random_boxes(1, 40)], dim=1).expand(2, -1, -1)
    proposals = Proposals(boxes, torch.ones(2, 43, dtype=torch.bool))
    samples = sample_rois(
        proposals, batch.targets, CLASSES, 0.5, config, RandomChoice(torch.arange(2))
    )
    assert samples.is_gt[:3].all()
    assert not samples.is_gt[3:].any()
    assert samples.gt[:3].tolist() == [0, 1, 2]
    positive = samples.gt >= 0
    assert (samples.labels[positive] == batch.targets.labels.flatten()[samples.gt[positive]]).all()
    assert (samples.labels[~positive] == CLASSES).all()
    assert not positive[samples.rois.image == 1].any()
    assert positive.sum() <= config.samples * config.positive_fraction


def scene_loss(name: str, **changes: object) -> dict[str, float]:
    detector = make_detector(name, **changes)
    batch = make_batch((3, 2))
    choose = RandomChoice(torch.arange(2))
    return {k: v.item() for k, v in detector.loss(batch, choose).items()}


def test_losses_have_the_names_of_the_parts_that_exist() -> None:
    stages = [f"stage{i}.{part}" for i in (1, 2, 3) for part in ("cls", "box")]
    rpn = ["rpn.cls", "rpn.box"]
    assert set(scene_loss("scnet")) == {*rpn, *stages, "semantic", "context", "mask"}
    masks = {"mask1", "mask2", "mask3"}
    assert set(scene_loss("htc")) == {*rpn, *stages, "semantic", *masks}
    assert set(scene_loss("mask_rcnn")) == {*rpn, "stage1.cls", "stage1.box", "mask"}


def test_loss_weights_scale_their_losses() -> None:
    one, three = scene_loss("scnet_context_1"), scene_loss("scnet_context_3")
    assert three["context"] == pytest.approx(3 * one["context"], rel=1e-4)
    assert {k: v for k, v in one.items() if k != "context"} == pytest.approx(
        {k: v for k, v in three.items() if k != "context"}, rel=1e-4
    )


def test_relay_off_changes_only_the_mask_branch() -> None:
    on, off = make_detector("scnet"), make_detector("scnet_without_relay", seed=1)
    shared = {k: v for k, v in on.state_dict().items() if k in off.state_dict()}
    off.load_state_dict(shared)
    image = [torch.rand(3, 96, 128) * 255]
    a, b = on.predict(image)[0], off.predict(image)[0]
    torch.testing.assert_close(a.boxes, b.boxes)
    torch.testing.assert_close(a.scores, b.scores)
    assert a.rle != b.rle
    only = {n for n, _ in on.named_parameters()} - {n for n, _ in off.named_parameters()}
    assert only == {"roi_heads.masks.relays.0.fc.weight", "roi_heads.masks.relays.0.fc.bias"}


def test_flow_reaches_the_first_mask_head_from_the_last_loss() -> None:
    detector = make_detector("htc")
    detector.loss(make_batch((3, 2)))["mask3"].backward()
    heads = detector.roi_heads.masks.heads
    assert all(next(h.parameters()).grad.abs().sum() > 0 for h in heads)
    plain = make_detector("cascade_mask_rcnn")
    plain.loss(make_batch((3, 2)))["mask3"].backward()
    assert next(plain.roi_heads.masks.heads[0].parameters()).grad is None


@pytest.mark.parametrize(("relay", "passes"), [(False, 3), (True, 6)])
@torch.no_grad()
def test_prediction_runs_a_head_that_feeds_others_once(relay: bool, passes: int) -> None:
    detector, batch = make_detector("htc", model__mask__relay=relay), make_batch((3, 2))
    masks, stages = detector.roi_heads.masks, tuple(detector.roi_heads.stages)
    _, scene = detector.dense(batch.images, batch.sizes)
    features = RoIFeatures(scene.scene, detector.config.model)
    rois = RoIs(random_boxes(5), torch.tensor([0, 0, 0, 1, 1]))
    labels, logits = torch.tensor([0, 2, 1, 1, 0]), []
    for branch, stage in enumerate(stages):
        hidden = stage.hidden(features(rois, stage.side)) if relay else None
        logits.append(masks(branch, features(rois, masks.side), hidden, labels)[:, 0])
    calls: list[nn.Module] = []
    for head in masks.heads:
        head.register_forward_hook(lambda module, given, out: calls.append(module))
    together = masks.find(features, rois, labels, stages)
    assert len(calls) == passes  # a relay makes the branches' features differ
    torch.testing.assert_close(together.probabilities, torch.stack(logits).sigmoid().mean(0))


def test_mask_loss_reaches_the_box_head_through_the_relay_alone() -> None:
    for name, reached in (("scnet", True), ("scnet_without_relay", False)):
        detector = make_detector(name)
        detector.loss(make_batch((3, 2)))["mask"].backward()
        gradient = detector.roi_heads.stages[2].fc2.weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) is reached


def test_logits_of_chosen_classes_are_those_of_all_classes() -> None:
    head = MaskHead(small("scnet").model, receives_flow=False)
    x, labels = torch.randn(5, 16, 14, 14), torch.tensor([0, 2, 1, 1, 0])
    feature = head(x, None).own
    every = head.logits(feature)
    assert every.shape == (5, CLASSES, 28, 28)
    torch.testing.assert_close(head.logits(feature, labels)[:, 0], every[range(5), labels])


def found_in(images: list[Tensor], name: str = "scnet") -> list[tuple[Tensor, Tensor]]:
    detector = make_detector(name)
    return [(f.boxes, f.scores) for f in detector.predict(images)]


def test_a_batch_gives_what_single_images_give() -> None:
    # Same sizes: with padding the release's global context, and so ours, sees the padding too.
    images = [torch.rand(3, 96, 128) * 255, torch.rand(3, 96, 128) * 255]
    together = found_in(images)
    alone = [found_in([image])[0] for image in images]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("least", "size"), [((0, 0), (64, 96)), ((65, 32), (96, 96))])
def test_images_of_any_size_lie_at_the_top_left_of_a_batch(least: Size, size: Size) -> None:
    images = [torch.rand(5, 40, 66), torch.rand(5, 64, 3)]
    info = [ImageInfo(i, "", View.whole((x.shape[1], x.shape[2]))) for i, x in enumerate(images)]
    batch = Batch.of(images, info, least)
    assert batch.images.shape == (2, 5, *size)
    assert batch.sizes.tolist() == [[40, 66], [64, 3]]
    for padded, image in zip(batch.images, images, strict=True):
        assert torch.equal(padded[:, : image.shape[1], : image.shape[2]], image)
        assert padded.count_nonzero() == image.count_nonzero()


def test_a_batch_moves_with_every_tensor_in_it() -> None:
    batch = make_batch((2, 1))
    moved = batch.to("meta")
    assert moved.targets is not None
    assert batch.semantic is not None
    tensors = tree_leaves([*vars(moved).values(), *vars(moved.targets).values()])
    devices = {x.device.type for x in tensors if isinstance(x, Tensor)}
    assert devices == {"meta"}
    assert sum(isinstance(x, Tensor) for x in tensors) == 4 + 4 + 2  # batch, targets, masks
    assert moved.info == batch.info
    assert moved.targets.counts == (2, 1)


def test_padding_is_zero_after_normalising_whatever_stands_in_it() -> None:
    from dataclasses import replace

    detector = make_detector("mask_rcnn")
    batch = make_batch((1, 1))
    batch = replace(batch, sizes=torch.tensor([[96, 128], [60, 70]]))
    x = detector.normalise(batch.images, batch.sizes)
    assert (x[1, :, 60:] == 0).all()
    assert (x[1, :, :, 70:] == 0).all()
    assert (x[1, :, :60, :70] != 0).any()


def test_frozen_parts_stay_as_they_are_in_training_mode() -> None:
    detector = make_detector("scnet").train()
    net = detector.backbone.net
    assert not any(p.requires_grad for p in [*net.conv1.parameters(), *net.layer1.parameters()])
    assert all(p.requires_grad for p in net.layer2.parameters())
    assert not any(m.training for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_detections_scale_back_to_the_original_image() -> None:

    detector = make_detector("mask_rcnn")
    batch = make_batch((0,))
    info = [batch.info[0]._replace(view=View.whole((192, 256), (96, 128)))]
    found = Found(
        torch.tensor([[10.0, 20, 50, 60]]),
        torch.ones(1),
        torch.zeros(1, dtype=torch.long),
        torch.zeros(1, dtype=torch.long),
        torch.ones(1, 28, 28),
    )
    placed = place(
        found, Batch.of(list(batch.images), info), detector.classes, detector.category_ids
    )[0]
    assert placed.boxes.tolist() == [[20, 40, 100, 120]]
    assert placed.size == (192, 256)
    assert placed.masks()[0].nonzero().amin(0).tolist() == [40, 20]
    assert 80 * 80 - placed.masks()[0].sum() <= 4  # corners lie outside a mask of probability 1


def test_boxes_without_an_area_are_left_out_of_the_detections_of_their_image() -> None:
    detector, batch = make_detector("mask_rcnn"), make_batch((0, 0))
    boxes = [[10.0, 20, 50, 60], [128, 10, 128, 20], [5, 96, 30, 96], [0, 0, 1, 1]]
    found = Found(
        torch.tensor(boxes),
        torch.tensor([0.9, 0.8, 0.7, 0.6]),
        torch.tensor([0, 1, 2, 1]),
        torch.tensor([0, 0, 1, 1]),
        torch.ones(4, 28, 28),
    )
    first, second = place(found, batch, detector.classes, detector.category_ids)
    assert (first.boxes.tolist(), second.boxes.tolist()) == ([boxes[0]], [boxes[3]])
    assert (first.labels.tolist(), second.labels.tolist()) == ([0], [1])
    assert (first.masks().sum() > 1000, second.masks().sum()) == (True, 1)


@pytest.mark.parametrize("first", [0, 1])
def test_proposals_are_ordered_by_logits_where_their_scores_are_equal(first: int) -> None:
    rpn = make_detector("mask_rcnn").rpn
    anchors = torch.tensor([[10.0, 10, 50, 50], [12, 10, 52, 50], [70, 60, 100, 90]])
    logits = torch.tensor([[30.0, 30, 25]])
    logits[0, first] += 1
    assert (logits.sigmoid() == 1).all()
    level = torch.zeros(3, dtype=torch.long)
    out = RPNOutput(logits, torch.zeros(1, 3, 4), anchors, level, (3,))
    boxes, valid, _ = rpn.proposals(out, torch.tensor([[96, 128]]), training=False)
    assert boxes[0, valid[0]].tolist() == anchors[[first, 2]].tolist()


def test_scores_of_stages_are_averaged_before_or_behind_the_softmax() -> None:
    logits = torch.tensor([[[4.0, 0, 0]], [[0, 0, 0]]])
    before, behind = (mean_scores(logits, x) for x in ("logits", "probabilities"))
    torch.testing.assert_close(before, torch.tensor([[2.0, 0, 0]]).softmax(1)[:, :2])
    torch.testing.assert_close(behind, (logits.softmax(2).sum(0) / 2)[:, :2])
    batch = make_batch((0,))
    found = [
        make_detector("scnet", model__box__average=x, model__box__score_threshold=0.0).detect(batch)
        for x in ("logits", "probabilities")
    ]
    assert not torch.equal(found[0].scores, found[1].scores)


def test_roi_features_are_the_sum_of_pyramid_semantic_and_context() -> None:
    detector = make_detector("scnet")
    batch = make_batch((1, 1))
    with torch.no_grad():
        scene = detector.dense(batch.images, batch.sizes)[1].scene
    rois = RoIs(random_boxes(6), torch.tensor([0, 0, 0, 1, 1, 1]))
    config = detector.config.model
    full = RoIFeatures(scene, config)(rois, 14)
    pyramid = RoIFeatures(scene._replace(semantic=None, context=None), config)(rois, 14)
    semantic = RoIFeatures(scene._replace(context=None), config)(rois, 14) - pyramid
    assert scene.context is not None
    expected = pyramid + semantic + scene.context[rois.image, :, None, None]
    torch.testing.assert_close(full, expected, rtol=1e-4, atol=1e-4)
    assert semantic.abs().sum() > 0


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("horizontal", [False, True])
def test_boxes_seen_go_back_to_where_they_were(horizontal: bool, vertical: bool) -> None:
    view = View((30, 40), (75, 100), (21, 10, 81, 47), horizontal, vertical)
    boxes = torch.tensor([[10.0, 5, 20, 14], [12, 8, 30, 17]])
    seen = view_boxes(boxes, view)
    inverse = torch.tensor(view.inverse)[None].expand(2, -1, -1)
    torch.testing.assert_close(box_ops.seen_back(seen, inverse), boxes)


def test_matching_in_parts_equals_matching_at_once() -> None:
    overlap = torch.rand(2, 50, 9).mul(10).round() / 10  # with ties
    overlap[:, :5] = -1
    for low_quality in (False, True):
        whole = match([overlap], 0.7, 0.3, 0.3, low_quality)
        for size in (1, 2, 4):
            assert torch.equal(match(overlap.split(size, 2), 0.7, 0.3, 0.3, low_quality), whole)


def test_anchors_in_the_padding_of_a_batch_are_no_samples() -> None:
    rpn = make_detector("mask_rcnn").head.rpn
    assert rpn.config.border
    maps = [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]
    out = rpn([torch.zeros(3, rpn.conv.in_channels, *size) for size in maps])
    asked: list[Tensor] = []

    def choose(candidates: Tensor, number: Tensor, most: int) -> Tensor:
        asked.append(candidates)
        return candidates

    boxes = [torch.zeros(0, 4)] * 3  # without objects all that counts is background
    targets = Targets.of(boxes, [torch.zeros(0, dtype=torch.int64)] * 3, join_crops([]))
    rpn.loss(out, torch.tensor([[96, 128], [32, 32], [33, 40]]), targets, choose)
    positive, inside = asked
    assert not positive.any()
    assert inside[0].all()
    for counted, (width, height) in ((inside[1], (32, 32)), (inside[2], (64, 64))):
        center = (out.anchors[:, :2] + out.anchors[:, 2:]) / 2
        expected = (center < torch.tensor([width, height]) - 0.5).all(1)
        assert torch.equal(counted, expected)
    assert inside[1].sum() == 3 * (64 + 16 + 4 + 1 + 1)


@pytest.mark.parametrize("norm", ["sync", "group"])
def test_prediction_in_training_mode_equals_evaluation_and_changes_nothing(norm: str) -> None:
    changes = {"model__norm": norm, "model__backbone__frozen_norm": False}
    detector = make_detector("scnet", **changes).train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    images = [torch.rand(3, 96, 128) * 255]
    training = detector.predict(images)[0]
    assert detector.training
    assert detector.head.roi_heads.training
    assert all(torch.equal(before[name], x) for name, x in detector.state_dict().items())
    evaluation = detector.eval().predict(images)[0]
    assert torch.equal(training.scores, evaluation.scores)
    assert torch.equal(training.boxes, evaluation.boxes)


def test_a_head_is_made_of_the_parts_of_its_detector() -> None:
    detector = make_detector("scnet")
    assert all(part is getattr(detector, n) for n, part in detector.head._asdict().items())
    names = {name.split(".")[0] for name in detector.state_dict()}
    assert names == {"backbone", "fpn", *detector.head._fields}


def test_no_detections_are_wanted_and_none_are_given() -> None:
    detector = make_detector("mask_rcnn", model__box__score_threshold=0.0)
    batch = make_batch((1, 1))
    assert len(detector.detect(batch).boxes) > 0
    assert len(detector.detect(batch, max_detections=0).boxes) == 0


def test_matching_holds_few_pairs_of_boxes_and_objects_at_a_time() -> None:
    targets = make_batch((60, 3)).targets
    boxes = random_boxes(1, PAIRS_AT_ONCE // 4)
    valid = torch.ones(2, boxes.shape[1], dtype=torch.bool)
    sizes = [part.shape for part in overlaps(boxes, valid, targets)]
    assert all(size == (2, PAIRS_AT_ONCE // 4, 4) for size in sizes)
    assert len(sizes) == 15
