"""The local host with the app in a process of its own: the same behaviour, and two processes that end together."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.storage.queue import QueueClient

from dev.host.process import HostProcess, HostStartError, start_host
from tests.support import StorageAccount, wait_for

APP = Path(__file__).parent / "host_app"
SETTINGS = {"WORK_QUEUE": "work", "TICK_SCHEDULE": "0 0 0 1 1 *"}


@pytest.fixture
def notes(storage_account: StorageAccount) -> Iterator[QueueClient]:
    """What the functions of host_app said they did."""
    with QueueClient.from_connection_string(storage_account.connection_string, "notes") as queue:
        queue.create_queue()
        yield queue


@pytest.fixture
def host(storage_account: StorageAccount, notes: QueueClient, tmp_path: Path) -> Iterator[HostProcess]:
    env = {"AzureWebJobsStorage": storage_account.connection_string, **SETTINGS}
    log = tmp_path / "host.log"
    with start_host(env, app_dir=APP, log_file=log, worker_python=Path(sys.executable), grace_seconds=5) as running:
        yield running


def noted(notes: QueueClient) -> dict[str, Any]:
    """The next note."""

    def look() -> dict[str, Any] | None:
        message = notes.receive_message()
        if message is None:
            return None
        notes.delete_message(message)
        note: dict[str, Any] = json.loads(message.content)
        return note

    return wait_for(look, "a note of a function")


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return not Path(f"/proc/{pid}/stat").exists() or ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def test_functions_of_every_kind_run_in_the_other_process(
    host: HostProcess, notes: QueueClient, storage_account: StorageAccount
) -> None:
    fixed = requests.get(f"{host.address}/api/echo/fixed/path", timeout=30)
    assert (fixed.status_code, fixed.text) == (200, "fixed True")
    echo = requests.post(f"{host.address}/api/echo/a/b?c=d", data="é".encode(), timeout=30)
    assert (echo.status_code, echo.headers["ETag"], echo.json()["size"]) == (201, '"1"', 2)
    fanned = requests.post(f"{host.address}/api/fan-out", data='[{"id": 7}]', timeout=30)
    assert fanned.ok
    note = noted(notes)
    assert note["id"] == 7
    assert note["pid"] != host.pid


def test_a_function_that_fails_is_told_with_its_traceback_and_its_message_comes_back(
    host: HostProcess, notes: QueueClient, storage_account: StorageAccount, tmp_path: Path
) -> None:
    broken = requests.get(f"{host.address}/api/broken", timeout=30)
    assert (broken.status_code, broken.content) == (500, b"")
    line = next(
        one
        for one in map(json.loads, (tmp_path / "host.log").read_text(encoding="utf-8").splitlines())
        if one.get("event") == "function.failed"
    )
    assert line["function"] == "broken"
    assert "function_app.py" in line["traceback"]
    with QueueClient.from_connection_string(storage_account.connection_string, "work") as work:
        work.send_message(base64.b64encode(b'{"id": 1, "fail": true}').decode())
    assert [noted(notes)["deliveries"], noted(notes)["deliveries"]] == [1, 2]


def test_the_other_process_ends_with_a_host_that_is_killed(host: HostProcess, notes: QueueClient) -> None:
    requests.post(f"{host.address}/api/fan-out", data='[{"id": 1}]', timeout=30)
    worker = noted(notes)["pid"]
    assert alive(worker)
    host.kill()
    wait_for(lambda: not alive(worker), "the worker process to end")


def test_calls_fail_and_the_host_goes_on_when_the_other_process_dies(host: HostProcess, notes: QueueClient) -> None:
    requests.post(f"{host.address}/api/fan-out", data='[{"id": 1}]', timeout=30)
    os.kill(noted(notes)["pid"], signal.SIGKILL)
    wait_for(lambda: requests.get(f"{host.address}/api/echo/fixed/path", timeout=30).status_code == 500, "a failure")
    assert requests.get(f"{host.address}/admin/host/status", timeout=30).ok


def test_an_app_that_cannot_be_loaded_over_there_is_said_to_be(storage_account: StorageAccount, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}', encoding="utf-8")
    (tmp_path / "function_app.py").write_text("import nobody_has_this\n", encoding="utf-8")
    env = {"AzureWebJobsStorage": storage_account.connection_string}
    python = Path(sys.executable)
    with (
        pytest.raises(HostStartError, match=rf"(?s)cannot be loaded by {python}.*No module named 'nobody_has_this'"),
        start_host(env, app_dir=tmp_path, worker_python=python),
    ):
        pass


def test_a_python_that_does_not_exist_is_said_to_be_missing(storage_account: StorageAccount) -> None:
    env = {"AzureWebJobsStorage": storage_account.connection_string, **SETTINGS}
    with (
        pytest.raises(HostStartError, match=r"/nowhere/python cannot be started \(No such file or directory\)"),
        start_host(env, app_dir=APP, worker_python=Path("/nowhere/python")),
    ):
        pass
