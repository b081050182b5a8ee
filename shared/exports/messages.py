"""The messages of the queues: references to work, small and versioned, never profiles."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, ValidationError

from shared.storage.json_documents import JsonDocument
from shared.trace import Traceparent

ExportId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
DestinationId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
AccountId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class MessageInvalid(ValueError):
    """Raised for a queue message that is none of ours. It is refused as a whole; the text is not repeated."""


class Message(JsonDocument):
    """What every message has: its version, the trace that it goes on with, and how long it was to be hidden. Messages
    of older versions have the version only."""

    v: Literal[1] = 1
    traceparent: Traceparent = None
    delay_seconds: Annotated[float, Field(ge=0)] | None = None


class ExportMessage(Message):
    """On the queues ``prepare`` and ``finish``: prepare or finish this export. ``failures`` counts earlier waits;
    ``ends_wait`` is the ``resume_at`` of the wait that this message ends."""

    export_id: ExportId
    failures: Annotated[int, Field(ge=0, le=10_000)] = 0
    ends_wait: datetime | None = None


class WakeMessage(Message):
    """On the queue ``lanes``: wake this lane of this account. ``again``: an earlier wake-up found the lane busy;
    ``ends_wait`` is the ``wake_at`` of the rest that this message ends."""

    account_id: AccountId
    lane: Annotated[int, Field(ge=0, lt=10)]
    again: bool = False
    ends_wait: datetime | None = None


class RemovalMessage(Message):
    """On the queue ``removals``: go on with the removal of this destination; ``ends_wait`` is the ``wake_at`` of the
    wait that this message ends."""

    destination_id: DestinationId
    ends_wait: datetime | None = None


_Message = TypeVar("_Message", bound=Message)


def read_message(kind: type[_Message], text: str | bytes) -> _Message:
    """The message in ``text``. Raises MessageInvalid."""
    try:
        return kind.model_validate_json(text)
    except (ValidationError, ValueError):
        raise MessageInvalid(f"This is no {kind.__name__}.") from None  # the cause quotes the message
