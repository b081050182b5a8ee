"""Drives Microsoft's own Python worker library (azure-functions-runtime) without its host.

The library is written against the protobuf classes of the host's protocol, which it is given at run time. Six small
stand-ins are enough: it only builds them and sets their fields. Values go in and out through its protobuf-free entry,
`native_invocation`. It keeps its state in modules and an app can be indexed once per process, so each app is loaded by
a child process: `start_worker()` here, `main()` there, lines of JSON in between.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the worker would report to the host: `reply` is {status, headers, body} of an HTTP function."""

    succeeded: bool
    error: str | None
    reply: Mapping[str, Any] | None
    outputs: Mapping[str, Any]
    kept: Sequence[str] = ()
    """Lines of the app's log that the host would keep."""
    lost: Sequence[str] = ()
    """Those that it would throw away since the run before: they belong to no run that is under way."""
    strangers: Sequence[str] = ()
    """Loggers of libraries that have written lines; the host would keep these too."""

    def json(self) -> Any:
        """The body of an HTTP reply."""
        assert self.reply is not None, self.error
        return json.loads(self.reply["body"])


class AppRefused(Exception):
    """The worker does not load the app; the text is its reason."""


class Worker:
    """An app in Microsoft's worker library. `functions`: the bindings of each function as the host sees them.

    `kept`, `lost`, `strangers`: what was logged in all runs so far (see `Outcome`). `threads`: how many the worker has
    for functions that are not `async`.
    """

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors
        self.kept: list[str] = []
        self.lost: list[str] = []
        self.strangers: set[str] = set()
        loaded = self._answer()
        if loaded["loadError"]:
            raise AppRefused(loaded["loadError"])
        self.functions: Mapping[str, Sequence[Mapping[str, Any]]] = loaded["functions"]
        self.threads: int = loaded["threads"]

    def trigger(self, function: str) -> Mapping[str, Any]:
        """The binding that sets a function off."""
        (trigger,) = [one for one in self.functions[function] if one["type"].endswith("Trigger")]
        return trigger

    def invoke(self, function: str, trigger: Mapping[str, Any]) -> Outcome:
        """Runs one function. `trigger` is built by `http`, `queue_message` or `timer`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"function": function, "trigger": trigger}) + "\n")
        self._process.stdin.flush()
        outcome = Outcome(**self._answer())
        self.kept += outcome.kept
        self.lost += outcome.lost
        self.strangers |= set(outcome.strangers)
        return outcome

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            raise AssertionError(f"the worker library ended with {code}\n{self._errors.read()[-4000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def http(method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The trigger of an HTTP function."""
    return {"kind": "http", "method": method, "path": path, "body": body, "headers": dict(headers or {})}


def queue_message(text: str, dequeue_count: int = 1) -> dict[str, Any]:
    """The trigger of a queue function."""
    return {"kind": "queue", "text": text, "dequeueCount": dequeue_count}


def timer(*, past_due: bool = False) -> dict[str, Any]:
    """The trigger of a timer function."""
    return {"kind": "timer", "pastDue": past_due}


@contextmanager
def start_worker(app_dir: Path, env: Mapping[str, str], later: Mapping[str, str] | None = None) -> Iterator[Worker]:
    """Loads `app_dir`/function_app.py in the worker library. Raises AppRefused.

    `later`: the settings come when the process runs already, in place of all it had, as on Flex Consumption.
    """
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(app_dir), json.dumps(later)],
            cwd=_PROJECT,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Worker(process, errors)
        finally:
            assert process.stdin is not None
            process.stdin.close()  # it ends then


class _Log(logging.Handler):
    """Tells lines that the host keeps from those that it throws away, by what Microsoft's worker sends with each.

    The worker names the run by the library's context variable, or by what a function has put into the thread's own
    storage. The host knows the runs under way and drops a line that names none of them (GrpcWorkerChannel.Log).
    """

    def __init__(self) -> None:
        super().__init__()
        self.running: str | None = None
        self.kept: list[str] = []
        self.lost: list[str] = []
        self.strangers: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        from azure_functions_runtime import invocation_id_cv
        from azure_functions_runtime.bindings.context import _invocation_id_local

        if record.name != "segments_to_mailchimp":
            self.strangers.add(record.name)
            return
        run = invocation_id_cv.get() or getattr(_invocation_id_local, "invocation_id", None)
        lines = self.kept if run is not None and run == self.running else self.lost
        lines.append(self.format(record))

    def take(self) -> dict[str, list[str]]:
        """The lines since the last time."""
        taken = {"kept": self.kept, "lost": self.lost, "strangers": sorted(self.strangers)}
        self.kept, self.lost, self.strangers = [], [], set()
        return taken


