"""Which device computes."""

from __future__ import annotations

import torch


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device; "auto" is a GPU where there is one, else the CPU.

    Raises:
        ValueError: there is no such device, or PyTorch cannot use it here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)  # asks the driver
    except (RuntimeError, AssertionError) as error:  # the latter: built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device}: cannot be used; take auto or cpu ({reason})") from error
    return picked
