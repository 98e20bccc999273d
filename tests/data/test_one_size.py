"""Images of any shape resized to one: seen alike in training, validation and prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tests.model_cases import make_batch, make_detector

from scnet.config import DataConfig, RPNConfig
from scnet.data.transforms import eval_view, train_view, view_boxes, view_image, view_mask
from scnet.inference.detections import place
from scnet.inference.model import Model
from scnet.model.rpn import STRIDES, anchor_shapes, make_anchors
from scnet.types import Found

SIZE = DataConfig(size=(96, 128), keep_ratio=False, flip=0.0)


@pytest.mark.parametrize("original", [(50, 200), (200, 50), (96, 128), (1, 7)])
def test_every_image_gets_the_size_itself(original: tuple[int, int]) -> None:
    assert eval_view(original, SIZE).size == (96, 128)
    assert train_view(original, SIZE, np.random.default_rng(0)).size == (96, 128)
    image = Image.new("RGB", original[::-1])
    assert view_image(image, eval_view(original, SIZE)).shape == (3, 96, 128)


def test_scales_and_jitter_change_both_sides_in_proportion() -> None:
    several = DataConfig(size=(96, 128), keep_ratio=False, scales=(48, 192))
    sizes = {train_view((50, 200), several, np.random.default_rng(i)).size for i in range(20)}
    assert sizes == {(48, 64), (192, 256)}
    jitter = DataConfig(size=(96, 128), keep_ratio=False, jitter=(0.5, 2.0))
    for seed in range(20):
        view = train_view((200, 50), jitter, np.random.default_rng(seed))
        assert view.resized[1] == pytest.approx(view.resized[0] * 4 / 3, abs=2)
        assert view.size[0] <= 96
        assert view.size[1] <= 128


def test_boxes_and_masks_follow_the_image() -> None:
    view = train_view((50, 200), SIZE, np.random.default_rng(0))
    boxes = view_boxes(torch.tensor([[20.0, 10, 100, 40]]), view)
    assert boxes[0].tolist() == pytest.approx([12.8, 19.2, 64, 76.8])
    mask = view_mask([[20, 10, 100, 10, 100, 40, 20, 40]], view)
    height, width = mask.pixels.shape
    assert (height - 2, width - 2) == pytest.approx((57.6, 51.2), abs=1)


def test_what_is_found_is_placed_back_along_each_axis() -> None:
    detector = make_detector("mask_rcnn", data__size=(96, 128), data__keep_ratio=False)
    model = Model(detector, "cpu")
    pixels = np.zeros((50, 200, 3), np.uint8)
    _, batch = model.read([pixels, pixels[:, :50]])
    assert batch.sizes.tolist() == [[96, 128], [96, 128]]
    boxes = torch.tensor([[0.0, 0, 128, 96], [32, 24, 64, 48]])
    found = Found(
        boxes,
        torch.ones(2),
        torch.zeros(2, dtype=torch.long),
        torch.tensor([0, 1]),
        torch.ones(2, 28, 28),
    )
    first, second = place(found, batch, model.classes, model.detector.category_ids)
    assert first.boxes[0].tolist() == pytest.approx([0, 0, 200, 50])
    assert second.boxes[0].tolist() == pytest.approx([12.5, 12.5, 25, 25])
    assert first.masks().shape == (1, 50, 200)
    assert first.masks()[0, 5:45, 10:190].all()


def test_anchors_of_several_sizes_lie_as_in_the_release() -> None:
    multiples, ratios = (1.0, 1.26, 1.59), (0.5, 2.0)
    config = RPNConfig(anchor_scale=4.0, anchor_multiples=multiples, anchor_ratios=ratios)
    anchors = make_anchors([(1, 2)] * 5, anchor_shapes(config)).view(5, 2, 6, 4)
    for level, stride in enumerate(STRIDES):
        for column in range(2):
            expected = []
            for ratio in ratios:
                for multiple in multiples:
                    side = stride * 4 * multiple
                    w, h = side / ratio**0.5, side * ratio**0.5
                    x = column * stride
                    expected.append([x - w / 2, -h / 2, x + w / 2, h / 2])
            torch.testing.assert_close(anchors[level, column], torch.tensor(expected))


@pytest.mark.parametrize("scale", [8.0, 4.0])
def test_anchors_can_be_named_by_their_sizes_in_pixels(scale: float) -> None:
    sizes = tuple((stride * scale,) for stride in STRIDES)
    by_size = anchor_shapes(RPNConfig(anchor_sizes=sizes))
    torch.testing.assert_close(by_size, anchor_shapes(RPNConfig(anchor_scale=scale)))


def test_anchors_of_named_sizes_lie_size_by_size() -> None:
    sizes = ((4.0, 6.0), (9.0, 12.0), (17.0, 20.0), (31.0, 40.0), (64.0, 90.0))
    config = RPNConfig(anchor_sizes=sizes, anchor_ratios=(0.25, 1.0, 4.0))
    shapes = anchor_shapes(config) * 2
    assert config.anchors == shapes.shape[1] == 6
    for level, (small, large) in enumerate(sizes):
        expected = [[s * w, s / w] for s in (small, large) for w in (2, 1, 0.5)]
        torch.testing.assert_close(shapes[level], torch.tensor(expected))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("anchor_multiples", (1.0, 1.5, 2.0)),
        ("anchor_sizes", tuple((8.0 * s, 9.0 * s, 11.0 * s) for s in STRIDES)),
    ],
)
def test_several_anchors_a_place_are_learnt_and_found_with(name: str, value: object) -> None:
    detector = make_detector("mask_rcnn", **{f"model__rpn__{name}": value})
    batch = make_batch((2, 1))
    losses = detector.loss(batch)
    torch.stack(list(losses.values())).sum().backward()
    assert detector.rpn.cls.weight.shape[0] == 9
    assert (detector.rpn.cls.weight.grad.flatten(1).abs().sum(1) > 0).all()
    assert len(detector.detect(batch).boxes) > 0
