"""Tags are taken away from an account in trouble: what is waited for, what is given up, and what is told."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

import pytest

from shared.bootstrap import Surroundings, bootstrap
from shared.exports import backoff
from shared.exports.messages import RemovalMessage, read_message
from shared.exports.untag_progress import Progress
from shared.storage import names
from shared.storage.names import REMOVALS_QUEUE
from tests.integration.engine import ACCOUNT, AUDIENCE, KEY, Engine
from tests.integration.removal_support import (
    REMOVE,
    addresses,
    complete,
    destination,
    everything,
    handle,
    is_gone,
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
from tests.support import wait_for

UNTAG = {"method": "POST", "pathPattern": r"/segments/[0-9]+$"}


def progress_of(engine: Engine, id_: str = "d1") -> Progress:
    found = engine.product.documents.read(names.removal(id_))
    assert found is not None
    return Progress.from_bytes(found.data)


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
