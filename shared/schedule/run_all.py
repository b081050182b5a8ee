"""Starts the exports of all ready destinations: "Export" above the list, and every scheduled refresh."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from shared.destinations.model import Destination
from shared.exports.errors import DestinationNotReady, ExportError, ExportRunning
from shared.exports.view import ExportView
from shared.people import Person
from shared.storage.json_documents import JsonDocument

Trigger = Literal["onDemand", "scheduled"]


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
