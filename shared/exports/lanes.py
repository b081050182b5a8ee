"""The lanes: each is one of the connections that a Mailchimp account may hold open, guarded by a blob lease.

Whoever holds the lease of lane n is that connection, over all processes and all exports. A wake-up message only says
"wake lane n of account a"; what there is to do is read from storage, so messages may be lost, doubled or late:

* work is made visible before a lane is woken, and a lane looks for work once more after it gave its lease back;
* a wake-up that finds the lease taken comes back once, after the lease of a dead process would have ended;
* the sweeper (shared/exports/sweep.py) wakes lanes of exports that stand still.

While Mailchimp is unavailable the lane writes into its blob when it will be woken, and gives the lease back. Wake-ups
that come earlier go away again, so they do not multiply however long the outage is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import Final

from azure.storage.blob import BlobClient

from shared import log, telemetry, trace
from shared.exports.backoff import Backoff, MustPause
from shared.exports.messages import WakeMessage
from shared.exports.model import Export, Plan, Status, Tally
from shared.exports.problems import from_mailchimp_error, unavailable
from shared.exports.send import BatchSender
from shared.exports.sign_in import SignIns
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.mailchimp import MailchimpClient, MailchimpError, SignInRefused
from shared.storage import names
from shared.storage.leases import HeldLease, LeaseLost, Leases

_LOOK_FOR_WORK_EVERY_S: Final = 2.0
_LOOK_FOR_STOP_EVERY_S: Final = 0.5
_SHOW_PROGRESS_EVERY_S: Final = 1.0
_CALL_MARGIN_S: Final = 5.0
"""No call starts unless the lease is certain for this long; it is renewed every third of its time meanwhile."""


class _StopRequested(Exception):
    """The export is to end, so nothing more of it is sent."""


class _Left(Enum):
    """How a lane ended."""

    TAKEN = "taken"
    PAUSED = "paused"
    IDLE = "idle"
    BUDGET_USED = "budgetUsed"


@dataclass(slots=True)
class _Share:
    """The part of one export that this connection sends."""

    plan: Plan
    lane: int
    pending: deque[int]
    tally: Tally
    pack: tuple[int, Sequence[bytes]] = (-1, ())
    shown_at: float = float("-inf")
    looked_for_stop_at: float = float("-inf")

    @property
    def export_id(self) -> str:
        return self.plan.export_id


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """``max_connections`` lanes an account; ``lease_s`` a dead process keeps its lane; ``budget_s`` one invocation."""

    max_connections: int
    lease_s: int
    budget_s: float


@dataclass(frozen=True, slots=True)
class LaneTools:
    """What a lane needs from outside; time and chance are passed in for the tests."""

    store: ExportStore
    leases: Leases
    signals: Signals
    sign_ins: SignIns
    open_client: Callable[[str, str], MailchimpClient]
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    random: Callable[[], float]


@dataclass(frozen=True, slots=True)
class LaneRest:
    """What the lane's blob says while the lane rests: failures in a row, and when it will be woken."""

    failures: int = 0
    wake_at: datetime | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> LaneRest:
        wake_at = metadata.get("wakeAt")
        return cls(int(metadata.get("failures", 0)), datetime.fromisoformat(wake_at) if wake_at else None)

    def to_metadata(self) -> dict[str, str]:
        return {"failures": str(self.failures), **({"wakeAt": self.wake_at.isoformat()} if self.wake_at else {})}


