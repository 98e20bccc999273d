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
    scale's gradient, a map beside each that the next convolution keeps.
    """

    def forward(self, x: Float[Tensor, "n d h w"]) -> Float[Tensor, "n d h w"]:
        return x if self.is_folded else super().forward(x)

    @property
    def is_folded(self) -> bool:
        """Whether the convolution before computes the norm: only where gradients are wanted."""
        return not self.training and torch.is_grad_enabled() and self.weight.requires_grad

    def scale_and_shift(self) -> tuple[Float[Tensor, "d"], Float[Tensor, "d"]]:
        """Return by what a map is multiplied, and what is added."""
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


class Conv2d(nn.Conv2d):
    """A convolution, the same in all but how gradients are computed.

    On CPUs without AVX-512 oneDNN computes that of the weights from maps that lie channels last
    at a third of the speed that it reaches from maps in PyTorch's own layout, so large maps are
    copied.
    """

    before: tuple[FrozenNorm, ...] = ()  # at most one; as a tuple it is no submodule

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _h _w"]:
        norm = self.before[0] if self.before and self.before[0].is_folded else None
        copies = _pays(self, x)
        if norm is None and not copies:
            return super().forward(x)
        scale, bias = (None, self.bias) if norm is None else norm.scale_and_shift()
        shape = (self.stride, self.padding, self.dilation, self.groups)
        if scale is not None and _is_cast(x):
            # Autograd and the compiler see to types; the scaled weights are kept, not the maps.
            return F.conv2d(x, self.weight * _column(scale), bias, *shape)  # type: ignore[arg-type]
        out: Tensor = _Conv2d.apply(x, self.weight, scale, bias, (shape, copies))
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


def _is_cast(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling()


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
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, how: Any
    ) -> Tensor:
        ctx.save_for_backward(x, weight, scale)
        ctx.shape, ctx.copies = how
        return F.conv2d(x, _scaled(weight, scale), bias, *ctx.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        for_x, for_weight, for_scale, for_bias, _ = ctx.needs_input_grad
        scaled = _scaled(weight, scale)
        of_x = _gradient(0, ctx.shape, grad, x, scaled) if for_x else None
        of_bias = grad.sum((0, 2, 3)) if for_bias else None
        if not for_weight and not for_scale:
            return of_x, None, None, of_bias, None
        compute = _gradient_from_copies if ctx.copies else _gradient
        of_weight = compute(1, ctx.shape, grad, x, scaled)
        if scale is None:
            return of_x, of_weight, None, of_bias, None
        of_scale = (of_weight * weight).sum((1, 2, 3))
        return of_x, of_weight.mul_(_column(scale)), of_scale, of_bias, None


def _gradient(which: int, shape: Any, grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the input (0) or of the weights (1)."""
    wanted, (*steps, groups) = [which == 0, which == 1, False], shape
    gradients = torch.ops.aten.convolution_backward(
        grad, x, weight, None, *steps, False, (0, 0), groups, wanted
    )
    result: Tensor = gradients[which]
    return result


def _gradient_from_copies(which: int, shape: Any, *maps: Tensor) -> Tensor:
    result = _gradient(which, shape, *(x.contiguous() for x in maps))
    return result.contiguous(memory_format=torch.channels_last)


def _scaled(weight: Tensor, scale: Tensor | None) -> Tensor:
    return weight if scale is None else weight * _column(scale)


def _column(scale: Float[Tensor, "d"]) -> Float[Tensor, "d 1 1 1"]:
    return scale[:, None, None, None]
