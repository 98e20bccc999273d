"""Run the command lines of a JSON file one after the other, each as `python -m scnet` would.

The processes that torchrun starts with this import PyTorch once, and meet once, for all of them.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

from torch import distributed as dist

if __name__ == "__main__":
    part = dist.destroy_process_group
    dist.destroy_process_group = lambda group=None: None  # or the second could not meet any more
    for arguments in json.loads(Path(sys.argv[1]).read_text()):
        sys.argv[1:] = arguments
        try:
            runpy.run_module("scnet", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code:
                raise
    if dist.is_initialized():
        part()
