"""What a lane does for several exports, when Mailchimp is up and takes nobody of one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from shared.exports.backoff import CallOutOfOrder
from shared.exports.lane_work import LaneTools, LaneWork
from shared.exports.model import Problem, Status
from shared.exports.pace import LanePace, Pace, Paces
from shared.mailchimp import MailchimpClient, SubscribeReply
from shared.storage import names
from shared.storage.leases import HeldLease, LeaseLost, Leases
from tests.unit.exports_in_memory import NOW, ExportsInMemory, NoSignals
from tests.unit.plans import a_plan
from tests.unit.test_exports_ended import FreeLeases
from tests.unit.test_exports_send import BROKEN, reply

BATCHES = 6


class Anything:
    """Takes every call."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_named: "token"


def nothing(*_: object) -> None:
    pass


class Lease:
    """Ours until a test takes it away."""

    is_certain = True

    def check(self, margin_s: float) -> None:
        assert margin_s >= 1, "a call must not be on its way any more when the lease is another's"
        if not self.is_certain:
            raise LeaseLost


class Mailchimp:
    """Takes nobody into the audiences in ``broken``, and answers every ping."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.calls = 0

    def subscribe(self, audience: str, body: bytes) -> SubscribeReply:
        self.calls += 1
        if audience in self.broken:
            raise BROKEN
        return reply([member["email_address"] for member in json.loads(body)["members"]])

    def ping(self) -> None:
        self.calls += 1

    def close(self) -> None:
        pass


class Lane(ExportsInMemory):
    """The one lane of an account. Its clock goes on by a second with each look at it."""

    def __init__(self) -> None:
        super().__init__()
        self.mailchimp = Mailchimp()
        self.lease = Lease()
        self.seconds = 0.0
        documents = self.documents.as_documents()
        documents.write(names.pace("account"), Pace(lanes=1, seconds_per_member=0.01, changed_at=NOW).to_bytes())
        self._paces = Paces(documents, lambda: self.now, most_lanes=1)

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds

    def open_export(self, audience: str) -> str:
        """An export of six batches with ten people each."""
        export_id = self.add(status=Status.SENDING, destination=audience)
        plan = a_plan(export_id, destination_id=audience, audience_id=audience, members=10 * BATCHES, batches=BATCHES)
        members = [{"email_address": f"person{number}@mail.example", "tags": []} for number in range(10)]
        body = json.dumps({"members": members, "update_existing": True}).encode()
        self.documents.write(names.pack(export_id, "1", 0, 0), b"\n".join([body] * BATCHES))
        self.store.publish(plan)
        self.documents.write(names.open_export("account", export_id), b"")
        return export_id

    def work(self) -> LaneWork:
        tools = LaneTools(
            store=self.store,
            leases=cast("Leases", FreeLeases()),
            signals=cast("Any", NoSignals()),
            sign_ins=cast("Any", Anything()),
            paces=self._paces,
            open_client=lambda *_: cast("MailchimpClient", self.mailchimp),
            now=lambda: self.now,
            monotonic=self.monotonic,
            sleep=lambda _: None,
            random=lambda: 0.5,
        )
        pace = LanePace(self._paces, "account", monotonic=self.monotonic, opened=nothing, closed=nothing)
        return LaneWork(tools, pace, "account", 0, cast("HeldLease", self.lease), 0)

    def sent(self, export_id: str) -> int:
        return len(list(self.store.recorded(export_id)))


@pytest.fixture
def lane() -> Lane:
    return Lane()


def until(done: Callable[[], bool], work: LaneWork) -> None:
    for _ in range(50):
        if done():
            return
        work.go_on()
    raise AssertionError("it takes too long")


def test_an_export_that_mailchimp_takes_nobody_of_does_not_hold_up_the_others(lane: Lane) -> None:
    broken, other = lane.open_export("broken"), lane.open_export("fine")
    lane.mailchimp.broken = {"broken"}
    with lane.work() as work, pytest.raises(CallOutOfOrder):
        until(lambda: False, work)  # the other is through before the lane rests
    assert (lane.sent(broken), lane.sent(other)) == (0, BATCHES)
    assert lane.store.ended_lanes(other) == {0}
    assert lane.store.ended_lanes(broken) == set()


def test_it_ends_at_once_when_it_is_canceled_while_the_lane_sends_another(lane: Lane) -> None:
    broken, other = lane.open_export("broken"), lane.open_export("fine")
    lane.mailchimp.broken = {"broken"}
    with lane.work() as work:
        until(lambda: lane.sent(other) > 0, work)
        lane.store.fail(broken, Problem(code="canceled", message="Canceled."))
        until(lambda: lane.store.ended_lanes(broken) == {0}, work)
        assert lane.sent(other) < BATCHES


def test_no_call_is_made_when_the_lease_may_be_another_process_s_by_its_end(lane: Lane) -> None:
    export = lane.open_export("fine")
    with lane.work() as work:
        until(lambda: lane.sent(export) > 0, work)
        made, lane.lease.is_certain = lane.mailchimp.calls, False
        with pytest.raises(LeaseLost):
            until(lambda: False, work)
        assert lane.mailchimp.calls == made
    assert lane.store.ended_lanes(export) == set()


def test_it_is_looked_at_between_two_calls_for_one_batch_too(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    lane.open_export("broken")
    lane.mailchimp.broken = {"broken"}
    fail = lane.mailchimp.subscribe

    def fail_and_lose_the_lease(audience: str, body: bytes) -> SubscribeReply:
        lane.lease.is_certain = False
        return fail(audience, body)

    monkeypatch.setattr(lane.mailchimp, "subscribe", fail_and_lose_the_lease)
    with lane.work() as work, pytest.raises(LeaseLost):
        until(lambda: False, work)
    assert lane.mailchimp.calls == 1
