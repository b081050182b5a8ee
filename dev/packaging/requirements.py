"""Reads requirements.txt (what the app imports, in ranges, each with its reason) and requirements.lock.

The lock is for Python 3.11 to 3.13 and all platforms at once: a line may have a marker (PEP 508) that says where it
counts, and holds the checksums of all files of that version. "make lock" writes it (lock.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from packaging.markers import Environment, Marker, default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).resolve().parents[2]
REQUIREMENTS = PROJECT / "requirements.txt"
LOCK = PROJECT / "requirements.lock"

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of requirements.txt: which versions of a package the app takes, and why it needs it."""

    name: str
    versions: SpecifierSet
    reason: str


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of the lock. `needed_by`: names of packages; none when only requirements.txt asks for it."""

    name: str
    version: Version
    marker: Marker | None
    hashes: frozenset[str]
    needed_by: tuple[str, ...]
    wanted: bool

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}"

    def line(self) -> str:
        """As a line of a requirements file with checksums, without the marker."""
        return " \\\n    ".join([self.pin, *(f"--hash={one}" for one in sorted(self.hashes))])


def read_requirements(path: Path = REQUIREMENTS) -> tuple[Wanted, ...]:
    """The lines of requirements.txt, in their order. Raises ValueError for a line without a reason."""
    return tuple(_wanted(line) for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))


def _wanted(line: str) -> Wanted:
    text, _, reason = line.partition(" # ")
    if not reason.strip():
        raise ValueError(f"requirements.txt does not say why it has '{line}'.")
    requirement = Requirement(text.strip())
    return Wanted(canonicalize_name(requirement.name), requirement.specifier, reason.strip())


def read_lock() -> tuple[Locked, ...]:
    """The packages of the lock, those for other Pythons and platforms included."""
    return tuple(_locked(block) for block in _blocks(LOCK.read_text(encoding="utf-8").splitlines()))


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Each package's first line and the indented ones below it."""
    block: list[str] = []
    for line in lines:
        if line and not line.startswith((" ", "#")):
            if block:
                yield block
            block = []
        if block or not line.startswith("#"):
            block.append(line)
    if block:
        yield block


def _locked(block: Sequence[str]) -> Locked:
    requirement = Requirement(block[0].removesuffix("\\").strip())
    (version,) = requirement.specifier
    text = "\n".join(block[1:])
    sources = [line.replace("# via", "").strip(" #") for line in block[1:] if line.strip().startswith("#")]
    needed_by = tuple(canonicalize_name(one) for one in sources if one and not one.startswith("-r"))
    return Locked(
        name=canonicalize_name(requirement.name),
        version=Version(version.version),
        marker=requirement.marker,
        hashes=frozenset(_HASH.findall(text)),
        needed_by=needed_by,
        wanted=any(one.startswith("-r") for one in sources),
    )


def locked_for(environment: Mapping[str, str]) -> tuple[Locked, ...]:
    """What is installed where these values of PEP 508 hold; what is not given is as on this machine."""
    values = cast("Environment", default_environment() | dict(environment))
    return tuple(
        one for one in read_lock() if one.marker is None or one.marker.evaluate(cast("dict[str, str]", values))
    )
