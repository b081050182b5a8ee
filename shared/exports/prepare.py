"""Prepares an export: reads the pinned segments, checks and merges the profiles, writes finished request bodies.

Everything that can be found wrong without Mailchimp is found before the first call to it, and everything at all before
the first profile is sent. The plan is written last and once: a delivery that dies half way leaves nothing but blobs
that nobody reads, and a second delivery starts again from the same pinned version of the source.
"""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Literal
from zlib import crc32

from shared import log, trace
from shared.destinations.model import AddressMatching, DataMatching, Destination, MemberStatus
from shared.destinations.store import DestinationStore
from shared.exports import fingerprints, problems
from shared.exports.backoff import delay_s
from shared.exports.counts import remember_members, remember_rows
from shared.exports.merge_values import MergeValue, address_value, merge_value
from shared.exports.messages import ExportMessage
from shared.exports.model import BATCHES_PER_PACK, MEMBERS_PER_BATCH, Export, Plan, Problem, Status, Stop
from shared.exports.pace import Paces, connections_of
from shared.exports.places import Places
from shared.exports.profiles import Counts, Profiles
from shared.exports.sign_in import SignIns
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.exports.unchanged import forget_other_data, unchanged_since
from shared.mailchimp import MailchimpClient, MailchimpError, MergeField, SignInRefused, Unavailable
from shared.mailchimp.access import LookupsBusy, MailchimpAccess
from shared.segments.catalog import SegmentCatalog
from shared.segments.errors import SegmentError
from shared.segments.reader import SegmentReader
from shared.storage import names
from shared.storage.leases import HeldLease, LeaseLost, Leases

_UPLOADS_AT_ONCE: Final = 8
_UPLOADS_AHEAD: Final = 16
"""Packs that may wait for their upload: bounds the memory when storage is slower than DuckDB."""

_AT_ONCE: Final = 2
"""Exports that one process prepares at a time. Each takes up to 300 MB, an instance has 2 GB, and the host hands out
sixteen messages (host.json). Two, because one may be waiting for Mailchimp."""

_LOOK_FOR_STOP_EVERY_S: Final = 1.0

_StopStatus = Literal[Status.CANCELED, Status.FAILED, Status.SKIPPED]


class _StopRequested(Exception):
    """The export is to end before it was prepared."""


class Impossible(Exception):
    """Raised when the export cannot go on as it is configured; ``problem`` says why and what to do."""

    def __init__(self, problem: Problem, status: _StopStatus = Status.FAILED) -> None:
        super().__init__(problem.code)
        self.problem = problem
        self.status: _StopStatus = status


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
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    new_id: Callable[[], str]
    random: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Audience:
    """What Mailchimp said: how to format the merge fields, the tag of each segment (name and ID), and whom somebody
    has archived there."""

    values: Sequence[MergeValue]
    tags: Sequence[str]
    tag_ids: Mapping[str, int]
    archived: Sequence[str]


