"""What is counted and measured, with names and units as OpenTelemetry has them (docs/operations.md, "Figures")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """How the values of an instrument are put together."""

    SUM = "sum"
    """Added up."""
    DISTRIBUTION = "distribution"
    """Kept apart: how many, their sum, the largest."""
    LEVEL = "level"
    """Goes up and down: how high it stands, and how high it stood at most."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric. ``labels``: the names of what its values are told apart by."""

    name: str
    kind: Kind
    unit: str
    description: str
    labels: tuple[str, ...] = ()


PROFILES: Final = Instrument(
    "export.profiles", Kind.SUM, "{profile}", "Rows of ended exports by the column of the books", ("outcome",)
)
BATCH_DURATION: Final = Instrument(
    "export.batch.duration", Kind.DISTRIBUTION, "s", "From the first call for a batch to its result, waits included"
)
WAIT_DURATION: Final = Instrument(
    "export.wait.duration", Kind.DISTRIBUTION, "s", "How long exports waited for Mailchimp until they went on"
)
CALLS: Final = Instrument(
    "mailchimp.calls", Kind.SUM, "{call}", "Calls to Mailchimp by HTTP status, or by why there was none", ("status",)
)
OPEN_CALLS: Final = Instrument("mailchimp.calls.open", Kind.LEVEL, "{call}", "Calls to Mailchimp that are under way")
QUEUE_AGE: Final = Instrument(
    "queue.message.age", Kind.DISTRIBUTION, "s", "From when a message was due to when its function began", ("queue",)
)

ALL: Final = (PROFILES, BATCH_DURATION, WAIT_DURATION, CALLS, OPEN_CALLS, QUEUE_AGE)
