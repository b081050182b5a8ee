"""A process that ran before it was given the app's settings, as on Flex Consumption, is made what they say."""

from __future__ import annotations

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from dev.packaging.requirements import PROJECT
from shared import worker_process

_MANY_THREADS = """
import ctypes, sys, threading

from shared.worker_process import take_up

if sys.argv[1:]:
    take_up({"MALLOC_ARENA_MAX": sys.argv[1]})
all_at_once = threading.Barrier(12)


def work():
    held = [bytearray(50_000) for _ in range(20)]
    all_at_once.wait()
    assert len(held) == 20


threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
output = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, output)
libc.fflush(output)
"""


def arenas(*limit: str) -> int:
    """How many heaps glibc makes for a dozen threads in a process that was started without MALLOC_ARENA_MAX."""
    told = subprocess.run(
        [sys.executable, "-c", _MANY_THREADS, *limit], cwd=PROJECT, env={}, capture_output=True, text=True, check=True
    )
    return told.stdout.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
def test_the_c_library_keeps_to_the_limit_that_it_was_not_started_with() -> None:
    assert arenas() > 2
    assert arenas("2") == 2


class Pool:
    """Stands in for the worker library: counts how often its threads are made anew."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: Exception | None = None) -> None:
        self.restarts = 0
        self._fault = fault
        library = SimpleNamespace(start_threadpool_executor=self._start)
        monkeypatch.setitem(sys.modules, "azure_functions_runtime", library)

    def _start(self) -> None:
        self.restarts += 1
        if self._fault is not None:
            raise self._fault


@pytest.mark.parametrize(("environment", "restarts"), [({}, 0), ({worker_process.THREADS: "24"}, 1)])
def test_the_workers_threads_are_made_anew_where_a_setting_counts_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], restarts: int
) -> None:
    pool = Pool(monkeypatch)
    worker_process.take_up(environment)
    assert pool.restarts == restarts


def test_the_app_is_loaded_even_if_the_worker_does_not_let_its_threads_be_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(monkeypatch, TypeError("start_threadpool_executor() missing 1 required positional argument"))
    worker_process.take_up({worker_process.THREADS: "24"})
    assert pool.restarts == 1


@pytest.mark.parametrize("library", [None, SimpleNamespace()])
def test_other_hosts_and_other_versions_of_the_worker_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, library: object
) -> None:
    monkeypatch.setitem(sys.modules, "azure_functions_runtime", library)
    worker_process.take_up({worker_process.THREADS: "24", worker_process.ARENAS: "many"})


def test_the_app_is_not_taken_for_one_that_needs_another_worker_library() -> None:
    """Newer workers look for these words in the file, comments too, and load the app in another library then."""
    text = (PROJECT / "function_app.py").read_text(encoding="utf-8")
    assert "FastAPI()" not in text
    assert "from fastapi import" not in text
