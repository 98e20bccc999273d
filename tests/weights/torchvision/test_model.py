"""A model of torchvision in memory: its settings are read, and what has no counterpart is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.weights.torchvision.models import CLASSES, first_version, second_version
from torch import nn
from torchvision.models.detection import MaskRCNN, fasterrcnn_mobilenet_v3_large_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

import scnet
from scnet.model.rpn import make_anchors
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign.torchvision import model as reading


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    return first_version()


def changed(model: MaskRCNN, change: Callable[[Any], None]) -> MaskRCNN:
    """Return a model of which a part is another; the weights are shared."""
    memo = {id(x): x for x in (*model.parameters(), *model.buffers())}
    other = copy.deepcopy(model, memo)
    change(other)
    return other


def test_settings_are_those_of_the_model(model: MaskRCNN) -> None:
    def change(m: Any) -> None:
        m.transform.min_size, m.transform.max_size = (480, 512), 700
        m.transform.image_mean, m.transform.image_std = [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]
        m.rpn._pre_nms_top_n = {"training": 1500, "testing": 600}
        m.rpn._post_nms_top_n = {"training": 1200, "testing": 300}
        m.rpn.nms_thresh = 0.6
        m.roi_heads.score_thresh, m.roi_heads.nms_thresh = 0.3, 0.4
        m.roi_heads.detections_per_img = 7
        m.roi_heads.box_coder.weights = (5.0, 5.0, 2.0, 2.0)

    found = reading.read(changed(model, change), CLASSES)
    config = found.detector.config
    rpn, box = config.model.rpn, config.model.box
    assert config.data.size == (512, 700)
    assert (config.model.backbone.mean, config.model.backbone.std) == (
        (0.5, 0.4, 0.3),
        (0.1, 0.2, 0.3),
    )
    assert (rpn.before_nms, rpn.before_nms_train) == (600, 1500)
    assert (rpn.after_nms, rpn.after_nms_train, rpn.nms_iou) == (300, 1200, 0.6)
    assert (box.score_threshold, box.nms_iou, box.max_detections) == (0.3, 0.4, 7)
    assert box.stages[0].delta_std == (0.2, 0.2, 0.5, 0.5)
    assert found.detector.classes == CLASSES
    assert found.assumed == config.assumed == ()


def test_several_anchors_a_level_come_in_the_same_order(model: MaskRCNN) -> None:
    def change(m: Any) -> None:
        sizes = tuple((s, 1.3 * s) for s in (20.0, 40.0, 90.0, 200.0, 300.0))
        m.rpn.anchor_generator = AnchorGenerator(sizes, ((0.5, 1.0, 3.0),) * 5)
        m.rpn.head.cls_logits = nn.Conv2d(256, 6, 1)
        m.rpn.head.bbox_pred = nn.Conv2d(256, 24, 1)

    theirs = changed(model, change)
    detector = reading.read(theirs).detector
    assert len(detector.config.model.rpn.anchor_sizes) == 5
    with torch.inference_mode():
        level = torch.randn(1, 256, 3, 4)
        logits, deltas = theirs.rpn.head([level])
        cells = theirs.rpn.anchor_generator.cell_anchors[0]
        own = make_anchors([(1, 1)] * 5, detector.rpn.shapes, "torchvision")[:6]
        # Where theirs has the anchor that is ours at this place.
        at = [int((cells == anchor).all(1).nonzero()) for anchor in own]
        assert sorted(at) == [0, 1, 2, 3, 4, 5] != at
        hidden = detector.rpn.conv(level).relu()
        torch.testing.assert_close(detector.rpn.cls(hidden), logits[0][:, at])
        by_anchor = deltas[0].view(1, 6, 4, 3, 4)[:, at].flatten(1, 2)
        torch.testing.assert_close(detector.rpn.reg(hidden), by_anchor)


def test_the_model_stays_as_it_is_and_apart(model: MaskRCNN) -> None:
    before = {name: x.clone() for name, x in model.state_dict().items()}
    model.train()
    ours = scnet.from_torchvision(model, classes=CLASSES, device="cpu")
    assert model.training
    model.eval()
    with torch.no_grad():
        for parameter in ours.detector.parameters():
            parameter.zero_()
    after = model.state_dict()
    assert all(torch.equal(x, after[name]) for name, x in before.items())


def test_tutorial_predictors_give_other_classes(model: MaskRCNN) -> None:
    def change(m: Any) -> None:
        m.roi_heads.box_predictor = FastRCNNPredictor(1024, 2)
        m.roi_heads.mask_predictor = MaskRCNNPredictor(256, 256, 2)

    ours = scnet.from_torchvision(changed(model, change), classes=["cell"], device="cpu")
    assert ours.classes == ("cell",)
    assert ours.detector.category_ids == (1,)


def test_the_second_version_brings_its_heads_and_their_norms() -> None:
    theirs = second_version()
    for norm in theirs.roi_heads.box_head.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 0.1
    found = reading.read(theirs, CLASSES).detector
    config = found.config.model
    assert (config.rpn.convs, config.box.convs, config.box.layers) == (2, 4, 1)
    assert set(config.norms) == {"batch"}
    pooled = torch.randn(3, 256, 7, 7, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = found.roi_heads.stages[0].hidden(pooled)
        goal = theirs.roi_heads.box_head(pooled)
    torch.testing.assert_close(ours, goal, rtol=1e-4, atol=1e-4 * float(goal.max()))
    theirs.roi_heads.box_head[1][2] = nn.LeakyReLU()
    with pytest.raises(CheckpointError, match=r"box_head\.1\.2 is a LeakyReLU; .* reads a ReLU"):
        reading.read(theirs)
    theirs.roi_heads.box_head[1][2] = nn.ReLU()
    theirs.backbone.fpn.inner_blocks[0][1] = nn.GroupNorm(32, 256)
    with pytest.raises(CheckpointError, match=r"inner_blocks\.0\.1 is a GroupNorm"):
        reading.read(theirs)


def test_a_norm_over_several_processes_is_batch_norm(model: MaskRCNN) -> None:
    norm = nn.SyncBatchNorm(64, eps=0.5)
    found = reading.read(changed(model, set_at("backbone.body.bn1", norm)))
    x = torch.randn(1, 64, 3, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, goal = found.detector.backbone.net.bn1(x), nn.BatchNorm2d(64, eps=0.5).eval()(x)
    torch.testing.assert_close(ours, goal)


class Other(nn.Module):
    def forward(self, x: Any) -> Any:
        return x


def set_at(path: str, value: Any) -> Callable[[Any], None]:
    *parts, last = path.split(".")

    def change(m: Any) -> None:
        for part in parts:
            m = getattr(m, part)
        setattr(m, last, value)

    return change


def dilate(m: Any) -> None:
    m.backbone.body.layer4[0].conv2.stride = (1, 1)


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "another box head": (set_at("roi_heads.box_head", Other()), "roi_heads.box_head is a Other"),
    "another RPN": (set_at("rpn.head", Other()), "rpn.head is a Other; scnet reads a RPNHead"),
    "another pooler": (
        set_at("roi_heads.mask_roi_pool", MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 0)),
        r"roi_heads.mask_roi_pool.sampling_ratio is 0; scnet has 2",
    ),
    "fewer levels": (
        set_at("roi_heads.box_roi_pool", MultiScaleRoIAlign(["0", "1"], 7, 2)),
        r"roi_heads.box_roi_pool.featmap_names is \['0', '1'\]",
    ),
    "bins that are not square": (
        set_at("roi_heads.box_roi_pool", MultiScaleRoIAlign(["0", "1", "2", "3"], (7, 9), 2)),
        "7 x 9 bins",
    ),
    "keypoints": (set_at("roi_heads.keypoint_head", Other()), "roi_heads.keypoint_head is Other"),
    "one size of images": (set_at("transform.fixed_size", (300, 300)), "transform.fixed_size"),
    "other padding": (set_at("transform.size_divisible", 64), "transform.size_divisible is 64"),
    "a threshold of proposals": (set_at("rpn.score_thresh", 0.1), "rpn.score_thresh is 0.1"),
    "other ratios on a level": (
        set_at("rpn.anchor_generator", AnchorGenerator(((32,),) * 5, ((1.0,),) * 4 + ((2.0,),))),
        "rpn.anchor_generator has sizes",
    ),
    "another share of positive anchors": (
        set_at("rpn.fg_bg_sampler.positive_fraction", 0.25),
        "rpn.fg_bg_sampler.positive_fraction is 0.25",
    ),
    "boxes that are left out": (
        set_at("roi_heads.proposal_matcher.low_threshold", 0.4),
        r"roi_heads.proposal_matcher leaves out boxes between 0.4 and 0.5",
    ),
    "another stride": (dilate, r"backbone.body.layer4.0.conv2 has stride \(1, 1\); scnet's has"),
    "dilated masks": (
        set_at("roi_heads.mask_head", MaskRCNNHeads(256, (256,) * 4, 2)),
        r"roi_heads.mask_head.0.0 has padding \(2, 2\)",
    ),
    "another norm": (
        set_at("backbone.body.bn1", nn.GroupNorm(32, 64)),
        "backbone.body.bn1 is a GroupNorm; scnet reads a FrozenBatchNorm2d or BatchNorm2d or",
    ),
    "narrow masks": (
        set_at("roi_heads.mask_predictor", MaskRCNNPredictor(256, 64, 5)),
        r"roi_heads.mask_predictor.conv5_mask.weight \(256, 64, 2, 2\) instead of",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_counterpart_is_named(model: MaskRCNN, case: str) -> None:
    change, told = REFUSED[case]
    with pytest.raises(CheckpointError, match=told):
        scnet.from_torchvision(changed(model, change), device="cpu")


def test_another_model_is_refused_by_its_name() -> None:
    other = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None)
    with pytest.raises(CheckpointError, match=r"a FasterRCNN is given; .*detection\.MaskRCNN"):
        scnet.from_torchvision(other)


def test_a_class_derived_from_it_is_refused(model: MaskRCNN) -> None:
    def derive(m: Any) -> None:
        m.__class__ = type("Own", (MaskRCNN,), {"forward": lambda self, images: []})

    with pytest.raises(CheckpointError, match=r"a Own is given; .*derived from it"):
        scnet.from_torchvision(changed(model, derive))
