"""The lanes: each is one of the connections that a Mailchimp account may hold open, guarded by a blob lease.

Whoever holds the lease of lane n is that connection, over all processes and all exports. A wake-up message only says
"wake lane n of account a"; what there is to do is read from storage, so messages may be lost, doubled or late:

* work is made visible before a lane is woken, and a lane looks for work once more after it gave its lease back, also
  where it was closed and has been opened meanwhile;
* a wake-up that finds the lease taken comes back once, after the lease of a dead process would have ended;
* the sweeper (shared/exports/sweep.py) wakes lanes of exports that stand still.

While Mailchimp is unavailable the lane writes into its blob when it will be woken, and gives the lease back. Wake-ups
that come earlier go away again, so they do not multiply however long the outage is. The message that ends the rest
names its moment and counts whatever the clock says: hosts' clocks differ.

Not all lanes are open all the time (shared/exports/pace.py). What a closed one would send, an open one sends for it:
it takes the lease of the closed lane as well, and gives it back when that lane is opened again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import Final

from shared import log
from shared.exports.backoff import MustPause
from shared.exports.lane_rest import LaneRest
from shared.exports.lane_work import LaneClosed, LaneTools, LaneWork, open_shares
from shared.exports.messages import WakeMessage
from shared.exports.pace import LanePace, stands_in_for
from shared.storage import names
from shared.storage.documents import Changed
from shared.storage.leases import HeldLease, LeaseLost

_TAKE_OVER_AFTER_S: Final = 11.0
"""By then a lane that was closed is known to stay closed for a while."""

_AT_HAND_S: Final = 3.0
_LOOK_AGAIN_S: Final = 0.2
"""How a lane that is closed waits for the first answer of a new account: a message would take up to a second more."""


class _Left(Enum):
    """How a lane ended."""

    TAKEN = "taken"
    PAUSED = "paused"
    IDLE = "idle"
    CLOSED = "closed"
    BUDGET_USED = "budgetUsed"


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """``max_connections`` lanes an account; ``lease_s`` a dead process keeps its lane; ``budget_s`` one invocation."""

    max_connections: int
    lease_s: int
    budget_s: float


@dataclass(frozen=True, slots=True)
class _End:
    """How a lane was left; for a pause, the seconds to the next try, and its moment."""

    how: _Left
    delay_s: float = 0
    wake_at: datetime | None = None


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
        end = self._hold(account, lane, message.ends_wait)
        log.event("lane.left", account=account, lane=lane, how=end.how.value, delaySeconds=round(end.delay_s, 1))
        signals = self._tools.signals
        if end.how is _Left.TAKEN and not message.again:
            wait = self._settings.lease_s + 1
            signals.wake(account, lane, again=True, delay_s=wait, ends_wait=message.ends_wait)
        elif end.how is _Left.PAUSED and end.delay_s > 0:
            signals.wake(account, lane, delay_s=end.delay_s, ends_wait=end.wake_at)
        elif self._is_to_go_on(account, lane, end.how):
            signals.wake(account, lane)
        elif end.how is _Left.IDLE and self._is_to_stand_in(account, lane):
            signals.wake(account, lane, delay_s=_TAKE_OVER_AFTER_S)

    def _hold(self, account: str, lane: int, ended_wait: datetime | None) -> _End:
        """Take the lease and work. ``ended_wait``: the moment of the rest that this wake-up ends, if it ends one."""
        tools = self._tools
        name = names.lane(account, lane)
        with tools.leases.take(name) as lease:
            if lease is None:
                return _End(_Left.TAKEN)
            pace = self._pace_of(account)
            if not self._is_opened(lane, pace):
                return _End(_Left.CLOSED)
            blob = tools.store.documents.container.get_blob_client(name)
            rest = LaneRest.from_metadata(blob.get_blob_properties().metadata or {})
            if rest.wake_at != ended_wait and rest.lasts(tools.now() + timedelta(seconds=1), pace.known):
                return _End(_Left.PAUSED)  # the message that ends the pause is on its way
            with LaneWork(tools, pace, account, lane, lease, rest.failures) as work:
                try:
                    left, delay_s = self._work(work)
                    wake_at = tools.now() + timedelta(seconds=delay_s) if delay_s else None
                    openings = pace.known.openings if wake_at else rest.openings
                    self._write_rest(name, lease, rest, LaneRest(work.failures, wake_at, openings))
                except (LeaseLost, Changed):
                    log.warning("lane.leaseLost", account=account, lane=lane)
                    return _End(_Left.TAKEN)
                return _End(left, delay_s, wake_at)

    def _is_opened(self, lane: int, pace: LanePace) -> bool:
        """Whether the lane is open; on a new account, whether it is so before long."""
        until = self._tools.monotonic() + _AT_HAND_S
        while lane >= pace.known.lanes and pace.known.is_new and self._tools.monotonic() < until:
            self._tools.sleep(_LOOK_AGAIN_S)
            pace.read()
        return lane < pace.known.lanes

    def _work(self, work: LaneWork) -> tuple[_Left, float]:
        """How the lane ended; for a pause, the seconds to the next try. Raises LeaseLost."""
        until = self._tools.monotonic() + self._settings.budget_s
        try:
            while self._tools.monotonic() < until:
                if not work.go_on():
                    return _Left.IDLE, 0
        except LaneClosed:
            return _Left.CLOSED, 0
        except MustPause as pause:
            return _Left.PAUSED, pause.delay_s
        return _Left.BUDGET_USED, 0

    def _pace_of(self, account: str) -> LanePace:
        wake_all = partial(self._tools.signals.wake_all, account)

        def closed(lanes: range, open_lanes: int) -> None:
            """The lanes that send for them from now on may be idle."""
            wake_all(sorted({lane % open_lanes for lane in lanes}), delay_s=_TAKE_OVER_AFTER_S)

        return LanePace(
            self._tools.paces,
            account,
            monotonic=self._tools.monotonic,
            opened=wake_all,
            closed=closed,
        )

    def _write_rest(self, name: str, lease: HeldLease, was: LaneRest, rest: LaneRest) -> None:
        """Raises Changed where the lease was lost meanwhile."""
        if rest != was:
            self._tools.store.documents.replace_leased(name, b"", lease.client, rest.to_metadata())

    def _has_work(self, account: str, lane: int) -> bool:
        return any(True for _ in open_shares(self._tools.store, account, lane, self._settings.max_connections))

    def _is_to_go_on(self, account: str, lane: int, how: _Left) -> bool:
        """Whether there is something to send at once. Whoever brought it, or opened the lane, while it was being left
        has sent a wake-up that found its lease taken."""
        if how is _Left.CLOSED and lane >= self._tools.paces.get(account).lanes:
            return False
        return how is _Left.BUDGET_USED or (how in {_Left.IDLE, _Left.CLOSED} and self._has_work(account, lane))

    def _is_to_stand_in(self, account: str, lane: int) -> bool:
        """Whether closed lanes have something to send that they will not send."""
        closed = stands_in_for(lane, self._tools.paces.get(account), self._settings.max_connections)
        return any(self._has_work(account, each) for each in closed)