class Preparer:
    """Prepares exports, few at a time."""

    def __init__(self, tools: PrepareTools, *, max_profiles: int, max_connections: int) -> None:
        self._tools = tools
        self._max_profiles = max_profiles
        self._max_connections = max_connections
        self._places = Places(_AT_ONCE)

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
        if self._is_early(export_id):
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

    def _is_early(self, export_id: str) -> bool:
        export = self._tools.store.find(export_id)
        if export is None or export.stop is not None or export.resume_at is None:
            return False
        return export.status is Status.WAITING and self._tools.now() + timedelta(seconds=1) < export.resume_at

    # -- ends ----------------------------------------------------------------------------------------------------

    def _start_sending(self, plan: Plan) -> Callable[[], None]:
        store = self._tools.store

        def show(export: Export) -> None:
            export.sending_at = self._tools.now()
            export.account_id, export.audience_id = plan.account_id, plan.audience_id
            export.configuration = plan.configuration
            export.segments, export.invalid_reasons = plan.segments, plan.invalid_reasons
            export.books, export.problem = plan.books, None

        export = store.move(plan.export_id, Status.SENDING, show)
        log.event("export.prepared", export=plan.export_id, members=plan.members, batches=plan.batches)
        if not plan.lanes or export is None:
            return partial(self._tools.signals.finish, plan.export_id)
        forget_other_data(store, export)
        store.documents.write(names.open_export(plan.account_id, plan.export_id), b"")
        pace = self._tools.paces.get(plan.account_id)
        connections = connections_of(plan.lanes, pace, self._max_connections)
        return partial(self._tools.signals.wake_all, plan.account_id, connections)

    def _stop(self, export_id: str, problem: Problem, status: _StopStatus = Status.FAILED) -> Callable[[], None]:
        level = logging.INFO if status is Status.SKIPPED else logging.WARNING
        log.event("prepare.stopped", level=level, export=export_id, code=problem.code)
        self._tools.store.request_stop(export_id, Stop(status=status, problem=problem, at=self._tools.now()))
        return partial(self._tools.signals.finish, export_id)

    def _wait(self, message: ExportMessage, error: Unavailable | LookupsBusy) -> Callable[[], None]:
        """Mailchimp is not available: come back later."""

        failures = message.failures + 1
        retry_after_s = error.retry_after_s if isinstance(error, Unavailable) else None
        wait = delay_s(failures, self._tools.random(), retry_after_s)
        resume_at = self._tools.now() + timedelta(seconds=wait)

        def show(export: Export) -> None:
            export.problem, export.resume_at = problems.unavailable(), resume_at

        self._tools.store.move(message.export_id, Status.WAITING, show)
        return partial(self._come_back, message.export_id, failures, wait)

    def _come_back(self, export_id: str, failures: int, wait_s: float) -> None:
        """Send the message that ends the wait; or end the export, if somebody asked for it while the lease was held:
        the finisher that was called then has gone away."""
        export = self._tools.store.find(export_id)
        if export is not None and export.stop is not None:
            self._tools.signals.finish(export_id)
        else:
            self._tools.signals.prepare(export_id, failures=failures, delay_s=wait_s)

    # -- the plan ------------------------------------------------------------------------------------------------

    def _plan(self, export_id: str, lease: HeldLease) -> Plan:
        export, destination = self._begin(export_id)
        matching = destination.data_matching
        assert matching is not None  # noqa: S101 - checked by _begin
        export = self._pin(export, destination)
        sources, segments = export.sources, [source.name for source in export.sources]
        self._skip_if_unchanged(export, destination)

        looked_at = self._tools.monotonic()

        def check() -> None:
            nonlocal looked_at
            lease.check()
            if self._tools.monotonic() - looked_at >= _LOOK_FOR_STOP_EVERY_S:
                looked_at = self._tools.monotonic()
                self._check_stop(export_id)

        fields = _fields_of(matching)
        with self._places.take(check), _profiles() as (profiles, work_dir):
            for source in sources:
                profiles.load(self._tools.reader, source, fields, check)
            remember_rows(self._tools.store.documents, sources, profiles.rows)
            self._check_limit(export, destination, profiles)
            check()
            audience = self._ask_mailchimp(destination, matching, fields, segments, check)
            profiles.check_values(audience.values)
            profiles.suppress(audience.archived)
            counts = profiles.counts(audience.tags)
            remember_members(self._tools.store.documents, destination, sources, counts.books.members)
            attempt = self._tools.new_id()
            plan = self._new_plan(export_id, destination, attempt, counts, audience.tag_ids)
            self._write(plan, profiles, audience, destination.member_status, work_dir, check)
        return self._tools.store.publish(plan)

    def _begin(self, export_id: str) -> tuple[Export, Destination]:
        """The export in status Preparing and its destination. Raises _StopRequested and Impossible."""
        store = self._tools.store

        def show(export: Export) -> None:
            export.started_at = export.started_at or self._tools.now()
            export.problem, export.resume_at = None, None

        export = store.move(export_id, Status.PREPARING, show)
        if export is None or export.stop is not None or export.status is not Status.PREPARING:
            raise _StopRequested
        if store.claim(export.destination_id, export_id) != export_id:
            raise Impossible(problems.already_running(), Status.SKIPPED)
        found = self._tools.destinations.find(export.destination_id)
        if found is None or found.destination.removal is not None:
            raise Impossible(problems.removed(), Status.CANCELED)
        destination = found.destination
        if destination.consent.withdrawn_at is not None:
            raise Impossible(problems.consent_withdrawn(destination.consent.withdrawn_by), Status.CANCELED)
        steps = destination.missing_steps()
        if steps:
            raise Impossible(problems.not_ready(steps))
        return export, destination

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

    def _skip_if_unchanged(self, export: Export, destination: Destination) -> None:
        """A scheduled export has nothing to do where the audience has the same data already."""
        if export.trigger != "scheduled":
            return
        since = unchanged_since(self._tools.store, export, fingerprints.of_configuration(destination))
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
                message=f"The segments hold {members:,} members; an export may have {self._max_profiles:,}. ({each})",
                action="Choose fewer or smaller segments, or split them over several destinations. Nothing was sent.",
            )
        )

    # -- Mailchimp -----------------------------------------------------------------------------------------------

    def _ask_mailchimp(
        self,
        destination: Destination,
        matching: DataMatching,
        fields: Sequence[str],
        segments: Sequence[str],
        check: Callable[[], None],
    ) -> _Audience:
        """Check the audience, read its merge fields, and find or create the tags, over one connection."""
        sign_in, audience = destination.sign_in, destination.audience
        assert sign_in.api_root and sign_in.secret_name and audience  # noqa: S101, PT018 - checked by _begin
        try:
            token = self._tools.sign_ins.token(sign_in.secret_name)
            with self._tools.access.lookup(sign_in.account_id, sign_in.api_root, token) as client:
                client.audience(audience.id)
                values = _values(matching, fields, client.merge_fields(audience.id))
                archived = client.archived(audience.id)
                check()  # thousands of archived contacts take a while
                tags = _tags(client, audience.id, segments)
        except SignInRefused as error:
            self._tools.sign_ins.refused(destination.id, sign_in.secret_name, error.message)
            raise
        return _Audience(values, [name for name, _ in tags], dict(tags), archived)

    # -- bodies --------------------------------------------------------------------------------------------------

    def _write(
        self,
        plan: Plan,
        profiles: Profiles,
        audience: _Audience,
        member_status: MemberStatus,
        work_dir: Path,
        check: Callable[[], None],
    ) -> None:
        """Write the bodies and the two lists that the end needs."""
        documents = self._tools.store.documents
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="upload") as pool:
            uploads: deque[Future[str]] = deque()
            bodies = profiles.bodies(audience.values, audience.tags, member_status)
            for place, number, pack in _packs(bodies, len(plan.lanes)):
                name = names.pack(plan.export_id, plan.attempt, plan.lanes[place], number)
                uploads.append(pool.submit(documents.write, name, pack))
                while len(uploads) > _UPLOADS_AHEAD:
                    uploads.popleft().result()
                check()
            profiles.write_members(work_dir / "members.parquet", audience.values)
            profiles.write_left_out(work_dir / "left-out.parquet")
            documents.upload(names.members(plan.export_id, plan.attempt), work_dir / "members.parquet")
            documents.upload(names.left_out(plan.export_id, plan.attempt), work_dir / "left-out.parquet")
            for upload in uploads:
                upload.result()

    def _new_plan(
        self,
        export_id: str,
        destination: Destination,
        attempt: str,
        counts: Counts,
        tag_ids: Mapping[str, int],
    ) -> Plan:
        sign_in, audience = destination.sign_in, destination.audience
        assert sign_in.account_id and sign_in.api_root and sign_in.secret_name and audience  # noqa: S101, PT018
        members = counts.books.members - counts.books.suppressed
        batches = -(-members // MEMBERS_PER_BATCH)
        return Plan(
            export_id=export_id,
            destination_id=destination.id,
            account_id=sign_in.account_id,
            audience_id=audience.id,
            api_root=sign_in.api_root,
            secret_name=sign_in.secret_name,
            attempt=attempt,
            configuration=fingerprints.of_configuration(destination),
            traceparent=trace.current(),
            lanes=self._lanes(export_id, sign_in.account_id, batches),
            members=members,
            batches=batches,
            tag_ids=dict(tag_ids),
            segments=counts.segments,
            invalid_reasons=counts.invalid_reasons,
            books=counts.books,
        )

    def _lanes(self, export_id: str, account_id: str, batches: int) -> tuple[int, ...]:
        """The lanes that the batches are dealt to. Open ones are among them: it is their calls that open others."""
        open_lanes = self._tools.paces.get(account_id).lanes
        if batches > open_lanes:
            return tuple(range(min(batches, self._max_connections)))
        first = crc32(export_id.encode()) % open_lanes  # small exports do not all use lane 0
        return tuple((first + number) % open_lanes for number in range(batches))


@contextmanager
def _profiles() -> Iterator[tuple[Profiles, Path]]:
    """An empty set of profiles on local disk; everything is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        profiles = Profiles(Path(folder))
        try:
            yield profiles, Path(folder)
        finally:
            profiles.close()


def _packs(bodies: Iterable[tuple[int, bytes]], lanes: int) -> Iterator[tuple[int, int, bytes]]:
    """Deal the bodies to the lanes in turn and pack those of each lane; yields lane (from 0), pack and its bytes.

    A body is one line: JSON writes line breaks inside texts as escapes.
    """
    waiting: list[list[bytes]] = [[] for _ in range(lanes)]
    packs = [0] * lanes
    for batch, body in bodies:
        lane = batch % lanes
        waiting[lane].append(body)
        if len(waiting[lane]) == BATCHES_PER_PACK:
            yield lane, packs[lane], b"\n".join(waiting[lane])
            waiting[lane] = []
            packs[lane] += 1
    for lane, rest in enumerate(waiting):
        if rest:
            yield lane, packs[lane], b"\n".join(rest)


def _fields_of(matching: DataMatching) -> list[str]:
    """The profile fields to read, each once, the address first."""
    fields = [matching.email]
    for source in matching.by_merge_tag().values():
        fields += source.parts().values() if isinstance(source, AddressMatching) else [source]
    return list(dict.fromkeys(fields))


def _values(matching: DataMatching, fields: Sequence[str], known: Sequence[MergeField]) -> list[MergeValue]:
    """How each matched merge field is filled. Raises Impossible for one that the audience no longer has: Mailchimp
    would drop its values without a word."""
    column = {field: f"s.c{number}" for number, field in enumerate(fields)}
    by_tag = {field.tag: field for field in known}
    values = []
    for tag, source in matching.by_merge_tag().items():
        field = by_tag.get(tag)
        if field is None:
            raise Impossible(problems.merge_field_gone(tag))
        if isinstance(source, AddressMatching):
            if field.type != "address":
                raise Impossible(problems.merge_field_changed(tag, field.type))
            values.append(address_value(tag, {part: column[name] for part, name in source.parts().items()}))
        elif field.type == "address":
            raise Impossible(problems.merge_field_changed(tag, field.type))
        else:
            options = field.options
            values.append(
                merge_value(tag, field.type, column[source], choices=options.choices, phone_format=options.phone_format)
            )
    return values


def _tags(client: MailchimpClient, audience_id: str, segments: Sequence[str]) -> list[tuple[str, int]]:
    """Name and ID of each segment's tag. A tag that exists in other letter case is used as it is written there."""
    known = {tag.name.casefold(): tag for tag in client.tags(audience_id)}
    found = []
    for segment in segments:
        tag = known.get(segment.casefold()) or client.create_tag(audience_id, segment)
        found.append((tag.name, tag.id))
    return found