class Lanes:
    """Runs a lane when it is woken."""

    def __init__(self, tools: LaneTools, settings: LaneSettings) -> None:
        self._tools = tools
        self._settings = settings

    def wake(self, message: WakeMessage) -> None:
        """Be the connection ``message.lane`` until there is nothing to send, Mailchimp rests, or the time is used."""
        account, lane = message.account_id, message.lane
        if lane >= self._settings.max_connections:
            log.warning("lane.beyondLimit", account=account, lane=lane)
            return
        left, delay_s = self._hold(account, lane)
        log.event("lane.left", account=account, lane=lane, how=left.value, delaySeconds=round(delay_s, 1))
        signals = self._tools.signals
        if left is _Left.TAKEN and not message.again:
            signals.wake(account, lane, again=True, delay_s=self._settings.lease_s + 1)
        elif left is _Left.PAUSED and delay_s > 0:
            signals.wake(account, lane, delay_s=delay_s)
        elif left is _Left.BUDGET_USED or (left is _Left.IDLE and self._has_work(account, lane)):
            signals.wake(account, lane)

    def _hold(self, account: str, lane: int) -> tuple[_Left, float]:
        """Take the lease and work; returns how it ended and, for a pause, the seconds to the next try."""
        name = names.lane(account, lane)
        with self._tools.leases.take(name) as lease:
            if lease is None:
                return _Left.TAKEN, 0
            blob = self._tools.store.documents.container.get_blob_client(name)
            rest = LaneRest.from_metadata(blob.get_blob_properties().metadata or {})
            if rest.wake_at is not None and rest.wake_at > self._tools.now() + timedelta(seconds=1):
                return _Left.PAUSED, 0  # the message that ends the pause is on its way
            with _Invocation(self._tools, self._settings, account, lane, lease, rest.failures) as invocation:
                try:
                    left, delay_s = invocation.work(), 0.0
                except MustPause as pause:
                    left, delay_s = _Left.PAUSED, pause.delay_s
                except LeaseLost:
                    log.warning("lane.leaseLost", account=account, lane=lane)
                    return _Left.TAKEN, 0
                self._write_rest(blob, lease, rest, invocation.failures, delay_s)
                return left, delay_s

    def _write_rest(self, blob: BlobClient, lease: HeldLease, was: LaneRest, failures: int, delay_s: float) -> None:
        wake_at = self._tools.now() + timedelta(seconds=delay_s) if delay_s else None
        rest = LaneRest(failures, wake_at)
        if rest != was:
            blob.set_blob_metadata(rest.to_metadata(), lease=lease.client)

    def _has_work(self, account: str, lane: int) -> bool:
        return any(True for _ in open_shares(self._tools.store, account, lane, self._settings.max_connections))


def open_shares(
    store: ExportStore, account: str, connection: int, max_connections: int, known: Collection[str] = ()
) -> Iterator[tuple[Plan, int]]:
    """The exports of an account, but for the ``known`` ones, that ``connection`` has to send for, each with the lane
    of its plan.

    A plan is dealt to the lanes that were configured when it was made; if there are fewer now, one sends for several.
    """
    for entry in store.documents.list(names.open_exports(account)):
        export_id = entry.name.rsplit("/", 1)[1]
        plan = None if export_id in known else store.plan(export_id)
        if plan is None:
            continue
        ended = store.ended_lanes(plan.export_id)
        for lane in plan.lanes:
            if lane % max_connections == connection and lane not in ended:
                yield plan, lane


