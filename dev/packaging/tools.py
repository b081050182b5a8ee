"""Programs that only `make lock` and `make audit` need: each in an environment of its own, made when first asked for.

They stay out of dev/requirements.txt because they bring dozens of packages along, and few people ever run them.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from dev.packaging.requirements import PROJECT

TOOLS = PROJECT / ".run/tools"


class ToolMissing(Exception):
    """The program could not be installed, as a rule because the package index is out of reach."""


def tool(pin: str) -> Path:
    """The program of a package, `name==version`, installed if it is not yet. Raises ToolMissing."""
    name = pin.partition("==")[0]
    folder = TOOLS / pin.replace("==", "-")
    program = folder / "bin" / name
    if not program.exists():
        venv.create(folder, clear=True, with_pip=True)
        command = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", pin]
        installed = subprocess.run(command, capture_output=True, text=True, check=False)
        if installed.returncode != 0:
            raise ToolMissing(f"{pin} could not be installed. {last_line(installed.stderr)}")
    return program


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def fail(sentence: str) -> int:
    """Says why on stderr; the exit code."""
    print(sentence, file=sys.stderr)
    return 1
