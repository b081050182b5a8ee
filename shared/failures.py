"""What may be said of an unexpected error: its type, its code and where it came from, and never its text.

The platform logs whatever a function raises, with the text of each error in the chain. Libraries put into it what they
were working on: a value that could not be converted, an address, a request with its headers.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from azure.core.exceptions import AzureError, HttpResponseError

from shared import log

_FRAMES: Final = 8
_CAUSES: Final = 5

_Step = TypeVar("_Step")


class RunFailed(Exception):
    """Raised in place of an unexpected error; the platform repeats the run, or gives the message up in the end."""


@contextmanager
def failing_quietly() -> Iterator[None]:
    """Do what is inside; an error is logged without its text, and RunFailed raised instead."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the platform logs what passes here, and the text of any error may hold an address
        types, frames = types_of(error), frames_of(error)
        log.error("run.failed", errorType=types, frames=frames)
        raise RunFailed(f"{types} at {frames}") from None  # else the platform shows the other one with it


@contextmanager
def kept(failures: dict[_Step, Exception], step: _Step) -> Iterator[None]:
    """Do what is inside; its error is put among ``failures``, for a caller who raises it when the other steps have had
    their turn."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - one step must not stop the others; the caller raises it when they are done
        failures[step] = error


def do_each(steps: Iterable[Callable[[], object]]) -> None:
    """Do the steps one after the other; one that fails does not hold up the others. The first error is raised in the
    end, the others are logged like it. A fault of Azure ends it at once: it would meet the next steps too."""
    failures: dict[int | None, Exception] = {}
    with kept(failures, None):  # to find the steps may fail too
        for number, step in enumerate(steps):
            with kept(failures, number):
                step()
            if isinstance(failures.get(number), AzureError):
                break
    errors = list(failures.values())
    for error in errors[1:]:
        log.error("run.failed", errorType=types_of(error), frames=frames_of(error))
    if errors:
        raise errors[0]


def types_of(error: BaseException) -> str:
    """The type of the error, with the service's code where it is an answer of Azure; then those of its causes."""
    found: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(found) < _CAUSES:
        found.append(_type_of(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " < ".join(found)


def frames_of(error: BaseException) -> str:
    """Where it was raised, and from where that was called; files and lines."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))


def _type_of(error: BaseException) -> str:
    if not isinstance(error, HttpResponseError):
        return type(error).__name__
    code = getattr(error, "error_code", None)  # a word of the storage service, such as ServerBusy
    told = " ".join(str(getattr(part, "value", part)) for part in (error.status_code, code) if part is not None)
    return f"{type(error).__name__} ({told})" if told else type(error).__name__
