"""Removing destinations with their tags: from exactly those members whom they have tagged, whatever happens."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

import pytest
import requests

from dev.sandbox.control import SandboxControl
from shared.bootstrap import Surroundings, bootstrap
from shared.destinations.errors import TagsAreKept
from shared.destinations.model import TagsOnRemoval
from shared.destinations.view import view_of
from shared.exports import backoff
from shared.exports.messages import RemovalMessage, read_message
from shared.exports.model import Status
from shared.exports.untag_progress import Progress
from shared.storage import names
from shared.storage.names import LANES_QUEUE, PREPARE_QUEUE, REMOVALS_QUEUE
from tests.integration.engine import ACCOUNT, AUDIENCE, KEY, TESTER, Engine, build_engine, people
from tests.integration.removal_support import (
    Killed,
    Stops,
    another_process,
    complete,
    destination,
    everything,
    is_gone,
    kill,
    last_word,
    left_behind,
    minutes_pass,
    pretend_tagged,
    removal_of,
    remove,
    tagged,
    untag_calls,
    work_off,
)
from tests.support import StorageAccount, wait_for

REMOVE, KEEP = TagsOnRemoval.REMOVE, TagsOnRemoval.KEEP
UNTAG = {"method": "POST", "pathPattern": r"/segments/[0-9]+$"}


def addresses(count: int, start: int = 0) -> list[str]:
    return [f"person{n}@mail.example" for n in range(start, start + count)]


def progress_of(engine: Engine, id_: str = "d1") -> Progress:
    found = engine.product.documents.read(names.removal(id_))
    assert found is not None
    return Progress.from_bytes(found.data)


def handle(engine: Engine, *queues: str) -> None:
    for queue in queues:
        for name, message in engine.receive([queue]):
            engine.handle(name, message)


# -- whom it concerns ----------------------------------------------------------------------------------------------


def test_the_tags_are_taken_from_everybody_whom_we_tagged_and_nothing_else_changes(engine: Engine) -> None:
    """Nobody else is touched: neither who has the tag by hand, nor the other tags, nor a status, nor the tag itself."""
    engine.sandbox.add_contacts(
        [
            {"email_address": "person0@mail.example", "status": "unsubscribed", "tags": ["By hand"]},
            {"email_address": "Person1@mail.example", "status": "cleaned"},
            {"email_address": "stranger@mail.example", "status": "subscribed", "tags": ["Readers", "By hand"]},
        ]
    )
    engine.write_segment("Readers", people(1300))
    engine.write_segment("VIP", people(300, start=1200))
    before = everything(engine.connection_string)
    engine.run(destination(engine, "Readers", "VIP"))
    held = engine.members()
    calls_before = len(engine.sandbox.calls())
    stored = remove(engine, tags=REMOVE)
    assert stored is not None
    assert not view_of(stored.destination).ready
    complete(engine)

    assert tagged(engine, "Readers") == {"stranger@mail.example"}
    assert tagged(engine, "VIP") == set()
    assert tagged(engine, "By hand") == {"person0@mail.example", "stranger@mail.example"}
    now = engine.members()
    assert {a: (m["status"], m["merge_fields"]) for a, m in now.items()} == {
        a: (m["status"], m["merge_fields"]) for a, m in held.items()
    }
    tags = [tag["name"] for tag in engine.sandbox.audience()["tags"]]
    assert {"Readers", "VIP"} <= set(tags)
    assert [call["rows"] for call in untag_calls(engine)] == [500, 500, 300, 300], "500 a call, tag by tag"
    assert all(call["openCalls"] <= 1 for call in engine.sandbox.calls()[calls_before:]), "one connection at a time"
    assert last_word(engine) == "Removed in Mailchimp: 1,600 tags on contacts."
    assert left_behind(before, everything(engine.connection_string)) == []


def test_tags_of_earlier_exports_are_taken_away_too(engine: Engine) -> None:
    """Who left a segment has kept its tag; a segment that is no longer chosen has left its tag behind."""
    engine.write_segment("Readers", people(20))
    engine.write_segment("VIP", people(10))
    made = destination(engine, "Readers", "VIP")
    engine.run(made)
    engine.write_segment("VIP", people(5))
    engine.run(made)
    engine.product.destination_store.change(
        "d1", lambda newest: newest.model_copy(update={"segments": ("Readers",)}), by=TESTER, action="test"
    )
    engine.run(engine.product.destination_store.get("d1").destination)
    assert len(tagged(engine, "VIP")) == 10
    remove(engine, tags=REMOVE)
    complete(engine)
    assert tagged(engine, "VIP") == tagged(engine, "Readers") == set()
    assert last_word(engine) == "Removed in Mailchimp: 30 tags on contacts."


def test_who_has_the_tag_from_another_destination_keeps_it(engine: Engine) -> None:
    engine.write_segment("Readers", people(900))
    engine.run(destination(engine))
    engine.write_segment("readers", [{**row, "EMail": row["EMail"].upper()} for row in people(300, start=700)])
    engine.run(destination(engine, "readers", id_="d2"))
    assert tagged(engine, "Readers") == set(addresses(1000))
    remove(engine, tags=REMOVE)
    complete(engine)
    assert tagged(engine, "Readers") == set(addresses(300, start=700))
    remove(engine, "d2", tags=REMOVE)
    complete(engine, "d2")
    assert tagged(engine, "Readers") == set()


def test_every_audience_that_it_ever_exported_to_is_cleared(engine: Engine) -> None:
    other = engine.sandbox.add_audience("Another")["id"]
    engine.sandbox.add_contacts(
        [{"email_address": "stranger@mail.example", "status": "subscribed", "tags": ["Readers"]}], other
    )
    made = destination(engine)
    for audience in (AUDIENCE, other):
        pretend_tagged(engine, made, {"Readers": addresses(600)}, audience)
    remove(engine, tags=REMOVE)
    complete(engine)
    assert tagged(engine, "Readers") == set()
    assert [m["email_address"] for m in engine.sandbox.members(other) if m["tags"]] == ["stranger@mail.example"]
    assert last_word(engine) == "Removed in Mailchimp: 1,200 tags on contacts."


def test_what_a_canceled_export_has_tagged_is_taken_away_too(engine: Engine) -> None:
    engine.write_segment("Readers", people(9000))
    export_id = engine.start(destination(engine))
    handle(engine, PREPARE_QUEUE)
    lanes = engine.receive([LANES_QUEUE])
    engine.handle(*lanes[0])
    sent = len(tagged(engine, "Readers"))
    assert 0 < sent < 9000
    stored = remove(engine, tags=REMOVE)
    assert stored is not None
    removal = view_of(stored.destination).removal
    assert removal is not None
    assert removal.left[0] == f"The running export '{export_id}' has to end; it was asked to."
    assert not removal.sign_in_deleted, "it is needed"
    complete(engine)
    assert engine.export(export_id).status is Status.CANCELED
    assert len(engine.members()) == sent
    assert tagged(engine, "Readers") == set()
    assert last_word(engine) == f"Removed in Mailchimp: {sent:,} tags on contacts."


def test_a_destination_that_never_exported_is_gone_at_once(engine: Engine) -> None:
    destination(engine)
    assert remove(engine, tags=REMOVE) is None
    assert engine.sandbox.calls() == []


def test_contacts_and_tags_that_are_gone_from_mailchimp_are_no_error(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(700), "VIP": addresses(10)})
    engine.sandbox.add_contacts([{"email_address": "person1@mail.example", "status": "archived", "tags": []}])
    [vip] = [tag["id"] for tag in engine.sandbox.audience()["tags"] if tag["name"] == "VIP"]
    path = f"{engine.sandbox.address}/3.0/lists/{AUDIENCE}/segments/{vip}"
    assert requests.delete(path, auth=("any", KEY), timeout=10).status_code == 204
    remove(engine, tags=REMOVE)
    complete(engine)
    assert tagged(engine, "Readers") == set()
    assert last_word(engine) == "Removed in Mailchimp: 700 tags on contacts."


# -- changing one's mind -------------------------------------------------------------------------------------------


def test_keeping_the_tags_after_all_gives_up_and_completes(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(10)})
    assert remove(engine, tags=REMOVE) is not None
    again = remove(engine)
    assert again is not None
    assert again.destination.removal == removal_of(engine)
    assert removal_of(engine).tags is REMOVE, "a repeated call without the word changes nothing"
    assert remove(engine, tags=KEEP) is None
    work_off(engine)
    assert len(tagged(engine, "Readers")) == 10
    assert untag_calls(engine) == []
    assert last_word(engine) == (
        "Removed in Mailchimp: 0 tags on contacts. Not removed: tags, because test chose to keep them."
    )


def test_keeping_them_while_they_are_taken_away_stops_that_within_one_call(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(5000)})
    other = another_process(engine)
    remove(engine, tags=REMOVE)
    access = engine.product._access
    open_client, calls = access.client, count(1)

    def client(api_root: str, token: str) -> object:
        made = open_client(api_root, token)
        untag = made.untag_members

        def untag_members(*arguments: object) -> object:
            if next(calls) == 3:
                assert remove(other, tags=KEEP) is None
            return untag(*arguments)  # type: ignore[arg-type]

        made.untag_members = untag_members  # type: ignore[method-assign, assignment]
        return made

    access.client = client  # type: ignore[method-assign, assignment]
    work_off(engine)
    complete(engine)
    assert len(tagged(engine, "Readers")) == 3500
    assert "chose to keep them" in last_word(engine)
    assert list(engine.product.documents.list(names.REMOVALS_PREFIX)) == []


def test_taking_them_away_after_all_is_refused_once_the_sign_in_is_gone(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(10)})
    engine.start(engine.product.destination_store.get("d1").destination)
    remove(engine, tags=KEEP)
    with pytest.raises(TagsAreKept, match="sign-in is already deleted"):
        remove(engine, tags=REMOVE)
    complete(engine)


def test_taking_them_away_after_all_works_while_the_sign_in_is_there(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(10)})
    stops = Stops(engine.product.documents)
    for number in count(1):
        stops.at(number, kill)
        with suppress(Killed):
            remove(engine, tags=KEEP)
        stops.off()
        found = engine.product.destination_store.find("d1")
        if found is not None and found.destination.removal is not None:
            break
    assert engine.product.secrets.read("mc-d1-0001") == KEY
    assert remove(engine, tags=REMOVE) is not None
    complete(engine)
    assert tagged(engine, "Readers") == set()


# -- killed, slow, at the same time --------------------------------------------------------------------------------


def test_killed_between_any_two_steps_it_goes_on_where_it_stood(engine: Engine) -> None:
    before = everything(engine.connection_string)
    pretend_tagged(engine, destination(engine, "Readers", "VIP"), {"Readers": addresses(1200), "VIP": addresses(600)})
    stops = Stops(engine.product.documents)
    remove(engine, tags=REMOVE)
    engine.receive([REMOVALS_QUEUE])
    number, kills = 4, 0
    while not is_gone(engine):
        stops.at(number, kill)
        try:
            engine.product.untagger.go_on(RemovalMessage(destination_id="d1"))
        except Killed:
            kills += 1
            number += 2
        stops.off()
    assert kills > 10
    assert tagged(engine, "Readers") == tagged(engine, "VIP") == set()
    assert last_word(engine) == "Removed in Mailchimp: 1,800 tags on contacts."
    minutes_pass(engine)
    work_off(engine)
    assert left_behind(before, everything(engine.connection_string)) == []


def test_after_a_kill_no_more_than_the_last_call_is_made_again(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(5000)})
    remove(engine, tags=REMOVE)
    stops = Stops(engine.product.documents)
    stops.at(48, kill)
    with suppress(Killed):
        work_off(engine)
    assert stops.off()
    made = len(untag_calls(engine))
    assert 1 < made < 10
    complete(engine)
    assert len(untag_calls(engine)) <= 11, "ten, and perhaps the last one before the kill again"
    assert tagged(engine, "Readers") == set()


def test_however_short_the_time_of_a_run_each_makes_a_call_and_none_is_made_twice(engine: Engine) -> None:
    engine.product.untagger._budget_s = 0
    pretend_tagged(engine, destination(engine), {"Readers": addresses(3000)})
    remove(engine, tags=REMOVE)
    runs = 0
    while not is_gone(engine) and runs < 10:
        [(queue, message)] = engine.receive([REMOVALS_QUEUE])
        engine.handle(queue, message)
        runs += 1
        if not is_gone(engine):
            removal = removal_of(engine)
            assert removal.tags_left is not None
            assert removal.tags_taken + removal.tags_left == 3000
    assert (runs, len(untag_calls(engine))) == (7, 6), "the last run finds nothing left"
    assert tagged(engine, "Readers") == set()


def test_a_message_that_comes_twice_finds_somebody_at_work_and_goes_away(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(600)})
    remove(engine, tags=REMOVE)
    with engine.product._leases.take(names.removal("d1")) as lease:
        assert lease is not None
        work_off(engine)
        assert untag_calls(engine) == []
        minutes_pass(engine)
        assert engine.receive([REMOVALS_QUEUE]) == [], "the timer sees that somebody is at work"
    minutes_pass(engine)
    work_off(engine)
    assert is_gone(engine)


def test_two_destinations_of_one_audience_that_go_at_once_leave_nothing_behind(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(900)})
    pretend_tagged(engine, destination(engine, id_="d2"), {"Readers": addresses(900)})
    remove(engine, tags=REMOVE)
    remove(engine, "d2", tags=REMOVE)
    messages = engine.receive([REMOVALS_QUEUE])
    for queue, message in reversed(messages):  # the later one first: it waits for its turn
        engine.handle(queue, message)
    assert is_gone(engine)
    assert "Waiting for the removal of the destination" in (removal_of(engine, "d2").problem or "")
    complete(engine, "d2")
    assert tagged(engine, "Readers") == set()


# -- exports of other destinations at the same time ----------------------------------------------------------------


def test_while_another_destination_sends_to_the_audience_nothing_is_taken_away(engine: Engine) -> None:
    engine.write_segment("Readers", people(600))
    engine.run(destination(engine))
    other = destination(engine, id_="d2")
    export_id = engine.start(other)
    handle(engine, PREPARE_QUEUE)
    remove(engine, tags=REMOVE)
    handle(engine, REMOVALS_QUEUE)
    assert untag_calls(engine) == []
    assert export_id in (removal_of(engine).problem or "")
    engine.work_until_ended(export_id)
    complete(engine)
    assert tagged(engine, "Readers") == set(addresses(600)), "all of them are the other destination's now"
    assert last_word(engine) == "Removed in Mailchimp: 0 tags on contacts."


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed after the call"])
def test_an_export_that_crosses_a_call_gets_its_tags_back(
    storage_account: StorageAccount, sandbox: SandboxControl, killed: bool
) -> None:
    """Another destination's whole export happens while a call is under way, and the call is applied after it."""
    engine, other = (
        build_engine(storage_account.connection_string, sandbox, MAILCHIMP_MAX_CONNECTIONS="7") for _ in range(2)
    )
    pretend_tagged(engine, destination(engine), {"Readers": addresses(1100)})
    engine.write_segment("Readers", people(900, start=300))
    second = destination(engine, id_="d2")
    remove(engine, tags=REMOVE)
    cross(engine, lambda: other.run(second), then=kill if killed else lambda: None)
    with suppress(Killed):
        handle(engine, REMOVALS_QUEUE)
    assert tagged(engine, "Readers") != set(addresses(900, start=300)), "the call took the tag from people of both"
    complete(engine)
    assert tagged(engine, "Readers") == set(addresses(900, start=300))


