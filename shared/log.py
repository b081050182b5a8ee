"""One line of JSON per event, with a constant event name. No addresses, no tokens: only what is passed in as fields."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from shared import trace

_logger: Final = logging.getLogger("segments_to_mailchimp")

_TALKATIVE: Final = ("azure.core", "azure.identity", "azure.keyvault", "azure.monitor", "azure.storage", "msal")

Value = str | int | float | bool | None
Values = Value | Sequence[Mapping[str, Value]]


def quieten_libraries() -> None:
    """Keep what the libraries tell of each of their requests out of the log.

    Microsoft's worker lets every logger speak at INFO. Azure's clients tell each request there with its address and
    each answer with its headers: an export of a million makes more than three thousand requests (docs/benchmark.md).
    """
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def event(name: str, /, *, level: int = logging.INFO, **fields: Values) -> None:
    """Log event ``name`` (area.whatHappened) with ``fields``; names are camelCase in the line."""
    if _logger.isEnabledFor(level):
        found = trace.trace_id()
        line = {"event": name, **fields, **({"traceId": found} if found else {})}
        _logger.log(level, "%s", json.dumps(line, ensure_ascii=False))


def warning(name: str, /, **fields: Value) -> None:
    event(name, level=logging.WARNING, **fields)


def error(name: str, /, **fields: Value) -> None:
    event(name, level=logging.ERROR, **fields)
