"""What the benchmark reads from the system: the machine, and what processes have used (Linux, /proc)."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROGRAMS = {"dev.host": "host", "dev.sandbox": "sandbox", "azurite.js": "azurite"}


def machine() -> dict[str, Any]:
    """Cores, memory, versions, and how busy the machine is at this moment."""
    memory_kb = _field(_PROC / "meminfo", "MemTotal")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memoryGb": round(memory_kb / 1024**2, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "loadAverage": [round(load, 2) for load in os.getloadavg()],
    }


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far: of each program that this process has started, and of everything on the machine."""

    programs: dict[str, float]
    everything: float

    def since(self, start: Usage) -> dict[str, float]:
        """CPU seconds by program; `others` is what everything else on the machine has used, this process included."""
        used = {name: total - start.programs.get(name, 0) for name, total in self.programs.items()}
        used["others"] = self.everything - start.everything - sum(used.values())
        return {name: round(seconds, 2) for name, seconds in used.items()}


def usage() -> Usage:
    """The present usage; several hosts count as one program."""
    programs: dict[str, float] = {}
    for pid, name in _children().items():
        programs[name] = programs.get(name, 0) + cpu_seconds(pid)
    # First line of /proc/stat: user nice system idle iowait irq softirq steal …; idle and iowait are no use.
    ticks = [int(text) for text in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    return Usage(programs, (sum(ticks) - ticks[3] - ticks[4]) / _TICKS_PER_SECOND)


def peak_memory_mb(pid: int) -> float:
    """The most memory that the process ever had at once (VmHWM), in MB of 1,048,576 bytes."""
    return round(_field(_PROC / str(pid) / "status", "VmHWM") / 1024, 1)


def memory_mb(pid: int) -> float:
    """What the process has in memory now (RSS), in MB of 1,048,576 bytes."""
    pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    return pages * _PAGE_BYTES / 1024**2


def _children() -> dict[int, str]:
    """The programs of the stack among the children of this process, by process id."""
    found = {}
    for task in (_PROC / "self" / "task").iterdir():
        for pid in (task / "children").read_text().split():
            command = (_PROC / pid / "cmdline").read_bytes().decode(errors="replace")
            for part, name in _PROGRAMS.items():
                if part in command:
                    found[int(pid)] = name
    return found


def cpu_seconds(pid: int) -> float:
    """utime + stime of /proc/[pid]/stat, which are fields 14 and 15; the name before them may hold blanks."""
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _field(path: Path, name: str) -> int:
    """A number of a `Name:   value kB` file."""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise KeyError(name)


def _processor() -> str:
    for line in (_PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
