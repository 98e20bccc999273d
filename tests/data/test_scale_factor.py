"""With a fixed scale a pixel is as large in every image, in training and prediction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scnet.config import DataConfig
from scnet.data.coco import load_dataset
from scnet.data.transforms import eval_view, train_view
from scnet.settings import ConfigError

FIXED = DataConfig(size=(32, 48), scale_factor=1.5, workers=0)


@pytest.mark.parametrize("size", [(20, 20), (30, 40), (40, 30), (200, 300), (1, 7)])
def test_prediction_sees_whole_images_enlarged_alike(size: tuple[int, int]) -> None:
    view = eval_view(size, FIXED)
    assert view.resized == tuple(int(side * 1.5 + 0.5) for side in size)
    assert view.size == view.resized
    assert view.inverse.scale == pytest.approx((1.5, 1.5), rel=0.5 / min(size))


def test_training_sees_windows_of_the_enlarged_image() -> None:
    random = np.random.default_rng(0)
    corners = set()
    for _ in range(50):
        view = train_view((40, 100), FIXED, random)
        assert view.resized == (60, 150)
        assert view.size == (32, 48)
        corners.add(view.window[:2])
    assert len(corners) > 30
    # The window is not turned for images that are taller than wide.
    assert train_view((100, 40), FIXED, random).size == (32, 48)
    # And what is smaller than it is seen whole.
    assert train_view((10, 20), FIXED, random).size == (15, 30)


def test_jitter_varies_the_fixed_scale() -> None:
    random = np.random.default_rng(0)
    config = replace(FIXED, jitter=(0.5, 2.0))
    heights = [train_view((100, 100), config, random).resized[0] for _ in range(200)]
    assert 75 <= min(heights) < 90
    assert 250 < max(heights) <= 300


def test_objects_that_a_window_cuts_off_are_gone_and_others_have_boxes(coco_folder: Path) -> None:
    config = replace(FIXED, size=(16, 16), flip=0.0)
    dataset = load_dataset(coco_folder, "train", config, train=True)
    counts = set()
    for epoch in range(40):
        dataset.set_epoch(epoch)
        sample = dataset[0]
        assert sample.image.shape == (3, 16, 16)
        assert sample.objects is not None
        boxes = sample.objects.boxes
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert boxes.min().item() >= 0 if len(boxes) else True
        assert len(sample.objects.masks) == len(boxes) == len(sample.objects.labels)
        counts.add(len(boxes))
    assert counts == {0, 1, 2}


def test_a_validation_image_is_seen_whole(coco_folder: Path) -> None:
    dataset = load_dataset(coco_folder, "val", FIXED, train=False)
    assert dataset[0].image.shape == (3, 45, 60)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": (10, 20)}, r"data\.scales: .* data\.jitter varies that factor"),
        ({"keep_ratio": False}, r"data\.keep_ratio: off .* set only one"),
        ({"scale_factor": 0.0}, r"data\.scale_factor"),
    ],
)
def test_what_contradicts_a_fixed_scale_is_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        DataConfig(**{"scale_factor": 1.5, **settings})  # type: ignore[arg-type]