def cross(engine: Engine, action: Callable[[], object], then: Callable[[], None]) -> None:
    """Let ``action`` happen before the first call that takes a tag away, and ``then`` after it."""
    access, calls = engine.product._access, count(1)
    open_client = access.client

    def client(api_root: str, token: str) -> object:
        made = open_client(api_root, token)
        untag = made.untag_members

        def untag_members(*arguments: object) -> object:
            number = next(calls)
            if number == 1:
                action()
            answer = untag(*arguments)  # type: ignore[arg-type]
            if number == 1:
                then()
            return answer

        made.untag_members = untag_members  # type: ignore[method-assign, assignment]
        return made

    access.client = client  # type: ignore[method-assign, assignment]


# -- Mailchimp in trouble ------------------------------------------------------------------------------------------


def test_an_outage_is_waited_for_and_told(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(1200)})
    engine.sandbox.set_faults({"action": "bare", "status": 503})
    remove(engine, tags=REMOVE)
    handle(engine, REMOVALS_QUEUE)
    problem = removal_of(engine).problem or ""
    assert problem.startswith("Mailchimp has been unavailable since ")
    assert "It is tried again at " in problem
    assert removal_of(engine).tags_left == 1200
    assert engine.receive([REMOVALS_QUEUE]) == [], "the message comes when it is time"
    wake_at = progress_of(engine).wake_at
    assert wake_at is not None
    assert wake_at > datetime.now(UTC) + timedelta(seconds=5)
    seen = len(engine.sandbox.calls())
    remove(engine, tags=REMOVE)
    work_off(engine)
    minutes_pass(engine, 0.5)
    work_off(engine)
    assert len(engine.sandbox.calls()) == seen, "nobody asks before it is time"
    assert removal_of(engine).problem == problem

    engine.sandbox.clear_faults()
    complete(engine)
    assert tagged(engine, "Readers") == set()


