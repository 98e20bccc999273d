"""A backbone for inference, its batch norm folded into the convolutions before it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from scnet.model.backbone import Backbone
from scnet.model.detector import Detector
from scnet.model.layers import Conv2d

TOLERANCE = 1e-4  # of the largest value


def for_inference(detector: Detector) -> Detector:
    """Return a detector that gives the same results faster, and shares all but its backbone.

    Weights that change afterwards are not seen. The detector itself stays as it is.
    """
    fast = copy.copy(detector)
    fast._modules = {**detector._modules, "backbone": fused(detector.backbone)}
    return fast


def with_proposals(detector: Detector, number: int) -> Detector:
    """Return a detector that shares all weights, with so many boxes of an image in box stages.

    Raises:
        ValueError: the number is below 1.
    """
    if number < 1:
        raise ValueError(f"proposals is {number}; at least one is needed")
    rpn = copy.copy(detector.head.rpn)
    rpn.config = replace(rpn.config, after_nms=number)
    fast = copy.copy(detector)
    fast._modules = {**detector._modules, "rpn": rpn}
    return fast


@torch.no_grad()
def fused(backbone: Backbone) -> Backbone:
    """Return a copy of a backbone in inference mode without batch norm, where it can be left out.

    Which norm follows which convolution is seen in a pass of a small image. A network in which
    leaving norms out would change the result comes back as it is.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()):
        return backbone
    was_training = backbone.training
    backbone.eval()
    device = next(backbone.parameters()).device
    generator = torch.Generator(device).manual_seed(0)
    probe = torch.rand(1, len(backbone.mean), 64, 64, device=device, generator=generator)
    copied = copy.deepcopy(backbone)
    for conv, norm in _pairs(copied, probe):
        _fold(copied, conv, norm)
    before, after = backbone(probe), copied(probe)
    backbone.train(was_training)
    same = all(
        (a - b).abs().max() <= TOLERANCE * a.abs().max() for a, b in zip(before, after, strict=True)
    )
    return copied.requires_grad_(False) if same else backbone


def _pairs(net: nn.Module, probe: Tensor) -> list[tuple[str, str]]:
    """Return the names of each convolution and of the batch norm that reads it first."""
    made: dict[int, str] = {}
    # Kept until the end: a tensor that is freed may leave its id to another.
    outputs: list[Tensor] = []
    pairs: list[tuple[str, str]] = []

    def conv_done(name: str, out: Tensor) -> None:
        made[id(out)] = name
        outputs.append(out)

    def norm_begins(name: str, given: Tensor) -> None:
        conv = made.pop(id(given), None)
        if conv is not None:
            pairs.append((conv, name))

    hooks: list[Any] = []
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(
                module.register_forward_hook(lambda m, x, out, name=name: conv_done(name, out))
            )
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(
                module.register_forward_pre_hook(lambda m, x, name=name: norm_begins(name, x[0]))
            )
    net(probe)
    for hook in hooks:
        hook.remove()
    return pairs


def _fold(net: nn.Module, conv: str, norm: str) -> None:
    """Fold a batch norm into a convolution; an activation that the norm carries stays."""
    layer = net.get_submodule(norm)
    merged = fuse_conv_bn_eval(net.get_submodule(conv), layer)  # type: ignore[type-var, arg-type]
    if isinstance(merged, Conv2d):
        merged.before = ()
    net.set_submodule(conv, merged.to(memory_format=torch.channels_last))
    net.set_submodule(norm, getattr(layer, "act", nn.Identity()))
