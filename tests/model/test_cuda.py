"""A GPU computes what the CPU does, part by part."""

from __future__ import annotations

import pytest
import torch
from tests.model_cases import make_batch, make_detector

from scnet.inference.detections import place
from scnet.model.detector import Detector
from scnet.model.features import RoIFeatures
from scnet.types import Batch, Found, Proposals, Scene

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

NAMES = ("mask_rcnn", "cascade_mask_rcnn", "htc", "scnet")


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 rounds to ten bits, which is no measure of our code."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def pair(name: str) -> tuple[Detector, Detector, Batch]:
    """Return the same detector on both devices, and a batch; an image has no object."""
    batch = make_batch((3, 0))
    ours, theirs = (make_detector(name, model__box__score_threshold=0.0) for _ in range(2))
    return ours, theirs.cuda().to(memory_format=torch.channels_last), batch


def found_in(detector: Detector, scene: Scene, proposals: Proposals, batch: Batch) -> Found:
    heads = detector.head.roi_heads
    features = RoIFeatures(scene, heads.config)
    candidates = heads.find(features, proposals, batch.sizes)
    rois, scores, labels = detector.choose(candidates, len(batch.info))
    masks, ious = detector.head.masks(features, rois, labels)
    return Found(rois.boxes, scores, labels, rois.image, masks, ious)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_of_the_cpu(name: str) -> None:
    cpu, gpu, batch = pair(name)
    on_gpu = batch.to("cuda")
    with torch.inference_mode():
        rpn, scene = cpu.eval().dense(batch.images, batch.sizes)
        rpn_gpu, scene_gpu = gpu.eval().dense(on_gpu.images, on_gpu.sizes)
        torch.testing.assert_close(rpn_gpu.logits.cpu(), rpn.logits, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(rpn_gpu.deltas.cpu(), rpn.deltas, atol=1e-3, rtol=1e-3)
        # The same candidates go on, lest two nearly equal ones change places by rounding.
        proposals = cpu.head.rpn.proposals(rpn, batch.sizes, training=False)
        found = found_in(cpu, scene.scene, proposals, batch)
        moved = type(proposals)(*(x.cuda() for x in proposals))
        found_gpu = found_in(gpu, scene_gpu.scene, moved, on_gpu)
    assert len(found.boxes) > 20
    torch.testing.assert_close(found_gpu.scores.cpu(), found.scores, atol=1e-3, rtol=0)
    torch.testing.assert_close(found_gpu.boxes.cpu(), found.boxes, atol=1e-2, rtol=0)
    torch.testing.assert_close(found_gpu.masks.cpu(), found.masks, atol=1e-3, rtol=0)
    places, places_gpu = (
        place(f, b, cpu.classes, cpu.category_ids) for f, b in ((found, batch), (found_gpu, on_gpu))
    )
    assert [len(one) for one in places] == [len(one) for one in places_gpu]


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_those_of_the_cpu(name: str) -> None:
    cpu, gpu, batch = pair(name)
    torch.manual_seed(0)
    expected = cpu.train().loss(batch)
    torch.manual_seed(0)
    losses = gpu.train().loss(batch.to("cuda"))
    assert losses.keys() == expected.keys()
    for key, value in losses.items():
        torch.testing.assert_close(value.cpu(), expected[key], atol=1e-3, rtol=1e-3)
    torch.stack(list(losses.values())).sum().backward()
    grads = [p.grad for p in gpu.parameters() if p.requires_grad]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)
