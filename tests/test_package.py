"""The package from outside: its name, and what `import scnet` offers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import scnet

ROOT = Path(__file__).parents[1]
TEXT = {".md", ".py", ".toml", ".txt", ".sh", ""}  # and the Makefile

# PyPI's `scnet` is another project, so nothing may advise to install that.
WRONG = re.compile(r"""\bscnet\[|install\s(?:-\S+\s)*["']?scnet(?![\w-])""")


def test_nothing_advises_to_install_another_project() -> None:
    assert WRONG.search('pip install "scnet[lite]"')
    assert WRONG.search("pip install -U scnet\n")
    assert not WRONG.search('pip install "scnet-seg[lite]"')
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    files = [ROOT / name for name in names if Path(name).suffix in TEXT]
    assert len(files) > 100
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in files
        if file != Path(__file__)
        for line in file.read_text(encoding="utf-8").splitlines()
        if WRONG.search(line)
    ]
    assert not found, "\n".join(found)


PUBLIC = {
    "CheckpointError",
    "Config",
    "ConfigError",
    "DataError",
    "Detections",
    "Detector",
    "Model",
    "ZooError",
    "build",
    "evaluate",
    "from_torchvision",
    "load",
    "recipes",
    "resume",
    "train",
    "zoo",
}


def test_the_public_names_are_these_and_can_be_had() -> None:
    assert set(scnet.__all__) == set(dir(scnet)) == PUBLIC
    assert all(getattr(scnet, name).__doc__ for name in PUBLIC)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import scnet, sys; print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
