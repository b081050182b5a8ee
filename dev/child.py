"""A process of its own for a part of the local stack: Azurite, the sandbox, a host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast


@dataclass(frozen=True, slots=True)
class Child:
    """A running process. Whoever reads its `output` closes it; one that nobody reads stands still when it is full."""

    process: subprocess.Popen[str]
    input: IO[str]
    output: IO[str]


@contextmanager
def start_child(
    command: Sequence[str],
    *,
    end_seconds: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    errors: IO[str] | int | None = None,
) -> Iterator[Child]:
    """Runs `command` until the block is left: then it gets SIGTERM, and SIGKILL if it needs more than `end_seconds`.

    Its input is a pipe, which the system closes when this process dies: so a child can tell that nobody wants it any
    more. `errors` is where its stderr goes, as for Popen.
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=env, cwd=cwd, stdin=pipe, stdout=pipe, stderr=errors, text=True)
    # Popen's types do not know that what was asked for as a pipe is there.
    child = Child(process, cast("IO[str]", process.stdin), cast("IO[str]", process.stdout))
    try:
        yield child
    finally:
        process.terminate()
        try:
            process.wait(end_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        child.input.close()
