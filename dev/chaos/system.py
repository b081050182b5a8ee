"""What the system says about the size of the hosts (Linux, /proc)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dev.host.process import HostProcess


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment; memory resident, in MB of 1,048,576 bytes."""

    pid: int
    memory_mb: float
    threads: int
    descriptors: int

    def document(self) -> dict[str, Any]:
        return asdict(self)


def sample(hosts: Iterable[HostProcess]) -> list[Sample]:
    """The hosts that are up, now."""
    found = []
    for host in hosts:
        process = Path("/proc") / str(host.pid)
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
        memory = int(status["VmRSS"].split()[0]) / 1024
        descriptors = len(list((process / "fd").iterdir()))
        found.append(Sample(host.pid, round(memory, 1), int(status["Threads"]), descriptors))
    return found
