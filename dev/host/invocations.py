"""One invocation from trigger to output bindings, and the account of what is running, for a graceful stop."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
import uuid
from collections.abc import Coroutine, Mapping
from typing import Any

from azure.functions.meta import Datum
from azure.storage.queue import QueueClient

from dev.host.errors import InvocationError
from dev.host.loading import LoadedFunction, QueueOutput
from dev.host.logs import log
from dev.host.storage import Storage, send_message
from dev.host.worker import Call, CallResult, RunsFunctions


class Invoker:
    """Runs functions and sends their outputs; knows what is under way."""

    def __init__(self, worker: RunsFunctions, storage: Storage, functions: tuple[LoadedFunction, ...]) -> None:
        self._worker = worker
        self._storage = storage
        # Opened at start, so that a missing connection setting shows then and not with the first message.
        self._outputs: dict[QueueOutput, QueueClient] = {
            output: storage.queue(output.connection, output.queue, f"an output of the function {function.name}")
            for function in functions
            for output in function.outputs
        }
        self._running: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the functions that are running now, one per invocation."""
        return tuple(self._running.values())

    async def run(
        self,
        function: LoadedFunction,
        value: Datum,
        metadata: Mapping[str, Datum],
        *,
        reason: str,
        trace_parent: str | None = None,
    ) -> Datum | None:
        """Runs a function and, when it succeeded, sends its outputs. Returns the HTTP reply of an HTTP function.

        `reason` is a few words for the log: what set it off. Raises InvocationError, which has been logged.
        """
        call = Call(str(uuid.uuid4()), function, value, metadata, trace_parent or _new_trace_parent())
        started = time.monotonic()
        self._running[call.invocation_id] = function.name

        def ended(event: str, level: int, error: Exception | None = None) -> None:
            milliseconds = round((time.monotonic() - started) * 1000, 1)
            which = {"function": function.name, "invocationId": call.invocation_id, "reason": reason}
            log(event, level, error=error, **which, durationMs=milliseconds)

        try:
            result = await self._worker.invoke(call)
            await self._send(result)
        except Exception as error:
            ended("function.failed", logging.ERROR, error)
            raise InvocationError(f"The function {function.name} failed.") from error
        else:
            ended("function.finished", logging.INFO)
            return result.reply
        finally:
            del self._running[call.invocation_id]

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs work that a graceful stop waits for."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log("host.error", logging.CRITICAL, error=error)  # a bug of the host: what it expects, it handles

    async def drain(self, seconds: float) -> bool:
        """Waits up to `seconds` for what `start` began, and what that began; False when some is still running."""
        deadline = time.monotonic() + seconds
        while self._tasks and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        return not self._tasks

    async def _send(self, result: CallResult) -> None:
        for output, datum in result.messages:
            for content in _contents(datum):
                await self._storage.call(send_message, self._outputs[output], self._storage.encode(content))


def _contents(datum: Datum) -> list[bytes]:
    """Messages in an output's datum: text and bytes are one, a JSON list is one per element."""
    if datum.type == "bytes":
        return [bytes(datum.value)]
    if datum.type == "json":
        document = json.loads(datum.value)
        items = document if isinstance(document, list) else [document]
        return [_content(item).encode() for item in items]
    return [str(datum.value).encode()]


def _content(item: Any) -> str:
    if isinstance(item, str):
        return item
    # func.QueueMessage becomes {"id", "body"}
    return str(item["body"]) if isinstance(item, dict) and "body" in item else json.dumps(item)


def _new_trace_parent() -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
