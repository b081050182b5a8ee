"""What Mailchimp and the source can do wrong, and what becomes of the export then."""

from __future__ import annotations

import threading
from base64 import b64decode
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.blob import BlobServiceClient

from shared.bootstrap import Product, Surroundings, bootstrap
from shared.exports import backoff
from shared.exports.messages import ExportMessage, WakeMessage, read_message
from shared.exports.model import Status
from shared.exports.view import ExportView
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import PATIENCE_S, SUBSCRIBE, TESTER, Engine, gate, people
from tests.support import wait_for


def export_with(engine: Engine, *faults: dict[str, object], count: int = 1200) -> ExportView:
    """An export of ``count`` people while the sandbox has these faults."""
    engine.write_segment("Readers", people(count))
    destination = engine.destination(["Readers"])
    engine.sandbox.set_faults(*faults)
    return engine.run(destination)


# -- rows ------------------------------------------------------------------------------------------------------------


def test_a_refused_row_costs_nobody_else_anything(engine: Engine) -> None:
    match = {**SUBSCRIBE, "emailContains": "person700@"}
    view = export_with(engine, {"action": "memberError", "match": match, "detail": "has signed up to a lot of lists"})
    assert (view.books.created, view.books.rejected) == (1199, 1)
    assert view.rejected_reasons == {"tooManySignups": 1}
    assert engine.rejected(view.id)[0]["retryable"] == "true"


def test_the_row_that_a_whole_call_refusal_names_is_taken_out(engine: Engine) -> None:
    match = {**SUBSCRIBE, "emailContains": "person700@"}
    view = export_with(engine, {"action": "rowError", "match": match})
    assert (view.books.created, view.books.rejected) == (1199, 1)
    assert [line["email"] for line in engine.rejected(view.id)] == ["person700@mail.example"]
    assert "person700@mail.example" not in engine.members()


@pytest.mark.parametrize(
    "preset", [{"status": 400, "title": "Invalid Resource", "detail": "Something is wrong."}, {"status": 500}]
)
def test_a_poison_record_is_found_by_halving(engine: Engine, preset: dict[str, object]) -> None:
    match = {**SUBSCRIBE, "emailContains": "person700@"}
    view = export_with(engine, {"action": "problem", "match": match, **preset})
    assert (view.books.created, view.books.updated, view.books.rejected) == (1199, 0, 1)
    assert [line["email"] for line in engine.rejected(view.id)] == ["person700@mail.example"]
    assert engine.everybody_arrived(1200) is False
    assert len(engine.members()) == 1199


# -- unknown outcomes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "resetAfter"},
        {"action": "truncate"},
        {"action": "bare", "status": 504},
        {"action": "resetBefore"},
    ],
    ids=lambda fault: str(fault["action"]),
)
def test_a_call_with_unknown_outcome_is_made_again_and_said_so(engine: Engine, fault: dict[str, object]) -> None:
    view = export_with(engine, {**fault, "match": SUBSCRIBE, "count": 2})
    assert view.books.sent == view.books.created + view.books.updated == 1200
    assert engine.everybody_arrived(1200)
    assert view.resent_batches >= 1


def test_rows_that_a_reply_forgets_are_asked_for_again(engine: Engine) -> None:
    view = export_with(engine, {"action": "skipRows", "rows": 7, "match": SUBSCRIBE, "count": 1})
    assert engine.everybody_arrived(1200)
    assert view.books.created == 1200


def test_members_that_a_reply_hides_are_accounted_for(engine: Engine) -> None:
    view = export_with(engine, {"action": "hideRows", "rows": 3, "match": SUBSCRIBE, "count": 1})
    assert engine.everybody_arrived(1200)
    assert (view.books.created, view.books.updated) == (1197, 3)


# -- pauses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [{"action": "bare", "status": 503}, {"action": "bare", "status": 403}, {"action": "bare", "status": 429}],
    ids=lambda fault: str(fault["status"]),
)
def test_an_outage_delays_the_export_and_shows_it_as_waiting(engine: Engine, fault: dict[str, object]) -> None:
    engine.write_segment("Readers", people(1200))
    destination = engine.destination(["Readers"])
    export_id = engine.start(destination)
    for queue, message in engine.receive([PREPARE_QUEUE]):
        engine.handle(queue, message)
    engine.sandbox.set_faults(fault)
    worker = threading.Thread(target=engine.work_until_ended, args=(export_id,))
    worker.start()
    waiting = wait_for(
        lambda: export if (export := engine.export(export_id)).status is Status.WAITING else None, "status Waiting"
    )
    assert waiting.problem is not None
    assert waiting.problem.code == "mailchimpUnavailable"
    engine.sandbox.clear_faults()
    worker.join(PATIENCE_S)
    view = engine.product.exports.get(export_id)
    assert view.status is Status.SUCCESSFUL
    assert view.problem is None
    assert engine.everybody_arrived(1200)


