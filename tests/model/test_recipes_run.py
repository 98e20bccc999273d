"""Every recipe trains and predicts, with and without objects."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tests.model_cases import CLASSES, HEIGHT, WIDTH, make_batch, make_detector, small
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from scnet import recipes
from scnet.config import BackboneConfig, ModelConfig, from_dict, to_dict
from scnet.model.detector import Detector
from scnet.model.rpn import RPNOutput
from scnet.settings import ConfigError
from scnet.types import IGNORE, Losses, Proposals


def parts(model: ModelConfig) -> tuple[object, ...]:
    """Return what a model is made of, without how wide, how many and how heavy."""
    box, mask, semantic = model.box, model.mask, model.semantic
    return (
        (len(box.stages), box.class_agnostic),
        semantic and semantic.residual,
        model.context is not None,
        (mask.fed_by, mask.trained_on, mask.residual, mask.flow, mask.relay, mask.scoring is None),
        (model.norm, model.rpn.border, model.backbone.frozen_norm),
    )


# Recipes that are made of the same parts are built once.
DISTINCT = {parts(small(n).model): n for n in reversed(recipes.RECIPES)}
CASES = {
    "one image empty": make_batch((3, 0)),
    "all images empty": make_batch((0, 0)),
    "both with objects": make_batch((4, 2)),
    # Crowd regions are no targets, and nothing is learnt from their pixels.
    "only crowd": dataclasses.replace(
        make_batch((0, 0)), semantic=torch.full((2, HEIGHT, WIDTH), IGNORE)
    ),
}


def without_gradient(detector: Detector, losses: Losses) -> list[str]:
    torch.stack(list(losses.values())).sum().backward()
    return [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("name", sorted(DISTINCT.values()))
def test_every_recipe_trains_and_predicts_with_and_without_objects(name: str) -> None:
    detector = make_detector(name)
    for case, batch in CASES.items():
        detector.zero_grad()
        losses = detector.loss(batch)
        assert all(torch.isfinite(loss) for loss in losses.values()), (case, losses)
        assert without_gradient(detector, losses) == [], case
        gradients = [p.grad for p in detector.parameters() if p.grad is not None]
        assert all(torch.isfinite(g).all() for g in gradients), case
    found = detector.predict([torch.rand(3, 64, 90) * 255, torch.rand(3, 100, 60) * 255])
    assert [f.size for f in found] == [(64, 90), (100, 60)]
    limits = torch.tensor([[90.0, 64] * 2, [60.0, 100] * 2])
    assert all((f.boxes <= limit + 1e-3).all() for f, limit in zip(found, limits, strict=True))


def no_proposals(out: RPNOutput, sizes: Tensor, training: bool) -> Proposals:
    return Proposals(torch.zeros(len(sizes), 60, 4), torch.zeros(len(sizes), 60, dtype=torch.bool))


@pytest.mark.parametrize("name", sorted(DISTINCT.values()))
def test_no_proposals_leaves_every_parameter_with_a_gradient(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = make_detector(name)
    monkeypatch.setattr(detector.rpn, "proposals", no_proposals)
    for batch in CASES.values():
        detector.zero_grad()
        losses = detector.loss(batch)
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert without_gradient(detector, losses) == []
    assert [len(f) for f in detector.predict([torch.rand(3, 64, 90) * 255])] == [0]


@pytest.mark.parametrize("name", sorted(DISTINCT.values()))
def test_nothing_above_the_threshold_gives_empty_detections(name: str) -> None:
    detector = make_detector(name, model__box__score_threshold=0.9999)
    found = detector.predict([torch.rand(3, 64, 90) * 255])[0]
    assert len(found) == 0
    assert found.masks().shape == (0, 64, 90)


NORMS = {
    "group": {"model__norm": "group"},
    "sync": {
        "model__norm": "sync",
        "model__backbone__frozen_norm": False,
        "model__backbone__sync_norm": True,
    },
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["mask_rcnn", "htc", "scnet"])
def test_recipes_train_and_predict_with_norms(name: str, norm: str) -> None:
    detector = make_detector(name, **NORMS[norm]).train()
    with pytest.MonkeyPatch.context() as patch:
        for batch in CASES.values():
            detector.zero_grad()
            assert without_gradient(detector, detector.loss(batch)) == []
            patch.setattr(detector.rpn, "proposals", no_proposals)
    assert all(torch.isfinite(x).all() for x in detector.state_dict().values())
    found = detector.eval().predict([torch.rand(3, 64, 90) * 255])
    assert [f.size for f in found] == [(64, 90)]


def test_norms_add_parameters_only_where_set() -> None:
    plain, group, sync = (make_detector("scnet", **changes) for changes in ({}, *NORMS.values()))
    assert not any("norm" in name for name in plain.state_dict())
    assert sum(isinstance(m, torch.nn.GroupNorm) for m in group.modules()) == 8 + 4 + 4 + 12
    kinds = [type(m) for m in sync.modules() if isinstance(m, _BatchNorm)]
    assert set(kinds) == {torch.nn.SyncBatchNorm}


def test_synchronising_a_frozen_norm_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sync_norm.*frozen_norm off"):
        BackboneConfig(sync_norm=True)


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_every_recipe_survives_its_own_file_format(name: str) -> None:
    config = recipes.find(name)
    assert config.recipe == name
    assert from_dict(to_dict(config)) == config
    assert recipes.describe(name)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("mask_rcnn", 44.396), ("cascade_mask_rcnn", 77.325), ("scnet", 94.799), ("htc", 80.258)],
)
def test_parameters_are_those_of_the_release(name: str, millions: float) -> None:
    # The release has the 183 semantic classes of COCO-stuff.
    config = recipes.find(name)
    if config.model.semantic:
        semantic = dataclasses.replace(config.model.semantic, num_classes=183)
        config = dataclasses.replace(
            config, model=dataclasses.replace(config.model, semantic=semantic)
        )
    with torch.device("meta"):  # nothing is filled with numbers
        count = sum(p.numel() for p in Detector(config).parameters())
    assert abs(count / 1e6 - millions) < 0.001


def test_lite_has_about_ten_million_parameters() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in Detector(recipes.find("scnet_lite")).parameters())
    assert 9.5e6 < count < 10.5e6


def test_a_backbone_that_does_not_exist_is_named_with_near_ones() -> None:
    config = small(
        "scnet", dataclasses.replace(small("scnet").model.backbone, name="resnet5O", widths=None)
    )
    with pytest.raises(ValueError, match=r"no model 'resnet5O'.*resnet50"):
        Detector(config)


def test_a_backbone_with_unknown_weights_is_refused() -> None:
    backbone = dataclasses.replace(small("scnet").model.backbone, name="resnet18.nope", widths=None)
    with pytest.raises(ValueError, match=r"resnet18\.nope cannot be built as a backbone.*nope"):
        Detector(small("scnet", backbone))


@pytest.mark.parametrize("name", ["convnext_atto", "dla34"])
def test_widths_that_a_backbone_does_not_take_are_refused(name: str) -> None:
    backbone = dataclasses.replace(small("scnet").model.backbone, name=name)
    with pytest.raises(ValueError, match=rf"model\.backbone\.widths: {name} takes none"):
        Detector(small("scnet", backbone))


def test_labels_are_of_the_config() -> None:
    detector = make_detector("mask_rcnn", model__box__score_threshold=0.0)
    found = detector.predict([torch.rand(3, 64, 90) * 255])[0]
    assert 0 < len(found) <= 100
    assert set(found.labels.tolist()) <= set(range(CLASSES))
