"""An export that failed half way, the one that sends what it has left, and what came of both."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import duckdb

from dev.sandbox.control import SandboxControl
from shared.destinations.model import Destination
from shared.exports.model import Status
from shared.exports.view import ExportView
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import AUDIENCE, SUBSCRIBE, TESTER, Engine, MovedClock, build_engine_at, people
from tests.support import StorageAccount

REFUSED = {"action": "problem", "status": 403, "title": "User Disabled", "match": SUBSCRIBE}
PEOPLE = 2700
"""Six batches, the last one of 200: the first lane sends the even ones, the second the odd ones."""


def with_two_lanes(storage_account: StorageAccount, sandbox: SandboxControl, clock: MovedClock) -> Engine:
    """So that it is known who sends what."""
    return build_engine_at(clock, storage_account.connection_string, sandbox, MAILCHIMP_MAX_CONNECTIONS="2")


def with_two_segments(engine: Engine) -> Destination:
    """Everybody is a reader, and some are in another segment too."""
    engine.write_segment("Readers", people(PEOPLE))
    engine.write_segment("VIP", people(600))
    return engine.destination(["VIP", "Readers"])


def handle(engine: Engine, *queues: str) -> int:
    """Handle what is visible in these queues now; returns how many messages it was."""
    messages = engine.receive(queues)
    for queue, message in messages:
        engine.handle(queue, message)
    return len(messages)


def failed_half_way(engine: Engine, destination: Destination) -> ExportView:
    """An export of which one lane has sent its three batches, and the other none."""
    export_id = engine.start(destination)
    handle(engine, PREPARE_QUEUE)
    first, second = engine.receive([LANES_QUEUE])
    engine.handle(*first)
    engine.sandbox.set_faults(REFUSED)
    engine.handle(*second)
    engine.sandbox.clear_faults()
    handle(engine, FINISH_QUEUE)
    view = engine.product.exports.get(export_id)
    assert view.status is Status.FAILED
    assert view.books.sent in {1200, 1500}
    return view


def resume(engine: Engine, export_id: str, key: str | None = None) -> ExportView:
    destination = engine.product.destination_store.get("d1").destination
    return engine.product.exports.resume(export_id, destination, requested_by=TESTER, idempotency_key=key)


def resumed(engine: Engine, export_id: str) -> ExportView:
    """The export that resumes it, when it has ended."""
    return engine.work_until_ended(resume(engine, export_id).id)


def subscribed(engine: Engine) -> int:
    """Calls that sent members."""
    return sum(call["kind"] == "batchSubscribe" for call in engine.sandbox.calls())


def ledger(engine: Engine) -> Counter[str]:
    """How often each address is in the ledger."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "ledger.parquet"
        assert engine.product.documents.download(names.ledger("d1", AUDIENCE), path)
        rows = connection.execute(f"SELECT email FROM read_parquet('{path}')").fetchall()
    return Counter(email for (email,) in rows)


def kept_bodies(engine: Engine, export_id: str) -> int:
    return sum(1 for _ in engine.product.documents.list(names.all_batches(export_id)))


def assert_all_arrived_once(engine: Engine, *views: ExportView) -> None:
    """Everybody has one outcome over all these exports, and is in the ledger and in the audience with their tags."""
    assert all(view.books.imbalances() == [] for view in views)
    assert sum(view.books.created for view in views) == PEOPLE
    assert sum(view.books.updated + view.books.rejected for view in views) == 0, "nobody was sent twice"
    assert ledger(engine) == {row["EMail"]: 1 for row in people(PEOPLE)}
    members = engine.members()
    assert set(members) == {f"person{n}@mail.example" for n in range(PEOPLE)}
    for n in range(PEOPLE):
        expected = {"VIP", "Readers"} if n < 600 else {"Readers"}
        assert set(members[f"person{n}@mail.example"]["tags"]) == expected
