"""A detector for inference, its batch norm folded into the convolutions before it."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from scnet.model.backbone import Backbone
from scnet.model.detector import Detector
from scnet.model.layers import BatchNorm, Conv2d

TOLERANCE = 1e-4  # of the largest value
Part = TypeVar("Part", bound=nn.Module)


def for_inference(detector: Detector) -> Detector:
    """Return a detector that gives the same results faster, and shares what it has not folded.

    Weights that change afterwards are not seen. The detector itself stays as it is.
    """
    fast = copy.copy(detector)
    parts = {name: without_norms(part) for name, part in detector.named_children()}
    fast._modules = {**parts, "backbone": fused(detector.backbone)}
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
def without_norms(part: Part) -> Part:
    """Return a pyramid or head without its batch norms, which shares all other weights."""
    norms = [(name, m.norm) for name, m in part.named_modules() if isinstance(m, BatchNorm)]
    if not norms:
        return part
    copied = _sharing(part)
    for name, norm in norms:
        conv = copied.get_submodule(conv_of(name))
        assert isinstance(conv, nn.Conv2d)
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)  # type: ignore[arg-type]
        by_pixel = weight.to(memory_format=torch.channels_last)
        conv._parameters = {
            "weight": nn.Parameter(by_pixel, requires_grad=False),
            "bias": nn.Parameter(bias, requires_grad=False),
        }
        copied.set_submodule(name, nn.Identity())
    return copied


def _sharing(module: Part) -> Part:
    """Return a copy of a tree of modules that shares every weight."""
    copied = copy.copy(module)
    copied._modules = {name: child and _sharing(child) for name, child in module._modules.items()}
    return copied


def conv_of(norm: str) -> str:
    """Return the name of the convolution that a norm of a pyramid or head reads.

    >>> conv_of("lateral_norm.0"), conv_of("convs.0.norm2")
    ('lateral.0', 'convs.0.conv2')
    """
    return re.sub(r"norm(\d?)$", r"conv\1", norm.replace("_norm.", "."))


@torch.no_grad()
def fused(backbone: Backbone) -> Backbone:
    """Return a copy of a backbone in inference mode without batch norm, where it can be left out.

    Which norm follows which convolution is seen in a pass of a small image. A network in which
    leaving norms out would change the result comes back as it is.
    """
    if not any(isinstance(module, _BatchNorm) for module in backbone.modules()):
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
        elif isinstance(module, _BatchNorm):
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
