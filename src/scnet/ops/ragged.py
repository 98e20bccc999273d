"""Lists of different length that lie behind one another in flat tensors."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def enumerate_lists(
    count: Int[Tensor, "n"], dtype: torch.dtype = torch.int64, total: int | None = None
) -> tuple[Int[Tensor, "total"], Int[Tensor, "total"]]:
    """Return, for each element of lists of these lengths, its list and its place in that list.

    Without their sum, `total`, this waits for the device.

    >>> enumerate_lists(torch.tensor([2, 0, 3]))
    (tensor([0, 0, 2, 2, 2]), tensor([0, 1, 0, 1, 2]))
    """
    end = count.cumsum(0, dtype=dtype)
    if total is None:
        total = int(end[-1]) if len(end) else 0
    owner = torch.repeat_interleave(count, output_size=total)
    place = torch.arange(total, dtype=dtype, device=count.device)
    return owner, place.sub_((end - count).index_select(0, owner))
