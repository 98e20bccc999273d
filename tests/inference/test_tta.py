"""Test-time augmentation: views are laid and laid back, and what they say is averaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.model_cases import make_detector
from torch import Tensor

import scnet
from scnet.cli.main import main
from scnet.inference.model import Model
from scnet.inference.tta import VIEWS, Augmented, Pose, poses
from scnet.model.detector import Detector
from scnet.ops.boxes import iou
from scnet.settings import ConfigError
from scnet.types import Batch, ImageInfo, View

EVERY = poses("turns")


def batch_of(*images: Tensor) -> Batch:
    views = [View.whole((image.shape[1], image.shape[2])) for image in images]
    return Batch.of(images, [ImageInfo(i, "", view) for i, view in enumerate(views)])


def discs() -> np.ndarray:
    """Bright discs on a dark ground, nowhere symmetric."""
    y, x = np.mgrid[:96, :160]
    image = np.full((96, 160), 10, np.uint8)
    for cx, cy, r in ((20, 20, 8), (50, 30, 10), (95, 70, 9), (125, 25, 7), (30, 75, 11)):
        image[(x - cx) ** 2 + (y - cy) ** 2 <= r * r] = 200
    return image


@pytest.fixture(scope="module")
def nuclei() -> Detector:
    return scnet.load("nuclei", device="cpu", quiet=True).fast


def test_the_eight_ways_to_lay_an_image_differ() -> None:
    image = torch.arange(6.0).view(1, 2, 3)
    laid = {tuple(pose.image(image).flatten(1)[0].tolist()) for pose in EVERY}
    assert len(laid) == len(set(EVERY)) == 8
    for views in VIEWS:
        assert poses(views)[0] == Pose()
        assert set(poses(views)) <= set(EVERY)
    # As images of a training are turned: the right border comes to lie on top.
    assert Pose(turned=True).image(image)[0].tolist() == [[2, 5], [1, 4], [0, 3]]


@pytest.mark.parametrize("pose", EVERY)
def test_boxes_lie_where_their_image_lies(pose: Pose) -> None:
    image = torch.zeros(1, 20, 30)
    image[:, 3:8, 11:25] = 1
    box = torch.tensor([11.0, 3, 25, 8])
    laid = pose.image(image)
    assert torch.equal(pose.image_back(laid), image)
    y, x = laid[0].nonzero().unbind(1)
    expected = torch.stack((x.min(), y.min(), x.max() + 1, y.max() + 1)).float()
    assert torch.equal(pose.boxes(box, (20, 30)), expected)
    assert torch.equal(pose.boxes_back(expected, (20, 30)), box)


def test_an_image_that_is_laid_otherwise_holds_the_same(nuclei: Detector) -> None:
    """All eight views together are the same for each of the eight."""
    image = torch.from_numpy(discs()).expand(3, -1, -1)
    finder = Augmented(nuclei, "turns")
    plain = finder.detect(batch_of(image), min_score=0.5)
    assert len(plain.boxes) == 5
    for pose in (Pose(True), Pose(False, True), Pose(turned=True), Pose(True, True, True)):
        found = finder.detect(batch_of(pose.image(image)), min_score=0.5)
        boxes = pose.boxes_back(found.boxes, (96, 160))
        overlap, place = iou(plain.boxes, boxes).max(1)
        assert sorted(place.tolist()) == list(range(5))
        assert overlap.min() > 0.98
        assert (found.scores[place] - plain.scores).abs().max() < 0.01
        assert (pose.image_back(found.masks)[place] - plain.masks).abs().mean() < 0.01


def test_discs_are_outlined(nuclei: Detector) -> None:
    """Masks of views that were laid back wrongly would not meet their discs."""
    expected = torch.from_numpy(discs() > 100)
    model = Model(nuclei, "cpu", tta="flips")
    found = model.predict(discs(), score=0.5)
    got = torch.as_tensor(found.masks()).any(0)
    assert (got & expected).sum() / (got | expected).sum() > 0.85


@pytest.mark.parametrize(
    "recipe", ["mask_rcnn_lite", "htc_lite", "scnet_lite", "mask_scoring_rcnn_lite"]
)
def test_images_of_a_batch_are_seen_one_by_one(recipe: str) -> None:
    detector = make_detector(recipe, model__box__score_threshold=0.0).eval()
    finder = Augmented(detector, "turns")
    random = torch.Generator().manual_seed(0)
    images = [torch.rand(3, h, w, generator=random) * 255 for h, w in ((64, 96), (70, 50))]
    together = finder.detect(batch_of(*images), max_detections=9)
    assert together.image.unique().tolist() == [0, 1]
    assert (together.mask_ious is None) == (recipe != "mask_scoring_rcnn_lite")
    for number, image in enumerate(images):
        alone = finder.detect(batch_of(image), max_detections=9)
        mine = together.image == number
        assert torch.equal(together.scores[mine], alone.scores)
        assert torch.equal(together.boxes[mine], alone.boxes)
        assert torch.equal(together.masks[mine], alone.masks)
        height, width = image.shape[1:]
        limit = torch.tensor([width, height, width, height])
        assert (alone.boxes >= 0).all()
        assert (alone.boxes <= limit).all()


@pytest.mark.parametrize("recipe", ["mask_rcnn_lite", "scnet_lite"])
def test_left_and_right_change_places_in_mirror_images(recipe: str) -> None:
    """What is said of an image is said of its mirror image with left and right exchanged."""
    detector = make_detector(
        recipe, model__box__score_threshold=0.0, model__box__nms_iou=1.0
    ).eval()
    classes = ("left arm", "nose", "right arm", *detector.classes[3:])
    detector.classes = classes
    finder = Augmented(detector, "mirror")
    assert any("left arm" in note and "change places" in note for note in finder.notes)
    image = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0)) * 255
    seen = [finder._see(image, Pose(mirrored)) for mirrored in (False, True)]
    proposals = finder._proposals(seen, (64, 96))
    laid = proposals._replace(boxes=Pose(True).boxes(proposals.boxes, (64, 96)))
    here = finder._candidates(seen, proposals, (64, 96))
    other = [finder._see(Pose(True).image(image), Pose(mirrored)) for mirrored in (False, True)]
    there = finder._candidates(other, laid, (64, 96))
    swapped = torch.tensor([2, 1, 0, *range(3, len(classes))])
    assert not torch.equal(swapped, torch.arange(len(classes)))
    torch.testing.assert_close(there.scores[:, swapped], here.scores, atol=1e-4, rtol=0)
    assert (there.scores - here.scores).abs().max() > 1e-3
    boxes = Pose(True).boxes_back(there.boxes, (64, 96))
    boxes = boxes if boxes.shape[1] == 1 else boxes[:, swapped]
    torch.testing.assert_close(boxes, here.boxes, atol=1e-2, rtol=0)


def test_what_cannot_be_is_refused(nuclei: Detector) -> None:
    with pytest.raises(ConfigError, match="tta is 'all'; give one of mirror, flips, turns"):
        poses("all")
    with pytest.raises(ConfigError, match="give compile or tta"):
        Model(nuclei, "cpu", compile=True, tta="flips")


def test_commands_take_it(tmp_path: Path) -> None:
    Image.fromarray(discs()).save(tmp_path / "cells.png")
    out = tmp_path / "found"
    words = ["--tta", "mirror", "--scale-factor", "1", "-o", str(out), "--no-pictures"]
    assert main(["predict", "nuclei", str(tmp_path / "cells.png"), *words]) == 0
    scores = [entry["score"] for entry in json.loads((out / "cells.json").read_text())]
    plain, mirrored = (
        scnet.load("nuclei", scale_factor=1.0, tta=tta).predict(discs()).scores
        for tta in (None, "mirror")
    )
    assert scores == pytest.approx(mirrored.tolist(), abs=1e-4)
    assert scores != pytest.approx(plain.tolist(), abs=1e-4)
