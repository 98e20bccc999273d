"""Convolutions whose weight gradient is fast on every CPU, and that take a frozen norm in."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LARGE = 1000  # cells of a map from which another layout pays for copying it


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
