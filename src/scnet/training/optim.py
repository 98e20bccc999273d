"""Optimiser and learning rate.

The rate is a pure function of how far the training is, so resuming needs no state of a scheduler.
"""

from __future__ import annotations

import math

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from scnet.config import OptimConfig


def make_optimizer(model: nn.Module, config: OptimConfig) -> Optimizer:
    """Return the optimiser of all that learns; as in the release, weight decay spares nothing."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if config.optimizer == "adamw":
        return AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


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
