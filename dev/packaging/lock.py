"""`make lock`: writes requirements.lock after a change of requirements.txt, and docs/dependencies.md with it.

Versions that are locked already stay as they are; `make lock ARGS=--upgrade` takes the newest that requirements.txt
allows. A version that its author has withdrawn is not taken. uv resolves for all Pythons and platforms at once, which
pip cannot; what it writes is read by pip.
"""

from __future__ import annotations

import subprocess
import sys

from dev.packaging import page
from dev.packaging.requirements import LOCK, PROJECT, REQUIREMENTS
from dev.packaging.tools import ToolMissing, fail, tool

UV = "uv==0.13.9"
OLDEST_PYTHON = "3.11"
HEADER = """\
# The versions that are tested and deployed, with the checksums of their files, for Python 3.11 to 3.13 and all
# platforms. Written by "make lock" from requirements.txt; never by hand. "make package" takes the lines for Azure.
"""


def main(arguments: list[str]) -> int:
    """Exit code 1 with a sentence when no set of versions fits or the package index is out of reach."""
    try:
        uv = tool(UV)
    except ToolMissing as error:
        return fail(str(error))
    before = LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""
    command = [
        *(str(uv), "pip", "compile", REQUIREMENTS.name, "--output-file", LOCK.name),
        *("--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"),
        *("--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet", *arguments),
    ]
    if subprocess.run(command, cwd=PROJECT, check=False).returncode != 0:
        return fail("requirements.lock stays as it was.")
    after = HEADER + LOCK.read_text(encoding="utf-8").removeprefix(HEADER)
    LOCK.write_text(after, encoding="utf-8")
    print(f"requirements.lock: {'as it was' if after == before else 'changed; run make test'}")
    return page.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
