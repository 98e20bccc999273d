"""Layers: a convolution, norms, and the two stacks of both that the heads are made of.

The convolution has a weight gradient that is fast on every CPU, and takes a frozen norm in.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from scnet.config import Norm

LARGE = 1000  # cells of a map from which another layout pays for copying it
GROUPS = 32  # of group norm (Wu and He 2018); fewer where they do not divide the channels


class FrozenNorm(nn.BatchNorm2d):
    """Batch norm right behind a `Conv2d`; while its statistics stand still, that computes it too.

    Its scale and shift may learn all the same. Autograd would keep the norm's input for the
    scale's gradient, a map beside each that the next convolution keeps; folded, it keeps the scaled
    weights.
    """

    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Float[Tensor, "n d h w"]) -> Float[Tensor, "n d h w"]:
        return x if self.is_folded else super().forward(x)

    @property
    def is_folded(self) -> bool:
        """Whether the convolution before computes the norm: only where gradients are wanted."""
        return not self.training and torch.is_grad_enabled() and self.weight.requires_grad


class Conv2d(nn.Conv2d):
    """A convolution, the same in all but how gradients are computed.

    On CPUs without AVX-512 oneDNN computes that of the weights from maps that lie channels last
    at a third of the speed that it reaches from maps in PyTorch's own layout, so large maps are
    copied.
    """

    before: tuple[FrozenNorm, ...] = ()  # at most one; as a tuple it is no submodule

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _h _w"]:
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        for norm in self.before:
            if norm.is_folded:
                scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
                weight = weight * scale[:, None, None, None]
                bias = norm.bias - norm.running_mean * scale
        if not _pays(self, x):
            plain: Tensor = self._conv_forward(x, weight, bias)
            return plain
        shape = (self.stride, self.padding, self.dilation, self.groups)
        out: Tensor = _Conv2d.apply(x, weight, bias, shape)
        return out


def with_fast_gradients(network: nn.Module) -> None:
    """Turn every plain convolution of a network into `Conv2d`; weights and names stay."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = Conv2d


def fold_norm(conv: nn.Module, norm: nn.Module) -> None:
    """Let a convolution compute the batch norm that alone reads it; weights and names stay."""
    plain = type(conv) is Conv2d and type(norm) is nn.BatchNorm2d
    if not plain or not norm.affine or not norm.track_running_stats or conv.bias is not None:
        return
    if conv.padding_mode == "zeros" and isinstance(conv.padding, tuple):
        norm.__class__ = FrozenNorm
        conv.before = (norm,)


@functools.cache
def has_avx512() -> bool:
    """Return whether this CPU computes with 512 bits at once."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


class BatchNorm(nn.Module):
    """Batch norm over the maps of this process or of all, or by the statistics that are stored."""

    def __init__(self, channels: int, kind: Norm) -> None:
        super().__init__()
        self.kind = kind
        self.norm = nn.SyncBatchNorm(channels) if kind == "sync" else nn.BatchNorm2d(channels)
        self.train(self.training)

    def train(self, mode: bool = True) -> BatchNorm:
        """Set the mode; in any, a frozen norm takes no statistics."""
        super().train(mode and self.kind != "frozen")
        return self

    def forward(self, x: Float[Tensor, "n D h w"]) -> Float[Tensor, "n D h w"]:
        norm = self.norm
        if not self.training and torch.compiler.is_compiling():
            # `batch_norm` asks whether there is any RoI, which a captured graph does not know.
            scale = norm.weight * (cast(Tensor, norm.running_var) + norm.eps).rsqrt()
            shift = norm.bias - cast(Tensor, norm.running_mean) * scale
            return x * scale[:, None, None] + shift[:, None, None]
        shared = self.kind == "sync" and torch.distributed.is_initialized()
        if not self.training or shared or x.shape[0]:
            out: Tensor = norm(x)
            return out
        # Without a single RoI a batch has no statistics, and would spoil those that are stored.
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Return the norm behind a convolution; with `none` one that does nothing."""
    if norm == "group":
        return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
    return nn.Identity() if norm == "none" else BatchNorm(channels, norm)


