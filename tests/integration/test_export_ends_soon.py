"""What only a person can mend ends a running export within one batch on each connection."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from dev.sandbox.control import SandboxControl
from shared.exports.model import Status
from tests.integration.engine import KEY, PATIENCE_S, Engine, gate, people

LANES = 8
LISTS = {"pathPattern": r"/lists/"}


def revoke_the_key(sandbox: SandboxControl) -> None:
    sandbox.revoke(KEY)


def delete_the_audience(sandbox: SandboxControl) -> None:
    sandbox.set_faults({"action": "problem", "status": 404, "title": "Resource Not Found", "match": LISTS})


def close_the_account(sandbox: SandboxControl) -> None:
    detail = "This method has been disabled."
    sandbox.set_faults({"action": "problem", "status": 503, "title": "ComplianceRelated", "detail": detail})


@pytest.mark.parametrize(
    ("happens", "status", "code"),
    [
        (revoke_the_key, 401, "signInRefused"),
        (delete_the_audience, 404, "audienceNotFound"),
        (close_the_account, 503, "accountRestricted"),
    ],
)
def test_no_connection_makes_more_than_one_call_after_it_happened(
    engine: Engine, happens: Callable[[SandboxControl], None], status: int, code: str
) -> None:
    engine.write_segment("Readers", people(30_000))
    export_id = engine.start(engine.destination(["Readers"]))
    with gate(free=LANES) as between:
        worker = threading.Thread(target=engine.work_until_ended, args=(export_id,))
        worker.start()
        between.wait_until_at_it(LANES)
        happens(engine.sandbox)
        between.open()
        worker.join(PATIENCE_S)
    view = engine.product.exports.get(export_id)
    assert view.status is Status.FAILED
    assert view.problem is not None
    assert view.problem.code == code
    assert view.books.imbalances() == []
    assert view.books.sent > 0
    assert view.books.not_sent > 0
    calls = engine.sandbox.calls()
    refused = [call for call in calls if call["status"] == status]
    assert 1 <= len(refused) <= LANES
    first = min(call["start"] for call in refused)
    assert [call for call in calls if call["start"] > first and call["status"] != status] == []
    assert view.resumable_until is not None
