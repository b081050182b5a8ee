"""Prepares an export: reads the pinned segments, checks and merges the profiles, writes finished request bodies.

Everything that can be found wrong without Mailchimp is found before the first call to it, and everything at all before
the first profile is sent. The plan is written last and once: a delivery that dies half way leaves nothing but blobs
that nobody reads, and a second delivery starts again from the same pinned version of the source.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from shared import log, trace
from shared.destinations.model import Destination, SetUp
from shared.destinations.store import DestinationStore
from shared.exports import fingerprints, problems
from shared.exports.audience import Audiences, fields_of
from shared.exports.backoff import delay_s
from shared.exports.closed_books import read_closed_books
from shared.exports.counts import remember_members, remember_rows
from shared.exports.messages import ExportMessage
from shared.exports.model import MEMBERS_PER_BATCH, Export, LeftOut, Plan, Problem, Status, Stop
from shared.exports.pace import Paces, connections_of
from shared.exports.packs import PackMissing, lanes_for, write_packs
from shared.exports.places import Places
from shared.exports.problems import Impossible, StopStatus
from shared.exports.profiles import Counts, Profiles
from shared.exports.refusals import Refusals
from shared.exports.remainder import Remainder
from shared.exports.resume import is_same_target, mark_resumed, newer_that_sent
from shared.exports.sign_in import SignIns
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.exports.unchanged import forget_other_data, unchanged_since
from shared.mailchimp import MailchimpError, Unavailable
from shared.mailchimp.access import LookupsBusy, MailchimpAccess
from shared.segments.catalog import SegmentCatalog
from shared.segments.errors import SegmentError
from shared.segments.reader import SegmentReader
from shared.storage import names
from shared.storage.leases import HeldLease, LeaseLost, Leases

_MEMBERS: Final = "members.parquet"
_LEFT_OUT: Final = "left-out.parquet"

_AT_ONCE: Final = 2
"""Exports that one process prepares at a time. Each takes up to 300 MB, an instance has 2 GB, and the host hands out
sixteen messages (host.json). Two, because one may be waiting for Mailchimp."""

_LOOK_FOR_STOP_EVERY_S: Final = 1.0


class _StopRequested(Exception):
    """The export is to end before it was prepared."""


@dataclass(frozen=True, slots=True)
class PrepareTools:
    """What prepare needs from outside."""

    store: ExportStore
    destinations: DestinationStore
    leases: Leases
    signals: Signals
    sign_ins: SignIns
    access: MailchimpAccess
    catalog: SegmentCatalog
    reader: SegmentReader
    paces: Paces
    refusals: Refusals
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    new_id: Callable[[], str]
    random: Callable[[], float]


class Preparer:
    """Prepares exports, few at a time."""

    def __init__(self, tools: PrepareTools, *, max_profiles: int, max_connections: int) -> None:
        self._tools = tools
        self._max_profiles = max_profiles
        self._max_connections = max_connections
        self._places = Places(_AT_ONCE)
        self._audiences = Audiences(tools.sign_ins, tools.access)

    def prepare(self, message: ExportMessage) -> None:
        """Prepare the export and wake its lanes, or ask for its end with the reason. Storage faults pass through."""
        with self._tools.leases.take(names.active(message.export_id), create=False) as lease:
            if lease is None:
                log.event("prepare.notNeeded", export=message.export_id)
                return
            tell_others = self._prepare(message, lease)
        tell_others()  # after the lease is free: whoever hears it may need it

    def _prepare(self, message: ExportMessage, lease: HeldLease) -> Callable[[], None]:
        """Prepare under the lease; returns what to do once the lease is given back."""
        export_id = message.export_id
        if self._is_early(message):
            return lambda: None  # the message that ends the wait is on its way: no second one beside it
        try:
            return self._start_sending(self._tools.store.plan(export_id) or self._plan(export_id, lease))
        except _StopRequested:
            return partial(self._tools.signals.finish, export_id)
        except Impossible as error:
            return self._stop(export_id, error.problem, error.status)
        except SegmentError as error:
            return self._stop(export_id, problems.from_segment_error(error))
        except (Unavailable, LookupsBusy) as error:
            return self._wait(message, error)
        except MailchimpError as error:
            log.warning("prepare.refusedByMailchimp", export=export_id, **error.log_fields())
            return self._stop(export_id, problems.from_mailchimp_error(error))
        except LeaseLost:
            log.warning("prepare.leaseLost", export=export_id)
            return partial(self._tools.signals.prepare, export_id, delay_s=1)

    def _is_early(self, message: ExportMessage) -> bool:
        export = self._tools.store.find(message.export_id)
        if export is None or export.stop is not None or export.resume_at is None:
            return False
        if export.resume_at == message.ends_wait:
            return False  # by the clock of whoever began the wait it may be later
        return export.status is Status.WAITING and self._tools.now() + timedelta(seconds=1) < export.resume_at

    # -- ends ----------------------------------------------------------------------------------------------------

    def _start_sending(self, plan: Plan) -> Callable[[], None]:
        store = self._tools.store

        def show(export: Export) -> None:
            export.sending_at = self._tools.now()
            export.account_id, export.audience_id = plan.account_id, plan.audience_id
            export.configuration = plan.configuration
            export.segments, export.invalid_reasons = plan.segments, plan.invalid_reasons
            export.suppressed_reasons = plan.suppressed_reasons
            export.books, export.problem = plan.books, None

        export = store.move(plan.export_id, Status.SENDING, show)
        log.event("export.prepared", export=plan.export_id, members=plan.members, batches=plan.batches)
        if not plan.lanes or export is None or export.status is not Status.SENDING:  # its end came first
            return partial(self._tools.signals.finish, plan.export_id)
        forget_other_data(store, export)
        store.documents.write(names.open_export(plan.account_id, plan.export_id), b"")
        export = store.find(plan.export_id)
        if export is None or export.ended:  # before the mark was there, which nobody would take away now
            store.documents.delete(names.open_export(plan.account_id, plan.export_id))
            return partial(self._tools.signals.finish, plan.export_id)
        pace = self._tools.paces.get(plan.account_id)
        connections = connections_of(plan.lanes, pace, self._max_connections)
        return partial(self._tools.signals.wake_all, plan.account_id, connections)

    def _stop(self, export_id: str, problem: Problem, status: StopStatus = Status.FAILED) -> Callable[[], None]:
        level = logging.INFO if status is Status.SKIPPED else logging.WARNING
        log.event("prepare.stopped", level=level, export=export_id, code=problem.code)
        self._tools.store.request_stop(export_id, Stop(status=status, problem=problem, at=self._tools.now()))
        return partial(self._tools.signals.finish, export_id)

    def _wait(self, message: ExportMessage, error: Unavailable | LookupsBusy) -> Callable[[], None]:
        """Mailchimp is not available: come back later."""
        failures = message.failures + 1
        retry_after_s = error.retry_after_s if isinstance(error, Unavailable) else None
        reason = error.reason if isinstance(error, Unavailable) else "lookupsBusy"
        wait = delay_s(failures, self._tools.random(), retry_after_s)
        resume_at = self._tools.now() + timedelta(seconds=wait)

        def show(export: Export) -> None:
            export.problem, export.resume_at = problems.unavailable(reason), resume_at

        self._tools.store.move(message.export_id, Status.WAITING, show)
        return partial(self._come_back, message.export_id, failures, wait, resume_at)

    def _come_back(self, export_id: str, failures: int, wait_s: float, resume_at: datetime) -> None:
        """Send the message that ends the wait; or end the export, if somebody asked for it while the lease was held:
        the finisher that was called then has gone away."""
        export = self._tools.store.find(export_id)
        if export is not None and export.stop is not None:
            self._tools.signals.finish(export_id)
        else:
            self._tools.signals.prepare(export_id, failures=failures, delay_s=wait_s, ends_wait=resume_at)

    # -- the plan ------------------------------------------------------------------------------------------------

    def _plan(self, export_id: str, lease: HeldLease) -> Plan:
        export, destination, set_up = self._begin(export_id)
        continued = self._continued(export, destination)
        if continued is not None:
            plan = self._plan_remainder(export, destination, set_up, continued, lease)
        else:
            plan = self._plan_segments(export, destination, set_up, lease)
        return self._tools.store.publish(plan)

    def _checker(self, export_id: str, lease: HeldLease) -> Callable[[], None]:
        """What is called now and then: raises LeaseLost and _StopRequested."""
        looked_at = self._tools.monotonic()

        def check() -> None:
            nonlocal looked_at
            lease.check()
            if self._tools.monotonic() - looked_at >= _LOOK_FOR_STOP_EVERY_S:
                looked_at = self._tools.monotonic()
                self._check_stop(export_id)

        return check

    def _plan_segments(self, export: Export, destination: Destination, set_up: SetUp, lease: HeldLease) -> Plan:
        export, matching = self._pin(export, destination), set_up.data_matching
        sources, segments = export.sources, [source.name for source in export.sources]
        self._skip_if_unchanged(export, destination, set_up)
        fields, check = fields_of(matching), self._checker(export.id, lease)
        with self._places.take(check), _profiles() as (profiles, work_dir):
            for source in sources:
                profiles.load(self._tools.reader, source, fields, check)
            remember_rows(self._tools.store.documents, sources, profiles.rows)
            self._check_limit(export, destination, profiles)
            check()
            audience = self._audiences.ask(destination.id, set_up, matching, segments, check)
            profiles.check_values(audience.values)
            remembered = self._tools.refusals.remembered(*set_up.target, work_dir)
            profiles.suppress(audience.archived, remembered.file, remembered.at)
            counts = profiles.counts(audience.tags)
            remember_members(self._tools.store.documents, destination, sources, counts.books.members)
            configuration = fingerprints.of_configuration(destination)
            left_out = remembered.keeps_out(counts.left_out_until)
            plan = self._new_plan(export, set_up, counts, audience.tag_ids, configuration, left_out)
            write_packs(
                self._tools.store.documents,
                plan,
                profiles.bodies(audience.values, audience.tags, destination.member_status),
                check,
            )
            profiles.write_members(work_dir / _MEMBERS, audience.values)
            profiles.write_left_out(work_dir / _LEFT_OUT)
            self._upload_lists(plan, work_dir)
        return plan

    def _plan_remainder(
        self, export: Export, destination: Destination, set_up: SetUp, continued: Plan, lease: HeldLease
    ) -> Plan:
        """The plan of what ``continued`` has no result for: its bodies, less those who were archived or refused for
        good since."""
        documents, check = self._tools.store.documents, self._checker(export.id, lease)
        closed = read_closed_books(documents, continued.export_id)
        if closed is None:
            raise Impossible(problems.remainder_gone())
        with self._places.take(check), tempfile.TemporaryDirectory(prefix="resume-") as folder:
            work_dir = Path(folder)
            audience = self._audiences.ask(
                destination.id,
                set_up,
                # what was matched is known only where it has stayed as it was
                set_up.data_matching if continued.configuration == fingerprints.of_configuration(destination) else None,
                [segment.tag for segment in continued.segments],
                check,
            )
            remembered = self._tools.refusals.remembered(*set_up.target, work_dir)
            try:
                with closing(Remainder(documents, continued, closed, work_dir)) as remainder:
                    remainder.leave_out(audience.archived, remembered.file, remembered.at)
                    counts = remainder.counts(audience.tags)
                    plan = self._new_plan(
                        export,
                        set_up,
                        counts,
                        audience.tag_ids,
                        continued.configuration,
                        remembered.keeps_out(counts.left_out_until, closed.left_out),
                        remainder.batches,
                    )
                    write_packs(documents, plan, remainder.bodies(), check)
                    remainder.write_members(work_dir / _MEMBERS)
                    remainder.write_left_out(work_dir / _LEFT_OUT)
            except PackMissing:
                raise Impossible(problems.remainder_gone()) from None
            self._upload_lists(plan, work_dir)
        return plan

    def _upload_lists(self, plan: Plan, work_dir: Path) -> None:
        """The two lists that the end needs."""
        documents = self._tools.store.documents
        documents.upload(names.members(plan.export_id, plan.attempt), work_dir / _MEMBERS)
        documents.upload(names.left_out(plan.export_id, plan.attempt), work_dir / _LEFT_OUT)

    def _begin(self, export_id: str) -> tuple[Export, Destination, SetUp]:
        """The export in status Preparing, its destination and its set-up. Raises _StopRequested and Impossible."""
        store = self._tools.store

        def show(export: Export) -> None:
            export.started_at = export.started_at or self._tools.now()
            export.problem, export.resume_at = None, None

        export = store.move(export_id, Status.PREPARING, show)
        if export is None or export.stop is not None or export.status is not Status.PREPARING:
            raise _StopRequested
        if store.claim(export.destination_id, export_id) != export_id:
            raise Impossible(problems.already_running(), Status.SKIPPED)
        resumed_by = mark_resumed(store, export)
        if resumed_by != export_id:
            raise Impossible(problems.already_resumed(resumed_by), Status.SKIPPED)
        found = self._tools.destinations.find(export.destination_id)
        if found is None or found.destination.removal is not None:
            raise Impossible(problems.removed(), Status.CANCELED)
        destination = found.destination
        if destination.consent.withdrawn_at is not None:
            raise Impossible(problems.consent_withdrawn(destination.consent.withdrawn_by), Status.CANCELED)
        set_up = destination.set_up
        if set_up is None:
            raise Impossible(problems.not_ready(destination.missing_steps()))
        return export, destination, set_up

    def _continued(self, export: Export, destination: Destination) -> Plan | None:
        """The plan that the export goes on with; None where it reads the segments. Raises Impossible where going on
        would send older data than the audience has, or to somewhere else. The export holds the destination's place, so
        this stays as it is."""
        store = self._tools.store
        if export.continues is None:
            return None
        continued, plan = store.find(export.continues), store.plan(export.continues)
        if continued is None or plan is None:
            raise Impossible(problems.remainder_gone())
        if not is_same_target(plan, destination):
            raise Impossible(problems.target_changed())
        newer = newer_that_sent(store, continued, but=export.id)
        if newer is not None:
            raise Impossible(problems.newer_sent(newer))
        return plan

    def _check_stop(self, export_id: str) -> None:
        export = self._tools.store.find(export_id)
        if export is None or export.stop is not None:
            raise _StopRequested

    def _pin(self, export: Export, destination: Destination) -> Export:
        """The export with the version of the source that it reads: fixed at the first attempt and recorded."""
        if export.sources:
            return export
        pinned = self._tools.catalog.pin(destination.segments)

        def show(newest: Export) -> None:
            newest.sources = list(newest.sources or pinned)

        changed = self._tools.store.change(export.id, show)
        if changed is None:
            raise _StopRequested
        return changed

    def _skip_if_unchanged(self, export: Export, destination: Destination, set_up: SetUp) -> None:
        """A scheduled export has nothing to do where the audience has the same data already."""
        if export.trigger != "scheduled":
            return
        still_keeps_out = partial(self._tools.refusals.still_keeps_out, *set_up.target)
        configuration = fingerprints.of_configuration(destination)
        since = unchanged_since(self._tools.store, export, configuration, still_keeps_out)
        if since is not None:
            raise Impossible(problems.unchanged(since), Status.SKIPPED)

    def _check_limit(self, export: Export, destination: Destination, profiles: Profiles) -> None:
        members = profiles.match()
        if members <= self._max_profiles:
            return
        profiles.suppress(())
        counts = profiles.counts([source.name for source in export.sources])
        remember_members(self._tools.store.documents, destination, export.sources, members)

        def show(newest: Export) -> None:
            newest.books = counts.books.model_copy(update={"not_sent": members})
            newest.segments, newest.invalid_reasons = counts.segments, counts.invalid_reasons

        self._tools.store.change(export.id, show)
        each = ", ".join(f"{count.name} {count.tagged:,}" for count in counts.segments)
        raise Impossible(
            Problem(
                code="tooManyProfiles",
                message=f"The segments hold {members:,} members ({each}); an export may have at most "
                f"{self._max_profiles:,}.",
                action="Choose fewer or smaller segments, or split them over several destinations. Nothing was sent.",
            )
        )

    def _new_plan(
        self,
        export: Export,
        set_up: SetUp,
        counts: Counts,
        tag_ids: Mapping[str, int],
        configuration: str | None,
        left_out: LeftOut | None,
        batches: int | None = None,
    ) -> Plan:
        """``batches`` need not be given where all but the last are full."""
        account_id, audience_id = set_up.target
        members = counts.books.members - counts.books.suppressed
        batches = -(-members // MEMBERS_PER_BATCH) if batches is None else batches
        return Plan(
            export_id=export.id,
            destination_id=export.destination_id,
            account_id=account_id,
            audience_id=audience_id,
            api_root=set_up.api_root,
            secret_name=set_up.secret_name,
            attempt=self._tools.new_id(),
            configuration=configuration,
            traceparent=trace.current(),
            lanes=lanes_for(export.id, batches, self._tools.paces.get(account_id).lanes, self._max_connections),
            members=members,
            batches=batches,
            tag_ids=dict(tag_ids),
            segments=counts.segments,
            invalid_reasons=counts.invalid_reasons,
            suppressed_reasons=counts.suppressed_reasons,
            left_out=left_out,
            books=counts.books,
        )


@contextmanager
def _profiles() -> Iterator[tuple[Profiles, Path]]:
    """An empty set of profiles on local disk; everything is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        profiles = Profiles(Path(folder))
        try:
            yield profiles, Path(folder)
        finally:
            profiles.close()
