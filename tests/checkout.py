"""The project as a fresh checkout has it, for tests of the package: what lies around in this one is left out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def checkout(folder: Path) -> Path:
    """Copies what git tracks, and what is in shared/ whether git knows it yet or not."""
    git = shutil.which("git")
    assert git, "git is needed"
    tracked = subprocess.run([git, "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    new = (path for path in (PROJECT / "shared").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    files = {*filter(None, tracked.split("\0")), *(path.relative_to(PROJECT).as_posix() for path in new)}
    for file in files:
        if (PROJECT / file).is_file():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / file, folder / file)
    return folder
