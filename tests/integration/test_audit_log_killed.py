"""A process that is killed between a change and its record: the record is written by whoever comes by next, once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from dev.sandbox.control import SandboxControl
from tests.integration.api_support import App
from tests.integration.audit_support import assert_unbroken, audited_app, records
from tests.integration.removal_support import work_off
from tests.support import StorageAccount

PROJECT: Final = Path(__file__).parents[2]
DYING = """
import os, sys
from shared.audit.log import AuditLog
from shared.bootstrap import bootstrap
from shared.destinations.requests import ConsentRequest
from shared.people import Person
from shared.settings import read_settings

product = bootstrap(read_settings(os.environ))
left = [int(sys.argv[1])]

def append(log, record, write=AuditLog.append):
    if left[0] == 0:
        os.kill(os.getpid(), 9)
    left[0] -= 1
    write(log, record)

AuditLog.append = append
ada = Person(id="ada", name="ada")
if sys.argv[2] == "create":
    product.destinations.create("Doomed", ConsentRequest(agreed=True), ada)
elif sys.argv[2] == "withdraw":
    product.destinations.set_consent(sys.argv[3], ConsentRequest(agreed=False), ada)
elif sys.argv[2] == "remove":
    product.removals.remove(sys.argv[3], ada)
"""


@pytest.fixture
def app(storage_account: StorageAccount, sandbox: SandboxControl) -> Iterator[App]:
    with closing(audited_app(storage_account, sandbox)) as app:
        yield app


def die(app: App, at_record: int, *arguments: str) -> None:
    """Let a process make a change, and kill it when it comes to write its ``at_record``-th record, counted from 0."""
    environment = {
        **os.environ,
        "AzureWebJobsStorage": app.engine.connection_string,
        "LOCAL_SECRET_KEY": "a key for tests only, not a secret",
    }
    command = [sys.executable, "-c", DYING, str(at_record), *arguments]
    ended = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=False, timeout=60)
    assert ended.returncode == -9, ended.stderr


def test_a_process_that_dies_between_a_change_and_its_record_leaves_the_record_to_the_timer(app: App) -> None:
    die(app, 0, "create")
    (doomed,) = app.engine.product.destinations.list()
    assert records(app) == []
    app.engine.product.destination_store.log_recent_changes()
    app.engine.product.destination_store.log_recent_changes()
    (found,) = records(app)
    assert (found.action, found.target_id, found.who.name) == ("destination.created", doomed.id, "ada")


def test_a_process_that_dies_leaves_the_record_to_whoever_changes_it_next(app: App) -> None:
    app.set_up()
    before = len(records(app))
    die(app, 1, "withdraw", app.destination_id)  # the first is that of the change before, made sure of
    assert app.engine.product.destinations.get(app.destination_id).destination.consent.withdrawn_by == "ada"
    assert len(records(app)) == before
    app.administer("patch", f"/api/destinations/{app.destination_id}", {"displayName": "Next"})
    found = records(app)
    assert [each.action for each in found[before:]] == ["destination.consentWithdrawn", "destination.configured"]
    assert_unbroken(found)


@pytest.mark.parametrize("at_record", [1, 2, 3])
def test_a_removal_that_dies_at_any_record_leaves_each_once_when_it_is_completed(app: App, at_record: int) -> None:
    app.set_up()
    app.engine.work_until_ended(app.export_id)  # a removal waits for it
    before = len(records(app))
    die(app, at_record, "remove", app.destination_id)
    for _ in range(2):
        app.engine.product.removals.go_on(app.destination_id)
        app.engine.product.destination_store.log_recent_changes()
        work_off(app.engine)
    assert app.engine.product.destinations.list() == []
    actions = [each.action for each in records(app)[before:]]
    assert sorted(actions) == ["destination.removalStarted", "destination.removed"]
