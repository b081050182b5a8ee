"""Mailchimp is up, and takes nobody into one audience: an export to it waits, and does not hold up those to others."""

from __future__ import annotations

import pytest

from shared.exports import backoff
from shared.exports.model import Status
from shared.storage.names import LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import AUDIENCE, Engine, people


def prepared(engine: Engine, destination_id: str, audience: str) -> str:
    """An export of ten people to the audience, with nothing sent yet."""
    destination = engine.destination(["Readers"], id_=destination_id)
    assert destination.audience is not None
    destination.audience.id = audience
    engine.product.documents.write(f"destinations/{destination_id}.json", destination.to_bytes())
    export_id = engine.start(destination)
    for queue, message in engine.receive([PREPARE_QUEUE]):
        engine.handle(queue, message)
    return export_id


def wake(engine: Engine) -> None:
    for queue, message in engine.receive([LANES_QUEUE]):
        engine.handle(queue, message)


@pytest.fixture
def waiting(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> str:
    """An export to the audience that takes nobody; one lane sends for everybody."""
    monkeypatch.setattr(backoff, "_IN_PLACE_S", 0.0)
    engine.set_pace(lanes=1)
    engine.write_segment("Readers", people(10))
    match = {"method": "POST", "pathPattern": rf"/lists/{AUDIENCE}$"}
    engine.sandbox.set_faults({"action": "bare", "status": 500, "match": match})
    return prepared(engine, "d1", AUDIENCE)


def test_it_rejects_nobody_and_goes_on_when_the_call_is_in_order_again(engine: Engine, waiting: str) -> None:
    wake(engine)
    wake(engine)
    assert engine.product.exports.get(waiting).books.rejected == 0
    assert engine.export(waiting).status in {Status.SENDING, Status.WAITING}
    engine.sandbox.clear_faults()
    view = engine.work_until_ended(waiting)
    assert (view.status, view.books.created, view.books.rejected) == (Status.SUCCESSFUL, 10, 0)


def test_a_later_export_to_another_audience_is_sent_meanwhile(engine: Engine, waiting: str) -> None:
    other = prepared(engine, "d2", engine.sandbox.add_audience("Other")["id"])
    view = engine.work_until_ended(other)
    assert (view.status, view.books.created) == (Status.SUCCESSFUL, 10)
    assert not engine.export(waiting).ended
