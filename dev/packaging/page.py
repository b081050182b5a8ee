"""Writes docs/dependencies.md: everything that is deployed, its licence, and why it is there.

The reasons are those of requirements.txt, versions and who needs what those of requirements.lock, licences those of
the metadata of the installed packages. Part of `make lock`; a test compares the page with what this would write.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dev.packaging.licences import PERMISSIVE, REVIEWED, licence_of
from dev.packaging.requirements import PROJECT, Locked, read_requirements
from dev.packaging.wheels import AZURE

PAGE = PROJECT / "docs/dependencies.md"

INTRODUCTION = """\
# Dependencies

Everything that is deployed beside the app's own code: for Linux on x86-64 with Python 3.13, as Azure runs it. This page
is written by `make lock`; `tests/unit/test_dependencies.py` fails when it is out of date.

- `requirements.txt` names what the code imports, in ranges, each line with its reason. A test fails for an import that
  it does not name, and for a line that nothing imports.
- `requirements.lock` holds the exact versions with the checksums of their files, for Python 3.11 to 3.13 and all
  platforms. `make` installs these for the tests, and `make package` puts those for Azure into the package
  ([decision 0012](decisions/0012-the-package-holds-its-dependencies.md)).
- `make lock` after a change of `requirements.txt`; `make lock ARGS=--upgrade` for newer versions;
  `make lock ARGS="--upgrade-package requests"` for one of them. Then `make test`. It uses uv, which has its own setting
  for another package index than the public one (`UV_DEFAULT_INDEX`).
- `make audit` asks the package index for published weaknesses of the locked versions. It needs a network and says so
  if there is none; `make test` does not ask.

"""

LICENCES = """\
## Licences

Only licences that ask for no more than their notice may be deployed:
{permitted}.
Others need a review, which is a line in `dev/packaging/licences.py`:

{reviewed}

Each package brings its licence text along in its `dist-info` folder; `make package` refuses one that does not. Some
hold compiled parts of others: `cryptography` OpenSSL (Apache-2.0), `duckdb` the libraries listed in its repository's
`third_party` folder. Microsoft's worker, which the platform provides, is not deployed with the app.

Development packages (`dev/requirements.txt`) and Azurite are not deployed and not listed here.
"""


def render(packages: Sequence[Locked]) -> str:
    """The page. Raises PackageNotFoundError when a package is not installed here, so that its licence is not known."""
    reasons = {one.name: one.reason for one in read_requirements()}
    direct = [one for one in packages if one.name in reasons]
    indirect = [one for one in packages if one.name not in reasons]
    lines = [
        f"## What the app imports ({len(direct)})",
        "",
        "| package | version | licence | why |",
        "|---|---|---|---|",
        *(f"| {one.name} | {one.version} | {licence_of(one.name)} | {reasons[one.name]} |" for one in direct),
        "",
        f"## What these need ({len(indirect)})",
        "",
        "| package | version | licence | needed by |",
        "|---|---|---|---|",
        *(f"| {one.name} | {one.version} | {licence_of(one.name)} | {', '.join(one.needed_by)} |" for one in indirect),
        "",
    ]
    reviewed = "\n".join(f"- `{name}`, {licence}: {why}" for name, (licence, why) in sorted(REVIEWED.items()))
    return (
        INTRODUCTION
        + "\n".join(lines)
        + "\n"
        + LICENCES.format(permitted=", ".join(sorted(PERMISSIVE)), reviewed=reviewed)
    )


def main() -> int:
    """Writes the page."""
    PAGE.write_text(render(AZURE.packages()), encoding="utf-8")
    print(f"{PAGE.relative_to(PROJECT)}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
