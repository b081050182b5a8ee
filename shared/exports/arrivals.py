"""What every queue message goes through before its work is done: it is read, and its trace goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from shared import trace
from shared.exports.messages import Message, read_message

_Message = TypeVar("_Message", bound=Message)


@contextmanager
def arrived(kind: type[_Message], body: bytes, platform_trace: str | None = None) -> Iterator[_Message]:
    """The message in ``body``; what is inside belongs to its trace, or to the platform's of this run where it has
    none. Raises MessageInvalid."""
    message = read_message(kind, body)
    with trace.going_on(message.traceparent, platform_trace):
        yield message
