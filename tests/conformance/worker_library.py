"""Drives Microsoft's own Python worker library (azure-functions-runtime) without its host.

The library is written against the protobuf classes of the host's protocol, which it is given at run time. Six small
stand-ins are enough: it only builds them and sets their fields. Values go in and out through its protobuf-free entry,
`native_invocation`. It keeps its state in modules and an app can be indexed once per process, so each run is a child
process: `run_app()` here, `main()` there, JSON in between.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of a function. `trigger` is built by `http`, `queue_message` or `timer`."""

    function: str
    trigger: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the worker would report to the host: `reply` is {status, headers, body} of an HTTP function."""

    succeeded: bool
    error: str | None
    reply: Mapping[str, Any] | None
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerRun:
    """What the worker found in an app, and what came of the invocations, in their order.

    `functions`: the bindings of each function as the host sees them. `load_error`: why the app was refused.
    """

    load_error: str | None
    functions: Mapping[str, Sequence[Mapping[str, Any]]]
    outcomes: Sequence[Outcome]


def http(method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The trigger of an HTTP function."""
    return {"kind": "http", "method": method, "path": path, "body": body, "headers": dict(headers or {})}


def queue_message(text: str, dequeue_count: int = 1) -> dict[str, Any]:
    """The trigger of a queue function."""
    return {"kind": "queue", "text": text, "dequeueCount": dequeue_count}


def timer(*, past_due: bool = False) -> dict[str, Any]:
    """The trigger of a timer function."""
    return {"kind": "timer", "pastDue": past_due}


def run_app(app_dir: Path, env: Mapping[str, str], invocations: Sequence[Invocation] = ()) -> WorkerRun:
    """Loads `app_dir`/function_app.py in the worker library and makes the calls one after another."""
    calls = [{"function": call.function, "trigger": call.trigger} for call in invocations]
    result = subprocess.run(
        [sys.executable, "-m", __name__, str(app_dir)],
        input=json.dumps(calls),
        cwd=_PROJECT,
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if result.returncode != 0:
        raise AssertionError(f"the worker library ended with {result.returncode}\n{result.stderr[-4000:]}")
    document = json.loads(result.stdout.splitlines()[-1])
    outcomes = [Outcome(**outcome) for outcome in document["outcomes"]]
    return WorkerRun(document["loadError"], document["functions"], outcomes)


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
    FunctionLoadResponse=_Message,
    FunctionMetadataResponse=_Message,
    RpcException=_Message,
    RpcFunctionMetadata=_Message,
    RpcRetryOptions=_Message,
    StatusResult=_StatusResult,
    WorkerInitResponse=_Message,
    WorkerMetadata=_Message,
)


async def _run(app_dir: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    import azure_functions_runtime as runtime
    from azure_functions_runtime.native_invocation import invocation_request_native

    runtime.start_threadpool_executor()
    request = SimpleNamespace(
        request=SimpleNamespace(
            worker_init_request=SimpleNamespace(capabilities={}, function_app_directory=app_dir),
        ),
        properties={"host": "127.0.0.1", "protos": _PROTOS},
    )
    response = await runtime.worker_init_request(request)
    if response.result.status != _StatusResult.Success:
        return {"loadError": response.result.exception.message, "functions": {}, "outcomes": []}
    metadata = (await runtime.functions_metadata_request(request)).function_metadata_results
    ids = {function.name: function.function_id for function in metadata}
    functions = {function.name: [json.loads(raw) for raw in function.raw_bindings] for function in metadata}
    outcomes = []
    for call in calls:
        name = call["function"]
        parameter = next(b["name"] for b in functions[name] if b["type"].endswith("Trigger"))
        value, trigger_metadata = _datums(call["trigger"])
        succeeded, reply, outputs, error, _ = await invocation_request_native(
            str(uuid.uuid4()), ids[name], [(parameter, value)], trigger_metadata
        )
        outcomes.append(
            {
                "succeeded": succeeded,
                "error": error,
                "reply": _reply(reply),
                "outputs": {name: datum.python_value for name, datum in outputs},
            }
        )
    return {"loadError": None, "functions": functions, "outcomes": outcomes}


def _datums(trigger: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A trigger's value and metadata in the library's own intermediate form."""
    from azure_functions_runtime.bindings.datumdef import Datum

    def string(text: object) -> Any:
        return Datum(str(text), "string")

    if trigger["kind"] == "queue":
        return string(trigger["text"]), {"Id": string("1"), "DequeueCount": string(trigger["dequeueCount"])}
    if trigger["kind"] == "timer":
        return Datum(json.dumps({"IsPastDue": trigger["pastDue"]}), "json"), {}
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
    """The child process: calls as JSON on stdin, a WorkerRun as the last line of stdout."""
    app_dir = sys.argv[1]
    sys.path.insert(0, app_dir)
    print(json.dumps(asyncio.run(_run(app_dir, json.load(sys.stdin)))))  # noqa: T201 - its way to answer


if __name__ == "__main__":
    main()
