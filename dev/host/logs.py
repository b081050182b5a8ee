"""Logs of the host and of the app inside it: one line of JSON per event, on stderr.

The host's own events have a constant name in `event`. Records that the app writes through `logging` are passed on; when
a message is itself a JSON object (an app with structured logs), its fields become the line's fields.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

_host_log = logging.getLogger("dev.host")
# Libraries that write several lines per storage call or request at level INFO.
_CHATTY = ("azure.core", "azure.storage", "azure.identity", "urllib3", "uvicorn", "asyncio")

# Set by the worker around each call, so that every line says which invocation wrote it.
current_function: ContextVar[str | None] = ContextVar("current_function", default=None)
current_invocation: ContextVar[str | None] = ContextVar("current_invocation", default=None)


def log(event: str, level: int = logging.INFO, *, error: BaseException | None = None, **fields: object) -> None:
    """Writes one event of the host. `fields` must be JSON values; `error` adds its type, text and traceback."""
    exc_info = (type(error), error, error.__traceback__) if error is not None else None
    _host_log.log(level, event, extra={"host_fields": fields}, exc_info=exc_info)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
        }
        if record.name == _host_log.name:
            line |= {"event": record.getMessage(), **getattr(record, "host_fields", {})}
        else:
            line |= {"logger": record.name, **_fields_of(record.getMessage())}
        if (function := current_function.get()) is not None:
            line.setdefault("function", function)
            line.setdefault("invocationId", current_invocation.get())
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = f"{type(error).__name__}: {error}"
            line["traceback"] = "".join(traceback.format_exception(error))
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(stream: TextIO = sys.stderr) -> None:
    """Makes `stream` the place of all logs of this process."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _fields_of(message: str) -> dict[str, object]:
    if message.startswith("{"):
        try:
            document = json.loads(message)
        except ValueError:
            return {"message": message}
        if isinstance(document, dict):
            return document
    return {"message": message}
