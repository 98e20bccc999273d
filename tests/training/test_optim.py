"""Properties of the learning rate."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer

from scnet.config import OptimConfig
from scnet.recipes import schedule_1x, schedule_20e
from scnet.training.optim import base_rate, make_optimizer, rate_factor, update


def test_warm_up_rises_in_a_line_from_its_factor_to_one() -> None:
    config = OptimConfig(warmup_steps=500, warmup_factor=0.001)
    assert rate_factor(config, 0, 0.0) == pytest.approx(0.001)
    assert rate_factor(config, 250, 0.0) == pytest.approx(0.5005)
    assert rate_factor(config, 500, 0.0) == 1.0


@pytest.mark.parametrize(
    ("config", "epochs"), [(schedule_1x(), (8, 11)), (schedule_20e(), (16, 19))]
)
def test_steps_fall_tenfold_after_their_epochs(
    config: OptimConfig, epochs: tuple[int, int]
) -> None:
    def after(epoch: float) -> float:
        return rate_factor(config, 10**6, epoch / config.epochs)

    assert after(epochs[0] - 0.01) == 1.0
    assert after(epochs[0]) == pytest.approx(0.1)
    assert after(epochs[1]) == pytest.approx(0.01)


def test_cosine_ends_at_zero() -> None:
    config = OptimConfig(schedule="cosine", warmup_steps=0)
    values = [rate_factor(config, 0, progress) for progress in (0.0, 0.5, 1.0)]
    assert values == pytest.approx([1.0, 0.5, 0.0])


def test_rate_follows_the_batch() -> None:
    sgd = OptimConfig(lr=0.02, lr_batch=16)
    assert base_rate(sgd, 4) == pytest.approx(0.005)
    adamw = OptimConfig(lr=0.02, lr_batch=16, optimizer="adamw")
    assert base_rate(adamw, 4) == pytest.approx(0.01)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_step_that_is_not_finite_is_none_and_the_next_goes_on(kind: str, scaled: bool) -> None:
    Accelerator(cpu=True)
    model = torch.nn.Linear(2, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0) if scaled else None
    config = OptimConfig(optimizer=kind)  # type: ignore[arg-type]
    optimizer = AcceleratedOptimizer(make_optimizer(model, config), scaler=scaler)
    before = model.weight.detach().clone()
    for good in (False, True):
        optimizer.zero_grad()
        loss = model(torch.ones(1, 2)).sum() * (1.0 if good else float("nan"))
        (scaler.scale(loss) if scaler else loss).backward()
        if scaler:
            scaler.unscale_(optimizer.optimizer)
        update(optimizer, torch.tensor(good))
        assert torch.equal(model.weight, before) != good
    assert model.weight.isfinite().all()
    assert scaler is None or scaler.get_scale() == 4.0