def test_a_wait_that_a_host_with_another_clock_began_ends_with_its_message(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "_IN_PLACE_S", 0.0)
    pretend_tagged(engine, destination(engine), {"Readers": addresses(1200)})
    engine.sandbox.set_faults({"action": "bare", "status": 503, "count": 1})
    remove(engine, tags=REMOVE)
    [(_, first)] = engine.receive([REMOVALS_QUEUE])
    asked = read_message(RemovalMessage, b64decode(first.content))
    hour_ahead = Surroundings(
        now=lambda: datetime.now(UTC) + timedelta(hours=1), sleep=lambda _: None, random=lambda: 0.5
    )
    bootstrap(engine.product.settings, hour_ahead).untagger.go_on(asked)
    [(queue, message)] = wait_for(lambda: engine.receive([REMOVALS_QUEUE]) or None, "the message that ends the wait")
    engine.product.untagger.go_on(asked)
    assert len(tagged(engine, "Readers")) == 1200, "any other message is too early by this host's clock"
    engine.handle(queue, message)
    assert is_gone(engine)
    assert tagged(engine, "Readers") == set()


def test_a_hiccup_is_slept_through(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(1200)})
    engine.sandbox.set_faults({"action": "resetAfter", "match": UNTAG, "count": 1}, {"action": "bare", "count": 3})
    remove(engine, tags=REMOVE)
    handle(engine, REMOVALS_QUEUE)
    assert is_gone(engine)
    assert tagged(engine, "Readers") == set()


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda engine: engine.sandbox.revoke(KEY), "the Mailchimp sign-in is missing or refused"),
        (lambda engine: engine.product.secrets.delete("mc-d1-0001"), "the Mailchimp sign-in is missing or refused"),
        (
            lambda engine: engine.sandbox.set_faults({"action": "problem", "preset": "userDisabled"}),
            "the Mailchimp user is not allowed to do that",
        ),
        (
            lambda engine: engine.sandbox.set_faults({"action": "problem", "preset": "complianceRelated"}),
            "Mailchimp has restricted the account",
        ),
        (
            lambda engine: engine.sandbox.set_faults({"action": "problem", "preset": "notFound"}),
            f"the audience '{AUDIENCE}' no longer exists in Mailchimp",
        ),
    ],
    ids=["refused", "secret gone", "user disabled", "account restricted", "audience gone"],
)
def test_what_nobody_can_mend_completes_the_removal_and_says_what_is_left(
    engine: Engine, break_it: Callable[[Engine], object], reason: str
) -> None:
    before = everything(engine.connection_string)
    pretend_tagged(engine, destination(engine), {"Readers": addresses(1200)})
    break_it(engine)
    remove(engine, tags=REMOVE)
    handle(engine, REMOVALS_QUEUE)
    assert is_gone(engine)
    assert last_word(engine) == (
        f"Removed in Mailchimp: 0 tags on contacts. Not removed: 1,200 tags on contacts, because {reason}."
    )
    assert left_behind(before, everything(engine.connection_string)) == []


