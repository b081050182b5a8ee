"""What a lane does while it holds its lease: takes the next batch of each open export in turn and sends it.

What storage has to be told of a batch is told while the next one is on its way, so that the connection does not stand
idle. A process that is killed may therefore leave two batches without result per lane; both are sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from shared import log, telemetry, trace
from shared.exports.backoff import Backoff, CallOutOfOrder
from shared.exports.model import BatchResult, Export, Plan, Status, Tally
from shared.exports.pace import LanePace, Paces, stands_in_for
from shared.exports.problems import from_mailchimp_error, unavailable
from shared.exports.send import BatchSender
from shared.exports.sign_in import SignIns
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.mailchimp import MailchimpClient, MailchimpError, SignInRefused
from shared.storage import names
from shared.storage.leases import HeldLease, Leases

_LOOK_FOR_WORK_EVERY_S: Final = 2.0
_LOOK_FOR_STOP_EVERY_S: Final = 0.5
_SHOW_PROGRESS_EVERY_S: Final = 1.0
_CALL_MARGIN_S: Final = 5.0
"""No call starts unless the lease is certain for this long; it is renewed every third of its time meanwhile."""


class _StopRequested(Exception):
    """The export is to end, so nothing more of it is sent."""


class LaneClosed(Exception):
    """Raised when the account is to be sent to over fewer connections than this one's number."""


@dataclass(slots=True)
class _Share:
    """The part of one export that lane ``lane`` of its plan has to send; ``home``: the connection it belongs to."""

    plan: Plan
    lane: int
    home: int
    pending: deque[int]
    tally: Tally
    pack: tuple[int, Sequence[bytes]] = (-1, ())
    shown_at: float = float("-inf")
    looked_for_stop_at: float = float("-inf")

    @property
    def export_id(self) -> str:
        return self.plan.export_id


@dataclass(frozen=True, slots=True)
class LaneTools:
    """What a lane needs from outside; time and chance are passed in for the tests."""

    store: ExportStore
    leases: Leases
    signals: Signals
    sign_ins: SignIns
    paces: Paces
    open_client: Callable[[str, str], MailchimpClient]
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    random: Callable[[], float]


def open_shares(
    store: ExportStore,
    account: str,
    connection: int,
    max_connections: int,
    known: Collection[tuple[str, int]] = (),
) -> Iterator[tuple[Plan, int]]:
    """The exports of an account that ``connection`` has to send for, each with the lane of its plan, but for the
    ``known`` ones (export and lane).

    A plan is dealt to the lanes that were configured when it was made; if there are fewer now, one sends for several.
    """
    exports_known = {export_id for export_id, lane in known if lane % max_connections == connection}
    for entry in store.documents.list(names.open_exports(account)):
        export_id = entry.name.rsplit("/", 1)[1]
        plan = None if export_id in exports_known else store.plan(export_id)
        if plan is None:
            continue
        ended = store.ended_lanes(plan.export_id)
        for lane in plan.lanes:
            if lane % max_connections == connection and lane not in ended:
                yield plan, lane


