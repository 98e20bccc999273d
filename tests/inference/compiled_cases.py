"""A compiled detector gives the results of the plain one, and is compiled for few sizes alone.

`test_compiled.py` runs these without the checks of shapes, which PyTorch cannot compile.
"""

from __future__ import annotations

import functools
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tests.model_cases import make_batch, make_detector
from torch._dynamo.testing import CompileCounterWithBackend

from scnet import bench
from scnet.inference.compiled import compiled, padded_side
from scnet.inference.model import Model

LIMITS = (64, 96)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounterWithBackend]:
    """Trace as for real, but generate no code: that takes a minute for each size."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    plain = functools.partial(torch.compile, backend=counter)
    monkeypatch.setattr(torch, "compile", lambda f, mode=None, **options: plain(f, **options))
    yield counter
    torch._dynamo.reset()


def small_model(name: str, **options: object) -> Model:
    detector = make_detector(name, model__box__score_threshold=0.0)
    detector.config = replace(detector.config, data=replace(detector.config.data, size=LIMITS))
    return Model(detector, "cpu", **options)  # type: ignore[arg-type]


def noise(height: int, width: int) -> Image.Image:
    return Image.effect_noise((width, height), 80).convert("RGB")


def test_sides_are_padded_to_few_and_never_cut() -> None:
    sides = {side: padded_side(side, (800, 1333)) for side in range(1, 1334)}
    assert set(sides.values()) == {416, 800, 1088, 1216, 1344}
    assert all(side <= padded for side, padded in sides.items())
    assert padded_side(1400, (800, 1333)) == 1408


@pytest.mark.parametrize("name", ["mask_rcnn", "scnet"])
def test_results_are_those_of_the_plain_detector(
    name: str, counter: CompileCounterWithBackend
) -> None:
    plain, fast = small_model(name), small_model(name, compile=True)
    image = noise(*LIMITS)  # needs no further padding
    expected, found = (m.predict(image, score=0.0) for m in (plain, fast))
    assert counter.frame_count == 1
    assert len(expected) > 10
    torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)


def test_twenty_sizes_compile_nothing_new_after_the_padded_ones(
    counter: CompileCounterWithBackend,
) -> None:
    model = small_model("scnet", compile=True)
    for ratio in (1.0, 1.5):
        for size in ((64, round(64 * ratio)), (round(64 * ratio), 64)):
            model.predict([noise(*size)] * 2, batch_size=2)
    warm = counter.frame_count
    assert warm <= 3
    chance = random.Random(0)
    for _ in range(20):
        size = (chance.randint(64, 95), 64)
        model.predict(noise(*(size if chance.random() < 0.5 else size[::-1])))
    assert counter.frame_count == warm


def test_more_sizes_compile_than_the_limit_of_the_process_which_stays(
    counter: CompileCounterWithBackend,
) -> None:
    detector = make_detector("mask_rcnn").eval()
    detector.config = replace(detector.config, data=replace(detector.config.data, size=LIMITS))
    fast, config = compiled(detector), torch._dynamo.config
    with config.patch(recompile_limit=2), torch.inference_mode():
        for height, width in ((32, 64), (64, 64), (64, 96), (96, 64)):
            fast.graph(torch.zeros(1, 3, height, width), torch.tensor([[height, width]]))
        assert config.recompile_limit == 2
    assert counter.frame_count == 4


def test_images_added_to_fill_a_batch_are_not_in_the_results(
    counter: CompileCounterWithBackend,
) -> None:
    model = small_model("scnet", compile=True)
    images = [noise(64, 96), noise(96, 64), noise(64, 80)]
    several = model.predict(images, score=0.0, batch_size=2)
    assert counter.frame_count == 2  # 96 x 96 for the first two, 64 x 96 for the last
    again = model.predict(images[2], score=0.0)
    torch.testing.assert_close(several[2].boxes, again.boxes)


def test_the_plain_detector_stays_plain() -> None:
    detector = make_detector("scnet")
    fast = compiled(detector)
    assert detector.graph is None
    assert fast.graph is not None
    assert list(fast.state_dict()) == list(detector.state_dict())


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_generated_code_computes_the_same() -> None:
    detector = make_detector("scnet").eval()
    detector.config = replace(detector.config, data=replace(detector.config.data, size=(96, 128)))
    batch = make_batch((1, 1))
    with torch.inference_mode():
        rpn, scene = detector.dense(batch.images, batch.sizes)
        fast_rpn, fast_scene = compiled(detector).graph(batch.images, batch.sizes)
    torch.testing.assert_close(fast_rpn.logits, rpn.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fast_rpn.deltas, rpn.deltas, atol=1e-5, rtol=1e-4)
    assert fast_scene.scene.context is not None
    torch.testing.assert_close(fast_scene.scene.context, scene.scene.context, atol=1e-5, rtol=1e-4)


def test_a_benchmark_counts_operations_of_a_compiled_model(
    counter: CompileCounterWithBackend,
) -> None:
    setting = bench.Setting(
        models=("mask_rcnn_lite",),
        size=(96, 160),
        detections=5,
        rounds=1,
        compile=True,
        memory=False,
    )
    model = bench.bench(setting)["models"][0]
    assert counter.frame_count == 1
    assert model["flops"] > 1e9
    assert model["shares"]["backbone"] > 0
