"""Prediction from every kind of source, in the pixels of the original image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.model_cases import make_detector

import scnet
from scnet.config import DataConfig, replace_at
from scnet.data.images import DataError
from scnet.inference.model import Model
from scnet.inference.sources import to_image
from scnet.ops.visible import visible
from scnet.runtime.device import pick_device
from scnet.settings import ConfigError
from scnet.types import Size
from scnet.weights import checkpoint


@pytest.fixture(scope="module")
def model() -> Model:
    detector = make_detector("scnet_lite", model__box__score_threshold=0.0)
    detector.config = replace(detector.config, data=replace(detector.config.data, size=(64, 96)))
    return Model(detector, "cpu")


@pytest.fixture
def photo() -> Image.Image:
    return Image.effect_noise((90, 60), 50).convert("RGB")


def test_every_kind_of_source_gives_the_same(
    model: Model, photo: Image.Image, tmp_path: Path
) -> None:
    photo.save(tmp_path / "photo.png")
    array = np.array(photo)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    expected = model.predict(photo, score=0.0)
    assert len(expected)
    for source in (
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
        array,
        tensor,
        tensor.float(),
    ):
        found = model.predict(source, score=0.0)
        torch.testing.assert_close(found.boxes, expected.boxes)
        assert found.rle == expected.rle
    several = model.predict([photo, array], score=0.0)
    assert [f.rle for f in several] == [expected.rle, expected.rle]


def test_boxes_and_masks_are_in_pixels_of_the_image(model: Model, photo: Image.Image) -> None:
    large = photo.resize((360, 240))
    found = model.predict(large, score=0.0)
    assert found.size == (240, 360)
    assert found.masks().shape[1:] == (240, 360)
    assert found.boxes[:, 2].max() > 100
    assert (found.boxes[:, 2] <= 360.01).all()
    assert (found.boxes[:, 3] <= 240.01).all()


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({}, (72, 108)),  # as the model was trained
        ({"scale_factor": 0.5}, (30, 45)),
        ({"scale_factor": 2.0}, (120, 180)),
        ({"image_size": (96, 200)}, (96, 144)),
        ({"image_size": (96, 108)}, (72, 108)),
    ],
)
def test_images_are_seen_as_large_as_is_asked(
    options: dict[str, Any], seen: Size, photo: Image.Image, tmp_path: Path
) -> None:
    detector = make_detector("scnet_lite", model__box__score_threshold=0.0)
    data = DataConfig(size=(48, 48), scale_factor=1.2, repeat_large=True, jitter=(0.9, 1.1))
    detector.config = replace(detector.config, data=data)
    checkpoint.save(tmp_path / "model", detector)
    model = scnet.load(tmp_path / "model", device="cpu", **options)
    _, batch = model.read([photo])
    assert batch.sizes.tolist() == [list(seen)]
    found = model.predict(photo, score=0.0)
    assert found.size == (60, 90)
    assert found.boxes[:, 2].max() <= 90


def test_hidden_objects_are_left_out_on_demand(photo: Image.Image, tmp_path: Path) -> None:
    detector = make_detector("scnet_lite", model__box__score_threshold=0.0)
    detector.config = replace_at(detector.config, "model.box.nms_iou", 0.9)
    checkpoint.save(tmp_path / "model", detector)
    every = scnet.load(tmp_path / "model", device="cpu").predict(photo, score=0.0)
    model = scnet.load(tmp_path / "model", device="cpu", least_visible=0.7)
    found = model.predict(photo, score=0.0)
    expected = every[visible(every.rle, every.size, 0.7)]
    assert 0 < len(found) < len(every)
    assert found.rle == expected.rle
    assert torch.equal(found.scores, expected.scores)
    # The same wherever a model looks at images.
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)
    alone = model.detector.predict([pixels])[0]
    assert visible(alone.rle, alone.size, 0.7) == list(range(len(alone)))


def test_two_ways_to_resize_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="image_size and scale_factor both"):
        scnet.load(tmp_path, image_size=(64, 96), scale_factor=2.0)


def test_score_keeps_what_scores_at_least_that(model: Model, photo: Image.Image) -> None:
    everything = model.predict(photo, score=0.0)
    middle = float(everything.scores.median())
    some = model.predict(photo, score=middle)
    assert 0 < len(some) < len(everything)
    torch.testing.assert_close(some.boxes, everything[everything.scores >= middle].boxes)
    assert list(some.rle) == everything[everything.scores >= middle].rle


def test_grey_arrays_are_images_and_others_are_refused(model: Model) -> None:
    assert model.predict(np.zeros((40, 50), np.uint8)).size == (40, 50)
    with pytest.raises(DataError, match=r"must be \(H, W, 3\) or \(H, W\), not \(3, 40, 50\)"):
        model.predict(np.zeros((3, 40, 50), np.uint8))
    with pytest.raises(DataError, match=r"must be \(3, H, W\)"):
        model.predict(torch.zeros(40, 50))


@pytest.mark.parametrize("bands", [0, 1, 3, 4])
def test_an_array_is_read_as_a_file_of_the_same_pixels(tmp_path: Path, bands: int) -> None:
    shape = (6, 8, bands) if bands else (6, 8)
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    file = tmp_path / "image.png"
    Image.fromarray(pixels[..., 0] if bands == 1 else pixels).save(file)
    expected = np.asarray(to_image(file))
    assert expected.shape == (6, 8, 3)
    # Also where its rows lie in memory from the last to the first.
    for array in (pixels, pixels[::-1].copy()[::-1]):
        assert (np.asarray(to_image(array)) == expected).all()


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_values_of_0_to_1_are_refused_for_they_would_be_black(low: float) -> None:
    image = torch.linspace(low, 1, 3 * 40 * 50).reshape(3, 40, 50)
    with pytest.raises(DataError, match=rf"from {low:g} to 1; expected 0..255: .* by 255"):
        to_image(image)
    for dtype in (np.float32, np.float64, np.uint16):
        with pytest.raises(DataError, match=r"must be uint8, .* 0..255: .* by 255"):
            to_image(np.ones((40, 50, 3), dtype))
    with pytest.raises(DataError, match="not finite"):
        to_image(torch.full((3, 4, 5), float("nan")))


def test_dark_images_are_images() -> None:
    black, dark = torch.zeros(3, 4, 5), torch.ones(3, 4, 5, dtype=torch.uint8)
    assert to_image(black).getextrema() == ((0, 0),) * 3
    assert to_image(dark).getextrema() == ((1, 1),) * 3
    assert to_image(dark * 1.6).getextrema() == ((2, 2),) * 3


@pytest.mark.parametrize("shape", [(3, 0, 5), (4, 5), (1, 4, 5)])
def test_tensors_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"must be \(3, H, W\)"):
        to_image(torch.zeros(shape))


def test_plot_is_a_picture(model: Model, photo: Image.Image) -> None:
    found = model.predict(photo, score=0.0)
    drawn, nothing = np.asarray(found.plot()), np.asarray(found.plot(score=2.0))
    assert drawn.shape == nothing.shape
    enlarged = len(nothing) // photo.height
    inside = found.masks()[0].numpy()
    changed = (drawn != nothing).any(2)[::enlarged, ::enlarged]
    assert changed[inside].mean() > 0.9


def test_the_public_names_exist() -> None:
    assert set(scnet.__all__) <= set(dir(scnet))
    for name in scnet.__all__:
        assert getattr(scnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = scnet.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(("there", "auto"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_where_there_is_one(
    there: bool, auto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert pick_device("auto").type == auto
    assert pick_device("cpu").type == "cpu"


def test_build_gives_a_bare_detector_and_never_random_weights_unasked() -> None:
    detector = scnet.build(scnet.recipes.lite(scnet.recipes.scnet(num_classes=3)))
    stem = detector.backbone.net.conv_stem.weight
    assert not torch.equal(
        stem, scnet.build(detector.config, pretrained=False).backbone.net.conv_stem.weight
    )
    again = scnet.build(detector.config).backbone.net.conv_stem.weight
    assert torch.equal(stem, again)


def test_weights_that_cannot_be_had_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    config = scnet.recipes.mask_rcnn(num_classes=1)
    missing = replace(config.model.backbone, weights="nowhere.pth")
    with pytest.raises(FileNotFoundError, match=r"no file nowhere\.pth"):
        scnet.build(replace(config, model=replace(config.model, backbone=missing)))

    import timm

    def offline(*_: object, pretrained: bool = False, **__: object) -> object:
        raise OSError("no network")

    detector_backbone = timm.create_model
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda *a, **k: offline() if k.get("pretrained") else detector_backbone(*a, **k),
    )
    with pytest.raises(
        FileNotFoundError, match=r"cannot be had .*no network.*--model\.backbone\.weights none"
    ):
        scnet.build(config)


def test_a_weight_file_fills_the_backbone_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    import timm

    config = scnet.recipes.mask_rcnn(num_classes=1)
    backbone = replace(config.model.backbone, name="resnet18", weights=str(tmp_path / "w.pth"))
    config = replace(config, model=replace(config.model, backbone=backbone))
    net = timm.create_model("resnet18")
    torch.save(net.state_dict(), tmp_path / "w.pth")
    built = scnet.build(config)
    assert torch.equal(built.backbone.net.layer4[1].conv2.weight, net.layer4[1].conv2.weight)
    torch.save(timm.create_model("resnet34").layer1.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="does not fit"):
        scnet.build(config)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_no_images_is_refused(model: Model, photo: Image.Image, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}"):
        model.predict([photo], batch_size=batch_size)


def test_no_objects_are_wanted_and_none_are_given(model: Model, photo: Image.Image) -> None:
    assert len(model.predict(photo, score=0.0, max_detections=3)) == 3
    assert len(model.predict(photo, score=0.0, max_detections=0)) == 0
    with pytest.raises(ValueError, match="max_detections is -1"):
        model.predict(photo, max_detections=-1)