def test_a_long_outage_gives_the_connection_back_and_comes_again_by_message(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    engine.set_pace(lanes=1)
    export_id = engine.start(engine.destination(["Readers"]))
    for queue, message in engine.receive([PREPARE_QUEUE]):
        engine.handle(queue, message)
    engine.sandbox.set_faults({"action": "bare", "status": 503})
    for queue, message in engine.receive([LANES_QUEUE]):
        engine.handle(queue, message)  # returns after the short waits: nobody holds a connection for hours
    assert engine.export(export_id).status is Status.WAITING
    assert engine.receive([LANES_QUEUE]) == [], "the wake-up that ends the pause is not due yet"
    assert engine.held(LANES_QUEUE) == 1, "but on its way"
    engine.sandbox.clear_faults()
    engine.product.sweeper.sweep()
    assert engine.held(LANES_QUEUE) == 1, "the sweeper leaves a lane alone that has a message on its way"


def _ahead(engine: Engine) -> Product:
    """The product of another host, whose clock is a minute ahead."""
    surroundings = Surroundings(
        now=lambda: datetime.now(UTC) + timedelta(minutes=1), sleep=lambda _: None, random=lambda: 0.5
    )
    return bootstrap(engine.product.settings, surroundings)


def test_a_wait_that_a_host_with_another_clock_began_while_preparing_ends_with_its_message(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    export_id = engine.start(engine.destination(["Readers"]))
    engine.receive([PREPARE_QUEUE])
    engine.sandbox.set_faults({"action": "bare", "status": 503, "count": 1})
    _ahead(engine).preparer.prepare(ExportMessage(export_id=export_id))
    assert engine.export(export_id).status is Status.WAITING
    [(queue, message)] = wait_for(lambda: engine.receive([PREPARE_QUEUE]) or None, "the message that ends the wait")
    engine.invoke(PREPARE_QUEUE, f'{{"v":1,"exportId":"{export_id}"}}'.encode())
    assert engine.export(export_id).status is Status.WAITING, "any other message is too early by this host's clock"
    engine.handle(queue, message)
    assert engine.export(export_id).status is Status.SENDING


def test_a_rest_that_a_host_with_another_clock_began_ends_with_its_message(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "_IN_PLACE_S", 0.0)
    engine.set_pace(lanes=1)
    engine.write_segment("Readers", people(10))
    engine.start(engine.destination(["Readers"]))
    for queue, message in engine.receive([PREPARE_QUEUE]):
        engine.handle(queue, message)
    [(queue, first)] = engine.receive([LANES_QUEUE])
    woken = read_message(WakeMessage, b64decode(first.content))
    engine.sandbox.set_faults({"action": "bare", "status": 503, "count": 2})
    _ahead(engine).lanes.wake(woken)
    [(queue, message)] = wait_for(lambda: engine.receive([LANES_QUEUE]) or None, "the message that ends the rest")
    engine.product.lanes.wake(woken)
    assert engine.members() == {}, "any other message is too early by this host's clock"
    engine.handle(queue, message)
    assert len(engine.members()) == 10


# -- stops -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"action": "problem", "status": 401, "title": "API Key Invalid"}, "signInRefused"),
        ({"action": "problem", "status": 403, "title": "User Disabled"}, "accessForbidden"),
        (
            {
                "action": "problem",
                "status": 503,
                "title": "ComplianceRelated",
                "detail": "This method has been disabled.",
            },
            "accountRestricted",
        ),
        ({"action": "problem", "status": 404, "title": "Resource Not Found"}, "audienceNotFound"),
    ],
    ids=["401", "403", "503 compliance", "404"],
)
def test_what_only_a_person_can_mend_ends_the_export_at_once(
    engine: Engine, fault: dict[str, object], code: str
) -> None:
    view = export_with(engine, {**fault, "match": {"method": "POST", "pathPattern": r"/lists/[a-z0-9]+$"}})
    assert view.status is Status.FAILED
    assert view.problem is not None
    assert view.problem.code == code
    assert view.problem.action
    assert view.books.not_sent == 1200
    assert engine.members() == {}


