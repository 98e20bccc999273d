"""Backbone: a timm model that offers `features_only` and takes images of any size.

Its maps at strides 4, 8, 16 and 32 become C2..C5.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.layers.norm_act import convert_sync_batchnorm
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scnet.config import BackboneConfig, DeformableConfig
from scnet.model.deformable import DeformConv2d
from scnet.model.layers import fold_norm, with_fast_gradients
from scnet.settings import suggest

STRIDES = (4, 8, 16, 32)
TRIED = (96, 160)  # an image size that no network is made for
ANY_SIZE = (
    "resnet50",
    "convnext_tiny",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "pvt_v2_b1",
    "davit_tiny",
    "efficientnet_b0",
    "regnety_016",
)


class Backbone(nn.Module):
    """A timm network that returns its maps at strides 4, 8, 16 and 32."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.frozen_norm = config.frozen_norm
        self.net = _create(config)
        with_fast_gradients(self.net)
        _fold_norms(self.net)
        own = self.net.pretrained_cfg
        # of images scaled to 0..1
        self.mean: tuple[float, ...] = for_each_band(config.mean or own["mean"], config.bands)
        self.std: tuple[float, ...] = for_each_band(config.std or own["std"], config.bands)
        self.channels_last = getattr(self.net, "output_fmt", "NCHW") == "NHWC"  # transformers
        reduction, channels = self.net.feature_info.reduction(), self.net.feature_info.channels()
        self.index = [reduction.index(stride) for stride in STRIDES]
        self.channels: list[int] = [channels[i] for i in self.index]
        self._freeze(config.frozen_stages)
        self.train(self.training)

    def forward(self, x: Float[Tensor, "B D H W"]) -> list[Float[Tensor, "B _d _h _w"]]:
        maps = self.net(x)
        maps = [maps[i] for i in self.index]
        return [m.permute(0, 3, 1, 2) for m in maps] if self.channels_last else maps

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; in any, frozen batch norm and that of frozen stages take no statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                learns = any(p.requires_grad for p in module.parameters())
                module.train(mode and learns and not self.frozen_norm)
        return self

    @property
    def has_batch_norm(self) -> bool:
        """Whether there is any; transformers and ConvNeXt have none."""
        return any(isinstance(module, _BatchNorm) for module in self.modules())

    def _freeze(self, stages: int) -> None:
        """Fix every parameter up to the end of stage `stages` (the stem is stage 0)."""
        if stages < 1:
            return
        last = flat_name(self.net.feature_info.module_name()[self.index[stages - 1]])
        names = [flat_name(name) for name, _ in self.net.named_parameters()]
        end = max(i for i, name in enumerate(names) if name.startswith(last))
        for parameter in list(self.net.parameters())[: end + 1]:
            parameter.requires_grad_(False)


def for_each_band(values: Sequence[float], bands: int) -> tuple[float, ...]:
    """Return a value for each band; those of RGB are repeated, as timm repeats their weights."""
    given = tuple(values)
    return given if len(given) == bands else tuple(itertools.islice(itertools.cycle(given), bands))


def _create(config: BackboneConfig) -> Any:
    if not timm.is_model(config.name):
        known = timm.list_models(pretrained=True)
        raise ValueError(
            f"model.backbone.name: timm has no model {config.name!r}{suggest(config.name, known)}"
        )
    options: dict[str, Any] = {} if config.widths is None else {"channels": config.widths}
    if config.bands != 3:
        options["in_chans"] = config.bands
    try:
        try:  # transformers with windows then take images of any size; others know no such option
            net: Any = timm.create_model(
                config.name, features_only=True, strict_img_size=False, **options
            )
        except TypeError:
            net = timm.create_model(config.name, features_only=True, **options)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError, IndexError) as error:
        if config.widths is not None:
            raise ValueError(
                f"model.backbone.widths: {config.name} takes none ({error}); leave them out, or "
                "take a ResNet"
            ) from error
        raise ValueError(
            f"model.backbone.name: {config.name} cannot be built as a backbone: {error}"
        ) from error
    strides = net.feature_info.reduction()
    if not set(STRIDES) <= set(strides):
        raise ValueError(
            f"model.backbone.name: {config.name} has maps at strides {strides}, "
            f"but {list(STRIDES)} are needed"
        )
    _require_any_size(net, config)
    if config.stride_in == "1x1":
        _stride_first(net, config.name)
    if config.deformable is not None:
        _deform(net, config.deformable, config.name)
    return convert_sync_batchnorm(net) if config.sync_norm else net  # type: ignore[no-untyped-call]


def _require_any_size(net: nn.Module, config: BackboneConfig) -> None:
    """Refuse a network that is made for one size of images.

    Convolutions and their norms take any; what has more than those is tried on a small image.
    """
    plain = (nn.Conv2d, _BatchNorm)
    known = {id(p) for m in net.modules() if isinstance(m, plain) for p in m.parameters()}
    first = next(net.parameters())
    if first.is_meta or all(id(p) in known for p in net.parameters()):
        return
    mode = net.training
    try:
        with torch.no_grad():
            net.eval()(first.new_zeros(1, config.bands, *TRIED))
    except (AssertionError, RuntimeError, IndexError) as error:
        raise ValueError(
            f"model.backbone.name: {config.name} is made for images of one size "
            f"({str(error).splitlines()[0]}); these take any, among others: {', '.join(ANY_SIZE)}"
        ) from error
    finally:
        net.train(mode)


def _stride_first(net: nn.Module, name: str) -> None:
    """Let the first convolution of a bottleneck halve the map instead of the second."""
    blocks = [block for block in net.modules() if isinstance(block, Bottleneck)]
    halving = [block for block in blocks if block.conv2.stride == (2, 2)]
    if len(halving) != len(STRIDES) - 1:
        raise ValueError(
            f"model.backbone.stride_in: {name} has no three bottlenecks that halve the map in "
            "their 3x3 convolution; leave it out, or take a ResNet of 50 layers or more"
        )
    for block in halving:
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def _deform(net: nn.Module, config: DeformableConfig, name: str) -> None:
    """Let the 3x3 convolutions of some stages of a ResNet be deformable."""
    stages = dict(net.named_children())
    for stage in sorted(set(config.stages)):
        blocks: list[Any] = list(stages.get(f"layer{stage}", nn.Sequential()).children())
        if not blocks or not all(isinstance(block, Bottleneck) for block in blocks):
            raise ValueError(
                f"model.backbone.deformable: {name} has no stage {stage} of bottlenecks; leave it "
                "out, or take a ResNet of 50 layers or more"
            )
        for block in blocks:
            block.conv2 = DeformConv2d(block.conv2, config)


def _fold_norms(net: nn.Module) -> None:
    """Let convolutions compute the frozen norm behind them, in ResNets, where most memory goes."""
    for block in net.modules():
        if not isinstance(block, BasicBlock | Bottleneck):
            continue
        for number in (1, 2, 3) if isinstance(block, Bottleneck) else (1, 2):
            fold_norm(getattr(block, f"conv{number}"), getattr(block, f"bn{number}"))
        shortcut: Any = block.downsample
        if shortcut is not None:
            fold_norm(*list(shortcut)[-2:])


def flat_name(name: str) -> str:
    """Return a name as timm writes it in features_only networks: `stages_0` for `stages.0`."""
    return name.replace(".", "_")
