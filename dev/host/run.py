"""Puts the host together, says when it is ready, and stops it gracefully."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import uvicorn

from dev.host.config import HostOptions
from dev.host.errors import ConfigError
from dev.host.http import HttpFront
from dev.host.invocations import Invoker
from dev.host.loading import LoadedFunction, QueueTrigger, TimerTrigger
from dev.host.logs import log
from dev.host.queues import DEFAULT_LEASE_SECONDS, QueueListener, QueueSettings
from dev.host.storage import Storage
from dev.host.timers import TimerListener
from dev.host.worker import RunsFunctions, Worker

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command line: port (0 takes a free one), seconds of grace, and whether a closed stdin stops the host."""

    port: int
    grace_seconds: float
    stop_with_parent: bool


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, and with a sign that it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the host, which has more to stop than its server."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen."""
        await super().startup(sockets)
        self.listening.set()


async def run_host(
    functions: tuple[LoadedFunction, ...],
    host_json: HostOptions,
    env: Mapping[str, str],
    options: RunOptions,
    worker: RunsFunctions | None = None,
) -> None:
    """Runs the functions until SIGTERM or SIGINT, then lets what is under way finish for the time of grace.

    Without a `worker` they run in this process. A second signal ends the process at once. Raises HostError when
    something that a function needs is missing.
    """
    stopping = asyncio.Event()
    queues = host_json.extensions.queues
    storage = Storage(env, queues.message_encoding)
    invoker = Invoker(worker or Worker(_thread_count(env)), storage, functions)
    settings = QueueSettings(queues, _lease_seconds(env))
    listeners: list[Callable[[], Awaitable[None]]] = []
    by_hand: dict[str, Callable[[str], Awaitable[None]]] = {}
    for function in functions:
        trigger = function.trigger
        if isinstance(trigger, QueueTrigger):
            queue = QueueListener(function, trigger, storage, invoker, settings, stopping)
            listeners.append(queue.run)
            by_hand[function.name] = queue.run_by_hand
        elif isinstance(trigger, TimerTrigger):
            timer = TimerListener(function, trigger, storage, invoker, stopping)
            listeners.append(timer.run)
            by_hand[function.name] = partial(_ignoring_input, timer.run_by_hand)
    front = HttpFront(functions, host_json.extensions.http.route_prefix, invoker, by_hand)
    listening_socket = _listen(options.port)
    server = _Server(_server_config(front, options.grace_seconds))

    _stop_on_signals(stopping)
    if options.stop_with_parent:
        _stop_when_stdin_closes(asyncio.get_running_loop(), stopping)
    serving = asyncio.create_task(server.serve([listening_socket]))
    await server.listening.wait()
    for listener in listeners:
        invoker.start(_as_coroutine(listener()))
    _announce(listening_socket.getsockname()[1], functions)
    await stopping.wait()
    await _stop(server, serving, invoker, options.grace_seconds)


async def _stop(server: _Server, serving: asyncio.Task[None], invoker: Invoker, grace_seconds: float) -> None:
    deadline = time.monotonic() + grace_seconds
    log("host.stopping", running=list(invoker.running), graceSeconds=grace_seconds)
    server.should_exit = True
    await asyncio.wait([serving], timeout=grace_seconds)
    finished = await invoker.drain(deadline - time.monotonic())
    if finished:
        log("host.stopped")
    else:
        log("host.stopped", logging.WARNING, unfinished=list(invoker.running))


def _server_config(front: HttpFront, grace_seconds: float) -> uvicorn.Config:
    return uvicorn.Config(
        front,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(grace_seconds)),
    )


def _announce(port: int, functions: tuple[LoadedFunction, ...]) -> None:
    names = [function.name for function in functions]
    address = f"http://{HOST}:{port}"
    log("host.ready", address=address, functions=names)
    ready = {"event": "host.ready", "address": address, "functions": names, "pid": os.getpid()}
    print(json.dumps(ready), flush=True)


def _listen(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each reply waits 40 ms for an ACK.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise ConfigError(f"Port {port} cannot be used ({error.strerror}): choose another one.") from None
    return listening


def _stop_on_signals(stopping: asyncio.Event) -> None:
    def stop() -> None:
        if stopping.is_set():
            log("host.ended", logging.WARNING, reason="second signal")
            os._exit(1)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _stop_when_stdin_closes(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    """For a host that a test or a demo started: when that process dies, the system closes our stdin."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        loop.call_soon_threadsafe(stopping.set)

    threading.Thread(target=wait, daemon=True, name="parent").start()


def _thread_count(env: Mapping[str, str]) -> int | None:
    """Threads for functions that are not async; None is Python's default, which the real worker uses too."""
    return _positive_int(env, "PYTHON_THREADPOOL_THREAD_COUNT", None)


def _lease_seconds(env: Mapping[str, str]) -> int:
    return _positive_int(env, "HOST_MESSAGE_LEASE_SECONDS", DEFAULT_LEASE_SECONDS) or DEFAULT_LEASE_SECONDS


def _positive_int(env: Mapping[str, str], name: str, default: int | None) -> int | None:
    text = env.get(name)
    if not text:
        return default
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"The setting {name} must be a whole number from 1, not '{text}'.")
    return int(text)


async def _as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _ignoring_input(run: Callable[[], Awaitable[None]], _: str) -> None:
    await run()
