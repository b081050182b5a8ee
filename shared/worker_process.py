"""Settings that a running process does not take up by itself.

On consumption plans the platform may start Python before it knows for whom, and give the app's settings to the process
that is running already ("specialization"). What reads its setting when a process starts has read none by then. Where
the process has them from its first moment on, nothing of this changes anything.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

THREADS: Final = "PYTHON_THREADPOOL_THREAD_COUNT"
ARENAS: Final = "MALLOC_ARENA_MAX"
_M_ARENA_MAX: Final = -8
"""Of glibc's malloc.h."""
_WORKER_LIBRARY: Final = "azure_functions_runtime"


def take_up(environment: Mapping[str, str]) -> None:
    """Make this process what its settings say. To be called where the app is loaded, before it starts a thread."""
    arenas = environment.get(ARENAS, "")
    if arenas.isdecimal():
        _limit_arenas(int(arenas))
    if environment.get(THREADS):
        _restart_thread_pool()


def _limit_arenas(count: int) -> None:
    """What glibc does for MALLOC_ARENA_MAX when it starts. It keeps the arenas that there are, and makes no more."""
    with suppress(OSError, AttributeError, TypeError):  # another C library: it has no such arenas
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count)


def _restart_thread_pool() -> None:
    """Let Microsoft's worker make its pool of threads again.

    It makes one when it is given the settings, and takes the settings up after that: the pool would have five threads
    on one core (Azure/azure-functions-python-worker, workers/proxy_worker/dispatcher.py, the handler of
    FunctionEnvironmentReloadRequest). Nothing runs in it yet, the functions are not even known. Hosts without that
    library are left alone.
    """
    start = getattr(sys.modules.get(_WORKER_LIBRARY), "start_threadpool_executor", None)
    if callable(start):
        with suppress(Exception):  # the worker's own affair: with fewer threads the app is slower, and works
            start()
