"""Where exports are kept: their documents, plans, results and markers in the state container."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from shared import telemetry, trace
from shared.exports import workflow
from shared.exports.history import metadata_of
from shared.exports.model import TRANSITIONS, BatchResult, Export, Plan, Problem, Status, Stop, Tally
from shared.storage import names
from shared.storage.documents import AlreadyExists, Changed, Documents
from shared.storage.json_documents import JsonDocument


class CurrentExport(JsonDocument):
    """The content of ``current/{destination}.json``."""

    export_id: str


@dataclass(frozen=True, slots=True)
class ActiveExport:
    """An export on the list of what is going on; ``held``: somebody prepares or finishes it right now."""

    id: str
    held: bool
    since: datetime


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """A result as the listing shows it: enough to count without opening it."""

    name: str
    batch: int
    tally: Tally


def _metadata(tally: Tally) -> dict[str, str]:
    """A tally as blob metadata, which must be ASCII."""
    return {"tally": json.dumps(tally.model_dump(exclude_defaults=True))}


def _tally(metadata: Mapping[str, str]) -> Tally:
    return Tally.model_validate_json(metadata.get("tally", "{}"))


class ExportStore:
    """Reads and writes the state of exports. Every write is a creation or a change of a known version."""

    def __init__(self, documents: Documents, clock: Callable[[], datetime]) -> None:
        self.documents = documents
        self._clock = clock

    # -- the export's document ---------------------------------------------------------------------------------

    def create(self, export: Export) -> bool:
        """Write a new export, after its markers; False when it is there already."""
        with suppress(Changed):  # somebody holds it who prepares or ends this export already: it is on the list
            self.documents.write(names.active(export.id), b"")
        self.documents.write(names.export_of(export.destination_id, export.id), b"")
        data = export.to_bytes()
        try:
            self.documents.create(names.export(export.id), data, metadata_of(data))
        except AlreadyExists:
            return False
        return True

    def withdraw(self, export: Export) -> None:
        """Take back an export that found its destination's place taken: it never started."""
        self.delete(export.id, export.destination_id)
        self.take_off_list(export.id)

    def delete(self, export_id: str, destination_id: str) -> None:
        """Delete an export from the history."""
        self.documents.delete(names.export(export_id))
        self.documents.delete(names.export_of(destination_id, export_id))

    def find(self, export_id: str) -> Export | None:
        found = self.documents.read(names.export(export_id))
        return Export.from_bytes(found.data) if found else None

    def change(self, export_id: str, change: Callable[[Export], None]) -> Export | None:
        """Apply ``change`` (idempotent: it may run again) to the newest version; None where there is no export.

        What a change of status means for the export's course is told in the export's trace.
        """
        before: Export | None = None

        def rewrite(data: bytes) -> bytes:
            nonlocal before
            export = Export.from_bytes(data)
            before = export.model_copy()
            change(export)
            return export.to_bytes()

        data = self.documents.update(names.export(export_id), rewrite, metadata_of)
        after = Export.from_bytes(data) if data else None
        if before is not None and after is not None and before.status is not after.status:
            with trace.going_on(after.traceparent, trace.current()):
                workflow.tell(before, after, self._clock())
            if before.waiting_since is not None and after.waiting_since is None:
                waited = self._clock() - before.waiting_since
                telemetry.measure(telemetry.WAIT_DURATION, waited.total_seconds())
        return after

    def move(self, export_id: str, to: Status, also: Callable[[Export], None] | None = None) -> Export | None:
        """Go to status ``to`` where the table of transitions allows it; otherwise leave the export as it is."""

        def step(export: Export) -> None:
            if to in TRANSITIONS[export.status]:
                export.status = to
                export.waiting_since = self._waiting_since(export, to)
                if to is Status.FINISHING:
                    export.finishing_at = self._clock()
                if also is not None:
                    also(export)

        return self.change(export_id, step)

    def _waiting_since(self, export: Export, to: Status) -> datetime | None:
        """Preparing again is a new try and not yet the end of the wait."""
        if to is Status.WAITING:
            return export.waiting_since or self._clock()
        return export.waiting_since if to is Status.PREPARING else None

    def request_stop(self, export_id: str, stop: Stop) -> Export | None:
        """Ask a running export to end early. The first request counts, and none once its end has begun."""

        def ask(export: Export) -> None:
            if export.stop is None and not export.ended and export.status is not Status.FINISHING:
                export.stop = stop

        return self.change(export_id, ask)

    def fail(self, export_id: str, problem: Problem) -> Export | None:
        """Ask a running export to end as Failed because of ``problem``."""
        return self.request_stop(export_id, Stop(status=Status.FAILED, problem=problem, at=self._clock()))

    def take_off_list(self, export_id: str) -> None:
        """Take an export off the list of what is going on. While somebody else holds it (messages come twice), it stays
        for them or for the sweeper to take off."""
        with suppress(Changed):
            self.documents.delete(names.active(export_id))

    def active(self) -> Iterator[ActiveExport]:
        """Exports that have not ended, or whose start or end was cut off."""
        for entry in self.documents.list(names.ACTIVE_PREFIX):
            yield ActiveExport(entry.name.removeprefix(names.ACTIVE_PREFIX), entry.leased, entry.changed_at)

    # -- one export at a time per destination ------------------------------------------------------------------

    def claim(self, destination_id: str, export_id: str) -> str:
        """Make ``export_id`` the destination's running export; returns the ID that holds the place.

        The place is free when nobody holds it or the export that does has ended. An export is written before it
        claims the place, so an ID without an export is one that was never finished starting: its place is free too.
        """
        name = names.current_export(destination_id)
        wanted = CurrentExport(export_id=export_id).to_bytes()
        while True:
            with suppress(AlreadyExists):
                self.documents.create(name, wanted)
                return export_id
            held = self.documents.update(name, lambda data: None if self._is_running(data) else wanted)
            if held is not None:
                return CurrentExport.from_bytes(held).export_id

    def _is_running(self, current: bytes) -> bool:
        export = self.find(CurrentExport.from_bytes(current).export_id)
        return export is not None and not export.ended

    def running(self, destination_id: str) -> str | None:
        """The ID of the destination's running export, if there is one."""
        found = self.documents.read(names.current_export(destination_id))
        if found is None or not self._is_running(found.data):
            return None
        return CurrentExport.from_bytes(found.data).export_id

    # -- plan, results, ends -----------------------------------------------------------------------------------

    def plan(self, export_id: str) -> Plan | None:
        found = self.documents.read(names.plan(export_id))
        return Plan.from_bytes(found.data) if found else None

    def publish(self, plan: Plan) -> Plan:
        """Make ``plan`` the export's plan, unless an earlier delivery made one: then that one is returned."""
        with suppress(AlreadyExists):
            self.documents.create(names.plan(plan.export_id), plan.to_bytes())
            return plan
        found = self.plan(plan.export_id)
        return found if found is not None else plan

    def record(self, export_id: str, result: BatchResult) -> None:
        """Write the result of a batch; the first one stays, whatever a second delivery says."""
        name = names.result(export_id, result.lane, result.batch)
        with suppress(AlreadyExists):
            self.documents.create(name, result.to_bytes(), _metadata(result.tally()))

    def recorded(self, export_id: str, lane: int | None = None) -> Iterator[RecordedResult]:
        """The results so far, of one lane or of all."""
        for entry in self.documents.list(names.results(export_id, lane), metadata=True):
            number = int(entry.name.rsplit("/", 1)[1].removesuffix(".json"))
            yield RecordedResult(entry.name, number, _tally(entry.metadata))

    def show_progress(self, export_id: str, lane: int, tally: Tally) -> None:
        """Tell how far a lane is. For the eye only: the books are made from the results."""
        self.documents.write(names.progress(export_id, lane), b"", _metadata(tally))

    def progress(self, export_id: str) -> Tally:
        """How far all lanes together are, as they told it last."""
        sum_ = Tally()
        for entry in self.documents.list(names.all_progress(export_id), metadata=True):
            sum_.add(_tally(entry.metadata))
        return sum_

    def end_lane(self, export_id: str, lane: int) -> None:
        """Say that this lane will send nothing more of the export."""
        with suppress(AlreadyExists):
            self.documents.create(names.lane_end(export_id, lane), b"{}")

    def ended_lanes(self, export_id: str) -> set[int]:
        prefix = names.lane_ends(export_id)
        return {int(e.name.removeprefix(prefix).removesuffix(".json")) for e in self.documents.list(prefix)}
