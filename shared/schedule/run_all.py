"""Starts exports: of all ready destinations on demand ("Export" above the list), and those that are due."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from shared.destinations.model import Destination
from shared.exports.errors import DestinationNotReady, ExportError, ExportRunning
from shared.exports.model import Problem, Trigger
from shared.exports.view import ExportView
from shared.people import Person
from shared.storage.json_documents import JsonDocument


class StartsExports(Protocol):
    """The part of the export service that is needed here."""

    def start(
        self,
        destination: Destination,
        *,
        trigger: Trigger,
        requested_by: Person,
        idempotency_key: str | None = None,
    ) -> ExportView: ...


class RecordsSkipped(StartsExports, Protocol):
    """And the part that notes an export that was due and cannot run."""

    def record_skipped(
        self,
        destination: Destination,
        *,
        trigger: Trigger,
        requested_by: Person,
        idempotency_key: str,
        problem: Problem,
    ) -> ExportView:
        """An export that has ended as Skipped because of ``problem``; or the one that the same key stands for already,
        whether it was started or skipped."""
        ...


class SkippedDestination(JsonDocument):
    """A destination that was left out, and why."""

    destination_id: str
    """The destination's ID."""
    display_name: str
    """Its display name."""
    code: str
    """For programs."""
    message: str
    """Why it was left out."""
    export_id: str | None = None
    """The export that it runs already, if that is why."""


@dataclass(slots=True)
class Started:
    """What was started and what was not."""

    exports: list[ExportView] = field(default_factory=list)
    skipped: list[SkippedDestination] = field(default_factory=list)


def start_all(
    destinations: Iterable[Destination],
    exports: StartsExports,
    *,
    trigger: Trigger,
    requested_by: Person,
    idempotency_key: str | None,
) -> Started:
    """Start an export of each destination; one that cannot start is skipped and does not keep back the others.

    ``idempotency_key`` holds per destination: a repeated call with the same key starts nothing twice.
    """
    started = Started()
    for destination in destinations:
        try:
            steps = destination.missing_steps()
            if steps:
                raise DestinationNotReady(steps)
            export = exports.start(
                destination, trigger=trigger, requested_by=requested_by, idempotency_key=idempotency_key
            )
        except ExportError as error:
            started.skipped.append(
                SkippedDestination(
                    destination_id=destination.id,
                    display_name=destination.display_name,
                    code=error.code,
                    message=str(error),
                    export_id=error.export_id if isinstance(error, ExportRunning) else None,
                )
            )
        else:
            started.exports.append(export)
    return started


def start_due(
    destination: Destination, exports: RecordsSkipped, *, requested_by: Person, idempotency_key: str
) -> ExportView:
    """Start the scheduled export of a destination; where it cannot start, note it as Skipped, with the reason.

    Repeated with the same key it returns the same export, even if the destination has become unable to start since.
    """
    try:
        return exports.start(
            destination, trigger="scheduled", requested_by=requested_by, idempotency_key=idempotency_key
        )
    except DestinationNotReady as error:
        problem = Problem(
            code=error.code,
            message=str(error),
            action="Complete the destination. The next scheduled run exports it; export on demand to do so sooner.",
        )
    except ExportRunning as error:
        problem = Problem(
            code=error.code,
            message=f"The run was due while export '{error.export_id}' of this destination was still running.",
            action="Nothing to do. If it happens often, leave more time between the scheduled runs.",
        )
    return exports.record_skipped(
        destination,
        trigger="scheduled",
        requested_by=requested_by,
        idempotency_key=idempotency_key,
        problem=problem,
    )