def test_a_refusal_in_the_middle_says_how_many_are_left(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(1200)})
    match = {**UNTAG, "emailContains": "person700@"}
    engine.sandbox.set_faults({"action": "problem", "status": 401, "title": "API Key Invalid", "match": match})
    remove(engine, tags=REMOVE)
    handle(engine, REMOVALS_QUEUE)
    assert last_word(engine) == (
        "Removed in Mailchimp: 500 tags on contacts. Not removed: 700 tags on contacts, because "
        "the Mailchimp sign-in is missing or refused."
    )


@pytest.mark.parametrize("fault", [{"preset": "invalidResource"}, {"preset": "internalServerError"}])
def test_a_contact_at_which_mailchimp_fails_costs_nobody_else_anything(
    engine: Engine, fault: dict[str, object]
) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(1200)})
    match = {**UNTAG, "emailContains": "person700@"}
    engine.sandbox.set_faults({"action": "problem", "match": match, **fault})
    remove(engine, tags=REMOVE)
    handle(engine, REMOVALS_QUEUE)
    assert tagged(engine, "Readers") == {"person700@mail.example"}
    assert last_word(engine) == (
        "Removed in Mailchimp: 1,199 tags on contacts. Not removed: 1 tag on a contact, because Mailchimp refused that."
    )


def test_when_all_connections_are_in_use_it_comes_again(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(10)})
    remove(engine, tags=REMOVE)
    engine.product._access._clock = partial(next, count(step=10))  # it gives up at the second look
    with engine.product._leases.take(names.lane(ACCOUNT, 8)) as lease:
        assert lease is not None
        handle(engine, REMOVALS_QUEUE)
    assert "connections" in (removal_of(engine).problem or "")
    assert untag_calls(engine) == []
    complete(engine)
    assert tagged(engine, "Readers") == set()


def test_messages_and_state_hold_no_address(engine: Engine) -> None:
    pretend_tagged(engine, destination(engine), {"Readers": addresses(1200)})
    remove(engine, tags=REMOVE)
    assert engine.messages(REMOVALS_QUEUE) == [{"v": 1, "destinationId": "d1"}]
    stops = Stops(engine.product.documents)
    stops.at(40, kill)
    with suppress(Killed):
        handle(engine, REMOVALS_QUEUE)
    assert stops.off()
    state = everything(engine.connection_string)
    for name in (names.removal("d1"), names.destination("d1")):
        assert b"@" not in state[f"state/{name}"]
