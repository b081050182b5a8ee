"""What every queue message goes through before its work is done: it is read, its age is measured, its trace goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from shared import telemetry, trace
from shared.exports.messages import Message, read_message

_Message = TypeVar("_Message", bound=Message)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a message came: from which queue, put there when (None: the platform does not say), taken when; and the
    platform's own trace of this run."""

    queue: str
    inserted_at: datetime | None
    at: datetime
    traceparent: str | None = None


@contextmanager
def arrived(kind: type[_Message], body: bytes, delivery: Delivery) -> Iterator[_Message]:
    """The message in ``body``; what is inside belongs to its trace, or to the platform's where it has none.

    Raises MessageInvalid.
    """
    message = read_message(kind, body)
    if delivery.inserted_at is not None:
        # Microsoft's library drops the time zone of a time that ends in +00:00 instead of Z.
        inserted_at = delivery.inserted_at.replace(tzinfo=delivery.inserted_at.tzinfo or UTC)
        age_s = (delivery.at - inserted_at).total_seconds() - (message.delay_seconds or 0.0)
        telemetry.measure(telemetry.QUEUE_AGE, max(age_s, 0.0), queue=delivery.queue)
    with trace.going_on(message.traceparent, delivery.traceparent):
        yield message
