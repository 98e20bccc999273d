"""Parameters of detectron2 find their places by name."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scnet import recipes
from scnet.config import Config, replace_at
from scnet.model.detector import Detector
from scnet.weights.foreign.detectron2.names import our_name, rename
from scnet.weights.foreign.tensors import FIRST, to_rgb

NAMES = {
    "backbone.bottom_up.stem.conv1.norm.running_var": "backbone.net.bn1.running_var",
    "backbone.bottom_up.res2.0.shortcut.weight": "backbone.net.layer1.0.downsample.0.weight",
    "backbone.bottom_up.res5.2.conv3.norm.bias": "backbone.net.layer4.2.bn3.bias",
    "backbone.bottom_up.res3.1.conv2_offset.bias": ("backbone.net.layer2.1.conv2.conv_offset.bias"),
    "backbone.fpn_lateral2.bias": "fpn.lateral.0.bias",
    "backbone.fpn_output5.weight": "fpn.output.3.weight",
    "proposal_generator.rpn_head.objectness_logits.weight": "rpn.cls.weight",
    "backbone.fpn_lateral2.norm.weight": "fpn.lateral_norm.0.weight",
    "proposal_generator.rpn_head.conv.conv0.weight": "rpn.convs.0.conv.weight",
    "roi_heads.box_head.conv1.weight": "roi_heads.stages.0.convs.0.conv.weight",
    "roi_heads.box_head.2.conv4.norm.bias": "roi_heads.stages.2.convs.3.norm.bias",
    "roi_heads.mask_head.mask_fcn4.norm.weight": "roi_heads.masks.heads.0.convs.3.norm.weight",
    "roi_heads.box_head.fc1.bias": "roi_heads.stages.0.fc1.bias",
    "roi_heads.box_head.2.fc2.bias": "roi_heads.stages.2.fc2.bias",
    "roi_heads.box_predictor.1.bbox_pred.bias": "roi_heads.stages.1.reg.bias",
    "roi_heads.mask_head.mask_fcn4.weight": "roi_heads.masks.heads.0.convs.3.conv.weight",
    "roi_heads.mask_head.deconv.bias": "roi_heads.masks.heads.0.upsample.bias",
}
MODELS = {
    "d2_mask_rcnn_R_50_FPN": "mask_rcnn",
    "d2_mask_rcnn_R_101_FPN": "mask_rcnn_r101",
    "d2_mask_rcnn_X_101_32x8d_FPN": "mask_rcnn",
    "d2_cascade_mask_rcnn_R_50_FPN": "cascade_mask_rcnn_d2",
}


@pytest.mark.parametrize("theirs", NAMES)
def test_a_parameter_has_our_name(theirs: str) -> None:
    assert our_name(theirs) == NAMES[theirs]


@pytest.mark.parametrize(
    "theirs",
    [
        "proposal_generator.anchor_generator.cell_anchors.0",
        "roi_heads.keypoint_head.conv_fcn1.weight",
        "pixel_mean",
    ],
)
def test_what_we_do_not_have_gets_no_name_of_ours(theirs: str) -> None:
    ours = our_name(theirs)
    assert ours is None or ours not in Detector(small("mask_rcnn")).state_dict()


def small(recipe: str) -> Config:
    return replace_at(recipes.find(recipe), "model.backbone.weights", "none")


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_of_a_published_model_finds_its_place(
    reference_dir: Path, model: str
) -> None:
    lines = (reference_dir / "detectron2" / "keys" / f"{model}.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    state = {row[0]: torch.empty(ast.literal_eval(row[2]), device="meta") for row in rows}
    config = small(MODELS[model])
    if "X_101" in model:
        config = replace_at(config, "model.backbone.name", "resnext101_32x8d.tv_in1k")
    with torch.device("meta"):
        own = Detector(replace(config, recipe="")).state_dict()
    named = {name: value.shape for name, value in rename(state).items()}
    expected = {n: x.shape for n, x in own.items() if not n.endswith("num_batches_tracked")}
    assert len(named) == len(state)
    assert named == expected


def test_the_first_convolution_reads_the_colours_in_the_other_order() -> None:
    state = {FIRST: torch.rand(4, 3, 7, 7), "backbone.net.bn1.weight": torch.rand(4)}
    turned, image = to_rgb(state), torch.rand(1, 3, 16, 16)
    conv = torch.nn.functional.conv2d
    torch.testing.assert_close(conv(image, turned[FIRST]), conv(image.flip(1), state[FIRST]))
    assert turned["backbone.net.bn1.weight"] is state["backbone.net.bn1.weight"]
