"""A training goes on from trained weights, with other classes, and says what it takes of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.mmdet_files import mask_rcnn, write
from tests.weights.mmdet.checkpoints import save, tiny

from scnet import recipes
from scnet.cli.main import main
from scnet.config import (
    Config,
    DeformableConfig,
    FPNConfig,
    PAFPNConfig,
    from_dict,
    override,
    replace_at,
    to_dict,
)
from scnet.data.synthetic.scene import generate
from scnet.model.detector import Detector
from scnet.settings import ConfigError, merge
from scnet.training.asked import Asked, ask
from scnet.training.loop import Trainer
from scnet.training.resuming import stored_config
from scnet.training.run import resume, train
from scnet.training.start import THEIRS, Start
from scnet.weights import checkpoint, hub
from scnet.weights.checkpoint import CheckpointError
from scnet.weights.foreign.convert import read

Settings = dict[str, Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("data") / "data", train=4, val=1, size=(96, 96))


@pytest.fixture
def settings(quick: Settings) -> Settings:
    """Settings of two steps, without those that weights to go on from bring along or replace."""
    settings = merge(quick, {"optim": {"max_steps": 2}, "eval": {"every": 0, "pictures": 0}})
    del settings["optim"]["epochs"]
    backbone = {k: v for k, v in settings["model"]["backbone"].items() if k != "weights"}
    settings["model"]["backbone"] = backbone
    return merge(settings, {"optim": {"schedule": "cosine"}, "run": {"trackers": []}})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A narrow Mask R-CNN that knows one class of the data, and another."""
    return save_detector(tmp_path / "weights")


def save_detector(folder: Path, **changes: Any) -> Path:
    torch.manual_seed(3)
    backbone = {"name": "resnet18", "widths": [8, 16, 32, 64], "weights": "none"}
    model = {"num_classes": 2, "channels": 16, "box": {"hidden": 32}, "backbone": backbone}
    config = override(recipes.find("mask_rcnn"), {"model": model, "classes": ["other", "cat"]})
    for path, value in changes.items():
        config = replace_at(config, path.replace("__", "."), value)
    checkpoint.save(folder, Detector(config))
    return folder


