"""Whom Mailchimp has refused for good since an export was prepared is left out when what it has left is sent."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest

from dev.sandbox.control import SandboxControl
from shared.destinations.model import Destination
from shared.exports.model import Status
from shared.exports.view import ExportView
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import TESTER, Engine, MovedClock, build_engine_at, people, scheduled
from tests.integration.refusals.steps import FAKE, FORGOTTEN, MEMORY, clear, refuse, remembered, until_finish
from tests.integration.removal_support import Killed, Stops, another_process, kill
from tests.support import StorageAccount

STOPPED = {
    "action": "problem",
    "status": 403,
    "title": "User Disabled",
    "match": {"method": "POST", "pathPattern": r"/lists/[a-z0-9]+$"},
}
PEOPLE = 600
LEFT = 100
"""Two batches: one lane sends the full one, and the other lane the other one."""

REJOINS = "person512@mail.example"
"""Mailchimp refuses them for a while."""

REFUSED = {FAKE: "fakeOrInvalid", FORGOTTEN: "forgotten", REJOINS: "complianceState"}
REASONS = {"complianceState": 1, "fakeOrInvalid": 1, "forgotten": 1}


@pytest.fixture
def engine(storage_account: StorageAccount, sandbox: SandboxControl, clock: MovedClock) -> Engine:
    """With two lanes, so that it is known who sends what, and a memory that is shorter than what is left is kept."""
    settings = {"MAILCHIMP_MAX_CONNECTIONS": "2", "REFUSAL_MEMORY_DAYS": "3"}
    return build_engine_at(clock, storage_account.connection_string, sandbox, **settings)


@pytest.fixture
def destination(engine: Engine) -> Destination:
    """Three of the batch that is left are refused by Mailchimp. A second destination has them too."""
    engine.sandbox.add_contacts([{"email_address": FORGOTTEN, "forgotten": True}])
    rows = people(PEOPLE)
    rows[510]["EMail"], rows[511]["EMail"] = FAKE, FORGOTTEN
    engine.write_segment("Readers", rows)
    engine.write_segment("Others", [{"EMail": address.upper()} for address in REFUSED])
    engine.destination(["Others"], id_="d2")
    return engine.destination(["Readers"])


def handle(engine: Engine, *queues: str) -> None:
    for queue, message in engine.receive(queues):
        engine.handle(queue, message)


def failed_half_way(engine: Engine, destination: Destination, refused: str | None = None) -> ExportView:
    """An export of which one lane has sent its batch, and the other has not. Of the ones sent, those whose address
    contains ``refused`` were refused for good."""
    export_id = engine.start(destination)
    handle(engine, PREPARE_QUEUE)
    wakes = {json.loads(b64decode(found[1].content))["lane"]: found for found in engine.receive([LANES_QUEUE])}
    plan = engine.product.store.plan(export_id)
    assert plan is not None
    first, second = (wakes[lane] for lane in plan.lanes)
    if refused is not None:
        refuse(engine, refused)
    engine.handle(*first)
    engine.sandbox.set_faults(STOPPED)
    engine.handle(*second)
    engine.sandbox.clear_faults()
    handle(engine, FINISH_QUEUE)
    view = engine.product.exports.get(export_id)
    assert (view.status, view.books.not_sent) == (Status.FAILED, LEFT)
    return view


def refused_meanwhile(engine: Engine) -> None:
    """The other destination sends the three, and Mailchimp refuses them."""
    refuse(engine, "512@")
    other = engine.product.destination_store.get("d2").destination
    assert engine.run(other).rejected_reasons == REASONS
    engine.sandbox.clear_faults()


def resume(engine: Engine, export_id: str) -> str:
    destination = engine.product.destination_store.get("d1").destination
    return engine.product.exports.resume(export_id, destination, requested_by=TESTER).id


def resumed(engine: Engine, export_id: str) -> ExportView:
    """The export that resumes it, when it has ended."""
    return engine.work_until_ended(resume(engine, export_id))


def subscribed(engine: Engine) -> int:
    """Calls that sent members."""
    return len(engine.sandbox.calls("batchSubscribe"))


def listed(engine: Engine, view: ExportView) -> dict[str, tuple[str, str]]:
    """Who was left out or refused in the export: who found it, and the code."""
    return {row["email"].lower(): (row["foundBy"], row["code"]) for row in engine.rejected(view.id)}


# -- left out --------------------------------------------------------------------------------------------------------


def test_they_are_left_out_of_the_rest_and_listed_as_in_a_full_export(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    refused_meanwhile(engine)
    rest = resumed(engine, failed.id)
    assert rest.status is Status.SUCCESSFUL, "those who are left out are known, like archived contacts"
    assert (rest.books.members, rest.books.suppressed, rest.books.created) == (LEFT, 3, LEFT - 3)
    assert (rest.books.rejected, rest.suppressed_reasons) == (0, REASONS)
    assert rest.books.imbalances() == []
    assert [(each.members, each.tagged) for each in rest.segments] == [(LEFT, LEFT - 3)]
    assert engine.product.exports.get(failed.id).books == failed.books
    assert set(engine.members()) == {row["EMail"] for n, row in enumerate(people(PEOPLE)) if n not in {510, 511, 512}}

    assert listed(engine, rest) == {address: ("memory", code) for address, code in REFUSED.items()}
    full = engine.run(destination)
    assert full.suppressed_reasons == rest.suppressed_reasons
    assert engine.rejected(full.id) == engine.rejected(rest.id)


def test_who_is_archived_as_well_is_left_out_as_archived(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    refused_meanwhile(engine)
    engine.sandbox.add_contacts([{"email_address": REJOINS, "status": "archived"}])
    rest = resumed(engine, failed.id)
    assert rest.suppressed_reasons == {"archived": 1, "fakeOrInvalid": 1, "forgotten": 1}
    assert listed(engine, rest)[REJOINS] == ("prepare", "archived")


def test_a_rest_that_is_left_out_as_a_whole_costs_no_call(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    others = people(LEFT, start=500)
    others[10]["EMail"], others[11]["EMail"] = FAKE, FORGOTTEN
    engine.write_segment("Others", others)
    refuse(engine, "@mail.example")
    assert engine.run(engine.product.destination_store.get("d2").destination).books.rejected == LEFT
    engine.sandbox.clear_faults()
    before = subscribed(engine)
    rest = resumed(engine, failed.id)
    assert (rest.status, rest.books.suppressed, rest.books.sent) == (Status.SUCCESSFUL, LEFT, 0)
    assert subscribed(engine) == before
    assert scheduled(engine).status is Status.SKIPPED


def test_a_memory_that_cannot_be_read_keeps_nobody_out(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    refused_meanwhile(engine)
    engine.product.documents.write(MEMORY, b"this is no Parquet file")
    rest = resumed(engine, failed.id)
    assert (rest.books.suppressed, rest.books.rejected) == (0, 2)
    assert rest.books.imbalances() == []
    assert set(remembered(engine, destination)) == {FAKE, FORGOTTEN}


def test_the_rest_of_a_rest_leaves_out_who_was_refused_in_between(engine: Engine, destination: Destination) -> None:
    """Its batch is not full any more, so its members do not lie where they lay."""
    failed = failed_half_way(engine, destination)
    engine.write_segment("Others", [{"EMail": "person500@mail.example"}])
    refuse(engine, "500@")
    engine.run(engine.product.destination_store.get("d2").destination)
    engine.sandbox.clear_faults()
    second = resume(engine, failed.id)
    handle(engine, PREPARE_QUEUE)
    engine.product.exports.cancel(second, TESTER)
    handle(engine, LANES_QUEUE)
    handle(engine, FINISH_QUEUE)
    canceled = engine.product.exports.get(second)
    assert (canceled.status, canceled.books.suppressed, canceled.books.sent) == (Status.CANCELED, 1, 0)
    engine.write_segment("Others", [{"EMail": address} for address in REFUSED])
    refused_meanwhile(engine)
    third = resumed(engine, second)
    assert third.status is Status.SUCCESSFUL
    assert (third.books.members, third.books.suppressed, third.books.created) == (LEFT - 1, 3, LEFT - 4)
    assert listed(engine, third).keys() == REFUSED.keys()
    assert {"person509@mail.example", "person513@mail.example"} <= engine.members().keys()
    clear(engine, destination, "person500@mail.example")
    assert scheduled(engine).books.created == 1, "whom the rest before left out is not forgotten"


# -- sent ------------------------------------------------------------------------------------------------------------


def test_who_was_cleared_is_sent_with_the_rest(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    refused_meanwhile(engine)
    assert clear(engine, destination, REJOINS.upper()) == 1
    rest = resumed(engine, failed.id)
    assert (rest.books.suppressed, rest.books.created, rest.books.rejected) == (2, LEFT - 2, 0)
    assert REJOINS in engine.members()


def test_whose_time_is_over_is_sent_with_the_rest(engine: Engine, destination: Destination, clock: MovedClock) -> None:
    failed = failed_half_way(engine, destination)
    refused_meanwhile(engine)
    clock.go_on(days=4)
    rest = resumed(engine, failed.id)
    assert (rest.books.suppressed, rest.books.created, rest.books.rejected) == (0, LEFT - 2, 2)


# -- the schedule afterwards -----------------------------------------------------------------------------------------


def test_runs_without_a_change_are_skipped_while_they_are_left_out(
    engine: Engine, destination: Destination, clock: MovedClock
) -> None:
    failed = failed_half_way(engine, destination)
    refused_meanwhile(engine)
    resumed(engine, failed.id)
    assert scheduled(engine).status is Status.SKIPPED
    clear(engine, destination, REJOINS)
    made = scheduled(engine)
    assert (made.books.created, made.books.suppressed) == (1, 2)
    assert scheduled(engine).status is Status.SKIPPED
    clock.go_on(days=4)
    assert scheduled(engine).books.rejected == 2


def test_a_run_is_made_after_the_time_of_those_whom_the_rest_left_out(
    engine: Engine, destination: Destination, clock: MovedClock
) -> None:
    failed = failed_half_way(engine, destination)
    refused_meanwhile(engine)
    resumed(engine, failed.id)
    clock.go_on(days=4)
    made = scheduled(engine)
    assert (made.books.created, made.books.suppressed, made.books.rejected) == (1, 0, 2)
    assert scheduled(engine).status is Status.SKIPPED


def test_who_was_refused_before_the_export_failed_is_sent_by_the_schedule_once_cleared(
    engine: Engine, destination: Destination
) -> None:
    """They are in the books of the first part only, and of the rest nobody is refused."""
    engine.write_segment("Readers", people(PEOPLE))
    failed = failed_half_way(engine, destination, refused="person3@")
    assert failed.books.rejected == 1
    assert resumed(engine, failed.id).books.created == LEFT
    assert scheduled(engine).status is Status.SKIPPED
    clear(engine, destination, "person3@mail.example")
    assert scheduled(engine).books.created == 1


def test_who_was_cleared_between_the_two_parts_is_sent_by_the_schedule(
    engine: Engine, destination: Destination
) -> None:
    failed = failed_half_way(engine, destination, refused="person3@")
    refused_meanwhile(engine)
    clear(engine, destination, "person3@mail.example")
    rest = resumed(engine, failed.id)
    assert rest.books.suppressed == 3
    assert scheduled(engine).books.created == 1
    assert scheduled(engine).status is Status.SKIPPED


@pytest.mark.parametrize("emails", [[REJOINS], []], ids=["one", "all"])
def test_who_was_cleared_after_the_rest_was_prepared_is_sent_by_the_schedule(
    engine: Engine, destination: Destination, emails: list[str]
) -> None:
    failed = failed_half_way(engine, destination)
    refused_meanwhile(engine)
    rest = resume(engine, failed.id)
    handle(engine, PREPARE_QUEUE)
    clear(engine, destination, *emails)
    assert engine.work_until_ended(rest).suppressed_reasons == REASONS
    assert scheduled(engine).books.created == 1


# -- crashes ---------------------------------------------------------------------------------------------------------


def deaths(engine: Engine, queue: str, body: bytes, after: Callable[[], None] = lambda: None) -> int:
    """Have a process die before each of its calls of storage in turn, until the message is worked off; returns how
    often it died. ``after`` is called after each death."""
    dying = another_process(engine, MAILCHIMP_MAX_CONNECTIONS="2", REFUSAL_MEMORY_DAYS="3")
    stops = Stops(dying.product.documents)
    for number in count(1):
        stops.at(number, kill)
        with suppress(Killed):
            dying.invoke(queue, body)
        if not stops.off():
            return number - 1
        after()
    raise AssertionError("unreachable")


def prepare_message(engine: Engine) -> bytes:
    ((_, message),) = engine.receive([PREPARE_QUEUE])
    return b64decode(message.content)


def test_a_prepare_that_dies_at_any_step_leaves_out_each_of_them_once(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    refused_meanwhile(engine)
    rest = resume(engine, failed.id)
    assert deaths(engine, PREPARE_QUEUE, prepare_message(engine)) > 12
    ended = engine.work_until_ended(rest)
    assert (ended.status, ended.suppressed_reasons) == (Status.SUCCESSFUL, REASONS)
    assert (ended.books.members, ended.books.created) == (LEFT, LEFT - 3)
    assert ended.books.imbalances() == []
    assert listed(engine, ended).keys() == REFUSED.keys()
    assert len(engine.rejected(ended.id)) == 3
    assert scheduled(engine).status is Status.SKIPPED


def test_who_is_cleared_while_a_prepare_lies_dead_is_sent_by_the_next_one(
    engine: Engine, destination: Destination
) -> None:
    """The bodies without them are written, and nobody reads those."""
    failed = failed_half_way(engine, destination)
    refused_meanwhile(engine)
    rest = resume(engine, failed.id)
    documents, cleared = engine.product.documents, 0

    def clear_once() -> None:
        nonlocal cleared
        if not cleared and any(documents.list(names.all_batches(rest))) and engine.product.store.plan(rest) is None:
            cleared = clear(engine, destination, REJOINS)

    deaths(engine, PREPARE_QUEUE, prepare_message(engine), clear_once)
    assert cleared == 1
    ended = engine.work_until_ended(rest)
    assert (ended.books.suppressed, ended.books.created) == (2, LEFT - 2)
    assert listed(engine, ended).keys() == {FAKE, FORGOTTEN}
    assert scheduled(engine).status is Status.SKIPPED


def test_a_finish_that_dies_at_any_step_forgets_nobody(engine: Engine, destination: Destination) -> None:
    """One was refused in the first part, one is left out of the rest, and two are refused in it."""
    failed = failed_half_way(engine, destination, refused="person3@")
    engine.write_segment("Others", [{"EMail": REJOINS}])
    refuse(engine, "512@")
    engine.run(engine.product.destination_store.get("d2").destination)
    engine.sandbox.clear_faults()
    rest = resume(engine, failed.id)
    body = until_finish(engine, rest)
    assert deaths(engine, FINISH_QUEUE, body) > 10
    ended = engine.product.exports.get(rest)
    assert ended.status is Status.COMPLETED_WITH_ERRORS
    assert (ended.suppressed_reasons, ended.books.rejected) == ({"complianceState": 1}, 2)
    assert ended.books.imbalances() == []
    assert listed(engine, ended) == {
        FAKE: ("mailchimp", "fakeOrInvalid"),
        FORGOTTEN: ("mailchimp", "forgotten"),
        REJOINS: ("memory", "complianceState"),
    }
    assert set(remembered(engine, destination)) == {*REFUSED, "person3@mail.example"}
    assert scheduled(engine).status is Status.SKIPPED
