"""The package that is deployed: unpacked into an empty folder, run by a Python that has nothing installed.

The app runs in a process of its own there (dev/host/worker_process.py), with the packages that came in the zip and no
other: neither development packages nor anything else of this project.
"""

from __future__ import annotations

import json
import subprocess
import venv
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dev.host.process import HostProcess, HostStartError, start_host
from dev.packaging.build import Package, build
from dev.packaging.wheels import AZURE, THIS_MACHINE, runs_here
from dev.sandbox.control import API_KEY, AUDIENCE_ID
from dev.stack import Stack
from tests.checkout import checkout
from tests.support import StorageAccount, wait_for

COLUMNS = ("CustomerId", "EMail", "FirstName", "LastName")
PEOPLE = [(str(number), f"reader{number}@mail.example", "Ada", f"Nr {number}") for number in range(1200)]
BAD_ROW = ("x", "not an address", "Nobody", "")
UNREADABLE = '{"input": "nothing that this app sends"}'


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The package for Azure; where that does not run (another Python, another platform), the one for this machine."""
    return build_in(tmp_path_factory.mktemp("package"))


def build_in(folder: Path) -> Package:
    return build(checkout(folder / "project"), folder / "out", AZURE if runs_here(AZURE) else THIS_MACHINE)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of this version with the standard library and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    listed = "import importlib.metadata as m; print([d.name for d in m.distributions()])"
    assert subprocess.run([python, "-c", listed], capture_output=True, text=True, check=True).stdout == "[]\n"
    return python


@pytest.fixture
def app(package: Package, tmp_path: Path) -> Path:
    """An empty folder into which the zip was unpacked."""
    folder = tmp_path / "wwwroot"
    with zipfile.ZipFile(package.zip) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def stack(storage_account: StorageAccount) -> Iterator[Stack]:
    """Storage and the Mailchimp sandbox, without a host."""
    with Stack(hosts=0, storage=storage_account.connection_string, name="package") as running:
        yield running


@contextmanager
def host_of(stack: Stack, app: Path, python: Path, log: Path) -> Iterator[HostProcess]:
    with start_host(stack.env, app_dir=app, worker_python=python, log_file=log) as host:
        stack.hosts[:] = [host]
        yield host


def set_up_destination(stack: Stack) -> str:
    body = {"displayName": "From the package", "consent": {"agreed": True}}
    path = f"/api/destinations/{stack.ask('POST', '/api/destinations', json=body)['id']}"
    stack.ask("PUT", f"{path}/api-key", json={"apiKey": API_KEY})
    stack.ask("PUT", f"{path}/export-user")
    matching = {"email": "EMail", "firstName": "FirstName", "lastName": "LastName"}
    stack.ask("PATCH", path, json={"audienceId": AUDIENCE_ID})
    stack.ask("PATCH", path, json={"dataMatching": matching})
    stack.ask("PATCH", path, json={"segments": ["Readers"]})
    return path


def finished(log: Path) -> set[str]:
    """The functions that have run, by the host's log; without the line that is being written."""
    *whole, _ = log.read_text(encoding="utf-8").split("\n")
    lines: list[Mapping[str, Any]] = [json.loads(line) for line in whole]
    return {line["function"] for line in lines if line.get("event") == "function.finished"}


def test_the_package_exports_with_nothing_installed_but_itself(
    stack: Stack, app: Path, bare_python: Path, tmp_path: Path
) -> None:
    stack.upload_segments({"Readers": [*PEOPLE, BAD_ROW]}, columns=COLUMNS)
    log = tmp_path / "host.log"
    with host_of(stack, app, bare_python, log) as host:
        assert stack.ask("GET", "/api/health")["status"] == "ok"
        (segment,) = stack.ask("GET", "/api/segments")["value"]
        assert segment["name"] == "Readers"
        destination = set_up_destination(stack)
        export = stack.wait(stack.ask("POST", f"{destination}/exports")["id"])
        assert export["status"] == "CompletedWithErrors"
        books = export["books"]
        assert (books["rowsRead"], books["invalid"], books["created"]) == (1201, 1, 1200)
        assert len([one for one in stack.sandbox.members(AUDIENCE_ID) if "Readers" in one["tags"]]) == 1200
        assert stack.api("DELETE", f"{destination}?tags=remove").status_code == 202
        wait_for(lambda: "removals" in finished(log), "the removal", 60)
        others = set(host.functions) - finished(log) - {"http_app_func"}
        for function in others:
            assert stack.api("POST", f"/admin/functions/{function}", json=json.loads(UNREADABLE)).status_code == 202
        wait_for(lambda: finished(log) >= set(host.functions), f"{others} to have run", 120)
    assert not list(app.rglob("local.settings.json"))


def test_a_development_package_in_the_app_keeps_the_package_from_starting(
    stack: Stack, app: Path, bare_python: Path, tmp_path: Path
) -> None:
    spoilt = app / "shared/log.py"
    spoilt.write_text(spoilt.read_text(encoding="utf-8") + "\nimport uvicorn\n", encoding="utf-8")
    for compiled in app.rglob("shared/__pycache__/log.*"):
        compiled.unlink()
    with (
        pytest.raises(HostStartError, match="No module named 'uvicorn'"),
        host_of(stack, app, bare_python, tmp_path / "host.log"),
    ):
        pass


def test_what_is_not_in_the_package_is_not_found_in_the_project(
    stack: Stack, app: Path, bare_python: Path, tmp_path: Path
) -> None:
    spoilt = app / "function_app.py"
    spoilt.write_text("import dev.stack\n" + spoilt.read_text(encoding="utf-8"), encoding="utf-8")
    for compiled in app.glob("__pycache__/function_app.*"):
        compiled.unlink()
    with (
        pytest.raises(HostStartError, match=r"No module named 'dev\.stack'"),
        host_of(stack, app, bare_python, tmp_path / "host.log"),
    ):
        pass


def test_the_same_input_gives_the_same_bytes(package: Package, tmp_path: Path) -> None:
    assert build_in(tmp_path).sha256 == package.sha256
