"""Looks at the host processes while an export runs: CPU and memory over time, to be cut into phases afterwards."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from dev.bench_machine import cpu_seconds, memory_mb

_EVERY_S = 0.1
_POINTS = 120
"""Of the series that is kept."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A look: seconds since 1970, CPU seconds of all hosts so far, MB that the largest host has at this moment."""

    at: float
    cpu: float
    memory: float


@dataclass(frozen=True, slots=True)
class Phase:
    """What the hosts used between two moments. Growth: the last quarter of the phase beside its first, on average."""

    seconds: float
    cpu: float
    peak_mb: float
    growth_mb: float

    def document(self) -> dict[str, float]:
        """For the JSON of the benchmark."""
        return {
            "seconds": round(self.seconds, 2),
            "hostCpuSeconds": round(self.cpu, 2),
            "peakMb": round(self.peak_mb, 1),
            "growthMb": round(self.growth_mb, 1),
        }


class HostWatch:
    """Takes samples in a thread of its own inside its block."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._samples: list[Sample] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="host-watch")

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._look()

    def phase(self, start: datetime | None = None, end: datetime | None = None) -> Phase:
        """What was used between two moments; from the first or to the last look where one is None."""
        first = self._samples[0].at if start is None else start.timestamp()
        last = self._samples[-1].at if end is None else end.timestamp()
        inside = [sample.memory for sample in self._samples if first <= sample.at <= last]
        inside = inside or [min(self._samples, key=lambda sample: abs(sample.at - last)).memory]
        quarter = -(-len(inside) // 4)
        growth = (sum(inside[-quarter:]) - sum(inside[:quarter])) / quarter
        return Phase(last - first, self._cpu_at(last) - self._cpu_at(first), max(inside), growth)

    def series(self) -> dict[str, object]:
        """MB of the largest host over time, in at most 120 points: each the highest of its time."""
        memory = [sample.memory for sample in self._samples]
        step = -(-len(memory) // _POINTS)
        points = [round(max(memory[start : start + step]), 1) for start in range(0, len(memory), step)]
        seconds = self._samples[-1].at - self._samples[0].at
        return {"everySeconds": round(seconds / len(points), 3), "mb": points}

    def _cpu_at(self, at: float) -> float:
        """Between two looks in proportion."""
        after = bisect_left([sample.at for sample in self._samples], at)
        if after == 0 or after == len(self._samples):
            return self._samples[min(after, len(self._samples) - 1)].cpu
        a, b = self._samples[after - 1], self._samples[after]
        return a.cpu + (b.cpu - a.cpu) * (at - a.at) / (b.at - a.at)

    def _run(self) -> None:
        while not self._stopped.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        cpu = sum(cpu_seconds(pid) for pid in self._pids)
        self._samples.append(Sample(time.time(), cpu, max(memory_mb(pid) for pid in self._pids)))
