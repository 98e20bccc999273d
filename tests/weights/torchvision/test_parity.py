"""A model of torchvision computes the same here, from the images up to masks that are not placed.

What comes behind is not equal on purpose: torchvision widens boxes to whole pixels when it places a
mask. Images are not resized here, as both do that in different ways too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from tests.weights.torchvision.models import (
    CLASSES,
    Computed,
    compute,
    first_version,
    second_version,
)
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import resize_boxes

import scnet
from scnet.inference.detections import place
from scnet.model.cascade import Dense
from scnet.model.detector import Detector
from scnet.model.features import RoIFeatures
from scnet.types import Batch, Candidates, Found, ImageInfo, Proposals, RoIs, View
from scnet.weights.foreign.torchvision import model as reading

# Height and width of the images of each batch. Their padded sides are no multiples of 64, so that
# the stride of P6 is another; in the last batch, images have different sizes.
BATCHES = {
    "160 x 224": [(160, 224)],
    "224 x 160": [(224, 160)],
    "130 x 300": [(130, 300)],
    "192 x 192": [(192, 192)],
    "two sizes": [(160, 200), (230, 160)],
}
CLOSE = 1e-4  # of the largest value
# Boxes of which rounding decides may be others, in NMS and at the last place.
SAME = 0.98


class Case(NamedTuple):
    theirs: Computed
    ours: Detector
    batch: Batch
    dense: Dense
    features: RoIFeatures


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=[first_version, second_version])
def model(request: pytest.FixtureRequest) -> MaskRCNN:
    made: MaskRCNN = request.param(box_detections_per_img=30)
    return made


@pytest.fixture(scope="module")
def detector(model: MaskRCNN) -> Detector:
    return reading.read(model, CLASSES).detector


@pytest.fixture(scope="module", params=BATCHES)
def case(request: pytest.FixtureRequest, model: MaskRCNN, detector: Detector) -> Case:
    random = torch.Generator().manual_seed(len(request.param))
    pixels = [
        torch.randint(256, (3, *size), generator=random, dtype=torch.uint8)
        for size in BATCHES[request.param]
    ]
    theirs = compute(model, [x / 255 for x in pixels])
    info = [ImageInfo(i, "", View.whole(tuple(x.shape[1:]))) for i, x in enumerate(pixels)]
    batch = Batch.of(pixels, info)
    with torch.inference_mode():
        dense = detector.dense(batch.images, batch.sizes)
        features = RoIFeatures(dense.scene.scene, detector.config.model)
        return Case(theirs, detector, batch, dense, features)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    largest = float(theirs.abs().max())
    assert largest > 0.03
    torch.testing.assert_close(ours, theirs, rtol=0, atol=CLOSE * largest)


def their_rois(boxes: list[Tensor]) -> RoIs:
    image = torch.cat([torch.full((len(x),), i) for i, x in enumerate(boxes)])
    return RoIs(torch.cat(boxes), image)


def test_images_are_normalised_alike(case: Case) -> None:
    assert_close(case.ours.normalise(case.batch.images, case.batch.sizes), case.theirs.images)


def test_the_pyramid_is_the_same(case: Case) -> None:
    ours = case.ours.fpn(case.ours.backbone(case.theirs.images))
    for mine, theirs in zip(ours, case.theirs.pyramid, strict=True):
        assert_close(mine, theirs)


def test_anchors_are_the_same(case: Case, model: MaskRCNN) -> None:
    images = ImageList(case.theirs.images, case.theirs.sizes)
    theirs = model.rpn.anchor_generator(images, case.theirs.pyramid)[0]
    assert torch.equal(case.dense.rpn.anchors, theirs)


def test_the_rpn_says_the_same(case: Case) -> None:
    rpn = case.dense.rpn
    levels = zip(
        rpn.logits.split(list(rpn.counts), 1),
        rpn.deltas.split(list(rpn.counts), 1),
        case.theirs.logits,
        case.theirs.deltas,
        strict=True,
    )
    for logits, deltas, their_logits, their_deltas in levels:
        assert_close(logits, their_logits.permute(0, 2, 3, 1).flatten(1))
        by_cell = their_deltas.permute(0, 2, 3, 1)
        assert_close(deltas, by_cell.reshape(len(deltas), -1, 4))


def test_proposals_are_the_same(case: Case) -> None:
    boxes, valid, _ = case.ours.rpn.proposals(case.dense.rpn, case.batch.sizes, training=False)
    for mine, there, theirs in zip(boxes, valid, case.theirs.proposals, strict=True):
        assert len(theirs) > 50
        assert abs(int(there.sum()) - len(theirs)) <= 2
        apart = torch.cdist(mine[there], theirs, p=torch.inf)
        for nearest in (apart.amin(0), apart.amin(1)):
            assert (nearest < 0.01).double().mean() >= SAME


def test_the_box_head_says_the_same_of_their_proposals(case: Case) -> None:
    stage = case.ours.roi_heads.stages[0]
    rois = their_rois(case.theirs.proposals)
    out = stage(case.features(rois, stage.side))
    assert_close(out.logits, case.theirs.classes.roll(-1, 1))
    assert_close(out.deltas, case.theirs.boxes.view(len(rois.boxes), -1, 4)[:, 1:])


def test_the_same_is_chosen_of_their_proposals(case: Case) -> None:
    boxes = torch.stack([pad(x) for x in case.theirs.proposals])
    valid = (boxes[..., 2:] > boxes[..., :2]).all(2)
    candidates = case.ours.roi_heads.find(case.features, Proposals(boxes, valid), case.batch.sizes)
    assert_found(case, candidates)


def pad(boxes: Tensor) -> Tensor:
    return torch.cat([boxes, boxes.new_zeros(100 - len(boxes), 4)])


def assert_found(case: Case, candidates: Candidates) -> None:
    rois, scores, labels = case.ours.choose(candidates, len(case.theirs.found))
    for i, theirs in enumerate(case.theirs.found):
        mine = rois.image == i
        assert len(theirs["boxes"]) > 10
        apart = torch.cdist(rois.boxes[mine], theirs["boxes"], p=torch.inf)
        other = labels[mine][:, None] != theirs["labels"] - 1
        nearest, at = (apart + 1000 * other).min(0)
        assert (nearest < 0.05).double().mean() >= 0.9
        off = (scores[mine][at] - theirs["scores"])[nearest < 0.05]
        assert off.abs().max() < 1e-4


def test_the_mask_head_says_the_same_of_what_they_found(case: Case) -> None:
    masks = case.ours.roi_heads.masks
    rois = their_rois([x["boxes"] for x in case.theirs.found])
    logits = masks(0, case.features(rois, masks.side), None, None)
    assert_close(logits, case.theirs.masks[:, 1:])


# Behind the network


def grown(masks: Tensor, by: int) -> Tensor:
    """Return masks with a border of so many pixels, or without their outermost ones."""
    size, sign = 2 * abs(by) + 1, 1 if by > 0 else -1
    # Nothing lies outside of the image.
    padded = F.pad(masks.float()[:, None], [abs(by)] * 4)
    return sign * F.max_pool2d(sign * padded, size, stride=1)[:, 0] > 0


def assert_same_but_for_the_border(ours: Tensor, theirs: Tensor) -> None:
    assert ours.flatten(1).any(1).all()
    assert not (theirs & ~grown(ours, 1)).any()
    assert not (grown(ours, -1) & ~theirs).any()


@pytest.mark.parametrize("times", [1, 1.7, 3])
def test_masks_are_placed_alike_but_for_a_pixel_at_the_border(times: float) -> None:
    """On originals that are so many times as large as the images that the network sees."""
    height, width, number = 300, 400, 24
    size = round(height * times), round(width * times)
    random = torch.Generator().manual_seed(5)
    low = torch.rand(number, 2, generator=random) * 100
    sides = torch.linspace(4, 190, number)[:, None] * (
        0.8 + torch.rand(number, 2, generator=random)
    )
    boxes = torch.cat([low, low + sides], 1).minimum(torch.tensor([width, height] * 2))
    side = torch.arange(28) - 13.5
    disc = torch.sigmoid(0.8 * (13.5 - torch.hypot(side[:, None], side)))
    discs = disc.expand(number, 1, 28, 28).contiguous()
    batch = Batch.of(
        [torch.zeros(3, height, width)], [ImageInfo(0, "", View.whole(size, (height, width)))]
    )
    labels, image = torch.zeros(2, number, dtype=torch.long)
    found = Found(boxes, torch.rand(number, generator=random), labels, image, discs[:, 0])
    placed = place(found, batch, CLASSES, (1, 2, 3, 4))[0]
    original = resize_boxes(boxes, [height, width], list(size))
    torch.testing.assert_close(placed.boxes, original)
    ours, theirs = placed.masks(), paste_masks_in_image(discs, original, size)[:, 0] > 0.5
    assert_same_but_for_the_border(ours, theirs)
    large = (original[:, 2:] - original[:, :2]).amin(1) > 300
    shared, whole = (ours & theirs).sum((1, 2)), (ours | theirs).sum((1, 2))
    assert large.any() or times == 1
    assert (shared[large] >= 0.99 * whole[large]).all()


def test_predictions_are_the_same(model: MaskRCNN, detector: Detector) -> None:
    """From an image to what is told of it; masks fill their boxes, so that they have a border."""
    random = torch.Generator().manual_seed(9)
    pixels = torch.randint(256, (160, 224, 3), generator=random, dtype=torch.uint8)
    bias = model.roi_heads.mask_predictor.mask_fcn_logits.bias
    before = bias.clone()
    bias.add_(1000)
    theirs = compute(model, [pixels.permute(2, 0, 1) / 255]).final[0]
    ours = scnet.from_torchvision(model, classes=CLASSES, device="cpu")
    bias.copy_(before)
    assert ours.config.data.size == (160, 1333)
    found = ours.predict(pixels.numpy(), score=0.05)
    apart = torch.cdist(found.boxes, theirs["boxes"], p=torch.inf)
    other = found.labels[:, None] != theirs["labels"] - 1
    nearest, at = (apart + 1000 * other).min(0)
    same = nearest < 0.05
    assert same.sum() >= 0.9 * len(theirs["boxes"]) > 10
    assert (found.scores[at] - theirs["scores"])[same].abs().max() < 1e-4
    masks = theirs["masks"][same, 0] > 0.5
    assert_same_but_for_the_border(found.masks()[at[same]], masks)
