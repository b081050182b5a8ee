"""The local Functions host with a small app (host_app/) against the storage emulator."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueClient

from dev.host.process import HostProcess, HostStartError, start_host
from tests.support import StorageAccount, wait_for

APP = Path(__file__).parent / "host_app"
NEVER = "0 0 0 1 1 *"
ANSWER_S = 60
"""For an answer of a host on a machine that is busy with other things."""


class Notes:
    """What the functions of host_app said they did, in the order in which it arrived."""

    def __init__(self, queue: QueueClient) -> None:
        self._queue = queue
        self._seen: list[dict[str, Any]] = []

    def __call__(self, **like: object) -> list[dict[str, Any]]:
        """All notes so far that have these fields."""
        while (message := self._queue.receive_message()) is not None:
            self._seen.append(json.loads(message.content))
            self._queue.delete_message(message)
        return [note for note in self._seen if like.items() <= note.items()]

    def wait(self, count: int = 1, **like: object) -> list[dict[str, Any]]:
        """Waits until there are `count` notes that have these fields."""

        def look() -> list[dict[str, Any]] | None:
            return found if len(found := self(**like)) >= count else None

        return wait_for(look, f"{count} notes with {like}; there are {self()}")


class Stage:
    """A storage account with the queue of host_app, and the means to start hosts on it."""

    def __init__(self, account: StorageAccount, log_dir: Path) -> None:
        self.connection_string = account.connection_string
        self._log_dir = log_dir
        self.notes = Notes(self.queue("notes"))

    def queue(self, name: str) -> QueueClient:
        """A queue, made if need be."""
        client = QueueClient.from_connection_string(self.connection_string, name)
        with suppress(ResourceExistsError):
            client.create_queue()
        return client

    def send(self, *jobs: dict[str, Any]) -> None:
        """Puts jobs into the work queue, as the app's own code would."""
        queue = self.queue("work")
        for job in jobs:
            queue.send_message(base64.b64encode(json.dumps(job).encode()).decode())

    def host(
        self, schedule: str = NEVER, *, grace_seconds: float = 30, **settings: str
    ) -> AbstractContextManager[HostProcess]:
        """Starts a host process with host_app."""
        env = {"AzureWebJobsStorage": self.connection_string, "WORK_QUEUE": "work", "TICK_SCHEDULE": schedule}
        log_file = self._log_dir / "host.log"
        return start_host({**env, **settings}, app_dir=APP, log_file=log_file, grace_seconds=grace_seconds)

    def log(self) -> list[dict[str, Any]]:
        """What the hosts logged; without the line that is being written."""
        *lines, _ = (self._log_dir / "host.log").read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines]

    def remember_timer(self, name: str, content: dict[str, Any]) -> None:
        """Writes what an earlier host would have remembered of a timer."""
        with BlobServiceClient.from_connection_string(self.connection_string) as service:
            container = service.create_container("azure-webjobs-hosts")
            container.upload_blob(f"timers/{name}/status", json.dumps(content))


def exists(queue: QueueClient) -> bool:
    """Tells whether there is such a queue."""
    try:
        queue.get_queue_properties()
    except ResourceNotFoundError:
        return False
    return True


@pytest.fixture
def stage(storage_account: StorageAccount, tmp_path: Path) -> Stage:
    return Stage(storage_account, tmp_path)


@pytest.fixture
def host(stage: Stage) -> Iterator[HostProcess]:
    with stage.host() as running:
        yield running


def test_requests_are_routed_by_path_and_method(host: HostProcess) -> None:
    def status(method: str, path: str) -> int:
        return requests.request(method, host.address + path, timeout=ANSWER_S).status_code

    assert status("GET", "/api/echo/a") == 201
    assert status("DELETE", "/api/echo/a") == 405
    assert status("GET", "/api/numbers/7") == 200
    assert status("GET", "/api/numbers/seven") == 404
    assert status("GET", "/echo/a") == 404
    assert status("GET", "/api/broken") == 500
    assert requests.get(host.address + "/api/echo/fixed/path", timeout=ANSWER_S).text == "fixed True"


def test_requests_and_replies_arrive_whole(host: HostProcess) -> None:
    def in_chunks() -> Iterator[bytes]:
        yield from (b"x" * 70_000, b"y" * 5)

    reply = requests.post(f"{host.address}/api/echo/a%20b/c/d?q=1", data=in_chunks(), timeout=ANSWER_S)
    assert reply.json() == {
        "method": "POST",
        "url": f"{host.address}/api/echo/a%20b/c/d?q=1",
        "params": {"q": "1"},
        "route": {"name": "a b", "rest": "c/d"},
        "accept": None,
        "size": 70_005,
    }
    assert reply.headers["ETag"] == '"1"'
    assert reply.headers["Content-Disposition"] == 'attachment; filename="a.csv"'
    assert reply.cookies["a"] == "1"


