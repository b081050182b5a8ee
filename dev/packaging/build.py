"""`make package`: the zip that is deployed, with everything the app needs to run.

    .run/package/app/       the package as a folder: what azd uploads (azure.yaml)
    .run/package/app.zip    the same as a zip: what az uploads

In it: the app, requirements.txt with the exact versions, and these packages in .python_packages/lib/site-packages,
where Azure's Python worker looks for them (decision 0012). The same input gives the same bytes: files in order, all of
the same date, compiled by one process. Python 3.13 is needed, because the compiled files are for that version.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dev.packaging import wheels
from dev.packaging.contents import app_files, left_out
from dev.packaging.errors import PackageError
from dev.packaging.requirements import PROJECT
from dev.packaging.tools import fail
from dev.packaging.wheels import AZURE, WHEELS, Target

OUTPUT = PROJECT / ".run/package"
DEPENDENCIES = ".python_packages/lib/site-packages"

_ROOT_IN_AZURE = "/home/site/wwwroot"
_FOR_AZD = "# Nothing stays out. Without this file azd would leave out the compiled modules (__pycache__).\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can tell


@dataclass(frozen=True, slots=True)
class Package:
    """A package that was built. `sizes`: bytes of every file by its path."""

    folder: Path
    zip: Path
    sizes: dict[str, int]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.zip.read_bytes()).hexdigest()


def build(project: Path = PROJECT, output: Path = OUTPUT, target: Target = AZURE) -> Package:
    """Build the package for a target. Raises PackageError, and then leaves no package behind."""
    if not _compiles_for(target):
        raise PackageError(
            f"The package is for Python {target.python} and this is {sys.version_info.major}.{sys.version_info.minor}: "
            f"make package PYTHON_VERSION={target.python}"
        )
    shutil.rmtree(output, ignore_errors=True)
    folder, archive = output / "app", output / "app.zip"
    files = app_files(project)
    for file in files:
        _copy(project / file, folder / file)
    packages = target.packages()
    (folder / "requirements.txt").write_text(wheels.listing_of(packages), encoding="utf-8")
    for wheel in wheels.fetch(target, packages, WHEELS):
        wheels.unpack(wheel, folder / DEPENDENCIES)
    _compile(folder)
    packed = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    _pack(folder, packed, archive)
    (folder / ".funcignore").write_text(_FOR_AZD, encoding="utf-8")
    return Package(folder, archive, {file: (folder / file).stat().st_size for file in packed})


def _compiles_for(target: Target) -> bool:
    return sys.implementation.name == "cpython" and target.python == ".".join(map(str, sys.version_info[:2]))


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)


def _compile(folder: Path) -> None:
    """Compiles every module, because the package is mounted read-only: each cold start would compile them anew.

    The compiled files are bound to the content of their source and not to its date, which a zip does not keep. One
    process compiles all, in order: what it writes depends on what it has compiled before.
    """
    command = [
        *(sys.executable, "-I", "-m", "compileall", "-q", "-f", "-j", "1", "--invalidation-mode", "unchecked-hash"),
        *("-s", str(folder), "-p", _ROOT_IN_AZURE, "."),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PackageError(f"Not every module can be compiled.\n{done.stdout.strip()}")


def _pack(folder: Path, files: list[str], archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as packed:
        for file in files:
            entry = zipfile.ZipInfo(file, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whatever this machine is
            entry.external_attr = 0o100644 << 16
            packed.writestr(entry, (folder / file).read_bytes())


def report(package: Package, project: Path = PROJECT) -> str:
    """What the package holds, for people."""
    parts: dict[str, int] = {}
    app = {file: size for file, size in package.sizes.items() if not file.startswith(".python_packages/")}
    for file, size in package.sizes.items():
        if file not in app:
            first = PurePosixPath(file).relative_to(DEPENDENCIES).parts[0]
            name = first.partition(".")[0].strip("_")
            parts[name] = parts.get(name, 0) + size
    largest = sorted(parts.items(), key=lambda part: -part[1])[:5]
    sources = [file for file in app if not file.endswith(".pyc")]
    top = sorted({PurePosixPath(file).parts[0] for file in sources})
    lines = [
        f"{package.zip.relative_to(project)}  {_mb(package.zip.stat().st_size)}, unpacked "
        f"{_mb(sum(package.sizes.values()))} in {len(package.sizes):,} files",
        f"sha256 {package.sha256}",
        "",
        f"the app       {len(sources):>6,} files  {_mb(sum(app.values())):>9}  {', '.join(top)}",
        f"dependencies  {len(package.sizes) - len(app):>6,} files  {_mb(sum(parts.values())):>9}  "
        + ", ".join(f"{name} {_mb(size)}" for name, size in largest)
        + ", …",
        f"left out      {', '.join(left_out(project))}",
    ]
    return "\n".join(lines)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def main() -> int:
    """Exit code 1 with a sentence when there is no package that may be deployed."""
    argparse.ArgumentParser(prog="make package", description="Builds the package that is deployed.").parse_args()
    try:
        package = build()
    except PackageError as error:
        return fail(str(error))
    print(report(package))
    return 0


if __name__ == "__main__":
    sys.exit(main())
