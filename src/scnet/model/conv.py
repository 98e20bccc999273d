"""Convolutions whose weight gradient is fast on every CPU."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LARGE = 1000  # cells of a map from which another layout pays for copying it


class Conv2d(nn.Conv2d):
    """A convolution, the same in all but how the gradient of its weights is computed.

    On CPUs without AVX-512 oneDNN computes that gradient from maps that lie channels last at a
    third of the speed that it reaches from maps in PyTorch's own layout, so large maps are copied.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d _h _w"]:
        if not _pays(self, x):
            return super().forward(x)
        out: Tensor = _Conv2d.apply(
            x, self.weight, self.bias, (self.stride, self.padding, self.dilation)
        )
        return out


def with_fast_gradients(network: nn.Module) -> None:
    """Turn every plain convolution of a network into `Conv2d`; weights and names stay."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = Conv2d


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
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        for_x, _, for_bias, _ = ctx.needs_input_grad
        of_x = _gradient(0, ctx.shape, grad, x, weight) if for_x else None
        copies = (t.contiguous() for t in (grad, x, weight))
        of_weight = _gradient(1, ctx.shape, *copies).contiguous(memory_format=torch.channels_last)
        return of_x, of_weight, grad.sum((0, 2, 3)) if for_bias else None, None


def _gradient(which: int, shape: Any, grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the input (0) or of the weights (1)."""
    wanted = [which == 0, which == 1, False]
    gradients = torch.ops.aten.convolution_backward(
        grad, x, weight, None, *shape, False, (0, 0), 1, wanted
    )
    result: Tensor = gradients[which]
    return result