def test_what_is_not_http_is_answered_and_survived(host: HostProcess) -> None:
    port = int(host.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nno colon here\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert requests.get(host.address + "/admin/host/status", timeout=ANSWER_S).json()["state"] == "Running"


def test_outputs_are_sent_when_the_function_succeeded_and_only_then(stage: Stage, host: HostProcess) -> None:
    address = host.address + "/api/fan-out"
    assert requests.post(address + "?fail=1", json=[{"id": "never"}], timeout=ANSWER_S).status_code == 500
    assert requests.post(address, json=[{"id": 1}, {"id": 2}], timeout=ANSWER_S).text == "sent"
    stage.notes.wait(2, function="work", step="finished")
    assert sorted(note["id"] for note in stage.notes(step="started")) == [1, 2]


def test_a_failing_message_is_delivered_again_and_then_poisoned(stage: Stage, host: HostProcess) -> None:
    stage.send({"id": 1, "fail": True})
    (poisoned,) = stage.notes.wait(function="work_poison")
    assert json.loads(poisoned["body"]) == {"id": 1, "fail": True}
    assert [note["deliveries"] for note in stage.notes(function="work")] == [1, 2, 3]
    assert stage.notes(step="finished") == []


def test_text_that_is_not_base64_is_poisoned_without_a_run(stage: Stage, host: HostProcess) -> None:
    stage.queue("work").send_message("{not base64}")
    poison = stage.queue("work-poison-poison")  # the poison queue's own trigger cannot read it either
    message = wait_for(poison.receive_message, "the message in the poison queue")
    assert message.content == "{not base64}"
    assert stage.notes() == []


def test_an_app_log_line_knows_its_invocation(stage: Stage) -> None:
    with stage.host():
        stage.send({"id": 41})
        stage.notes.wait(step="finished")
    (line,) = [line for line in stage.log() if line.get("message") == "job 41"]
    (finished,) = [line for line in stage.log() if line.get("event") == "function.finished"]
    assert line["function"] == finished["function"] == "work"
    assert line["invocationId"] == finished["invocationId"]


def test_a_message_stays_hidden_for_as_long_as_its_function_runs(stage: Stage) -> None:
    with stage.host(HOST_MESSAGE_LEASE_SECONDS="10"), stage.host(HOST_MESSAGE_LEASE_SECONDS="10"):
        stage.send({"id": 1, "seconds": 12})
        stage.notes.wait(step="finished")
    assert len(stage.notes(step="started")) == 1


def test_the_message_of_a_killed_host_comes_back_to_another_one(stage: Stage) -> None:
    with stage.host(HOST_MESSAGE_LEASE_SECONDS="10") as first:
        stage.send({"id": 1, "seconds": 600})
        stage.notes.wait(step="started", pid=first.pid)
        first.kill()
    with stage.host(HOST_MESSAGE_LEASE_SECONDS="10") as second:
        stage.notes.wait(step="finished", pid=second.pid)
    assert [note["deliveries"] for note in stage.notes(step="started")] == [1, 2]


def test_hosts_share_a_queue(stage: Stage) -> None:
    """None can have all of it: six messages are under way in one host at most, and none ends before both have some."""
    with stage.host() as first, stage.host() as second:
        stage.send(*({"id": number, "until": "both-work"} for number in range(24)))
        stage.notes.wait(step="started", pid=first.pid)
        stage.notes.wait(step="started", pid=second.pid)
        stage.queue("both-work")
        stage.notes.wait(24, step="finished")
    assert sorted(note["id"] for note in stage.notes(step="started")) == list(range(24))


def test_a_queue_that_disappears_is_made_again(stage: Stage, host: HostProcess) -> None:
    stage.send({"id": 1})
    stage.notes.wait(id=1, step="finished")
    work = stage.queue("work")
    work.delete_queue()
    wait_for(lambda: exists(work), "the queue")
    stage.send({"id": 2})
    stage.notes.wait(id=2, step="finished")


def test_functions_are_run_by_hand(stage: Stage, host: HostProcess) -> None:
    admin = host.address + "/admin/functions/"
    assert requests.post(admin + "tick", json={}, timeout=ANSWER_S).status_code == 202
    assert requests.post(admin + "work", json={"input": '{"id": "by hand"}'}, timeout=ANSWER_S).status_code == 202
    assert requests.post(admin + "nothing", json={}, timeout=ANSWER_S).status_code == 404
    stage.notes.wait(function="tick", past_due=False)
    stage.notes.wait(function="work", step="finished", id="by hand")


def test_each_moment_of_a_timer_is_run_once_however_many_hosts_there_are(stage: Stage) -> None:
    with stage.host("* * * * * *"), stage.host("* * * * * *"):
        stage.notes.wait(4, function="tick")
    moments_before = [note["last"] for note in stage.notes(function="tick")]
    assert len(set(moments_before)) == len(moments_before)


def test_a_timer_that_was_missed_is_run_at_start_and_told_so(stage: Stage) -> None:
    missed = datetime.now(UTC) - timedelta(days=1)
    stage.remember_timer("tick", {"Schedule": NEVER, "Last": None, "Next": missed.isoformat()})
    with stage.host(NEVER):
        stage.notes.wait(function="tick", past_due=True)
    with stage.host(NEVER) as again:
        assert requests.get(again.address + "/admin/host/status", timeout=ANSWER_S).ok
    assert len(stage.notes(function="tick")) == 1


def test_a_timer_whose_schedule_changed_starts_afresh(stage: Stage) -> None:
    missed = datetime.now(UTC) - timedelta(days=1)
    stage.remember_timer("tick", {"Schedule": "0 0 0 2 2 *", "Last": None, "Next": missed.isoformat()})
    with stage.host(NEVER) as running:
        assert requests.post(f"{running.address}/admin/functions/tick", json={}, timeout=ANSWER_S).status_code == 202
        stage.notes.wait(function="tick")
        assert running.terminate() == 0
    assert [line["reason"] for line in stage.log() if line.get("event") == "function.finished"] == ["by hand"]


def test_sigterm_lets_running_functions_finish(stage: Stage) -> None:
    with stage.host() as running, ThreadPoolExecutor(1) as pool:
        request = pool.submit(requests.get, f"{running.address}/api/slow?seconds=2", timeout=ANSWER_S)
        stage.send({"id": 1, "seconds": 2})
        stage.notes.wait(function="slow", step="started")
        stage.notes.wait(function="work", step="started")
        assert running.terminate() == 0
        assert request.result().text == "done"
        assert stage.notes(step="finished", id=1)
    assert stage.queue("work").get_queue_properties().approximate_message_count == 0


def test_sigterm_takes_no_new_work(stage: Stage) -> None:
    with stage.host() as running:
        stage.send(*({"id": number, "seconds": 2} for number in range(40)))
        stage.notes.wait(step="started")
        assert running.terminate() == 0
        started = {note["id"] for note in stage.notes(step="started")}
        assert started == {note["id"] for note in stage.notes(step="finished")}
        assert stage.queue("work").get_queue_properties().approximate_message_count == 40 - len(started) > 0
        with pytest.raises(requests.ConnectionError):
            requests.get(running.address, timeout=5)


def test_the_grace_of_a_stop_ends(stage: Stage) -> None:
    with stage.host(grace_seconds=1) as running:
        stage.send({"id": 1, "seconds": 600})
        stage.notes.wait(step="started")
        assert running.terminate() == 0
    assert stage.log()[-1]["unfinished"] == ["work"]


def test_a_second_signal_ends_the_host_at_once(stage: Stage) -> None:
    with stage.host() as running:
        stage.send({"id": 1, "seconds": 600})
        stage.notes.wait(step="started")
        running.signal_stop()
        wait_for(lambda: any(line.get("event") == "host.stopping" for line in stage.log()), "the stop")
        assert running.terminate() == 1


def test_a_host_ends_with_the_process_that_started_it(stage: Stage) -> None:
    with stage.host() as running:
        running.close_stdin()
        assert wait_for(lambda: running.returncode is not None, "the end of the host")
        assert running.returncode == 0


def test_a_missing_setting_is_one_sentence_and_exit_code_1(storage_account: StorageAccount) -> None:
    env = {"AzureWebJobsStorage": storage_account.connection_string, "TICK_SCHEDULE": NEVER}
    result = run_host(APP, env)
    assert result.returncode == 1
    (sentence,) = result.stderr.splitlines()
    assert "The setting WORK_QUEUE is missing" in sentence


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("class SettingsError(ValueError): pass\nraise SettingsError('PUBLIC_URL is not a URL.')", 1),
        ("int('no number')", None),
        ("import nothing_of_that_name", None),
    ],
)
def test_an_app_that_refuses_its_settings_is_quoted_and_other_failures_have_a_traceback(
    tmp_path: Path, source: str, lines: int | None
) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text(source)
    result = run_host(tmp_path, {})
    assert result.returncode == 1
    if lines is None:
        assert "Traceback" in result.stderr
    else:
        assert result.stderr == "PUBLIC_URL is not a URL.\n"


def test_a_port_in_use_is_told(host: HostProcess, stage: Stage) -> None:
    port = host.address.rpartition(":")[2]
    env = {"AzureWebJobsStorage": stage.connection_string, "WORK_QUEUE": "work", "TICK_SCHEDULE": NEVER}
    result = run_host(APP, env, "--port", port)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert f"Port {port} cannot be used" in result.stderr


def test_start_host_says_why_a_host_did_not_start(tmp_path: Path) -> None:
    with pytest.raises(HostStartError, match=r"no host\.json"), start_host({}, app_dir=tmp_path):
        pass


def run_host(app_dir: Path, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a host that is expected not to start."""
    clean = {name: value for name, value in os.environ.items() if name not in {"WORK_QUEUE", "AzureWebJobsStorage"}}
    command = [sys.executable, "-m", "dev.host", "--app", str(app_dir), *(arguments or ("--port", "0"))]
    root = Path(__file__).parents[2]
    return subprocess.run(
        command, cwd=root, env={**clean, **env}, capture_output=True, text=True, timeout=120, check=False
    )
