"""One API call on its way through the sandbox, and the journal of calls."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from dev.sandbox.http import Reply, Request
from dev.sandbox.problems import bad_request, not_found
from dev.sandbox.replies import MemberWriter
from dev.sandbox.settings import Settings
from dev.sandbox.store import Account, Audience

JOURNAL_LENGTH = 10_000
MAX_COUNT = 1000


@dataclass(slots=True)
class Tampering:
    """What a fault does to the inside of a batch call; see faults.py."""

    member_errors: list[tuple[str, str]] = field(default_factory=list)  # (part of an address, Mailchimp's sentence)
    skip_rows: int = 0  # leave that many rows out, without a word
    hide_rows: int = 0  # apply that many rows without reporting them


@dataclass(slots=True)
class Call:
    """Everything a handler may look at, beside the decoded body of calls that have one."""

    request: Request
    account: Account
    settings: Settings
    api_root: str
    now: int
    params: tuple[str, ...]
    tampering: Tampering | None = None

    @property
    def audience(self) -> Audience:
        """The audience named by the path. Raises 404."""
        audience = self.account.audiences.get(self.params[0])
        if audience is None:
            raise not_found()
        return audience

    def flag(self, name: str) -> bool:
        """A boolean of the query string."""
        return self.request.query.get(name, "").lower() in ("true", "1")

    def page(self) -> tuple[int, int]:
        """`offset` and `count` of a collection: 10 by default, 1000 at most (Marketing API, pagination)."""
        try:
            offset = int(self.request.query.get("offset", "0"))
            count = int(self.request.query.get("count", "10"))
        except ValueError:
            raise bad_request("count and offset must be numbers.") from None
        if offset < 0 or count < 0:
            raise bad_request("count and offset must not be negative.")
        return offset, min(count, MAX_COUNT)

    def writer(self, *, whole: bool | None = None) -> MemberWriter:
        """Writes member objects: whole ones if asked for or if replies are to have their real weight."""
        return MemberWriter(
            self.audience, self.api_root, whole=self.settings.realistic_replies if whole is None else whole
        )


@dataclass(slots=True)
class CallRecord:
    """A line of the journal. `start` and `end` are seconds since 1970; `end` and `status` are None while it runs."""

    number: int
    account: str
    method: str
    path: str
    kind: str
    start: float
    open_calls: int
    rows: int = 0
    end: float | None = None
    status: int | None = None
    fault: str | None = None

    def document(self) -> dict[str, Any]:
        """The line in JSON."""
        return {
            "number": self.number,
            "account": self.account,
            "method": self.method,
            "path": self.path,
            "kind": self.kind,
            "rows": self.rows,
            "status": self.status,
            "start": self.start,
            "end": self.end,
            "openCalls": self.open_calls,
            "fault": self.fault,
        }


class Journal:
    """The most recent calls, and counts over all of them."""

    def __init__(self) -> None:
        self.recent: deque[CallRecord] = deque(maxlen=JOURNAL_LENGTH)
        self.by_kind: Counter[str] = Counter()
        self.by_status: Counter[int] = Counter()
        self.by_fault: Counter[str] = Counter()  # faults that struck, by their names; grows as long as the sandbox runs
        self.open_calls = 0
        self.max_open_calls = 0
        self.body_bytes = 0
        self._number = 0

    def begin(self, account: Account | None, request: Request, kind: str, now: float) -> CallRecord:
        """Note a call that was received."""
        self._number += 1
        self.by_kind[kind] += 1
        self.body_bytes += len(request.body)
        record = CallRecord(
            number=self._number,
            account=account.id if account else "",
            method=request.method,
            path=request.path,
            kind=kind,
            start=now,
            open_calls=account.open_calls if account else 0,
        )
        self.recent.append(record)
        return record

    def end(self, record: CallRecord, reply: Reply, now: float) -> None:
        """Note how the call ended."""
        record.end, record.status = now, reply.status
        self.by_status[reply.status] += 1
