"""A local host as a child process, for tests, demos and the benchmark."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dev.child import Child, start_child

_PROJECT = Path(__file__).resolve().parents[2]


class HostStartError(Exception):
    """The host ended before it was ready, or was not ready in time; the text holds what it wrote."""


class HostProcess:
    """A running host. `address` has no trailing slash."""

    def __init__(self, child: Child, address: str, functions: tuple[str, ...]) -> None:
        self._child = child
        self._process = child.process
        self.address = address
        self.functions = functions

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL: the host gets no chance to give anything back. Waits until it is gone."""
        self._process.kill()
        self._process.wait()

    def close_stdin(self) -> None:
        """What the system does when the process that started the host dies: the host stops."""
        self._child.input.close()

    def signal_stop(self) -> None:
        """SIGTERM, without waiting."""
        self._process.send_signal(signal.SIGTERM)

    def terminate(self, timeout: float = 60) -> int:
        """SIGTERM: running functions may finish. Waits up to `timeout` seconds; the exit code."""
        self.signal_stop()
        return self._process.wait(timeout)


@contextmanager
def start_host(
    env: Mapping[str, str],
    port: int = 0,
    app_dir: Path = _PROJECT,
    log_file: Path | None = None,
    *,
    grace_seconds: float = 30,
    ready_timeout: float = 120,
    worker_python: Path | None = None,
) -> Iterator[HostProcess]:
    """Runs a host until the block is left (gracefully, unless it has ended before) or this process dies.

    `env` is added to this process's environment. Logs go to `log_file`, or nowhere. `worker_python` runs the app in a
    process of its own. Raises HostStartError.
    """
    command = [sys.executable, "-m", "dev.host", "--port", str(port), "--app", str(app_dir)]
    command += ["--grace", str(grace_seconds), "--stop-with-parent"]
    command += ["--worker-python", str(worker_python)] if worker_python else []
    with (
        _open_log(log_file) as log,
        start_child(
            command, cwd=_PROJECT, env={**os.environ, **env}, errors=log, end_seconds=grace_seconds + 10
        ) as child,
    ):
        ready = _wait_until_ready(child, log, ready_timeout)
        yield HostProcess(child, ready["address"], tuple(ready["functions"]))


def _open_log(path: Path | None) -> IO[str]:
    if path is None:
        return tempfile.TemporaryFile("w+")
    return path.open("a+", encoding="utf-8")


def _wait_until_ready(child: Child, log: IO[str], timeout: float) -> dict[str, Any]:
    """The host's ready line. A timer ends a host that says nothing, which ends the wait for its line."""
    timer = threading.Timer(timeout, child.process.kill)
    timer.start()
    try:
        for line in child.output:
            if '"host.ready"' in line:
                ready: dict[str, Any] = json.loads(line)
                # What the app prints later must not fill the pipe, or the host would stand still.
                threading.Thread(target=_drain, args=(child.output, log), daemon=True, name="host-output").start()
                return ready
    finally:
        timer.cancel()
    code = child.process.wait()
    child.output.close()
    log.seek(0)
    raise HostStartError(f"The host ended before it was ready (exit code {code}).\n{log.read()[-4000:]}")


def _drain(output: IO[str], log: IO[str]) -> None:
    """Copies what is printed to the log until the host has ended, and closes the pipe."""
    with output:
        for line in output:
            with suppress(ValueError):  # the log is closed: nobody looks at it any more
                log.write(line)
                log.flush()
