"""Optimiser, its step, and learning rate.

The rate is a pure function of how far the training is, so resuming needs no state of a scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import SGD, AdamW, Optimizer

from scnet.config import OptimConfig

FUSED = ("cpu", "cuda")  # devices whose fused kernels leave a step out by a flag on the device


def make_optimizer(model: nn.Module, config: OptimConfig) -> Optimizer:
    """Return the optimiser of all that learns; as in the release, weight decay spares nothing."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    fused = all(p.device.type in FUSED for p in parameters)
    decay = config.weight_decay
    if config.optimizer == "adamw":
        return AdamW(parameters, lr=config.lr, weight_decay=decay, fused=fused)
    sgd = SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=decay, fused=fused)
    if config.momentum:
        # The fused kernel would take memory as it is for momentum if the first step were left out.
        for parameter in parameters:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def restore(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load a saved state, which another kind of device may have written."""
    fused = optimizer.param_groups[0]["fused"]
    groups = [{**group, "fused": fused} for group in state["param_groups"]]
    optimizer.load_state_dict({**state, "param_groups": groups})


def clip(parameters: Iterable[nn.Parameter], limit: float) -> Float[Tensor, ""]:
    """Return the norm of the gradient, after bringing it to at most `limit`; 0 sets none."""
    learning = [p for p in parameters if p.grad is not None]
    norm = get_total_norm([p.grad for p in learning if p.grad is not None])
    if limit:
        clip_grads_with_norm_(learning, limit, norm)
    return norm


def update(optimizer: AcceleratedOptimizer, finite: Bool[Tensor, ""]) -> None:
    """Change the weights, where the gradient is finite; the host does not wait to know.

    In fp16 the scaler sees for itself what is not finite, and lowers its scale.
    """
    inner = optimizer.optimizer
    if optimizer.scaler is None and inner.param_groups[0]["fused"]:
        inner.found_inf = (~finite).float()
    elif optimizer.scaler is None and not finite:
        return
    optimizer.step()


def base_rate(config: OptimConfig, batch_size: int) -> float:
    """Return the learning rate for a batch of this many images.

    SGD: in proportion to the batch (Goyal et al. 2017). AdamW: by the square root
    (Malladi et al. 2022).
    """
    ratio = batch_size / config.lr_batch
    return config.lr * (ratio if config.optimizer == "sgd" else math.sqrt(ratio))


def rate_factor(config: OptimConfig, step: int, progress: float) -> float:
    """Return what the base rate is multiplied by.

    Args:
        step: steps done; the warm-up counts them.
        progress: part of the training done, 0..1; the schedule follows it.
    """
    warmup = 1.0
    if step < config.warmup_steps:
        warmup = config.warmup_factor + (1 - config.warmup_factor) * step / config.warmup_steps
    if config.schedule == "cosine":
        return warmup * (1 + math.cos(math.pi * min(1.0, progress))) / 2
    passed = sum(progress * config.epochs >= milestone for milestone in config.milestones)
    return float(warmup * config.gamma**passed)