class _Message:
    """Stands in for any protobuf message that the library builds: keeps the fields that it is given."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class _BindingInfo(_Message):
    """Its enumerations have the values of the protocol (FunctionRpc.proto, BindingInfo)."""

    undefined = 0
    out = 1
    inout = 2


class _StatusResult(_Message):
    """Its enumerations have the values of the protocol (FunctionRpc.proto, StatusResult)."""

    Failure = 0
    Success = 1


_PROTOS = SimpleNamespace(
    BindingInfo=_BindingInfo,
    FunctionEnvironmentReloadResponse=_Message,
    FunctionLoadResponse=_Message,
    FunctionMetadataResponse=_Message,
    RpcException=_Message,
    RpcFunctionMetadata=_Message,
    RpcRetryOptions=_Message,
    StatusResult=_StatusResult,
    WorkerInitResponse=_Message,
    WorkerMetadata=_Message,
)


async def _serve(app_dir: str, later: Mapping[str, str] | None, answers: IO[str]) -> None:
    import azure_functions_runtime as runtime
    from azure_functions_runtime.native_invocation import invocation_request_native

    def answer(document: Mapping[str, Any]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    log = _Log()
    logging.getLogger().addHandler(log)  # both as the worker does
    logging.getLogger().setLevel(logging.INFO)
    runtime.start_threadpool_executor()
    request = SimpleNamespace(
        request=SimpleNamespace(
            worker_init_request=SimpleNamespace(capabilities={}, function_app_directory=app_dir),
            function_environment_reload_request=SimpleNamespace(
                environment_variables=later, function_app_directory=app_dir
            ),
        ),
        properties={"host": "127.0.0.1", "protos": _PROTOS},
    )
    load = runtime.worker_init_request if later is None else runtime.function_environment_reload_request
    response = await load(request)
    if response.result.status != _StatusResult.Success:
        answer({"loadError": response.result.exception.message, "functions": {}, "threads": 0})
        return
    metadata = (await runtime.functions_metadata_request(request)).function_metadata_results
    ids = {function.name: function.function_id for function in metadata}
    functions = {function.name: [json.loads(raw) for raw in function.raw_bindings] for function in metadata}
    answer({"loadError": None, "functions": functions, "threads": runtime.get_threadpool_executor()._max_workers})
    for line in sys.stdin:
        call = json.loads(line)
        name = call["function"]
        parameter = next(one["name"] for one in functions[name] if one["type"].endswith("Trigger"))
        value, trigger_metadata = _datums(call["trigger"])
        log.running = str(uuid.uuid4())
        succeeded, reply, outputs, error, _ = await invocation_request_native(
            log.running, ids[name], [(parameter, value)], trigger_metadata
        )
        log.running = None
        answer(
            {
                "succeeded": succeeded,
                "error": error,
                "reply": _reply(reply),
                "outputs": {name: datum.python_value for name, datum in outputs},
                **log.take(),
            }
        )


def _datums(trigger: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A trigger's value and metadata in the library's own intermediate form, with what the host sends along."""
    from azure_functions_runtime.bindings.datumdef import Datum

    def string(text: object) -> Any:
        return Datum(str(text), "string")

    if trigger["kind"] == "queue":
        metadata = {
            "Id": "0c9b6c0a-7b2c-4bb3-b2c5-8cf2b5a2bb1d",
            "DequeueCount": trigger["dequeueCount"],
            "PopReceipt": "AgAAAAMAAAAAAAAA",
            "InsertionTime": "2026-11-22T08:00:00+00:00",
            "ExpirationTime": "2026-11-29T08:00:00+00:00",
            "NextVisibleTime": "2026-11-22T08:10:00+00:00",
        }
        return string(trigger["text"]), {name: string(value) for name, value in metadata.items()}
    if trigger["kind"] == "timer":
        schedule = {"Last": "2026-11-22T08:00:00+00:00", "Next": "2026-11-22T08:01:00+00:00"}
        document = {"IsPastDue": trigger["pastDue"], "Schedule": {"AdjustForDST": True}, "ScheduleStatus": schedule}
        return Datum(json.dumps(document), "json"), {}
    path, _, query = trigger["path"].partition("?")
    fields = {
        "method": string(trigger["method"]),
        "url": string(f"http://127.0.0.1:7071{trigger['path']}"),
        "headers": {name.lower(): string(value) for name, value in trigger["headers"].items()},
        "params": {"route": string(path.removeprefix("/api/"))},
        "query": {name: string(value) for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)},
        "body": Datum(trigger["body"].encode(), "bytes"),
    }
    return Datum(fields, "http"), {}


def _reply(datum: Any) -> dict[str, Any] | None:
    if datum is None or datum.type is None:
        return None
    if datum.type != "http":
        return {"status": 200, "headers": {}, "body": str(datum.value)}
    return {
        "status": int(datum.value["status_code"].value),
        "headers": {name.lower(): header.value for name, header in datum.value["headers"].items()},
        "body": datum.value["body"].value.decode(),
    }


def main() -> None:
    """The child process: loads the app, then answers a line for each line until stdin is closed."""
    app_dir, later = sys.argv[1], json.loads(sys.argv[2])
    sys.path.insert(0, app_dir)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what the app or the library prints is not an answer
        asyncio.run(_serve(app_dir, later, answers))


if __name__ == "__main__":
    main()
