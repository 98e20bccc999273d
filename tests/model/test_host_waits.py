"""The host seldom waits for a GPU, and what counts the waits misses none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.host_waits import HostWaits, in_prediction, in_training_step
from torch import Tensor

# Of scnet with two images, the most of all recipes but htc.
IN_TRAINING_STEP = 51
IN_PREDICTION = 85


def test_a_training_step_waits_no_more_often_than_its_limit() -> None:
    waits = in_training_step("scnet", images=2)
    assert waits.total <= IN_TRAINING_STEP, waits.places


def test_a_prediction_waits_no_more_often_than_its_limit() -> None:
    waits = in_prediction("scnet", images=2)
    assert waits.total <= IN_PREDICTION, waits.places


# Of a vector of the GPU; the same in inference mode, where operators arrive in another form.
WAITING: dict[str, tuple[int, Callable[[Tensor], object]]] = {
    "nonzero": (1, lambda x: x.nonzero(as_tuple=True)),
    "boolean index": (1, lambda x: x[x > 0]),
    "item": (1, lambda x: float(x.sum())),
    "unique": (2, lambda x: x.unique().tolist()),
    "repeat_interleave": (1, lambda x: torch.repeat_interleave(x, x.long())),
    "constant to device": (1, lambda x: x.new_tensor([1.0])),
    "list as index": (1, lambda x: x[[0, 1]]),
    "copy to host": (1, lambda x: x.cpu()),
    "copy to device": (1, lambda x: torch.tensor([1.0]).to(x.device)),
}
FREE: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: (x * 2 + 1).clamp(min=0).sum(),
    "an index that is known": lambda x: x[x.long()],
    "a fill under a mask": lambda x: x.clone().index_put_((x > 0,), x.new_zeros(())),
    "number of repeats known": lambda x: torch.repeat_interleave(x, x.long(), output_size=3),
    "values of the host": lambda x: torch.tensor([1, 2]).cumsum(0).tolist(),
    "sort": lambda x: x.sort(stable=True).values[:2],
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("case", WAITING)
def test_each_kind_of_wait_is_counted(case: str, inference: bool) -> None:
    number, work = WAITING[case]
    with torch.inference_mode(inference), HostWaits() as waits:
        work(torch.full((3,), 1.0, device="cpu:0"))
    assert waits.total == number, waits.places


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("case", FREE)
def test_what_only_joins_the_queue_is_not_counted(case: str, inference: bool) -> None:
    x = torch.ones(3)
    with torch.inference_mode(inference), HostWaits() as waits:
        FREE[case](x)
    assert waits.total == 0, waits.places


def test_waits_of_the_backward_pass_are_counted() -> None:
    x = torch.ones(3, requires_grad=True)
    chosen = x[x > 0].sum()
    with HostWaits() as waits:
        chosen.backward()
    assert waits.places == {("backward", "boolean index"): 1}


def test_moving_a_tensor_that_is_on_the_host_already_is_free() -> None:
    with HostWaits() as waits:
        (torch.arange(3).cpu() + 1).numpy()
    assert waits.total == 0, waits.places
