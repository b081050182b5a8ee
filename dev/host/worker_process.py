"""The app in a process of its own, run by a Python of its own: as in Azure, where host and worker are two programs.

`start_worker()` runs in the host and `main()` in the other process. That one has the packages of its Python and those
that came with the app (`.python_packages`, as in Azure), and nothing of the host's: an app that imports a development
package does not load. Values go over one pipe in pickled form; both ends are this host.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NoReturn

from azure.functions.meta import Datum

from dev.host import logs
from dev.host.errors import AppError, HostError
from dev.host.loading import LoadedFunction, load_app
from dev.host.worker import Call, CallResult, Worker

_PROJECT = Path(__file__).resolve().parents[2]
_PACKAGES = ".python_packages/lib/site-packages"


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The first message of the other process: the app's functions, or why there are none."""

    functions: tuple[LoadedFunction, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Request:
    """One call: `number` names it, the other values are those of a Call."""

    number: int
    function: str
    invocation_id: str
    value: Datum
    metadata: Mapping[str, Datum]
    trace_parent: str


@dataclass(frozen=True, slots=True)
class _Reply:
    """What came of it: a result, or the exception as text, because its class exists over there only."""

    number: int
    result: CallResult | None
    error: str = ""


class FunctionError(Exception):
    """What a function raised in the other process; the text is its traceback."""


class WorkerProcess:
    """Calls the functions of an app that runs in another process. That one ends when the pipe is closed."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        connection: Connection[Any, Any],
        functions: tuple[LoadedFunction, ...],
    ) -> None:
        self.functions = functions
        self._process = process
        self._connection = connection
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[CallResult]] = {}
        self._count = 0
        self._ended = False
        threading.Thread(target=self._read, daemon=True, name="worker-replies").start()

    def invoke(self, call: Call) -> asyncio.Future[CallResult]:
        """Runs one function; the future fails with FunctionError for whatever the function or a converter raised."""
        waiting: Future[CallResult] = Future()
        with self._lock:
            if self._ended:
                raise FunctionError("The worker process has ended.")
            self._count += 1
            self._waiting[self._count] = waiting
            request = _Request(
                self._count, call.function.name, call.invocation_id, call.value, call.metadata, call.trace_parent
            )
            self._connection.send(request)
        return asyncio.wrap_future(waiting)

    def _read(self) -> None:
        while True:
            try:
                reply: _Reply = self._connection.recv()
            except (EOFError, OSError):
                break
            with self._lock:
                waiting = self._waiting.pop(reply.number)
            if reply.result is not None:
                waiting.set_result(reply.result)
            else:
                waiting.set_exception(FunctionError(reply.error))
        with self._lock:
            self._ended = True
            left, self._waiting = self._waiting, {}
        for waiting in left.values():
            waiting.set_exception(FunctionError("The worker process ended while the function ran."))


def start_worker(python: Path, app_dir: Path, env: Mapping[str, str]) -> WorkerProcess:
    """Loads the app in a new process of `python`. Raises HostError when that is not possible."""
    ours, theirs = Pipe()
    program = f"from {__name__} import main; main()"
    command = [str(python), "-c", program, str(app_dir), str(theirs.fileno())]
    packages = {"PYTHONPATH": str(app_dir / _PACKAGES)}
    try:
        process = subprocess.Popen(
            command, cwd=_PROJECT, env={**env, **packages}, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise HostError(f"{python} cannot be started ({error.strerror}).") from None
    theirs.close()
    try:
        loaded: _Loaded = ours.recv()
    except EOFError:
        raise HostError(f"The worker process of {python} ended before it had loaded the app.") from None
    if loaded.problem:
        process.wait()
        raise AppError(f"The app cannot be loaded by {python}.\n{loaded.problem}")
    return WorkerProcess(process, ours, loaded.functions)


def main() -> NoReturn:
    """The other process: loads the app, then answers calls until the host closes the pipe."""
    app_dir = Path(sys.argv[1])
    connection: Connection[Any, Any] = Connection(int(sys.argv[2]))
    logs.configure()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the host decides when to stop, and lets functions finish
    _forget_the_project()
    try:
        os.chdir(app_dir)
        functions = load_app(app_dir, os.environ)
    except BaseException as error:  # noqa: BLE001 - also sys.exit() in the app: the host is told why, this process ends
        connection.send(_Loaded(problem=str(error) if isinstance(error, HostError) else _text(error)))
        os._exit(1)
    connection.send(_Loaded(tuple(replace(function, call=_called_elsewhere) for function in functions)))
    _serve(connection, {function.name: function for function in functions})


def _forget_the_project() -> None:
    """The app must find what came with it and nothing else: not the project's own shared/, tests/ and the rest of dev/.

    Python put the project's folder on the path, for this module.
    """
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _PROJECT]
    sys.modules["dev"].__path__ = []


def _serve(connection: Connection[Any, Any], functions: Mapping[str, LoadedFunction]) -> NoReturn:
    threads = os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT", "")
    worker = Worker(int(threads) if threads else None)
    sending = threading.Lock()

    def answer(number: int, done: Future[CallResult]) -> None:
        error = done.exception()
        reply = _Reply(number, None, _text(error)) if error else _Reply(number, done.result())
        with sending:
            connection.send_bytes(pickle.dumps(reply))

    while True:
        try:
            request: _Request = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # as the host does: a function that still runs must not hold it up
        call = Call(
            request.invocation_id,
            functions[request.function],
            request.value,
            request.metadata,
            request.trace_parent,
        )
        worker.submit(call).add_done_callback(partial(answer, request.number))


def _text(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _called_elsewhere(**_: object) -> NoReturn:
    """Stands in the host for a function that is in the other process."""
    raise RuntimeError("This function runs in the worker process.")
