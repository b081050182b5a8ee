"""`make audit`: published weaknesses of the locked versions, as far as the package index in reach tells them.

pip-audit asks the index for each version. An index without advisories (a mirror, as a rule) answers "not found", which
pip-audit counts as nothing found: here that is told apart, because it means that nothing was checked. No network is no
failure, so that a build without one goes on; `make test` never asks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from dev.packaging.requirements import PROJECT
from dev.packaging.tools import ToolMissing, last_line, tool
from dev.packaging.wheels import AZURE, listing_of

PIP_AUDIT = "pip-audit==2.10.1"
LISTING = PROJECT / ".run/audit.txt"


def judge(report: Mapping[str, Any]) -> tuple[int, str]:
    """Exit code and sentences for pip-audit's report: 1 when a package has a known weakness, else 0."""
    packages = report["dependencies"]
    checked = [one for one in packages if "vulns" in one]
    weak = [one for one in checked if one["vulns"]]
    lines = [
        f"{one['name']} {one['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version'}"
        for one in weak
        for found in one["vulns"]
    ]
    if not checked:
        lines.append("Nothing was checked: the package index in reach publishes no advisories.")
    else:
        lines.append(f"{len(checked)} of {len(packages)} packages were checked, {len(weak)} have a known weakness.")
    if checked and len(checked) < len(packages):
        lines.append(f"Not checked: {', '.join(one['name'] for one in packages if 'vulns' not in one)}.")
    if weak:
        lines.append('To mend it: make lock ARGS="--upgrade-package NAME", then make test.')
    return (1 if weak else 0), "\n".join(lines)


def main() -> int:
    """Exit code 1 only when a weakness is known."""
    LISTING.parent.mkdir(exist_ok=True)
    LISTING.write_text(listing_of(AZURE.packages()), encoding="utf-8")
    try:
        program = tool(PIP_AUDIT)
    except ToolMissing as error:
        print(f"Nothing was checked: {error}")
        return 0
    command = [str(program), "--requirement", str(LISTING), "--disable-pip", "--require-hashes", "--format", "json"]
    done = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        print(f"Nothing was checked: the package index could not be asked. {last_line(done.stderr)}")
        return 0
    code, text = judge(report)
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