class ResidualBlock(nn.Module):
    """Two convolutions and a skip; unlike in ResNet's block there is no ReLU after the sum.

    The weights keep PyTorch's default initialisation: the release never initialises these blocks
    itself, and that is how the published models were trained.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        # A norm has a shift of its own.
        bias = norm == "none"
        self.conv1 = Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.norm1 = make_norm(norm, channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.norm2 = make_norm(norm, channels)

    def forward(self, x: Float[Tensor, "n D h w"]) -> Float[Tensor, "n D h w"]:
        hidden = F.relu(self.norm1(self.conv1(x)))
        out: Tensor = x + self.norm2(self.conv2(hidden))
        return out


class ConvReLU(nn.Sequential):
    """A convolution that keeps the size, and ReLU; Kaiming-normal weights."""

    def __init__(self, channels: int, kernel: int = 3, norm: Norm = "none") -> None:
        conv = Conv2d(channels, channels, kernel, padding=kernel // 2, bias=norm == "none")
        kaiming_normal(conv)
        parts = {"conv": conv, "norm": make_norm(norm, channels), "relu": nn.ReLU()}
        super().__init__(OrderedDict(parts))


class RoILinear(nn.Conv2d):
    """A fully connected layer over all cells of a RoI, by the faster of its two forms.

    As the convolution that it is it reads the RoI as it lies in memory, channels last. On CPUs with
    AVX-512 that is twice as fast as a matrix product, forward and backward; on those without it is
    fifteen times as slow, as oneDNN has no good kernel there.
    """

    def __init__(self, channels: int, side: int, hidden: int) -> None:
        super().__init__(channels, hidden, side)

    def forward(self, x: Float[Tensor, "R D s s"]) -> Float[Tensor, "R hidden"]:
        if x.device.type == "cpu" and has_avx512():
            return super().forward(x).flatten(1)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(x.permute(0, 2, 3, 1).flatten(1), weight, self.bias)


def stack(channels: int, convs: int, residual: bool, norm: Norm) -> nn.Sequential:
    """Return `convs` convolutions, plain or with a skip over every two."""
    if residual:
        return nn.Sequential(*(ResidualBlock(channels, norm) for _ in range(convs // 2)))
    return nn.Sequential(*(ConvReLU(channels, norm=norm) for _ in range(convs)))


def init_classifier(layer: nn.Conv2d) -> None:
    """Initialise a last layer as the release does for COCO's classes.

    That is Kaiming-normal by the number of outputs. With one class instead of 80 it would make
    logits nine times as large, and the first steps would only undo that; so fewer classes start
    like 80.
    """
    nn.init.normal_(layer.weight, std=math.sqrt(2 / max(80, layer.out_channels)))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def kaiming_normal(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    """Initialise for a ReLU behind it, by the number of outputs; a bias starts at 0."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _pays(layer: nn.Conv2d, x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and not has_avx512()
        and torch.is_grad_enabled()
        and layer.weight.requires_grad
        and layer.groups == 1
        and layer.kernel_size != (1, 1)
        and isinstance(layer.padding, tuple)
        and layer.padding_mode == "zeros"
        and x.shape[-2] * x.shape[-1] >= LARGE
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.dtype == layer.weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, shape: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = shape
        return F.conv2d(x, weight, bias, *shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        of_x = _gradient(0, ctx.shape, grad, x, weight) if for_x else None
        of_bias = grad.sum((0, 2, 3)) if for_bias else None
        if not for_weight:
            return of_x, None, of_bias, None
        copies = (maps.contiguous() for maps in (grad, x, weight))
        of_weight = _gradient(1, ctx.shape, *copies)
        return of_x, of_weight.contiguous(memory_format=torch.channels_last), of_bias, None


def _gradient(which: int, shape: Any, grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the input (0) or of the weights (1)."""
    wanted, (*steps, groups) = [which == 0, which == 1, False], shape
    gradients = torch.ops.aten.convolution_backward(
        grad, x, weight, None, *steps, False, (0, 0), groups, wanted
    )
    result: Tensor = gradients[which]
    return result
