"""Run the tests of compiled detectors in a process without checks of shapes around the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_compiled_detectors() -> None:
    file = Path(__file__).with_name("compiled_cases.py")
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "--show-capture=no", "--noconftest"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, str(file)], capture_output=True, text=True, check=False, cwd=root
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
