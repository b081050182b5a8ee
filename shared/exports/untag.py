"""Takes away in Mailchimp the tags that a destination set, when it is removed with its tags.

The ledgers say whom it tagged: nobody else is touched, and whoever has the same tag from another destination keeps it.
Contacts stay, and so does the tag itself: somebody may use it.

Before each call its rows are written down (``removals/{id}.json``, under its lease), so whoever goes on after a crash
makes the last call again, which changes nothing if it had been applied.

Ledgers of other destinations may change meanwhile. While an export sends to the same audience no call is made; and when
another ledger has changed since the last call, whoever of that call is in both is given the tag again: the call and the
export may have crossed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from shared import log
from shared.destinations.errors import DestinationNotFound
from shared.destinations.model import Destination, Removal
from shared.destinations.removal import WAKE_AT, Left, Removals
from shared.destinations.store import DestinationStore
from shared.exports.backoff import MustPause
from shared.exports.memberships import Batch, Memberships
from shared.exports.messages import RemovalMessage
from shared.exports.neighbours import Neighbours, version_of
from shared.exports.sign_in import SignIns
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.exports.untag_calls import Busy, UntagCalls
from shared.exports.untag_progress import Progress
from shared.mailchimp import (
    AccessForbidden,
    AccountRestricted,
    AudienceNotFound,
    MailchimpError,
    SignInRefused,
)
from shared.mailchimp.access import MailchimpAccess
from shared.storage import names
from shared.storage.documents import Changed
from shared.storage.leases import HeldLease, LeaseLost, Leases

_SHOW_EVERY_S: Final = 1.0
_WAIT_FOR_OTHERS_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class UntagTools:
    """What the untagger needs from outside."""

    store: ExportStore
    destinations: DestinationStore
    removals: Removals
    leases: Leases
    signals: Signals
    sign_ins: SignIns
    access: MailchimpAccess
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    random: Callable[[], float]


class _GivenUp(Exception):
    """The removal was completed by somebody, or is to keep the tags after all."""


class _LaterOn(Exception):
    """Work stops here and goes on with a new message, ``delay_s`` seconds later because of ``problem``; ``wake_at`` is
    the moment that was written down for it."""

    def __init__(self, delay_s: float = 0, problem: str | None = None) -> None:
        super().__init__(problem)
        self.delay_s = delay_s
        self.problem = problem
        self.wake_at: datetime | None = None


class Untagger:
    """Goes on with removals when it is told to."""

    def __init__(self, tools: UntagTools, *, budget_s: float) -> None:
        self._tools = tools
        self._budget_s = budget_s

    def go_on(self, message: RemovalMessage) -> None:
        """Go on with a removal as far as it goes now; a new message says when to come again. Storage faults pass
        through."""
        destination_id, removals = message.destination_id, self._tools.removals
        if removals.go_on(destination_id) is not Left.TAGS:
            return
        try:
            if self._untag(destination_id, message.ends_wait):
                removals.go_on(destination_id)
        except _LaterOn as later:
            self._tools.signals.removal(destination_id, delay_s=later.delay_s, ends_wait=later.wake_at)

    def _untag(self, destination_id: str, ended_wait: datetime | None) -> bool:
        """Whether it is through; False where somebody else is at it or will be. Raises _LaterOn."""
        tools, name = self._tools, names.removal(destination_id)
        with tools.leases.take(name) as lease:
            if lease is None:
                return False
            found, stored = tools.destinations.find(destination_id), tools.store.documents.read(name)
            if found is None:
                return True
            progress = Progress.from_bytes(stored.data) if stored and stored.data else Progress()
            is_early = progress.wake_at is not None and progress.wake_at > tools.now() + timedelta(seconds=1)
            if is_early and progress.wake_at != ended_wait:
                return False  # the message that ends the wait is on its way
            progress.wake_at = None
            with tempfile.TemporaryDirectory(prefix="untag-") as folder:
                try:
                    return _Run(tools, found.destination, lease, progress, Path(folder), self._budget_s).work()
                except _LaterOn as later:
                    later.wake_at = progress.wake_at
                    raise


class _Run:
    """One holding of a removal's lease."""

    def __init__(
        self,
        tools: UntagTools,
        destination: Destination,
        lease: HeldLease,
        progress: Progress,
        folder: Path,
        budget_s: float,
    ) -> None:
        self._tools = tools
        self._destination = destination
        self._lease = lease
        self._progress = progress
        self._folder = folder
        self._neighbours = Neighbours(tools.store, tools.destinations, destination)
        self._until = tools.monotonic() + budget_s
        self._left = 0
        self._has_called = False  # however short the time is, each run makes a call
        self._shown_at = float("-inf")
        self._problem = destination.removal.problem if destination.removal else None
        self._calls = UntagCalls(
            destination.sign_in,
            tools.access,
            tools.sign_ins,
            lease,
            failures=progress.failures,
            availability=self,
            monotonic=tools.monotonic,
            sleep=tools.sleep,
            random=tools.random,
        )

    def work(self) -> bool:
        """Go on until all tags are taken away; False where somebody else has it now. Raises _LaterOn."""
        try:
            self._take_all()
            self._progress.settle()
            self._tools.removals.note(self._destination.id, self._account)
        except _LaterOn as later:
            self._rest(later.delay_s, later.problem)
            raise
        except Busy as busy:
            self._rest(_WAIT_FOR_OTHERS_S, str(busy))
            raise _LaterOn(_WAIT_FOR_OTHERS_S) from busy
        except MustPause as pause:
            at = self._tools.now() + timedelta(seconds=pause.delay_s)
            self._rest(pause.delay_s, f"{self._silence()} It is tried again at {_shown(at)}.")
            raise _LaterOn(pause.delay_s) from pause
        except (LeaseLost, Changed):
            log.warning("removal.leaseLost", destination=self._destination.id)
            return False
        except (_GivenUp, DestinationNotFound):
            return True
        finally:
            self._calls.give_connection_back()
        log.event("removal.untagged", destination=self._destination.id, taken=self._progress.taken)
        return True

    def _account(self, removal: Removal) -> None:
        progress = self._progress
        removal.untagged, removal.problem = True, None
        removal.tags_taken, removal.tags_left = progress.taken, progress.left
        removal.left_because = "; ".join(progress.reasons) or None

    # -- audiences and tags --------------------------------------------------------------------------------------

    def _take_all(self) -> None:
        ledgers = [
            (audience, entry.etag)
            for entry in self._tools.store.documents.list(names.ledgers(self._destination.id))
            if (audience := names.ledger_of(entry.name)[1]) >= self._progress.audience
        ]
        later = {audience: self._count(audience) for audience, _ in ledgers[1:]}
        for audience, etag in ledgers:
            later.pop(audience, None)
            self._left = elsewhere = sum(later.values())
            self._progress.begin(audience, etag)
            try:
                self._take_from(audience)
            except AudienceNotFound:
                self._leave(self._left - elsewhere, f"the audience '{audience}' no longer exists in Mailchimp")
            except MailchimpError as error:
                log.warning("removal.impossible", destination=self._destination.id, **error.log_fields())
                self._leave(self._left, _reason(error))
                return

    def _count(self, audience: str) -> int:
        with self._memberships(audience) as (members, _):
            return sum(members.count(tag) for tag in members.tags)

    @contextmanager
    def _memberships(self, audience: str) -> Iterator[tuple[Memberships, str]]:
        """Who is tagged in the audience, and the version of the other ledgers that this accounts for. Raises _GivenUp
        where the ledger was deleted meanwhile."""
        documents, others = self._tools.store.documents, self._neighbours.ledgers(audience)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            mine = Path(folder) / "mine.parquet"
            if documents.download(names.ledger(self._destination.id, audience), mine) is None:
                raise _GivenUp
            paths = [(name, Path(folder) / f"{number}.parquet") for number, (name, _) in enumerate(others)]
            found = [path for name, path in paths if documents.download(name, path)]
            members = Memberships(mine, found, Path(folder))
            try:
                yield members, version_of(others)
            finally:
                members.close()

    def _take_from(self, audience: str) -> None:
        problem = self._neighbours.removed_before(audience)
        if problem is not None:
            raise _LaterOn(_WAIT_FOR_OTHERS_S, problem)
        with self._memberships(audience) as (members, others):
            counts = {tag: members.count(tag, self._progress.first_row(tag)) for tag in members.tags}
            self._left += sum(counts.values())
            self._before_call(audience, others)
            tag_ids = self._calls.tag_ids(audience)
            self._give_back_what_crossed(members, audience, tag_ids, others)
            for tag, count in counts.items():
                if tag in tag_ids:
                    self._take_tag(members, audience, tag, tag_ids[tag], others)
                else:  # the tag is gone from Mailchimp, and so are its memberships
                    self._left -= count
            self._before_call(audience, others)  # so that nothing has crossed the last call either

    def _take_tag(self, members: Memberships, audience: str, tag: str, tag_id: int, others: str) -> None:
        members.count(tag, self._progress.first_row(tag))
        for batch in members.batches():
            self._before_call(audience, others)
            self._write_down(tag, batch, others)
            refused = self._calls.take(audience, tag_id, batch.addresses)
            self._has_called = True
            taken = len(batch.addresses) - refused
            self._left -= taken
            self._progress.take(taken)
            self._leave(refused, "Mailchimp refused that")

    def _leave(self, count: int, reason: str) -> None:
        """These memberships cannot be taken away."""
        self._left -= count
        self._progress.leave(count, reason)

    def _give_back_what_crossed(
        self, members: Memberships, audience: str, tag_ids: Mapping[str, int], others: str
    ) -> None:
        """Tag again whom the last call may have taken the tag from, and another destination has given it to since."""
        progress = self._progress
        if progress.others not in {"", others} and progress.tag in tag_ids:
            addresses = members.shared(progress.tag, progress.row, progress.end)
            self._calls.give(audience, tag_ids[progress.tag], addresses)

    # -- before a call -------------------------------------------------------------------------------------------

    def _before_call(self, audience: str, others: str) -> None:
        """Raises _LaterOn, _GivenUp and LeaseLost where no call may be made now."""
        found = self._tools.destinations.find(self._destination.id)
        if found is None or found.destination.removal is None or not found.destination.removal.takes_tags_away:
            raise _GivenUp
        self._show_progress()
        problem = self._neighbours.sending(audience)
        if problem is not None:
            raise _LaterOn(_WAIT_FOR_OTHERS_S, problem)
        if version_of(self._neighbours.ledgers(audience)) != others:
            raise _LaterOn  # and all ledgers are read anew
        if self._has_called and self._tools.monotonic() >= self._until:
            self._progress.pass_over()
            self._save()
            raise _LaterOn

    def _write_down(self, tag: str, batch: Batch, others: str) -> None:
        """Write down the call that is made next."""
        progress = self._progress
        progress.settle()
        progress.tag, progress.row, progress.end, progress.others = tag, batch.first, batch.end, others
        self._save()

    def _save(self) -> None:
        self._lease.check()
        progress = self._progress
        progress.failures = self._calls.failures
        self._tools.store.documents.replace_leased(
            names.removal(self._destination.id),
            progress.to_bytes(),
            self._lease.client,
            {WAKE_AT: progress.wake_at.isoformat()} if progress.wake_at else {},
        )

    def _rest(self, delay_s: float, problem: str | None) -> None:
        """Write down when the next message comes."""
        with suppress(LeaseLost, Changed, DestinationNotFound):
            if problem is not None:
                self._show(problem)
            if delay_s:
                self._progress.wake_at = self._tools.now() + timedelta(seconds=delay_s)
                self._save()

    # -- showing -------------------------------------------------------------------------------------------------

    def _show_progress(self) -> None:
        now = self._tools.monotonic()
        if now - self._shown_at < _SHOW_EVERY_S:
            return
        self._shown_at = now
        taken, left = self._progress.taken_so_far, self._left

        def show(removal: Removal) -> None:
            removal.tags_taken, removal.tags_left = taken, left

        self._tools.removals.note(self._destination.id, show)

    def _show(self, problem: str | None) -> None:
        if problem != self._problem:
            self._tools.removals.note(self._destination.id, lambda removal: setattr(removal, "problem", problem))
            self._problem = problem

    def waiting(self, reason: str) -> None:
        """Mailchimp does not answer (shared/exports/backoff.py)."""
        log.warning("mailchimp.unavailable", destination=self._destination.id, reason=reason)
        self._progress.unavailable_since = self._progress.unavailable_since or self._tools.now()
        self._show(f"{self._silence()} It is tried again every few seconds.")

    def available(self) -> None:
        """Mailchimp answered after it did not."""
        self._progress.unavailable_since = None
        self._show(None)

    def _silence(self) -> str:
        since = self._progress.unavailable_since or self._tools.now()
        return f"Mailchimp has been unavailable since {_shown(since)}."


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _reason(error: MailchimpError) -> str:
    """Why nothing can be taken away any more; ends a sentence with "because"."""
    match error:
        case SignInRefused():
            return "the Mailchimp sign-in is missing or refused"
        case AccessForbidden():
            return "the Mailchimp user is not allowed to do that"
        case AccountRestricted():
            return "Mailchimp has restricted the account"
        case _:
            return f"Mailchimp does not accept the call ({error.code})"
