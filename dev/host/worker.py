"""Calls functions the way Microsoft's Python worker does: converters of azure.functions around the user's code.

Like the real worker, this is a place of its own: one event loop in one thread for `async def` functions, one pool of
threads for the others. Code that blocks that loop holds up other async functions, not the host's leases and timers.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, cast

import azure.functions as func
from azure.functions.meta import Datum

from dev.host import logs
from dev.host.loading import LoadedFunction, QueueOutput

_CONVERTERS: Any = cast("Any", func).get_binding_registry()
_thread_local = threading.local()


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation as the host hands it over: the trigger's value and what goes with it."""

    invocation_id: str
    function: LoadedFunction
    value: Datum
    metadata: Mapping[str, Datum]
    trace_parent: str = ""


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a function gave back: an HTTP reply (Datum) or None, and the queue messages to send."""

    reply: Datum | None
    messages: tuple[tuple[QueueOutput, Datum], ...]


class RunsFunctions(Protocol):
    """Where the functions of the app run: in this process, or in one of their own (worker_process.py)."""

    def invoke(self, call: Call) -> asyncio.Future[CallResult]:
        """Runs one function; the future fails with whatever the function or a converter raised."""


class TraceContext:
    """W3C trace context of an invocation."""

    def __init__(self, trace_parent: str) -> None:
        self._trace_parent = trace_parent

    @property
    def trace_parent(self) -> str:
        return self._trace_parent

    @property
    def trace_state(self) -> str:
        return ""

    @property
    def attributes(self) -> dict[str, str]:
        return {}


class Context(func.Context):
    """What a function's parameter `context` is."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._trace_context = TraceContext(call.trace_parent)

    @property
    def invocation_id(self) -> str:
        return self._call.invocation_id

    @property
    def thread_local_storage(self) -> Any:
        return _thread_local

    @property
    def function_name(self) -> str:
        return self._call.function.name

    @property
    def function_directory(self) -> str:
        return str(self._call.function.directory)

    @property
    def trace_context(self) -> Any:
        return self._trace_context

    @property
    def retry_context(self) -> Any:
        return None


class Out(func.Out[Any]):
    """What a parameter annotated `func.Out[...]` is."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        self._value = val

    def get(self) -> Any:
        return self._value


class Worker:
    """Runs functions until the process ends. `threads` is for functions that are not async."""

    def __init__(self, threads: int | None) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="function")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="worker").start()

    def invoke(self, call: Call) -> asyncio.Future[CallResult]:
        """Runs one function; the future fails with whatever the function or a converter raised."""
        return asyncio.wrap_future(self.submit(call))

    def submit(self, call: Call) -> Future[CallResult]:
        """Like invoke, for who has no event loop."""
        return asyncio.run_coroutine_threadsafe(self._invoke(call), self._loop)

    async def _invoke(self, call: Call) -> CallResult:
        # A coroutine sent to a loop is a task with a context of its own: these two are seen by this invocation only.
        logs.current_function.set(call.function.name)
        logs.current_invocation.set(call.invocation_id)
        arguments, outs = _arguments(call)
        try:
            if call.function.is_async:
                result = await call.function.call(**arguments)
            else:
                context = contextvars.copy_context()
                result = await self._loop.run_in_executor(
                    self._pool, lambda: context.run(_call_in_thread, call, arguments)
                )
        except (SystemExit, KeyboardInterrupt) as error:
            # These would end the loop, and with it every other function.
            raise RuntimeError(f"the function called for the end of the process ({error!r})") from error
        return _result(call.function, result, outs)


def _call_in_thread(call: Call, arguments: Mapping[str, Any]) -> Any:
    _thread_local.invocation_id = call.invocation_id
    return call.function.call(**arguments)


def _arguments(call: Call) -> tuple[dict[str, Any], dict[str, Out]]:
    function = call.function
    if function.takes_plain_text:
        value = call.value.value
    else:
        value = _CONVERTERS.get(function.trigger.type).decode(call.value, trigger_metadata=call.metadata)
    outs = {output.parameter: Out() for output in function.outputs if output.parameter != "$return"}
    arguments = {function.trigger.parameter: value, **outs}
    if function.takes_context:
        arguments["context"] = Context(call)
    return arguments, outs


def _result(function: LoadedFunction, result: Any, outs: Mapping[str, Out]) -> CallResult:
    values = {name: out.get() for name, out in outs.items()} | {"$return": result}
    messages = tuple(
        (output, _encode("queue", values[output.parameter]))
        for output in function.outputs
        if values[output.parameter] is not None
    )
    if function.trigger.type == "httpTrigger":
        return CallResult(None if result is None else _encode("http", result), messages)
    if result is not None and not any(output.parameter == "$return" for output in function.outputs):
        raise RuntimeError(f"the function {function.name} has no $return binding and returned a value")
    return CallResult(None, messages)


def _encode(binding: str, value: Any) -> Datum:
    try:
        datum: Datum = _CONVERTERS.get(binding).encode(value, expected_type=None)
    except NotImplementedError:  # how a converter refuses a type; Microsoft's worker makes a TypeError of it too
        raise TypeError(f"a value of type {type(value).__name__} cannot go to a binding of type {binding}") from None
    return datum