class _Invocation:
    """One holding of a lane: takes the next batch of each open export in turn."""

    def __init__(
        self,
        tools: LaneTools,
        settings: LaneSettings,
        account: str,
        lane: int,
        lease: HeldLease,
        failures: int,
    ) -> None:
        self._tools = tools
        self._settings = settings
        self._account = account
        self._connection = lane
        self._lease = lease
        self.failures = failures
        self._shares: deque[_Share] = deque()
        self._looked_for_work_at = float("-inf")
        self._clients: dict[tuple[str, str], MailchimpClient] = {}
        self._newer_secrets: dict[str, str] = {}
        self._cleanup = ExitStack()

    def __enter__(self) -> _Invocation:
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def work(self) -> _Left:
        """Send until there is nothing left or the time is used. Raises MustPause and LeaseLost."""
        until = self._tools.monotonic() + self._settings.budget_s
        while self._tools.monotonic() < until:
            self._look_for_work()
            if not self._shares:
                return _Left.IDLE
            share = self._shares[0]
            self._shares.rotate(-1)
            with trace.going_on(share.plan.traceparent, trace.current()):
                self._take_turn(share)
        return _Left.BUDGET_USED

    def _take_turn(self, share: _Share) -> None:
        """Send one batch of the export, or end the lane's part in it."""
        try:
            self._send_next(share)
        except _StopRequested:
            self._end(share)
        except SignInRefused as refusal:
            if not self._signed_in_anew(share):
                secret_name = self._secret_name(share.plan)
                self._tools.sign_ins.refused(share.plan.destination_id, secret_name, refusal.message)
                self._stop_export(share, refusal)
        except MailchimpError as error:
            self._stop_export(share, error)

    # -- work ----------------------------------------------------------------------------------------------------

    def _look_for_work(self) -> None:
        now = self._tools.monotonic()
        if self._shares and now - self._looked_for_work_at < _LOOK_FOR_WORK_EVERY_S:
            return
        self._looked_for_work_at = now
        known = {share.export_id for share in self._shares}
        store, limit = self._tools.store, self._settings.max_connections
        for plan, lane in open_shares(store, self._account, self._connection, limit, known):
            tally, done = Tally(), set()
            for result in store.recorded(plan.export_id, lane):
                tally.add(result.tally)
                done.add(result.batch)
            pending = deque(batch for batch in plan.batches_of(lane) if batch not in done)
            self._shares.append(_Share(plan, lane, pending, tally))

    def _send_next(self, share: _Share) -> None:
        if not share.pending:
            self._end(share)
            return
        self._check_stop(share)
        batch = share.pending[0]
        body = self._body(share, batch)
        with self._sending(share) as sender:
            result = sender.send(batch, share.lane, body)
        telemetry.measure(telemetry.BATCH_DURATION, (result.ended_at - result.sent_at).total_seconds())
        self._tools.store.record(share.export_id, result)
        share.pending.popleft()
        share.tally.add(result.tally())
        self._show_progress(share, every_s=_SHOW_PROGRESS_EVERY_S)

    def _body(self, share: _Share, batch: int) -> bytes:
        plan = share.plan
        number, line = plan.place_of(batch)
        if share.pack[0] != number:
            found = self._tools.store.documents.read(names.pack(plan.export_id, plan.attempt, share.lane, number))
            if found is None:
                raise _StopRequested  # the export has ended and its profiles are deleted
            share.pack = number, found.data.split(b"\n")
        return share.pack[1][line]

    def _show_progress(self, share: _Share, every_s: float = 0) -> None:
        now = self._tools.monotonic()
        if now - share.shown_at >= every_s:
            share.shown_at = now
            self._tools.store.show_progress(share.export_id, share.lane, share.tally)

    def _end(self, share: _Share) -> None:
        """Say that this lane is through with the export; the last one to say so has it finished."""
        self._shares.remove(share)
        self._show_progress(share)
        self._tools.store.end_lane(share.export_id, share.lane)
        if self._tools.store.ended_lanes(share.export_id) >= set(share.plan.lanes):
            self._tools.signals.finish(share.export_id)

    # -- stopping ------------------------------------------------------------------------------------------------

    def _check_stop(self, share: _Share) -> None:
        now = self._tools.monotonic()
        if now - share.looked_for_stop_at < _LOOK_FOR_STOP_EVERY_S:
            return
        share.looked_for_stop_at = now
        export = self._tools.store.find(share.export_id)
        if export is None or export.stop is not None or export.ended:
            raise _StopRequested

    def _stop_export(self, share: _Share, error: MailchimpError) -> None:
        log.warning("export.stopped", export=share.export_id, **error.log_fields())
        self._tools.store.fail(share.export_id, from_mailchimp_error(error))
        self._end(share)

    def _signed_in_anew(self, share: _Share) -> bool:
        """Whether somebody has signed in to the same account again since the plan was made."""
        plan = share.plan
        newer = self._tools.sign_ins.newer(plan.destination_id, self._secret_name(plan), plan.account_id)
        if newer is not None:
            self._newer_secrets[plan.export_id] = newer
        return newer is not None

    def _secret_name(self, plan: Plan) -> str:
        return self._newer_secrets.get(plan.export_id, plan.secret_name)

    def _still_ours(self, share: _Share) -> None:
        """Raises LeaseLost or _StopRequested; asked while waiting."""
        self._lease.check(_CALL_MARGIN_S)
        self._check_stop(share)

    # -- sending -------------------------------------------------------------------------------------------------

    @contextmanager
    def _sending(self, share: _Share) -> Iterator[BatchSender]:
        tools = self._tools
        backoff = Backoff(
            self.failures,
            _Shown(tools.store, share.export_id),
            sleep=tools.sleep,
            random=tools.random,
            still_ours=partial(self._still_ours, share),
        )
        try:
            yield BatchSender(
                self._client(share.plan),
                share.plan,
                backoff,
                before_call=partial(self._lease.check, _CALL_MARGIN_S),
                clock=tools.now,
            )
        finally:
            self.failures = backoff.failures

    def _client(self, plan: Plan) -> MailchimpClient:
        secret_name = self._secret_name(plan)
        key = (plan.api_root, secret_name)
        if key not in self._clients:
            client = self._tools.open_client(plan.api_root, self._tools.sign_ins.token(secret_name))
            self._cleanup.callback(client.close)
            self._clients[key] = client
        return self._clients[key]


class _Shown:
    """Shows on the export how Mailchimp is doing."""

    def __init__(self, store: ExportStore, export_id: str) -> None:
        self._store = store
        self._export_id = export_id

    def waiting(self, reason: str) -> None:
        log.warning("mailchimp.unavailable", export=self._export_id, reason=reason)

        def show(export: Export) -> None:
            export.problem = unavailable()

        self._store.move(self._export_id, Status.WAITING, show)

    def available(self) -> None:
        def show(export: Export) -> None:
            export.problem = None

        self._store.move(self._export_id, Status.SENDING, show)