def begin(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Let trainings not train; return the weights that each would have begun with."""
    seen: list[dict[str, torch.Tensor]] = []

    def run(trainer: Any) -> None:
        seen.append({k: v.clone() for k, v in trainer.detector.state_dict().items()})

    monkeypatch.setattr("scnet.training.run.Trainer.run", run)
    return seen


def of_weights(**changes: Any) -> Start:
    """Weights to go on from of a Mask R-CNN with other settings (`__` stands for a dot)."""
    config = recipes.find("mask_rcnn")
    for path, value in changes.items():
        config = replace_at(config, path.replace("__", "."), value)
    with torch.device("meta"):
        return Start("w", Detector(config))


def asked(recipe: str | Config, start: Start, model: Settings) -> Asked:
    """What a training with these settings of the model would be."""
    return ask(recipe, "data", settings={"model": model}, start=start)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_a_training_begins_with_the_weights_and_says_so(
    weights: Path,
    data: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = begin(monkeypatch)
    run = train("scnet", data, start=weights, output=tmp_path / "run", settings=settings)
    (state,) = seen
    given = checkpoint.load(weights).state_dict()
    for key, value in given.items():
        if key.startswith(("backbone", "fpn", "rpn")):
            assert torch.equal(state[key], value), key
    cls = "roi_heads.stages.0.cls.weight"  # of disc, other and background
    assert torch.equal(state[cls][1:], given[cls][[0, 2]])
    text = said(capsys)
    assert f"taken from {weights} (mask_rcnn): " in text
    assert "classes: 1 of 2 known to the weights: other; new: disc; 1 of the weights left" in text
    assert "ImageNet" not in text
    assert stored_config(run).start == str(weights)


def test_imagenet_weights_are_not_asked_for(
    weights: Path,
    data: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fetch(*_: Any) -> None:
        raise AssertionError

    begin(monkeypatch)
    monkeypatch.setattr("scnet.training.run.load_backbone_weights", fetch)
    monkeypatch.setattr("timm.models._builder.load_pretrained", fetch)
    train("mask_rcnn", data, start=weights, output=tmp_path / "r", settings=settings, quiet=True)


def test_the_run_goes_on_without_the_weights_and_to_the_same_end(
    weights: Path, data: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = merge(settings, {"run": {"checkpoint_steps": 1}})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train("mask_rcnn", data, start=weights, output=whole, settings=settings, quiet=True)
    step = Trainer.train_step

    def killed(self: Trainer, pieces: Any) -> Any:
        if self.progress.step == 1:
            raise KeyboardInterrupt
        return step(self, pieces)

    monkeypatch.setattr(Trainer, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train("mask_rcnn", data, start=weights, output=cut, settings=settings, quiet=True)
    monkeypatch.setattr(Trainer, "train_step", step)
    shutil.rmtree(weights)
    resume(cut, quiet=True)
    first, second = (checkpoint.load(run / "last") for run in (whole, cut))
    assert first.config.start == second.config.start == str(weights)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_settings_of_the_weights_come_along_unless_they_are_given(
    data: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = begin(monkeypatch)
    weights = save_detector(
        tmp_path / "w",
        model__rpn__anchor_scale=4.0,
        model__backbone__mean=(0.5, 0.5, 0.5),
        data__range="minmax",
    )
    run = train("mask_rcnn", data, start=weights, output=tmp_path / "a", settings=settings)
    config, text = stored_config(run), said(capsys)
    assert config.model.rpn.anchor_scale == 4.0
    assert config.model.backbone.mean == (0.5, 0.5, 0.5)
    assert config.data.range == "minmax"
    assert "model.rpn.anchor_scale 4.0, as the weights have it (the recipe: 8.0)" in text
    assert "model.backbone.mean [0.5,0.5,0.5], as the weights have it" in text
    assert "data.range minmax, as the weights have it (the recipe: full)" in text

    own = merge(settings, {"model": {"rpn": {"anchor_scale": 8}}, "data": {"range": "full"}})
    run = train("mask_rcnn", data, start=weights, output=tmp_path / "b", settings=own)
    config, text = stored_config(run), said(capsys)
    assert (config.model.rpn.anchor_scale, config.data.range) == (8.0, "full")
    assert "warning: model.rpn.anchor_scale 8.0, but the weights were trained with 4.0" in text
    assert "warning: data.range full, but the weights were trained with minmax" in text
    assert "RPN: cls, reg (other anchors: model.rpn.anchor_scale)" in text
    given = checkpoint.load(weights).state_dict()["rpn.cls.weight"]
    assert torch.equal(seen[0]["rpn.cls.weight"], given)
    assert not torch.equal(seen[1]["rpn.cls.weight"], given)


def test_norms_and_deeper_heads_come_along_with_their_weights(
    data: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = begin(monkeypatch)
    deep = {"model__rpn__convs": 2, "model__box__convs": 2, "model__box__layers": 1}
    weights = save_detector(tmp_path / "w", model__norm="batch", model__mask__norm="group", **deep)
    own = merge(settings, {"model": {"norm": "frozen"}})
    run = train("mask_rcnn", data, start=weights, output=tmp_path / "a", settings=own)
    model, text = stored_config(run).model, said(capsys)
    assert model.norms == ("frozen", "frozen", "group")
    assert (model.rpn.convs, model.box.convs, model.box.layers) == (2, 2, 1)
    assert "warning: " not in text
    assert "model.norm frozen, which takes the weights of batch as they are" in text
    assert "model.box.convs 2, as the weights have it (the recipe: 0)" in text
    given = checkpoint.load(weights).state_dict()
    parts = ("fpn.", "rpn.", "roi_heads.stages.0.convs.", "roi_heads.masks.heads.0.convs.")
    names = [name for name in given if name.startswith(parts)]
    assert names
    assert all(torch.equal(seen[0][name], given[name]) for name in names)


def test_widths_come_along_with_their_weights_unless_they_are_given(
    data: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = begin(monkeypatch)
    weights = save_detector(tmp_path / "w")  # 16 channels, boxes of 32
    del settings["model"]["channels"], settings["model"]["box"]["hidden"]
    run = train("mask_rcnn", data, start=weights, output=tmp_path / "a", settings=settings)
    model, text = stored_config(run).model, said(capsys)
    assert (model.channels, model.box.hidden) == (16, 32)
    assert "model.channels 16, as the weights have it (the recipe: 256)" in text
    assert "model.box.hidden 32, as the weights have it (the recipe: 1024)" in text
    given = checkpoint.load(weights).state_dict()
    parts = ("fpn.", "rpn.", "roi_heads.stages.0.fc", "roi_heads.masks.heads.0.convs.")
    names = [name for name in given if name.startswith(parts)]
    assert len(names) > 20
    assert all(torch.equal(seen[0][name], given[name]) for name in names)

    wide = merge(settings, {"model": {"channels": 24}})
    run = train("mask_rcnn", data, start=weights, output=tmp_path / "b", settings=wide)
    assert stored_config(run).model.channels == 24
    text = said(capsys)
    assert "warning: model.channels 24, but the weights were trained with 16" in text
    assert "pyramid: lateral (shape" in text


def test_anchors_and_pooling_of_torchvision_come_along(
    data: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = begin(monkeypatch)
    own = {"model__rpn__anchor_grid": "torchvision", "model__roi_align": "legacy"}
    weights = save_detector(tmp_path / "w", **own)
    run = train("mask_rcnn", data, start=weights, output=tmp_path / "a", settings=settings)
    model = stored_config(run).model
    assert (model.rpn.anchor_grid, model.roi_align) == ("torchvision", "legacy")
    given = checkpoint.load(weights).state_dict()["rpn.cls.weight"]
    assert torch.equal(seen[0]["rpn.cls.weight"], given)


def test_the_normalisation_of_a_network_is_known_without_a_setting() -> None:
    """Weights of another training on ImageNet bring theirs along, where it is another."""

    def named(name: str) -> Detector:
        backbone = {"name": name, "weights": "none"}
        config = override(recipes.find("mask_rcnn"), {"model": {"backbone": backbone}})
        with torch.device("meta"):
            return Detector(config)

    usual, half = named("tf_efficientnet_b0.aa_in1k"), named("tf_efficientnet_b0.ap_in1k")
    assert usual.backbone.mean != half.backbone.mean == (0.5, 0.5, 0.5)
    start = Start("w", half)
    config = override(usual.config, start.settings(usual.config))
    assert config.model.backbone.mean == config.model.backbone.std == (0.5, 0.5, 0.5)
    assert start.settings(half.config) == {}
    start.require_same_backbone(config)


def test_deformable_convolutions_come_along_and_are_said() -> None:
    own = DeformableConfig(stages=(3, 4), modulated=False)
    usual = recipes.find("mask_rcnn")
    with torch.device("meta"):
        start = Start("w", Detector(replace_at(usual, "model.backbone.deformable", own)))
    config = override(usual, start.settings(usual))
    assert config.model.backbone.deformable == own
    (line,) = start.remarks(usual, config)
    assert line.startswith("model.backbone.deformable {'stages': [3, 4], 'modulated': False")
    (line,) = start.remarks(usual, usual)
    assert line.startswith("warning: model.backbone.deformable null, but")


@pytest.mark.parametrize("given", [{}, {"pyramid": "pafpn"}, {"pyramid": {"kind": "pafpn"}}])
def test_a_pyramid_comes_along_with_its_norm_and_relu(given: Settings) -> None:
    own = PAFPNConfig(norm="group", relu=True)
    start = of_weights(model__pyramid=own)
    config = asked("mask_rcnn", start, given).config
    assert config.model.pyramid == own
    (line,) = asked("mask_rcnn", start, given).came
    assert line.startswith("model.pyramid {'kind': 'pafpn', 'norm': 'group', 'relu': True}, as")


def test_a_pyramid_of_another_kind_wins_where_it_is_given() -> None:
    start = of_weights(model__pyramid=PAFPNConfig(relu=True))
    said = asked("mask_rcnn", start, {"pyramid": "fpn"})
    assert said.config.model.pyramid == FPNConfig()
    (line,) = said.came
    assert line.startswith("warning: model.pyramid {'kind': 'fpn', 'norm': None}, but the weights")
    said = asked("mask_rcnn", start, {"pyramid": {"relu": False}})
    assert said.config.model.pyramid == PAFPNConfig()


@pytest.mark.parametrize("norm", ["frozen", "sync"])
def test_a_recipe_keeps_its_own_kind_of_batch_norm(norm: Any) -> None:
    start = of_weights(model__norm="batch")
    for path in ("model.norm", "model.box.norm", "model.pyramid.norm"):
        recipe = replace_at(
            replace_at(recipes.find("mask_rcnn"), "model.norm", "batch"), path, norm
        )
        said = asked(recipe, start, {})
        assert said.config.model == replace_at(recipe, "start", "w").model
        assert list(said.came) == []


def test_a_norm_of_the_weights_comes_along_beside_that_of_the_recipe() -> None:
    """A part without a norm of its own would follow the other one that comes along."""
    start = of_weights(model__box__norm="batch")
    recipe = replace_at(recipes.find("mask_rcnn"), "model.norm", "batch")
    assert asked(recipe, start, {}).config.model.norms == ("none", "batch", "none")


def test_batch_norm_of_box_heads_goes_on_frozen_where_masks_train_on_leaving_boxes() -> None:
    start = of_weights(model__norm="batch", model__box__convs=4)
    with pytest.raises(ConfigError, match=r"model\.box\.norm: batch .* take frozen"):
        asked("scnet_leaving", start, {})
    for given in ({"norm": "frozen"}, {"box": {"norm": "frozen"}}):
        said = asked("scnet_leaving", start, given)
        assert said.config.model.norms.box == "frozen"
        assert not any(line.startswith("warning") for line in said.came)


def test_deformable_convolutions_that_are_new_are_said(
    data: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin(monkeypatch)
    weights = save_detector(tmp_path / "w", model__backbone__name="resnet50")
    own = merge(settings, {"model": {"backbone": {"name": "resnet50", "deformable": True}}})
    train("mask_rcnn", data, start=weights, output=tmp_path / "r", settings=own)
    text = said(capsys)
    assert "warning: model.backbone.deformable {'stages'" in text
    assert (
        "starts anew: backbone: conv_offset (not in the weights: begins with offsets of 0" in text
    )


def test_settings_that_come_along_are_settings() -> None:
    config = to_dict(from_dict({}))
    for path in THEIRS:
        value: Any = config
        for name in path.split("."):
            assert name in value, path
            value = value[name]


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        (
            {},
            {"model": {"backbone": {"name": "resnet34"}}},
            "model.backbone.name: resnet34, but the weights of .* are of resnet18; set "
            "--model.backbone.name resnet18",
        ),
        (
            {"model__backbone__widths": (4, 16, 32, 64)},
            {},
            r"model.backbone.widths: \[8,16,32,64\], but the weights of .* have \[4,16,32,64\]",
        ),
        (
            {},
            {"model": {"backbone": {"weights": "imagenet"}}},
            "model.backbone.weights: has no effect, as the training goes on from other weights",
        ),
        ({}, {"start": "other"}, "start: has no effect, as the weights to go on from are named"),
    ],
)
def test_settings_that_do_not_go_with_the_weights_are_refused(
    changes: Settings, given: Settings, message: str, data: Path, settings: Settings, tmp_path: Path
) -> None:
    weights = save_detector(tmp_path / "w", **changes)
    wanted = merge(settings, given)
    with pytest.raises(ConfigError, match=message):
        train("mask_rcnn", data, start=weights, output=tmp_path / "run", settings=wanted)
    assert not (tmp_path / "run").exists()


def test_images_of_other_bands_are_refused(data: Path, settings: Settings, tmp_path: Path) -> None:
    weights = save_detector(tmp_path / "w", model__backbone__bands=2)
    with pytest.raises(CheckpointError, match=r"take images of 2 bands, but those of .* have 3"):
        train("mask_rcnn", data, start=weights, output=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_what_is_no_detector_is_refused_before_there_is_a_folder(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = tmp_path / "run", tmp_path / "a.safetensors"
    other.write_bytes(b"nothing of the kind")
    for name, message in (
        (str(other), "cannot be read as safetensors"),
        ("runs/nowhere.pth", "no such file or folder"),
        (str(data), "holds no model.safetensors"),
        ("scnet_r50_20", 'did you mean "scnet_r50_20e"'),
    ):
        words = ["train", "mask_rcnn", "--data", str(data), "--from", name, "-o", str(run)]
        assert main(words) == 1
        assert message in said(capsys)
        assert not run.exists()


def test_a_file_of_mmdetection_is_gone_on_from(
    data: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = begin(monkeypatch)
    source = mask_rcnn()
    file = write(tmp_path / "m.pth", source)
    own = merge(settings, {"model": {"backbone": {"name": "resnet50"}}})
    train("mask_rcnn", data, start=file, output=tmp_path / "r", settings=own, quiet=True)
    key = "roi_heads.stages.0.fc1.weight"
    assert torch.equal(seen[0][key], source.state_dict()[key])


def test_reference_weights_of_mmdetection_are_gone_on_from(
    reference_dir: Path,
    data: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = begin(monkeypatch)
    file = save(tmp_path / "m.pth", tiny(reference_dir, "scnet"))
    source = read(file).detector
    config = source.config
    own = {k: v for k, v in settings.items() if k != "model"}
    backbone = config.model.backbone
    shape = {"channels": config.model.channels, "box": {"hidden": config.model.box.hidden}}
    net = {"name": backbone.name, "widths": backbone.widths}
    own["model"] = {**shape, "backbone": net}
    train("scnet", data, start=file, output=tmp_path / "r", settings=own, quiet=True)
    given = source.state_dict()
    same = [key for key in given if seen[0][key].shape == given[key].shape]
    assert len(same) > 0.9 * len(given)
    for key in same:
        assert torch.equal(seen[0][key], given[key]), key


def test_the_command_line_has_it(
    weights: Path,
    data: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin(monkeypatch)
    monkeypatch.chdir(weights.parent)
    (tmp_path / "s.yaml").write_text(json.dumps(settings))
    words = ["train", "cascade_mask_rcnn", "--data", str(data), "--from", weights.name]
    assert main([*words, "-o", "run", "--config", "s.yaml"]) == 0
    assert f"taken from {weights} (mask_rcnn)" in said(capsys)
    assert stored_config(tmp_path / "run").start == str(weights)


def test_a_file_of_settings_names_weights_too(
    weights: Path,
    data: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = begin(monkeypatch)
    base = merge(settings, {"start": str(weights)})
    run = train("mask_rcnn", data, output=tmp_path / "a", base=base)
    key = "fpn.lateral.0.weight"
    assert torch.equal(seen[0][key], checkpoint.load(weights).state_dict()[key])
    assert stored_config(run).start == str(weights)
    other = save_detector(tmp_path / "other")
    run = train("mask_rcnn", data, start=other, output=tmp_path / "b", base=base)
    assert stored_config(run).start == str(other)
    assert f"note: start {weights}: not used, as other weights are named" in said(capsys)


def test_auto_keeps_the_anchors_of_the_weights(
    data: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(monkeypatch)
    weights = save_detector(tmp_path / "w", model__rpn__anchor_scale=16.0)
    run = train("auto", data, start=weights, output=tmp_path / "r", settings=settings, quiet=True)
    assert stored_config(run).model.rpn.anchor_scale == 16.0


def test_a_published_model_names_no_folder_of_this_machine(weights: Path, tmp_path: Path) -> None:
    detector = checkpoint.load(weights, start=str(weights))
    hub.save(tmp_path / "public", detector, license=None, overwrite=False)
    assert checkpoint.load(tmp_path / "public").config.start == ""
    detector = checkpoint.load(weights, start="scnet_r50_20e")
    hub.save(tmp_path / "named", detector, license=None, overwrite=False)
    assert checkpoint.load(tmp_path / "named").config.start == "scnet_r50_20e"
