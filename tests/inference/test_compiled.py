"""Run the tests of captured graphs in a process without checks of shapes around the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_captured_graphs() -> None:
    files = (Path(__file__).with_name(name) for name in ("compiled_cases.py", "graph_cases.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "--show-capture=no", "--noconftest"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, *map(str, files)], capture_output=True, text=True, check=False, cwd=root
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