class LaneWork:
    """One holding of a lane. Methods raise MustPause, LeaseLost and LaneClosed."""

    def __init__(
        self,
        tools: LaneTools,
        pace: LanePace,
        account: str,
        lane: int,
        lease: HeldLease,
        failures: int,
    ) -> None:
        self._tools = tools
        self._pace = pace
        self._account = account
        self._connection = lane
        self._leases = {lane: lease}
        self._guests: dict[int, ExitStack] = {}
        self.failures = failures
        self._shares: deque[_Share] = deque()
        self._put_off: dict[str, CallOutOfOrder] = {}
        self._looked_for_work_at = float("-inf")
        self._clients: dict[tuple[str, str], MailchimpClient] = {}
        self._newer_secrets: dict[str, str] = {}
        self._cleanup = ExitStack()
        self._errands = self._cleanup.enter_context(ThreadPoolExecutor(1, thread_name_prefix=f"errands {lane}"))
        self._errand: Future[None] | None = None

    def __enter__(self) -> LaneWork:
        return self

    def __exit__(self, *_: object) -> None:
        with self._cleanup:
            try:
                self._settle()
            finally:
                for lane in list(self._guests):
                    self._give_back(lane)

    def go_on(self) -> bool:
        """Send the next batch, or end a share that has none; False when there is nothing left to do."""
        self._check_open()
        self._look_for_work()
        if not self._shares:
            return False
        if all(share.export_id in self._put_off for share in self._shares):
            raise self._put_off[self._shares[0].export_id]
        share = self._shares[0]
        self._shares.rotate(-1)
        with trace.going_on(share.plan.traceparent, trace.current()):
            self._take_turn(share)
        return True

    def _take_turn(self, share: _Share) -> None:
        """Send one batch of the export, or end the lane's part in it. An export whose own call is out of order is put
        off, so that it does not hold up the others."""
        try:
            if share.export_id in self._put_off:
                self._check_stop(share)
            else:
                self._send_next(share)
        except CallOutOfOrder as pause:
            self._put_off[share.export_id] = pause
        except _StopRequested:
            self._end(share)
        except SignInRefused as refusal:
            if not self._signed_in_anew(share):
                secret_name = self._secret_name(share.plan)
                self._tools.sign_ins.refused(share.plan.destination_id, secret_name, refusal.message)
                self._stop_export(share, refusal)
        except MailchimpError as error:
            self._stop_export(share, error)

    def _check_open(self) -> None:
        if self._connection >= self._pace.known.lanes:
            raise LaneClosed

    # -- work ----------------------------------------------------------------------------------------------------

    def _look_for_work(self) -> None:
        now = self._tools.monotonic()
        if self._shares and now - self._looked_for_work_at < _LOOK_FOR_WORK_EVERY_S:
            return
        self._looked_for_work_at = now
        most, pace = self._pace.most_lanes, self._pace.known
        for lane in [lane for lane in self._guests if lane < pace.lanes]:
            self._settle()
            self._shares = deque(share for share in self._shares if share.home != lane)
            self._give_back(lane)
            self._tools.signals.wake(self._account, lane)
        homes = [*self._leases]
        if pace.is_settled(self._tools.now()):
            homes += [lane for lane in stands_in_for(self._connection, pace, most) if lane not in homes]
        known = {(share.export_id, share.lane) for share in self._shares}
        for home in homes:
            for plan, lane in open_shares(self._tools.store, self._account, home, most, known):
                if self._may_send_for(home):
                    self._shares.append(self._share(plan, lane, home))

    def _share(self, plan: Plan, lane: int, home: int) -> _Share:
        tally, done = Tally(), set()
        for result in self._tools.store.recorded(plan.export_id, lane):
            tally.add(result.tally)
            done.add(result.batch)
        pending = deque(batch for batch in plan.batches_of(lane) if batch not in done)
        return _Share(plan, lane, home, pending, tally)

    def _may_send_for(self, lane: int) -> bool:
        """Whether we hold the lease of ``lane``, which is tried to be taken if it is not our own."""
        if lane not in self._leases:
            held = ExitStack()
            lease = held.enter_context(self._tools.leases.take(names.lane(self._account, lane)))
            if lease is None:
                return False
            self._guests[lane], self._leases[lane] = held, lease
            log.event("lane.takenOver", account=self._account, lane=lane, by=self._connection)
        return True

    def _settle(self) -> None:
        """Wait until storage knows of the last batch; raises what went wrong there. A batch without result is sent
        again by whoever holds the lane next."""
        errand, self._errand = self._errand, None
        if errand is not None:
            errand.result()

    def _give_back(self, lane: int) -> None:
        del self._leases[lane]
        self._guests.pop(lane).close()

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
        self._settle()
        share.pending.popleft()
        share.tally.add(result.tally())
        self._errand = self._errands.submit(self._tell, share, result)

    def _tell(self, share: _Share, result: BatchResult) -> None:
        self._tools.store.record(share.export_id, result)
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
        self._settle()
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
        """Raises LeaseLost or _StopRequested; asked while waiting. A lane that is closed ends its batch first."""
        self._check_leases(share)
        self._check_stop(share)

    def _check_leases(self, share: _Share) -> None:
        for lane in {self._connection, share.home}:
            self._leases[lane].check(_CALL_MARGIN_S)

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
                self._pace,
                before_call=partial(self._check_leases, share),
                clock=tools.now,
                monotonic=tools.monotonic,
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
            export.problem = unavailable(reason)

        self._store.move(self._export_id, Status.WAITING, show)

    def available(self) -> None:
        def show(export: Export) -> None:
            export.problem = None

        self._store.move(self._export_id, Status.SENDING, show)
