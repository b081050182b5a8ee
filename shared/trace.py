"""The trace that a piece of work belongs to, in the form of W3C Trace Context ("traceparent").

An HTTP call begins a trace or goes on with the caller's; queue messages and export documents carry it on; every log
line and every call to Mailchimp names it. So one search finds everything that a click in the portal has set off.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Final

from pydantic import BeforeValidator

PATTERN: Final = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
"""Version 00: trace ID, ID of the caller's part, flags."""

_TRACEPARENT: Final = re.compile(PATTERN)
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def valid(traceparent: object) -> str | None:
    """``traceparent`` if it is one; all zeros is none (W3C Trace Context 3.2.2.3)."""
    if not isinstance(traceparent, str) or not _TRACEPARENT.fullmatch(traceparent):
        return None
    _, trace, part, _ = traceparent.split("-")
    return traceparent if trace.strip("0") and part.strip("0") else None


Traceparent = Annotated[str | None, BeforeValidator(valid)]
"""A field of a message or document. What is no traceparent is read as None: nothing is refused because of it."""


def current() -> str | None:
    """The traceparent to hand on; None outside of any trace."""
    return _current.get()


def trace_id() -> str | None:
    """The ID under which log lines find each other."""
    traceparent = _current.get()
    return traceparent.split("-")[1] if traceparent else None


@contextmanager
def going_on(*candidates: str | None) -> Iterator[None]:
    """Do what is inside as a part of the first of ``candidates`` that is a trace, or of a new one."""
    token = _current.set(_part_of(next(filter(None, map(valid, candidates)), None)))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def outside() -> Iterator[None]:
    """Do what is inside as a part of no trace."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def _part_of(traceparent: str | None) -> str:
    _, trace, _, flags = traceparent.split("-") if traceparent else ("", secrets.token_hex(16), "", "01")
    return f"00-{trace}-{secrets.token_hex(8)}-{flags}"