def test_a_revoked_key_marks_the_destination_to_sign_in_again(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    destination = engine.destination(["Readers"])
    engine.sandbox.revoke("sandbox-key-us1")
    view = engine.run(destination)
    assert view.status is Status.FAILED
    assert view.problem is not None
    assert view.problem.code == "signInRefused"
    stored = engine.product.destination_store.get(destination.id).destination
    assert stored.missing_steps() == ["sign in to Mailchimp again"]


def test_an_export_goes_on_with_a_sign_in_that_was_renewed_meanwhile(engine: Engine) -> None:
    engine.write_segment("Readers", people(600))
    destination = engine.destination(["Readers"])
    export_id = engine.start(destination)
    for queue, message in engine.receive([PREPARE_QUEUE]):
        engine.handle(queue, message)
    engine.product.secrets.write("mc-d1-0002", engine.sandbox.add_key())
    stored = engine.product.destination_store.get("d1").destination
    stored.sign_in.secret_name = "mc-d1-0002"
    engine.product.documents.write(names.destination("d1"), stored.to_bytes())
    engine.product.secrets.delete("mc-d1-0001")
    engine.sandbox.revoke("sandbox-key-us1")
    assert engine.work_until_ended(export_id).status is Status.SUCCESSFUL


def test_a_canceled_export_sends_nothing_more_and_its_books_say_what_is_missing(engine: Engine) -> None:
    engine.sandbox.change_settings(latencyBaseMs=600)  # longer than a lane goes without looking for a stop
    engine.write_segment("Readers", people(12_000))
    export_id = engine.start(engine.destination(["Readers"]))
    with gate(free=8) as between:
        worker = threading.Thread(target=engine.work_until_ended, args=(export_id,))
        worker.start()
        between.wait_until_at_it(8)
        engine.product.exports.cancel(export_id, TESTER)
        between.open()
        worker.join(PATIENCE_S)
    view = engine.product.exports.get(export_id)
    assert view.status is Status.CANCELED
    assert 0 < view.books.sent <= 8_000, "what had begun was sent: a second batch of each of the eight connections"
    assert view.books.sent + view.books.not_sent == 12_000
    assert len(engine.members()) == view.books.created
    assert view.books.imbalances() == []


def test_a_canceled_export_that_was_not_prepared_yet_ends_at_once(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    export_id = engine.start(engine.destination(["Readers"]))
    engine.product.exports.cancel(export_id, TESTER)
    for queue, message in engine.receive([FINISH_QUEUE]):
        engine.handle(queue, message)
    assert engine.export(export_id).status is Status.CANCELED
    for queue, message in engine.receive([PREPARE_QUEUE]):
        engine.handle(queue, message)
    assert engine.export(export_id).status is Status.CANCELED
    assert engine.sandbox.calls() == []


# -- the source ------------------------------------------------------------------------------------------------------


def test_a_file_that_changes_after_it_was_pinned_ends_the_export_with_its_name(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    destination = engine.destination(["Readers"])
    export_id = engine.start(destination)
    pinned = engine.product.catalog.pin(["Readers"])
    engine.product.store.change(export_id, lambda export: setattr(export, "sources", pinned))
    engine.write_segment("Readers", people(6))
    view = engine.work_until_ended(export_id)
    assert view.status is Status.FAILED
    assert view.problem is not None
    assert (view.problem.code, view.problem.file) == ("sourceChanged", "Readers.csv")
    assert engine.members() == {}


def test_a_file_that_does_not_parse_ends_the_export_with_file_and_row(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    container = BlobServiceClient.from_connection_string(engine.connection_string).get_container_client("segments")
    text = container.download_blob("Readers.csv").readall() + b"one,cell,too,many\n"
    container.upload_blob("Readers.csv", text, overwrite=True)
    view = engine.run(engine.destination(["Readers"]))
    assert view.status is Status.FAILED
    assert view.problem is not None
    assert (view.problem.file, view.problem.row) == ("Readers.csv", 7)
    assert "cell" not in view.problem.message, "no contents of the file in the message"
    assert engine.sandbox.calls() == []
