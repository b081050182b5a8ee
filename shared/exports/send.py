"""Sends one batch until every row has an outcome: created, updated, or rejected with a reason.

What can happen to a call, and what is done (Marketing API, POST /lists/{list_id}):

* 200: per-row errors are booked; the sum must account for every row, else the missing rows are asked for again;
* refused as a whole (400): the named row is taken out, or the rows are split in halves until the bad one stands alone;
* slow: it is sent in smaller calls, as the pace of the account wants (shared/exports/pace.py);
* unavailable: wait and send the same rows again, which is safe because the call is an upsert;
* unavailable although Mailchimp is up (it answers a ping): the rows themselves are the trouble, so after one more try
  they are split in halves too. But if nobody of the batch has got through when the third contact fails alone, it is the
  call that is out of order: wait, and try another part of the batch first, also after a pause;
* hanging although Mailchimp is up: each such call costs two minutes, so there is no second try and the rows are split
  in tenths; after ten minutes what still hangs is given up as it is, so that a function ends in time.

Errors that stop the export (shared/mailchimp/errors.py, Stop) pass through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

import msgspec

from shared.exports.backoff import Backoff
from shared.exports.model import BatchResult, Plan, RejectedRow
from shared.exports.pace import LanePace, hangs
from shared.exports.troubled import Search, Troubled, in_parts, tries_of
from shared.mailchimp import (
    BatchRefused,
    MailchimpClient,
    ReplyMember,
    RowError,
    SubscribeReply,
    Tag,
    TagNotFound,
    Unavailable,
    classify_row_error,
    row_error_of,
)

_Answer = TypeVar("_Answer")

_STATUSES: Final = frozenset({"subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived"})
_SERVER_ERROR: Final = (
    "Mailchimp failed or did not answer each time this contact was sent, although it answered other calls."
)


class _Member(msgspec.Struct, gc=False):
    email_address: str
    tags: tuple[str, ...]


class _Checked(msgspec.Struct):
    """Of a body, what a reply is checked against."""

    members: list[_Member]


class _Parts(msgspec.Struct):
    """A body taken apart, each member as it was prepared."""

    members: list[msgspec.Raw]


_checked_decoder = msgspec.json.Decoder(_Checked)
_parts_decoder = msgspec.json.Decoder(_Parts)


class _Row(msgspec.Struct, frozen=True, gc=False):
    """One member of the request: its place in the batch, its address and the tags for it."""

    position: int
    email: str
    tags: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.email.lower()


@dataclass(slots=True)
class _Outcome:
    """What is known of the batch so far."""

    created: int = 0
    updated: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    repaired_tags: int = 0
    untagged: int = 0
    resent: bool = False


def read_rows(body: bytes) -> list[_Row]:
    """The members of a prepared request body."""
    members = _checked_decoder.decode(body).members
    return [_Row(position, member.email_address, member.tags) for position, member in enumerate(members)]


def _compose(body: bytes, rows: Sequence[_Row]) -> bytes:
    """The body of these rows of ``body`` alone. It is taken apart only here: nearly every body is sent as it is."""
    members = _parts_decoder.decode(body).members
    return b'{"members":[' + b",".join(bytes(members[row.position]) for row in rows) + b'],"update_existing":true}'


class BatchSender:
    """Sends the batches of one plan over one connection."""

    def __init__(
        self,
        client: MailchimpClient,
        plan: Plan,
        backoff: Backoff,
        pace: LanePace,
        *,
        before_call: Callable[[], None],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        """``before_call`` runs before every call and raises when the connection is no longer ours."""
        self._client = client
        self._plan = plan
        self._backoff = backoff
        self._pace = pace
        self._before_call = before_call
        self._clock = clock
        self._monotonic = monotonic
        self._tag_ids = {tag.casefold(): (tag, tag_id) for tag, tag_id in plan.tag_ids.items()}

    def send(self, batch: int, lane: int, body: bytes) -> BatchResult:
        """Send a prepared body. Raises MustPause, LeaseLost and the Stop errors; nothing is recorded then."""
        began, rows, outcome = self._clock(), read_rows(body), _Outcome()
        search = Search(rows, self._backoff, self._monotonic)
        while part := search.next(self._pace.rows()):
            try:
                reply = self._subscribe(part, body if part is rows else _compose(body, part), outcome)
            except BatchRefused as refusal:
                search.answered(self._without_refused(part, refusal, outcome))
            except Troubled as trouble:
                _give_up(search.failed(part, trouble), outcome, "serverError", _SERVER_ERROR)
            else:
                search.answered(self._book(part, reply, outcome))
        return BatchResult(
            batch=batch,
            lane=lane,
            rows=len(rows),
            created=outcome.created,
            updated=outcome.updated,
            rejected=outcome.rejected,
            statuses=dict(outcome.statuses),
            calls=outcome.calls,
            repaired_tags=outcome.repaired_tags,
            untagged=outcome.untagged,
            resent=outcome.resent,
            sent_at=began,
            ended_at=self._clock(),
        )

    # -- calls -----------------------------------------------------------------------------------------------------

    def _subscribe(self, part: Sequence[_Row], payload: bytes, outcome: _Outcome) -> SubscribeReply:
        subscribe = partial(self._client.subscribe, self._plan.audience_id, payload)
        return self._until_answered(subscribe, outcome, tries=tries_of(len(part)), rows=len(part))

    def _until_answered(
        self, call: Callable[[], _Answer], outcome: _Outcome, *, tries: int, rows: int | None = None
    ) -> _Answer:
        """Make ``call`` until Mailchimp answers it. Raises Troubled after ``tries`` while Mailchimp is up, and when
        the call hangs.

        ``rows``: the members of the call, whose time is to be learnt from.
        """
        failed = 0
        while True:
            self._before_call()
            outcome.calls += 1
            slow_downs, began = self._pace.slow_downs(), self._monotonic()
            try:
                answer = call()
            except (BatchRefused, TagNotFound):
                self._backoff.success()
                raise
            except Unavailable as error:
                seconds = self._monotonic() - began
                self._pace.failed(error, rows, seconds, slow_downs)
                outcome.resent = outcome.resent or error.outcome_unknown
                if error.outcome_unknown and self._is_up(outcome):
                    failed, hung = failed + 1, hangs(error, seconds)
                    if hung or failed >= tries:
                        raise Troubled(error.reason, hung=hung) from error
                else:
                    self._backoff.wait(error.reason, error.retry_after_s)
            else:
                self._backoff.success()
                self._pace.answered(rows, self._monotonic() - began)
                return answer

    def _is_up(self, outcome: _Outcome) -> bool:
        self._before_call()
        outcome.calls += 1
        try:
            self._client.ping()
        except Unavailable:
            return False
        self._backoff.up()
        return True

    # -- outcomes --------------------------------------------------------------------------------------------------

    def _book(self, part: Sequence[_Row], reply: SubscribeReply, outcome: _Outcome) -> Iterable[Sequence[_Row]]:
        """Account for a reply, repair tags that did not arrive; returns the rows that have no outcome yet."""
        by_key = {row.key: row for row in part}
        errors = _one_per_row(reply.errors)  # what is told counts, and not how much was said to be told
        answered = reply.total_created + reply.total_updated + len(errors)
        missing: Sequence[_Row] = ()
        if answered != len(part):
            outcome.resent = True
            seen = {m.email_address.lower() for m in reply.members()} | {e.email_address.lower() for e in errors}
            missing = [row for row in part if row.key not in seen]
            if len(missing) != len(part) - answered:  # the reply contradicts itself: nothing of it counts
                return _split(part, outcome, "notConfirmed", "Mailchimp's reply about this contact contradicts itself.")
        outcome.created += reply.total_created
        outcome.updated += reply.total_updated
        for error in errors:
            outcome.rejected.append(_rejected(by_key.get(error.email_address.lower()), error))
        outcome.statuses.update(m.status if m.status in _STATUSES else "other" for m in reply.members())
        self._repair_tags(by_key, reply.members(), outcome)
        if len(missing) == len(part):
            return _split(missing, outcome, "notConfirmed", "Mailchimp's reply does not mention this contact.")
        return [missing] if missing else []

    def _repair_tags(self, by_key: Mapping[str, _Row], members: Iterable[ReplyMember], outcome: _Outcome) -> None:
        """Tag the members whose tags the call did not set (whether it does for existing members is not documented)."""
        lacking: dict[str, list[str]] = {}
        cut: set[str] = set()
        for member in members:
            row = by_key.get(member.email_address.lower())
            if row is None or row.tags == (names := member.tag_names):
                continue
            shown = {name.casefold() for name in names}
            if member.tags_count is not None and member.tags_count > len(names):
                cut.add(row.key)
            for tag in row.tags:
                if tag.casefold() not in shown:
                    lacking.setdefault(tag.casefold(), []).append(member.email_address)
        for key, addresses in lacking.items():
            self._tag(key, addresses, cut, outcome)

    def _tag(self, key: str, addresses: Sequence[str], cut: Set[str], outcome: _Outcome) -> None:
        """Tag at most 500 members. Who cannot be tagged is counted; the member itself has arrived.

        ``cut``: those whose tags were not all shown. They may have the tag, and be refused for that.
        """
        audience = self._plan.audience_id
        name, tag_id = self._tag_ids[key]
        waiting: list[Sequence[str]] = [addresses]
        while waiting:
            part = waiting.pop()
            try:
                reply = self._until_answered(
                    partial(self._client.tag_members, audience, tag_id, part), outcome, tries=tries_of(len(part))
                )
                named = {address.lower() for error in reply.errors for address in error.addresses}
                refused = (named & {address.lower() for address in part}) - cut
                outcome.untagged += len(refused)
                outcome.repaired_tags += len(part) - len(refused)
            except TagNotFound:  # somebody deleted the tag meanwhile
                found = self._tag_made_anew(name, outcome)
                if found is None or found.id == tag_id:  # Mailchimp still finds the tag that it no longer knows
                    outcome.untagged += len(part)
                    continue
                tag_id = found.id
                self._tag_ids[key] = (name, tag_id)
                waiting.append(part)
            except (BatchRefused, Troubled) as trouble:
                hung = isinstance(trouble, Troubled) and trouble.hung
                if len(part) == 1 or hung:
                    outcome.untagged += len(part)
                else:
                    waiting += in_parts(part)

    def _tag_made_anew(self, name: str, outcome: _Outcome) -> Tag | None:
        """The tag of this name, created if there is none; None where Mailchimp fails at it although it is up."""
        find = partial(self._client.find_or_create_tag, self._plan.audience_id, name)
        try:
            return self._until_answered(find, outcome, tries=tries_of(1))
        except Troubled:
            return None

    def _without_refused(
        self, part: Sequence[_Row], refusal: BatchRefused, outcome: _Outcome
    ) -> Iterable[Sequence[_Row]]:
        """Take out the rows that a whole-call 400 names, or split where it names none."""
        named = {number for number in refusal.rows if number < len(part)}
        if not named and len(part) > 1:
            return in_parts(part)
        for number in sorted(named) or [0]:
            row = part[number]
            outcome.rejected.append(_rejected(row, row_error_of(refusal, row.email, number)))
        rest = [row for number, row in enumerate(part) if number not in named] if named else []
        return [rest] if rest else []


def _split(part: Sequence[_Row], outcome: _Outcome, code: str, message: str) -> Iterable[Sequence[_Row]]:
    """Split rows that have no outcome; a single row that gets none is given up for this export."""
    if len(part) > 1:
        return in_parts(part)
    _give_up(part, outcome, code, message)
    return []


def _give_up(part: Sequence[_Row], outcome: _Outcome, code: str, message: str) -> None:
    outcome.rejected += [
        RejectedRow(
            position=row.position,
            email=row.email,
            code=code,
            message=message,
            action="Export again later. If it happens again, ask Mailchimp's support about this contact.",
            retryable=True,
        )
        for row in part
    ]


def _one_per_row(errors: Iterable[RowError]) -> Sequence[RowError]:
    """The errors without those that name an address a second time: a row is rejected once, for its first reason."""
    first: dict[str | int, RowError] = {}
    for number, error in enumerate(errors):
        first.setdefault(error.email_address.lower() or number, error)
    return list(first.values())


def _rejected(row: _Row | None, error: RowError) -> RejectedRow:
    reason = classify_row_error(error)
    details = f" {error.field}: {error.field_message}" if error.field else ""
    return RejectedRow(
        position=row.position if row else None,
        email=row.email if row else error.email_address,
        code=reason.code,
        message=f"{error.message}{details}",
        action=reason.action,
        retryable=reason.retryable,
    )
