"""The wheels of the lock for one place where the app is to run: fetched once, checked, and unpacked.

The app is deployed with its dependencies, so they are chosen here and not by a build in Azure. A wheel is taken apart
as "Binary distribution format" of the Python packaging guide says: everything in it goes into one folder, what its
`.data` folder holds as `purelib` and `platlib` too; its scripts are for command lines and stay out.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.markers import default_environment
from packaging.utils import canonicalize_name, parse_wheel_filename

from dev.packaging.errors import PackageError
from dev.packaging.requirements import PROJECT, Locked, locked_for

WHEELS = PROJECT / ".run/wheels"


@dataclass(frozen=True, slots=True)
class Target:
    """A place where the app is to run.

    `python`: its version, two numbers. `platforms`: tags of the wheels that run there, best first; none for this
    machine. `environment`: values of PEP 508, where they differ from this machine's.
    """

    python: str
    platforms: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def packages(self) -> tuple[Locked, ...]:
        """What is installed there, in the order of their names."""
        return locked_for(self.environment)

    def pip_arguments(self) -> list[str]:
        """What makes pip choose wheels for this place instead of for this machine."""
        if not self.platforms:
            return []
        tags = [argument for platform in self.platforms for argument in ("--platform", platform)]
        return [*tags, "--python-version", self.python, "--implementation", "cp"]


def listing_of(packages: Sequence[Locked]) -> str:
    """A requirements file: exact versions with checksums."""
    return "".join(f"{one.line()}\n" for one in packages)


def _linux(newest_glibc: int) -> tuple[str, ...]:
    """Tags of wheels for Linux on x86-64 with glibc 2.n, the newest first (PEP 600 and its forerunners)."""
    numbered = [f"manylinux_2_{minor}_x86_64" for minor in range(newest_glibc, 4, -1)]
    return (*numbered, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64")


AZURE = Target(
    python="3.13",
    # The images of Python 3.13 have a newer glibc; 2.28 leaves room for the other one if Microsoft changes them.
    platforms=_linux(newest_glibc=28),
    environment={
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": "3.13.0",
        "python_version": "3.13",
        "sys_platform": "linux",
    },
)
"""What infra/modules/functionapp.bicep asks for: Python 3.13 on Flex Consumption, which is Linux on x86-64."""

THIS_MACHINE = Target(python=f"{sys.version_info.major}.{sys.version_info.minor}")
"""For tests on other Pythons and platforms than Azure's."""


def runs_here(target: Target) -> bool:
    """Whether what is built for the target runs on this machine with this Python."""
    return all(default_environment().get(name) == target.environment.get(name) for name in _DECISIVE)


_DECISIVE = ("platform_python_implementation", "platform_machine", "python_version", "sys_platform")


def fetch(target: Target, packages: Sequence[Locked], cache: Path = WHEELS) -> list[Path]:
    """The wheels of these packages for a target, in the same order, downloaded unless the cache has them all.

    Each one's checksum is that of the lock. Raises PackageError: no index in reach, no wheel for that place, a wrong
    checksum, or a version that was withdrawn.
    """
    requirements = listing_of(packages)
    key = hashlib.sha256("\n".join([requirements, target.python, *target.platforms]).encode()).hexdigest()[:16]
    folder = cache / key
    wheels = _checked(folder, packages)
    if wheels is None:
        folder.mkdir(parents=True, exist_ok=True)
        _download(target, requirements, folder)
        wheels = _checked(folder, packages)
    if wheels is None:
        raise PackageError(f"Not every package of the lock has its wheel in {folder} with the right checksum.")
    return wheels


def _checked(folder: Path, packages: Sequence[Locked]) -> list[Path] | None:
    """The wheel of each package, or None when one is missing or is not the one of the lock."""
    found = {parse_wheel_filename(path.name)[:2]: path for path in folder.glob("*.whl")}
    wheels = [found.get((canonicalize_name(one.name), one.version)) for one in packages]
    checked = [
        path
        for one, path in zip(packages, wheels, strict=True)
        if path is not None and f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" in one.hashes
    ]
    return checked if len(checked) == len(packages) else None


def _download(target: Target, requirements: str, folder: Path) -> None:
    listing = folder / "requirements.txt"
    listing.write_text(requirements, encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--no-deps", "--require-hashes", "--only-binary=:all:", *target.pip_arguments()),
        *("--requirement", str(listing), "--dest", str(folder)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PackageError(f"The wheels of requirements.lock could not be had.\n{done.stderr.strip()}")
    withdrawn = [line for line in done.stderr.splitlines() if "yanked" in line]
    if withdrawn:
        shutil.rmtree(folder)  # or the next run would find them there
        raise PackageError(
            "\n".join(["A locked version was withdrawn by its author: make lock ARGS=--upgrade", *withdrawn])
        )


def unpack(wheel: Path, folder: Path) -> None:
    """Put what is in the wheel into the folder, as pip would, without scripts and without a note on who did it.

    Raises PackageError for a wheel without a licence text.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if not any(_is_licence(name) for name in names):
            raise PackageError(f"{wheel.name} brings no licence text along.")
        for name in names:
            if (place := _place(name)) is not None:
                path = folder / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))


def _is_licence(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    words = ("LICEN", "COPYING", "NOTICE")
    return ".dist-info" in folder and file.upper().startswith(words)


def _place(name: str) -> str | None:
    """Where a file of a wheel goes, None for nowhere: `a-1.data/purelib/a.py` is `a.py`, and scripts stay out."""
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return name
    kind, _, path = rest.partition("/")
    return path if kind in {"purelib", "platlib"} else None
