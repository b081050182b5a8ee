"""How fast one Mailchimp account is sent to: how many lanes may send, and how many members a call may hold.

One small document per account, shared by all its lanes over all processes and exports. It begins with few lanes and a
small first call, opens up while calls succeed, and closes half of the lanes when Mailchimp asks for less (429, a 403
without a document, 503). What an account was found to bear is known to its next export.

The document is advice that changes slowly; the guarantee of never too many open calls is in the leases of the lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from azure.core.exceptions import AzureError
from pydantic import Field, ValidationError

from shared import log
from shared.exports.model import MEMBERS_PER_BATCH
from shared.mailchimp import Unavailable
from shared.storage import names
from shared.storage.documents import AlreadyExists, Changed, Documents
from shared.storage.json_documents import JsonDocument

FIRST_LANES: Final = 2
FIRST_ROWS: Final = 50
"""Members of the first call to an account: 2 s each could pass, and that is a hundred times what is usual."""

_LONGEST_CALL_S: Final = 60.0
"""Calls are made so small that they take at most this long; Mailchimp ends them after 120 s."""

_CALL_ITSELF_S: Final = 0.3
"""What a call may take besides its members."""

_FEWEST_ROWS: Final = 10
"""Smaller calls say nothing about the pace: one contact that hangs is a matter of that contact."""

_BETWEEN_OPENINGS: Final = timedelta(seconds=10)
_FORGIVEN_AFTER: Final = timedelta(minutes=10)
_WORTH_WRITING: Final = 1.2
_GIVE_WAY: Final = 0.3
"""How much of the newest measurement counts when members got faster; when they got slower, all of it."""

_READ_EVERY_S: Final = 2.0

_TOO_MANY: Final = "tooManyConnections"


class Pace(JsonDocument):
    """What is known of an account. ``openings`` and ``slow_downs`` count changes, so that a call can tell whether it
    was made before one: clocks of several hosts differ."""

    lanes: int = Field(default=FIRST_LANES, ge=1)
    seconds_per_member: float | None = Field(default=None, ge=0)
    openings: int = 0
    slow_downs: int = 0
    changed_at: datetime
    """When the number of lanes changed last."""
    slowed_down_at: datetime | None = None
    reason: str | None = None
    """Why it was slowed down (UnavailableReason)."""

    @property
    def rows(self) -> int:
        """Members that a call may hold."""
        if self.seconds_per_member is None:
            return FIRST_ROWS
        affordable = _LONGEST_CALL_S / max(self.seconds_per_member, 1e-6)
        return max(_FEWEST_ROWS, min(MEMBERS_PER_BATCH, int(affordable)))

    @property
    def is_new(self) -> bool:
        """Whether nothing is known of the account yet."""
        return self.openings == self.slow_downs == 0 and self.seconds_per_member is None

    def is_settled(self, now: datetime) -> bool:
        """Whether closed lanes will stay closed for a while, so that open ones do their work."""
        return abs(now - self.changed_at) >= _BETWEEN_OPENINGS

    def after_answer(self, rows: int | None, seconds: float, now: datetime, most_lanes: int) -> Pace:
        """A call succeeded; ``rows``: its members, None for calls of another kind."""
        found = self._with_measured(rows, seconds, self._eased) if rows is not None else self
        if found.lanes < most_lanes:
            return found._opened(now, most_lanes)
        if found.slowed_down_at is not None and now - found.slowed_down_at > _FORGIVEN_AFTER:
            return found.model_copy(update={"slowed_down_at": None, "reason": None})
        return found

    def after_refusal(self, reason: str, slow_downs_then: int, now: datetime) -> Pace:
        """Mailchimp asked for less. A call that was made before the last slowing down says nothing new."""
        if slow_downs_then != self.slow_downs:
            return self
        return self.model_copy(
            update={
                "lanes": max(1, self.lanes // 2),
                "slow_downs": self.slow_downs + 1,
                "changed_at": now,
                "slowed_down_at": now,
                "reason": reason,
            }
        )

    def after_silence(self, rows: int, seconds: float) -> Pace:
        """A call was given up: its members take longer than that, nobody knows how much."""
        return self._with_measured(rows, 2 * seconds, lambda found: found)

    def _opened(self, now: datetime, most_lanes: int) -> Pace:
        if self.slowed_down_at is not None and abs(now - self.changed_at) < _BETWEEN_OPENINGS:
            return self
        # Who was told of too many connections finds the limit step by step: other applications share it.
        lanes = self.lanes + 1 if self.reason == _TOO_MANY else self.lanes * 2
        update = {"lanes": min(lanes, most_lanes), "openings": self.openings + 1, "changed_at": now}
        return self.model_copy(update=update)

    def _eased(self, measured: float) -> float:
        known = self.seconds_per_member
        return measured if known is None or measured > known else known + _GIVE_WAY * (measured - known)

    def _with_measured(self, rows: int, seconds: float, weigh: Callable[[float], float]) -> Pace:
        if rows < _FEWEST_ROWS:
            return self
        measured = weigh(max(0.0, seconds - _CALL_ITSELF_S) / rows)
        found = self.model_copy(update={"seconds_per_member": measured})
        return found if self.seconds_per_member is None or _differ(found.rows, self.rows) else self


def _differ(one: int, other: int) -> bool:
    return max(one, other) > _WORTH_WRITING * min(one, other) or (one != other and MEMBERS_PER_BATCH in (one, other))


def asks_for_less(error: Unavailable) -> bool:
    """Whether Mailchimp throttles, rather than being out of order."""
    return error.reason in {_TOO_MANY, "blocked"} or error.status == 503


def hangs(error: Unavailable, seconds: float) -> bool:
    """Whether a call that took so long got no answer because of that: who waits that long again learns nothing new."""
    return error.outcome_unknown and seconds >= _LONGEST_CALL_S


def stands_in_for(connection: int, pace: Pace, max_connections: int) -> list[int]:
    """The closed lanes whose shares ``connection``, which is open, is to send."""
    return [lane for lane in range(pace.lanes, max_connections) if lane % pace.lanes == connection]


def connections_of(lanes: Iterable[int], pace: Pace, max_connections: int) -> list[int]:
    """The open connections that send what these lanes of a plan have to send.

    All of them for a new account: the closed ones wait at hand until the first call has succeeded.
    """
    homes = {lane % max_connections for lane in lanes}
    return sorted({home if home < pace.lanes or pace.is_new else home % pace.lanes for home in homes})


class Paces:
    """The paces of all accounts, as they are stored."""

    def __init__(self, documents: Documents, now: Callable[[], datetime], *, most_lanes: int) -> None:
        self._documents = documents
        self.now = now
        self.most_lanes = most_lanes

    def get(self, account: str) -> Pace:
        """The pace of ``account``, with no more lanes than are configured; that of a new one if none is known."""
        found = self._documents.read(names.pace(account))
        return self._bounded(found.data if found else None)

    def change(self, account: str, rule: Callable[[Pace], Pace]) -> tuple[Pace, Pace]:
        """Apply ``rule`` to the newest version; returns what was there and what is."""
        while True:
            found = self._documents.read(names.pace(account))
            before = self._bounded(found.data if found else None)
            after = rule(before)
            if after == before:
                return before, before
            try:
                if found is None:
                    self._documents.create(names.pace(account), after.to_bytes())
                else:
                    self._documents.replace(names.pace(account), after.to_bytes(), found.etag)
            except (AlreadyExists, Changed):
                continue
            return before, after

    def _bounded(self, data: bytes | None) -> Pace:
        try:
            pace = Pace.from_bytes(data) if data is not None else Pace(changed_at=self.now())
        except ValidationError:  # only advice: begin anew
            pace = Pace(changed_at=self.now())
        return pace.model_copy(update={"lanes": min(pace.lanes, self.most_lanes)})


class LanePace:
    """The pace of an account as one lane sees and changes it; what it knows is at most two seconds old.

    ``opened`` is called with the lanes that this one opens, ``closed`` with those it closes and how many stay open.
    """

    def __init__(
        self,
        paces: Paces,
        account: str,
        *,
        monotonic: Callable[[], float],
        opened: Callable[[range], None],
        closed: Callable[[range, int], None],
    ) -> None:
        self._paces = paces
        self._account = account
        self._monotonic = monotonic
        self._opened = opened
        self._closed = closed
        self._known = paces.get(account)
        self._read_at = monotonic()

    @property
    def known(self) -> Pace:
        """The pace, read again when it is old."""
        if self._monotonic() - self._read_at >= _READ_EVERY_S:
            self.read()
        return self._known

    def read(self) -> None:
        """Read it again now; while storage fails, what was known goes on."""
        with suppress(AzureError):
            self._known = self._paces.get(self._account)
        self._read_at = self._monotonic()

    @property
    def most_lanes(self) -> int:
        return self._paces.most_lanes

    def rows(self) -> int:
        """Members that the next call may hold."""
        return self._known.rows

    def slow_downs(self) -> int:
        """To be asked before a call and handed to ``refused``."""
        return self._known.slow_downs

    def answered(self, rows: int | None, seconds: float) -> None:
        """A call succeeded after ``seconds``."""
        now = self._paces.now()
        self._change(lambda pace: pace.after_answer(rows, seconds, now, self._paces.most_lanes))

    def failed(self, error: Unavailable, rows: int | None, seconds: float, slow_downs_then: int) -> None:
        """A call got no usable answer."""
        now = self._paces.now()
        if asks_for_less(error):
            self._change(lambda pace: pace.after_refusal(error.reason, slow_downs_then, now))
        elif rows is not None and hangs(error, seconds):
            self._change(lambda pace: pace.after_silence(rows, seconds))

    def _change(self, rule: Callable[[Pace], Pace]) -> None:
        if rule(self._known) == self._known:
            return
        try:
            before, after = self._paces.change(self._account, rule)
        except AzureError:  # a batch that has arrived is not given up for advice: the next call tells again
            return
        self._known, self._read_at = after, self._monotonic()
        if after.lanes != before.lanes or after.rows != before.rows:
            log.event(
                "pace.changed", account=self._account, lanes=after.lanes, rowsPerCall=after.rows, reason=after.reason
            )
        if after.lanes > before.lanes:
            self._opened(range(before.lanes, after.lanes))
        elif after.lanes < before.lanes:
            self._closed(range(after.lanes, before.lanes), after.lanes)
