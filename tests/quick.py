"""Settings under which a training takes seconds."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, Any] = {
    "model": {
        "backbone": {"name": "resnet18", "widths": [8, 16, 32, 64], "weights": "none"},
        "channels": 16,
        "box": {"hidden": 32, "samples": 32},
    },
    "data": {"size": [96, 128], "workers": 0},
    "optim": {"batch_size": 2, "epochs": 2, "warmup_steps": 2, "log_every": 1, "lr": 1e-3},
    "eval": {"pictures": 2},
}
