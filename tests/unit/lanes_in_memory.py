"""The lanes of one Mailchimp account over documents in memory, with leases, messages and a Mailchimp of their own.

Its clock goes on by a second with each look at it, so nothing here takes time and everything that is due happens.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from shared.exports.lane_work import LaneTools, LaneWork
from shared.exports.lanes import Lanes, LaneSettings
from shared.exports.messages import WakeMessage
from shared.exports.model import Plan, Status
from shared.exports.pace import LanePace, Pace, Paces
from shared.exports.packs import write_packs
from shared.mailchimp import MailchimpClient, SubscribeReply
from shared.storage import names
from shared.storage.leases import HeldLease, LeaseLost, Leases
from tests.unit.exports_in_memory import NOW, ExportsInMemory
from tests.unit.plans import a_plan
from tests.unit.test_exports_send import reply

ACCOUNT = "account"
ROWS = 10
"""Members of each batch."""

LEASE_S = 30


def nothing(*_: object) -> None:
    pass


class Lease:
    """Ours until a test takes it away."""

    client = "the proof that it is ours"

    def __init__(self) -> None:
        self.is_certain = True

    def check(self, margin_s: float) -> None:
        assert margin_s >= 1, "a call must not be on its way any more when the lease is another's"
        if not self.is_certain:
            raise LeaseLost


class LeasesInMemory:
    """``elsewhere``: what another process holds; ``ours``: what we hold. ``given_back`` is told of what we held."""

    def __init__(self) -> None:
        self.elsewhere: set[int] = set()
        self.ours: dict[int, Lease] = {}
        self.given_back: Callable[[int], None] = nothing

    @contextmanager
    def take(self, name: str) -> Iterator[Lease | None]:
        lane = int(name.rsplit("/", 1)[1])
        assert name == names.lane(ACCOUNT, lane)
        if lane in self.elsewhere or lane in self.ours:
            yield None
            return
        self.ours[lane] = Lease()
        try:
            yield self.ours[lane]
        finally:
            del self.ours[lane]
            self.given_back(lane)


@dataclass(frozen=True)
class Woken:
    """A wake-up that was sent."""

    lane: int
    again: bool = False
    delay_s: float = 0
    ends_wait: datetime | None = None


@dataclass
class Sent:
    """Notes the messages that would be sent."""

    woken: list[Woken] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)

    def finish(self, export_id: str) -> None:
        self.finished.append(export_id)

    def wake(self, account: str, lane: int, **options: Any) -> None:
        assert account == ACCOUNT
        self.woken.append(Woken(lane, **options))

    def wake_all(self, account: str, lanes: range | list[int], **options: Any) -> None:
        for lane in lanes:
            self.wake(account, lane, **options)


class SignIns:
    """The token of a secret is its name. ``replaced_by``: the secret of who has signed in again."""

    def __init__(self) -> None:
        self.replaced_by: str | None = None
        self.refusals: list[tuple[str, str]] = []

    def token(self, secret_name: str) -> str:
        return secret_name

    def newer(self, _destination_id: str, secret_name: str, _account_id: str) -> str | None:
        return self.replaced_by if self.replaced_by != secret_name else None

    def refused(self, destination_id: str, secret_name: str, _problem: str) -> None:
        self.refusals.append((destination_id, secret_name))


class Mailchimp:
    """Takes everybody, but for what a test has put into ``faults`` for an audience or for a token.

    ``members``: how often each address arrived; ``calls``: how many were made, pings too.
    """

    def __init__(self) -> None:
        self.faults: dict[str, Exception] = {}
        self.members: Counter[str] = Counter()
        self.calls = 0
        self.before_call: Callable[[], None] = nothing

    def client(self, _api_root: str, token: str) -> MailchimpClient:
        return cast("MailchimpClient", Client(self, token))


@dataclass
class Client:
    mailchimp: Mailchimp
    token: str

    def subscribe(self, audience: str, body: bytes) -> SubscribeReply:
        self.mailchimp.before_call()
        self.mailchimp.calls += 1
        for cause in (self.token, audience):
            if cause in self.mailchimp.faults:
                raise self.mailchimp.faults[cause]
        addresses = [member["email_address"] for member in json.loads(body)["members"]]
        self.mailchimp.members.update(addresses)
        return reply(addresses)

    def ping(self) -> None:
        self.mailchimp.calls += 1

    def close(self) -> None:
        pass


class LanesInMemory(ExportsInMemory):
    """One process's lanes. ``most``: lanes that are configured; ``step_s``: how far the clock goes with each look."""

    def __init__(self, most: int = 1) -> None:
        super().__init__()
        self.most = most
        self.step_s = 1.0
        self.seconds = 0.0
        self.mailchimp, self.leases, self.sent, self.sign_ins = Mailchimp(), LeasesInMemory(), Sent(), SignIns()
        self.slept: Callable[[float], object] = nothing
        self.paces = Paces(self.documents.as_documents(), lambda: self.now, most_lanes=most)
        self.set_pace(most)

    def _sleep(self, seconds: float) -> None:
        self.slept(seconds)

    def monotonic(self) -> float:
        self.seconds += self.step_s
        return self.seconds

    def set_pace(self, lanes: int, **different: Any) -> None:
        """So many lanes are open, since an hour ago unless a test says otherwise."""
        plain: dict[str, Any] = {"lanes": lanes, "seconds_per_member": 0.01, "changed_at": NOW - timedelta(hours=1)}
        self.documents.write(names.pace(ACCOUNT), Pace(**(plain | different)).to_bytes())

    def open_export(self, audience: str = "fine", *, lanes: tuple[int, ...] = (0,), batches: int = 6) -> Plan:
        """An export that is prepared and to be sent."""
        export_id = self.add(status=Status.SENDING, destination=audience)
        plan = a_plan(
            export_id,
            destination_id=audience,
            audience_id=audience,
            lanes=lanes,
            members=ROWS * batches,
            batches=batches,
        )
        write_packs(self.documents.as_documents(), plan, ((n, _body(audience, n)) for n in range(batches)), nothing)
        self.store.publish(plan)
        self.documents.write(names.open_export(ACCOUNT, export_id), b"")
        return plan

    def tools(self) -> LaneTools:
        return LaneTools(
            store=self.store,
            leases=cast("Leases", self.leases),
            signals=cast("Any", self.sent),
            sign_ins=cast("Any", self.sign_ins),
            paces=self.paces,
            open_client=self.mailchimp.client,
            now=lambda: self.now,
            monotonic=self.monotonic,
            sleep=self._sleep,
            random=lambda: 0.5,
        )

    @contextmanager
    def work(self, lane: int = 0, failures: int = 0) -> Iterator[LaneWork]:
        """One holding of ``lane``, driven by the test."""
        with self.leases.take(names.lane(ACCOUNT, lane)) as lease:
            pace = LanePace(self.paces, ACCOUNT, monotonic=self.monotonic, opened=nothing, closed=nothing)
            with LaneWork(self.tools(), pace, ACCOUNT, lane, cast("HeldLease", lease), failures) as work:
                yield work

    def wake(self, lane: int, *, budget_s: float = 10_000, **options: Any) -> list[Woken]:
        """Handle a wake-up of ``lane``; returns those that were sent meanwhile."""
        settings = LaneSettings(max_connections=self.most, lease_s=LEASE_S, budget_s=budget_s)
        before = len(self.sent.woken)
        Lanes(self.tools(), settings).wake(WakeMessage(account_id=ACCOUNT, lane=lane, **options))
        return self.sent.woken[before:]

    def recorded(self, plan: Plan) -> list[int]:
        """The batches that have a result, in order."""
        return sorted(result.batch for result in self.store.recorded(plan.export_id))

    def shown(self, plan: Plan) -> int:
        """Members that have been sent, as the progress shows it."""
        return self.store.progress(plan.export_id).rows

    def addresses(self, plan: Plan) -> Counter[str]:
        """Everybody of the export, once."""
        return Counter(_address(plan.audience_id, n, row) for n in range(plan.batches) for row in range(ROWS))

    def rest_of(self, lane: int) -> Mapping[str, str]:
        """What the lane's blob says."""
        return self.documents.metadata.get(names.lane(ACCOUNT, lane), {})

    def rests(self, lane: int, **metadata: str) -> None:
        """The lane's blob says this."""
        self.documents.metadata[names.lane(ACCOUNT, lane)] = metadata


def _address(audience: str, batch: int, row: int) -> str:
    return f"{audience}{batch}-{row}@mail.example"


def _body(audience: str, batch: int) -> bytes:
    members = [{"email_address": _address(audience, batch, row), "tags": []} for row in range(ROWS)]
    return json.dumps({"members": members, "update_existing": True}).encode()


def until(done: Callable[[], bool], work: LaneWork) -> None:
    """Go on until something is so. Fails if it takes long."""
    for _ in range(100):
        if done():
            return
        work.go_on()
    raise AssertionError("it takes too long")


def to_the_end(work: LaneWork) -> None:
    """Go on until nothing is left to do."""
    for _ in range(200):
        if not work.go_on():
            return
    raise AssertionError("it takes too long")
